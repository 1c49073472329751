import { useQueries } from '@tanstack/react-query';
import { useEffect, useMemo } from 'react';
import type { Problem } from '../../api/types';
import { count, plural } from '../../components/format';
import { availabilityQuery, type Catalogue, typeName } from './catalogue';
import { isGroup, isStore, type Key } from './model/doc';
import { editGroup, type Facts, useDesigner } from './model/store';

const kindOf = (key: Key) => (isGroup(key) ? /instance_group/i : isStore(key) ? /^(shared_drive|drive|drive_group|file_share|bucket)$/i : /network$/i);

/** The element a problem is about, if it is drawn. */
export function keyOfProblem(problem: Problem, ids: Readonly<Record<Key, number>>): Key | undefined {
  const { object } = problem;
  if (!object) return undefined;
  return Object.keys(ids).find((key) => ids[key] === Number(object.id) && kindOf(key).test(object.kind));
}
export function useAllProblems(): Problem[] {
  const problems = useDesigner((s) => s.problems);
  const shortages = useDesigner((s) => s.shortages);
  return useMemo(() => [...problems, ...shortages], [problems, shortages]);
}
const NONE: Problem[] = [];
let sorted: { of: readonly unknown[]; by: Map<Key, Problem[]> } = { of: [], by: new Map() };
/** Problems by element, sorted out once for all elements that ask. */
function byElement(problems: readonly Problem[], shortages: readonly Problem[], ids: Readonly<Record<Key, number>>): Map<Key, Problem[]> {
  const of = [problems, shortages, ids];
  if (of.every((x, i) => x === sorted.of[i])) return sorted.by;
  const family = (key: Key) => (isGroup(key) ? 'g' : isStore(key) ? 's' : 'n');
  const keys = new Map(Object.entries(ids).map(([key, id]) => [`${family(key)}:${id}`, key]));
  const by = new Map<Key, Problem[]>();
  for (const p of [...problems, ...shortages]) {
    if (!p.object) continue;
    const kind = /instance_group/i.test(p.object.kind) ? 'g' : /network$/i.test(p.object.kind) ? 'n' : 's';
    const key = keys.get(`${kind}:${Number(p.object.id)}`);
    // A kind that is not drawn may share a number with one that is.
    if (key && kindOf(key).test(p.object.kind)) by.set(key, [...(by.get(key) ?? []), p]);
  }
  sorted = { of, by };
  return by;
}
export const useProblems = (key: Key): Problem[] => useDesigner((s) => byElement(s.problems, s.shortages, s.ids).get(key) ?? NONE);

/** Servers that a group has already: they are no longer free and stay its own. */
export const heldBy = (facts: Facts | undefined) => (facts?.group && facts.group.serviceStatus !== 'ordered' ? facts.group.instanceCount : 0);

/** Counts what all groups of a type want together against what is free, and says so at each of them. */
export function useShortages(siteId: number | undefined, catalogue: Catalogue) {
  const groups = useDesigner((s) => s.doc.groups);
  const facts = useDesigner((s) => s.facts);
  const ids = useDesigner((s) => s.ids);
  const types = [...new Set(Object.values(groups).map((g) => g.serverTypeId))].sort((a, b) => a - b);
  const free = useQueries({ queries: types.map((t) => availabilityQuery(siteId, t)), combine: (all) => all.map((q) => q.data?.free) });
  const known = JSON.stringify(free);
  const found = useMemo(() => {
    const out: Problem[] = [];
    types.forEach((type, i) => {
      const have = free[i];
      if (have === undefined) return;
      const of = Object.entries(groups).filter(([, g]) => g.serverTypeId === type && !g.deleted);
      const wanted = of.reduce((n, [key, g]) => n + Math.max(0, g.instanceCount - heldBy(facts[key])), 0);
      if (wanted <= have) return;
      for (const [key, g] of of) {
        if (ids[key] === undefined || g.instanceCount <= heldBy(facts[key])) continue;
        const left = g.instanceCount - (wanted - have);
        out.push({ severity: 'warning', object: { kind: 'server_instance_group', id: ids[key] }, field: 'instanceCount', code: 'few_free', message: `${count(have)} of ${typeName(catalogue, type)} free, ${count(wanted)} wanted: ${plural(wanted - have, 'server')} short.`, fix: 'Lower the count or choose another server type.', patch: left >= 1 ? { field: 'instanceCount', value: left } : null });
      }
    });
    return out;
    // `known` stands for the numbers in `free`, which is a new list each time.
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [groups, facts, ids, known, catalogue]);
  useEffect(() => useDesigner.setState({ shortages: found }), [found]);
}

/** What a press on the fix of a problem says and does, where it can be done here. */
export function mendOf(problem: Problem, key: Key | undefined): { label: string; run: () => void } | undefined {
  const value = problem.patch?.field === 'instanceCount' ? Number(problem.patch.value) : 0;
  return key && value >= 1 ? { label: `Lower to ${count(value)}`, run: () => editGroup(key, { instanceCount: value }) } : undefined;
}
