import { Button, ScrollArea, Tabs, Text } from '@mantine/core';
import { lazy, Suspense, useEffect } from 'react';
import { useShallow } from 'zustand/react/shallow';
import type { Job, JobGroup } from '../../../api/types';
import { Loading } from '../../../components/states';
import { JobTable } from '../../jobs/JobTable';
import { osName, typeName } from '../catalogue';
import { useDesignerContext } from '../context';
import { isFailed } from '../deploy/live';
import { diffOf, SIGN } from '../model/diff';
import { elementKeys, elementOf, STORE_WORDS } from '../model/doc';
import { select, useDesigner } from '../model/store';
import { keyOfProblem, mendOf, useAllProblems } from '../problems';

const YamlPanel = lazy(() => import('./YamlPanel'));

export function Drawer({ tab, setTab, jobs, group }: { tab: string | null; setTab: (tab: string | null) => void; jobs: Job[]; group: JobGroup | undefined }) {
  const { catalogue } = useDesignerContext();
  const { doc, facts, ids, locked } = useDesigner(useShallow((s) => ({ doc: s.doc, facts: s.facts, ids: s.ids, locked: s.locked })));
  const problems = useAllProblems();
  const changes = elementKeys(doc)
    .map((key) => ({ key, label: elementOf(doc, key)?.label, kind: doc.groups[key] ? 'Server group' : doc.stores[key] ? STORE_WORDS[doc.stores[key].kind] : 'Network', diff: diffOf(doc, facts[key], key, { type: (n) => typeName(catalogue, n), os: (n) => osName(catalogue, n) }) }))
    .filter((c) => c.diff.mark !== 'same');
  const failed = jobs.filter(isFailed).length;
  // Messages stand above the drawer: they must not cover the buttons of its rows.
  const open = Boolean(tab);
  useEffect(() => {
    const { style } = document.documentElement;
    style.setProperty('--sy-toast-bottom', open ? '268px' : '52px');
    return () => void style.removeProperty('--sy-toast-bottom');
  }, [open]);
  return (
    <section className="sy-drawer" aria-label="Problems, changes and jobs">
      {tab && (
        <Button className="sy-fold" size="compact-xs" variant="subtle" color="gray" onClick={() => setTab(null)}>
          Fold
        </Button>
      )}
      <Tabs value={tab} onChange={(v) => setTab(v)} keepMounted={false}>
        <Tabs.List>
          <Tabs.Tab value="problems">Problems ({problems.length})</Tabs.Tab>
          <Tabs.Tab value="changes">Changes ({changes.length})</Tabs.Tab>
          <Tabs.Tab value="jobs">
            Jobs{jobs.length ? ` (${jobs.length})` : ''}
            {failed ? <span className="bad"> · {failed} failed</span> : ''}
          </Tabs.Tab>
          <Tabs.Tab value="yaml">YAML</Tabs.Tab>
        </Tabs.List>
        {tab && (
          <ScrollArea h={210} viewportProps={{ tabIndex: 0, 'aria-label': 'Details' }}>
            <Tabs.Panel value="problems" p="sm">
              {!problems.length && <Text c="dimmed" size="sm">No problem found in this design.</Text>}
              {problems.map((p, i) => {
                const key = keyOfProblem(p, ids);
                const mend = mendOf(p, key);
                return (
                  <div key={i} className="sy-line">
                    <span className={`sy-badge ${p.severity === 'error' ? 'bad' : 'warn'}`}>{p.severity}</span>
                    <span>
                      {key && <b>{elementOf(doc, key)?.label}: </b>}
                      {p.message} {p.fix && <Text component="span" size="sm" c="dimmed">{p.fix}</Text>}
                    </span>
                    {key && (
                      <Button size="compact-xs" variant="light" onClick={() => select(key)}>
                        Show
                      </Button>
                    )}
                    {mend && !locked && <Button size="compact-xs" variant="light" onClick={mend.run}>{mend.label}</Button>}
                  </div>
                );
              })}
            </Tabs.Panel>
            <Tabs.Panel value="changes" p="sm">
              {!changes.length && <Text c="dimmed" size="sm">The design is what is deployed.</Text>}
              {changes.map((c) => (
                <div key={c.key} className="sy-line">
                  <span className={`sy-mark mark-${c.diff.mark}`}>{SIGN[c.diff.mark]}</span>
                  <span>
                    {c.kind} <b>{c.label}</b> {c.diff.fields.map((f) => `${f.field}: ${f.before} → ${f.after}`).join('; ')}
                  </span>
                  <Button size="compact-xs" variant="light" onClick={() => select(c.key)}>
                    Show
                  </Button>
                </div>
              ))}
            </Tabs.Panel>
            <Tabs.Panel value="jobs">
              {group ? <JobTable jobs={jobs} compact /> : <Text c="dimmed" size="sm" p="sm">No deploy yet.</Text>}
            </Tabs.Panel>
            <Tabs.Panel value="yaml" p="sm">
              <Suspense fallback={<Loading />}>
                <YamlPanel />
              </Suspense>
            </Tabs.Panel>
          </ScrollArea>
        )}
      </Tabs>
    </section>
  );
}
