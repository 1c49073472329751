import { useMemo } from 'react';
import type { Problem } from '../../api/types';
import { isGroup, type Key } from './model/doc';
import { useDesigner } from './model/store';

const kindOf = (key: Key) => (isGroup(key) ? /group/i : /network$/i);

/** The element a problem is about, if it is drawn. */
export function keyOfProblem(problem: Problem, ids: Readonly<Record<Key, number>>): Key | undefined {
  const { object } = problem;
  if (!object) return undefined;
  return Object.keys(ids).find((key) => ids[key] === Number(object.id) && kindOf(key).test(object.kind));
}
export function useProblems(key: Key): Problem[] {
  const problems = useDesigner((s) => s.problems);
  const ids = useDesigner((s) => s.ids);
  return useMemo(() => problems.filter((p) => keyOfProblem(p, ids) === key), [problems, ids, key]);
}
