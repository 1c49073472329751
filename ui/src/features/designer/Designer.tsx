import './designer.css';
import { Badge, Button, Group, Modal, SegmentedControl, Text, Tooltip, ActionIcon } from '@mantine/core';
import { IconArrowBackUp, IconArrowForwardUp, IconCheck, IconCloud, IconCloudOff, IconLayoutGrid, IconPlayerStop, IconRocket, IconRotate2 } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { ReactFlowProvider } from '@xyflow/react';
import { useEffect, useMemo, useRef, useState } from 'react';
import { useShallow } from 'zustand/react/shallow';
import { api } from '../../api/client';
import type { Infrastructure } from '../../api/types';
import { useCommands } from '../../components/commands';
import { plural } from '../../components/format';
import { Empty, ErrorCard, Loading } from '../../components/states';
import { Status } from '../../components/status';
import { toast, toastError } from '../../components/toast';
import { subscribe } from '../../live/stream';
import { Canvas } from './canvas/Canvas';
import { osName, typeName, useCatalogue } from './catalogue';
import { DesignerProvider, type View } from './context';
import { Confirmations } from './deploy/Confirmations';
import { isDone, isFailed, useDeploy } from './deploy/live';
import { PlanDialog } from './deploy/PlanDialog';
import { deployedDoc } from './model/deployed';
import { diffOf } from './model/diff';
import { elementKeys, elementOf, type Key, STORE_WORDS } from './model/doc';
import { asSaved, load, startAutosave, validate } from './model/persist';
import type { Rule } from './model/rules';
import { difference } from './model/sync';
import { arrange, redo, select, undo, useDesigner } from './model/store';
import { ConflictDialog } from './panels/ConflictDialog';
import { ConnectDialog } from './panels/ConnectDialog';
import { Drawer } from './panels/Drawer';
import { Inspector } from './panels/Inspector';
import { Outline } from './panels/Outline';
import { useShortages } from './problems';
import { useShortcuts } from './shortcuts';

export function Designer({ id }: { id: number }) {
  const client = useQueryClient();
  const infra = useQuery({
    queryKey: ['infrastructure', id],
    queryFn: () => api.get<Infrastructure>(`/infrastructures/${id}`),
    refetchInterval: (q) => (q.state.data?.config.deployStatus === 'ongoing' ? 2_500 : false),
  });
  const ongoing = infra.data?.config.deployStatus === 'ongoing';
  const { catalogue } = useCatalogue(infra.data?.siteId);
  // Not what is under the hand: that changes with every frame and is nothing to this part.
  const state = useDesigner(useShallow((s) => ({ doc: s.doc, saved: s.saved, facts: s.facts, ids: s.ids, problems: s.problems, saving: s.saving, past: s.past, future: s.future, locked: s.locked, loaded: s.loaded })));
  useShortages(infra.data?.siteId, catalogue);
  const deploy = useDeploy(id, Boolean(ongoing), state.ids);
  const [view, setView] = useState<View>('design');
  const [tab, setTab] = useState<string | null>(null);
  const [connectFrom, setConnectFrom] = useState<Key | null>(null);
  const [addOpen, setAddOpen] = useState(false);
  const [planOpen, setPlanOpen] = useState(false);
  const [revertOpen, setRevertOpen] = useState(false);
  const [failure, setFailure] = useState<unknown>();

  const rules = useQuery({
    queryKey: ['connect-rules'],
    staleTime: Infinity,
    queryFn: async () => {
      const answer = await api.get<Rule[] | { rules: Rule[] } | { data: Rule[] }>('/planner/connect-rules');
      return Array.isArray(answer) ? answer : 'rules' in answer ? answer.rules : answer.data;
    },
  });
  useEffect(() => {
    if (rules.data?.length) useDesigner.setState({ rules: rules.data });
  }, [rules.data]);

  const [attempt, setAttempt] = useState(0);
  useEffect(() => {
    setFailure(undefined);
    load(id).catch(setFailure);
    return startAutosave();
  }, [id, attempt]);
  const looking = view === 'deployed';
  useEffect(() => useDesigner.setState({ locked: Boolean(ongoing) || Boolean(infra.data?.designIsLocked) || looking }), [ongoing, infra.data?.designIsLocked, looking]);
  const { instances } = deploy;
  const { doc: drawn, facts: known, ids } = state;
  useEffect(() => {
    if (looking) useDesigner.setState({ shown: deployedDoc(drawn, known, ids, instances) });
    else if (useDesigner.getState().shown) useDesigner.setState({ shown: null });
  }, [looking, drawn, known, ids, instances]);
  useEffect(() => () => useDesigner.setState({ shown: null, conflict: null }), []);

  // The end of a deploy changes what is deployed: everything shown is asked anew.
  const was = useRef(false);
  useEffect(() => {
    if (ongoing && !was.current) setTab('jobs');
    if (!ongoing && was.current && infra.data) {
      void load(id).catch(() => undefined);
      void client.invalidateQueries({ queryKey: ['instances', id] });
      void client.invalidateQueries({ queryKey: ['availability'] });
      toast('Deploy finished', `${infra.data.label} is ${infra.data.serviceStatus}. Select a group to see its addresses and credentials.`);
    }
    was.current = Boolean(ongoing);
  }, [ongoing, infra.data, id, client]);
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = subscribe(({ topic, data }) => {
      if (topic !== 'object' && topic !== 'reset') return;
      const kind = String(data.kind ?? '');
      const ours = topic === 'reset' || (/infrastructure$/.test(kind) && Number(data.id) === id) || Number(data.infrastructureId) === id;
      if (!ours) return;
      clearTimeout(timer);
      timer = setTimeout(() => {
        void client.invalidateQueries({ queryKey: ['infrastructure', id] });
        if (useDesigner.getState().saving === 'idle') void load(id).catch(() => undefined);
      }, 400);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [id, client]);

  useShortcuts({ openConnect: setConnectFrom, openAdd: () => setAddOpen(true), toggleView: () => setView((v) => (v === 'design' ? 'diff' : 'design')) });

  const { doc, saved, facts, problems, saving, past, future, locked, loaded } = state;
  const marks = useMemo(() => {
    const out = { added: 0, changed: 0, removed: 0, same: 0 };
    const name = { type: (n: number) => typeName(catalogue, n), os: (n: number | null) => osName(catalogue, n) };
    for (const key of elementKeys(doc)) out[diffOf(doc, facts[key], key, name).mark]++;
    return out;
  }, [doc, facts, catalogue]);
  const dirty = useMemo(() => difference(saved, doc).length > 0, [saved, doc]);
  useEffect(() => {
    if (!dirty) return;
    // Leaving within the moment before a stroke is written would lose it: the browser asks.
    const ask = (event: BeforeUnloadEvent) => event.preventDefault();
    window.addEventListener('beforeunload', ask);
    return () => window.removeEventListener('beforeunload', ask);
  }, [dirty]);
  const errors = problems.filter((p) => p.severity === 'error').length;
  const empty = !elementKeys(doc).length;
  const failed = deploy.jobs.filter(isFailed).length;

  useCommands(
    useMemo(() => {
      const element = elementKeys(doc).map((key) => ({ id: key, label: elementOf(doc, key)?.label ?? key, hint: `${doc.groups[key] ? 'Server group' : doc.stores[key] ? STORE_WORDS[doc.stores[key].kind] : 'Network'} of this design`, run: () => select(key) }));
      const action = (label: string, run: () => void, keys?: string) => ({ id: label, label, hint: 'Designer', keys, run });
      return [
        action('Add to the design', () => setAddOpen(true), 'A'),
        action('Undo', undo, 'Ctrl Z'),
        action('Redo', redo, 'Ctrl Y'),
        action('Arrange', arrange, 'Shift L'),
        action('Deploy', () => setPlanOpen(true)),
        action('Validate', () => { setTab('problems'); void validate(); }),
        action('Show the design', () => setView('design')),
        action('Show what changes', () => setView('diff'), 'D'),
        action('Show what is deployed', () => setView('deployed')),
        action('Show as YAML', () => setTab('yaml')),
        action('Show jobs', () => setTab('jobs')),
        ...element,
      ];
    }, [doc]),
  );

  const cancel = useMutation({
    mutationFn: () => api.post(`/infrastructures/${id}/actions/cancel-deploy`),
    onSuccess: () => client.invalidateQueries({ queryKey: ['infrastructure', id] }),
    onError: (e) => toastError('Not cancelled', e),
  });
  const revert = useMutation({
    mutationFn: () => api.post(`/infrastructures/${id}/actions/revert`),
    onSuccess: async () => {
      setRevertOpen(false);
      useDesigner.setState((s) => ({ past: [], future: [], doc: asSaved(s) }));
      await load(id);
      toast('Changes discarded', 'The design is what is deployed again.');
    },
    onError: (e) => toastError('Not discarded', e),
  });

  // The same object while nothing in it changes: hundreds of cards and rows hang on it.
  const opened = infra.data;
  const around = useMemo(() => ({ infrastructure: opened as Infrastructure, catalogue, view, live: deploy.live, openConnect: setConnectFrom, openAdd: () => setAddOpen(true) }), [opened, catalogue, view, deploy.live]);

  if (infra.error || failure) return <div style={{ padding: 24 }}><ErrorCard error={infra.error ?? failure} what="The design could not be opened" retry={() => { void infra.refetch(); setAttempt((n) => n + 1); }} /></div>;
  if (!infra.data || !loaded) return <div style={{ padding: 24 }}><Loading rows={8} /></div>;
  const infrastructure = infra.data;
  const why = ongoing ? 'A deploy is running' : errors ? `${plural(errors, 'problem')} to solve first` : empty && infrastructure.serviceStatus === 'ordered' ? 'Draw something first' : undefined;

  return (
    <DesignerProvider value={around}>
      <div className="sy-designer">
        <header className="sy-bar">
          <Group gap="sm" wrap="nowrap" style={{ minWidth: 0 }}>
            <Link to="/" className="sy-back">Infrastructures</Link>
            <span className="sy-dim">/</span>
            <h1>{infrastructure.config.label ?? infrastructure.label}</h1>
            <span data-testid="infrastructure-status"><Status value={failed && ongoing ? 'failed' : ongoing ? 'ongoing' : infrastructure.serviceStatus} label={failed && ongoing ? 'Deploy failed' : ongoing ? 'Deploying' : undefined} /></span>
            <Text size="sm" c="dimmed" className="sy-wide">{catalogue.site?.name}</Text>
            {marks.added + marks.changed + marks.removed > 0 && <Tooltip label={`${marks.added} new, ${marks.changed} changed, ${marks.removed} removed since the last deploy`}>
              <span className="num sy-marks">
                <span className="mark-added">+{marks.added}</span> <span className="mark-changed">~{marks.changed}</span> <span className="mark-removed">−{marks.removed}</span>
              </span>
            </Tooltip>}
            <SaveMark saving={saving === 'idle' && dirty ? 'saving' : saving} />
          </Group>
          <Group gap={6} wrap="nowrap">
            <SegmentedControl size="xs" aria-label="View" value={view} onChange={(v) => setView(v as View)} data={[{ value: 'design', label: 'Design' }, { value: 'diff', label: 'Changes' }, { value: 'deployed', label: 'Deployed' }]} />
            <Tool label={past.length ? `Undo: ${past.at(-1)?.label}` : 'Nothing to undo'} off={!past.length || locked} onClick={undo} icon={<IconArrowBackUp size={18} />} name="Undo" />
            <Tool label={future.length ? `Redo: ${future.at(-1)?.label}` : 'Nothing to redo'} off={!future.length || locked} onClick={redo} icon={<IconArrowForwardUp size={18} />} name="Redo" />
            <Tool label="Arrange (Shift+L)" off={locked || empty} onClick={arrange} icon={<IconLayoutGrid size={18} />} name="Arrange" />
            <Tool label="Discard all changes" off={locked || marks.added + marks.changed + marks.removed === 0} onClick={() => setRevertOpen(true)} icon={<IconRotate2 size={18} />} name="Discard all changes" />
            <Tool label="Check the design" off={false} onClick={() => { setTab('problems'); void validate(); }} icon={<IconCheck size={18} />} name="Validate" />
            {ongoing ? (
              <Button size="xs" color="red" variant="light" leftSection={<IconPlayerStop size={16} />} loading={cancel.isPending} onClick={() => cancel.mutate()}>Cancel deploy</Button>
            ) : (
              <Tooltip label={why} disabled={!why}>
                <Button size="xs" leftSection={<IconRocket size={16} />} data-disabled={why ? true : undefined} aria-disabled={Boolean(why)} onClick={(e) => (why ? e.preventDefault() : setPlanOpen(true))}>Deploy</Button>
              </Tooltip>
            )}
          </Group>
        </header>
        {ongoing && <DeployBar done={deploy.jobs.filter(isDone).length} total={deploy.jobs.length} failed={failed} open={() => setTab('jobs')} />}
        <Confirmations infrastructureId={id} instances={deploy.instances} />
        <div className="sy-work">
          <Outline addOpen={addOpen} setAddOpen={setAddOpen} />
          <main className="sy-stage" aria-label="Canvas">
            <ReactFlowProvider><Canvas /></ReactFlowProvider>
            {looking && <div className="sy-looking" role="status">What runs now. Nothing can be changed here. <Button size="compact-xs" variant="white" onClick={() => setView('design')}>Back to the design</Button></div>}
            {empty && !looking && (
              <div className="sy-empty">
                <div>
                <Empty icon={<IconLayoutGrid size={40} />} title="An empty design" action={<Button onClick={() => setAddOpen(true)} disabled={locked}>Add a server group</Button>}>
                  Add a group of servers and a network, drag a line between them, press Deploy.
                </Empty>
                </div>
              </div>
            )}
          </main>
          <Inspector instances={deploy.instances} />
        </div>
        <Drawer tab={tab} setTab={setTab} jobs={deploy.jobs} group={deploy.group} />
      </div>
      <ConnectDialog from={connectFrom} close={() => setConnectFrom(null)} />
      <ConflictDialog />
      <PlanDialog infrastructure={infrastructure} opened={planOpen} close={() => setPlanOpen(false)} />
      <Modal opened={revertOpen} onClose={() => setRevertOpen(false)} title={<b>Discard all changes?</b>}>
        <Text size="sm">The design goes back to what is deployed. This cannot be undone.</Text>
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={() => setRevertOpen(false)}>Keep them</Button>
          <Button color="red" loading={revert.isPending} onClick={() => revert.mutate()}>Discard</Button>
        </Group>
      </Modal>
    </DesignerProvider>
  );
}

function Tool({ label, off, onClick, icon, name }: { label: string; off: boolean; onClick: () => void; icon: React.ReactNode; name: string }) {
  return (
    <Tooltip label={label}>
      <ActionIcon variant="default" size={30} aria-label={name} disabled={off} onClick={onClick}>{icon}</ActionIcon>
    </Tooltip>
  );
}

function SaveMark({ saving }: { saving: string }) {
  const [text, icon] = saving === 'waiting' ? ['Not saved yet, trying again', <IconCloudOff key="o" size={15} />] : saving === 'saving' ? ['Saving…', <IconCloud key="s" size={15} />] : ['Draft saved', <IconCloud key="i" size={15} />];
  return <Badge variant="transparent" color="gray" leftSection={icon} data-testid="save-state" role="status" styles={{ label: { overflow: 'visible', color: 'var(--mantine-color-dimmed)' } }}>{text}</Badge>;
}

function DeployBar({ done, total, failed, open }: { done: number; total: number; failed: number; open: () => void }) {
  const [said, say] = useState('');
  const text = failed ? `${plural(failed, 'step')} failed. Look at the jobs: retry or skip.` : total ? `Deploying: ${done} of ${plural(total, 'step')} done` : 'Deploying: making the job list';
  // Spoken at most every ten seconds; failures at once.
  const latest = useRef(text);
  latest.current = text;
  useEffect(() => {
    const timer = setInterval(() => say(latest.current), 10_000);
    return () => clearInterval(timer);
  }, []);
  return (
    <div className={failed ? 'sy-deploy failed' : 'sy-deploy'} data-testid="deploy-bar">
      <div className="sy-deploy-fill" style={{ width: `${total ? (100 * done) / total : 3}%` }} />
      <span className="num">{text}</span>
      <Button size="compact-xs" variant="white" onClick={open}>Show jobs</Button>
      <span className="sr-only" aria-live="polite">{said}</span>
      {failed > 0 && <span className="sr-only" role="alert">{text}</span>}
    </div>
  );
}
