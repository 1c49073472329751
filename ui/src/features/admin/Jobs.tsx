import { Button, Group, Modal, Progress, SegmentedControl, Stack, Text, Textarea } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { lazy, Suspense, useState } from 'react';
import { api } from '../../api/client';
import type { JobGroup, JobGroupStatistics } from '../../api/types';
import { duration, plural, words } from '../../components/format';
import { Empty, ErrorCard, Loading } from '../../components/states';
import { Ago, Status } from '../../components/status';
import { toast, toastError } from '../../components/toast';
import { isDone, isFailed, useJobs } from '../designer/deploy/live';
import { JobTable } from '../jobs/JobTable';
import { Timeline } from '../jobs/Timeline';
import { type Column, DataTable, NoRows } from './DataTable';
import { useList } from './list';
import { Page } from './Page';

const Graph = lazy(() => import('../jobs/Graph'));
const KIND = /^job/;
const finished = (g: JobGroup) => Boolean(g.finishedTimestamp) && !g.finishedTimestamp?.startsWith('0000');

export function JobGroups() {
  const list = useList<JobGroup>('/job-groups', { sortBy: 'id:DESC' }, { kind: KIND, interval: 10_000 });
  const columns: Column<JobGroup>[] = [
    { id: 'id', title: 'Group', width: '90px', cell: (g) => <Link to="/jobs/$id" params={{ id: String(g.id) }} className="link num">{g.id}</Link> },
    { id: 'what', title: 'What', width: 'minmax(220px, 2fr)', cell: (g) => g.description || words(g.type) },
    { id: 'state', title: 'State', width: '130px', cell: (g) => <Status value={g.cancelReason ? 'suspended' : finished(g) ? 'success' : 'running'} label={g.cancelReason ? 'Cancelled' : finished(g) ? 'Finished' : 'Running'} /> },
    { id: 'progress', title: 'Progress', width: 'minmax(200px, 1fr)', cell: (g) => <GroupProgress group={g} /> },
    { id: 'started', title: 'Started', width: '150px', cell: (g) => <Ago at={g.createdTimestamp} /> },
    { id: 'took', title: 'Time', width: '120px', cell: (g) => <span className="num">{duration((finished(g) ? Date.parse(g.finishedTimestamp ?? '') : Date.now()) - Date.parse(g.createdTimestamp))}</span> },
  ];
  return (
    <Page title="Jobs" sub="Groups of steps, newest first.">
      <DataTable label="Job groups" columns={columns} source={list} keyOf={(g) => g.id} empty={<NoRows title="No job yet">Deploys, registrations and power commands appear here.</NoRows>} />
    </Page>
  );
}

function GroupProgress({ group }: { group: JobGroup }) {
  const open = !finished(group);
  const q = useQuery({ queryKey: ['job-groups', 'statistics', group.id, open], queryFn: () => api.get<JobGroupStatistics>(`/job-groups/${group.id}/statistics`), staleTime: open ? 1_000 : Infinity, refetchInterval: open ? 3_000 : false });
  if (!q.data) return null;
  const { jobsCompleted, jobsTotal, jobsThrownError } = q.data;
  return (
    <Group gap={8} wrap="nowrap" w="100%">
      <Progress flex={1} value={jobsTotal ? (100 * jobsCompleted) / jobsTotal : 0} color={jobsThrownError ? 'red' : 'steel'} aria-label={`${jobsCompleted} of ${jobsTotal} done`} />
      <Text size="xs" className={jobsThrownError ? 'bad num' : 'num'}>
        {jobsThrownError ? `${jobsThrownError} failed` : `${jobsCompleted}/${jobsTotal}`}
      </Text>
    </Group>
  );
}

const route = getRouteApi('/shell/jobs/$id');

export function JobGroupDetail() {
  const { id } = route.useParams() as { id: string };
  const [view, setView] = useState('table');
  const [cancelling, setCancelling] = useState(false);
  const group = useQuery({ queryKey: ['job-groups', Number(id)], queryFn: () => api.get<JobGroup>(`/job-groups/${encodeURIComponent(id)}`), refetchInterval: (q) => (q.state.data && finished(q.state.data) ? false : 3_000) });
  const running = group.data ? !finished(group.data) : false;
  const jobs = useJobs(Number(id), running);
  if (group.error) return <Page title="Jobs"><ErrorCard error={group.error} retry={() => void group.refetch()} /></Page>;
  if (!group.data) return <Page title="Jobs"><Loading rows={8} /></Page>;
  const list = jobs.data ?? [];
  const failed = list.filter(isFailed).length;
  const done = list.filter(isDone).length;
  return (
    <Page
      title={group.data.description || words(group.data.type)}
      sub={<Group gap={8}><Link to="/jobs" className="link">Jobs</Link> · group {id} · started <Ago at={group.data.createdTimestamp} /> <Status value={failed ? 'failed' : group.data.cancelReason ? 'suspended' : running ? 'running' : 'success'} label={failed ? `${failed} failed` : group.data.cancelReason ? 'Cancelled' : running ? 'Running' : 'Finished'} />{group.data.infrastructureId && <a className="link" href={`/portal/infrastructures/${group.data.infrastructureId}`}>Open the design</a>}</Group>}
      tools={<>
        <SegmentedControl aria-label="View" value={view} onChange={setView} data={[{ value: 'table', label: 'Table' }, { value: 'timeline', label: 'Timeline' }, { value: 'graph', label: 'Graph' }]} />
        {running && <Button color="red" variant="light" onClick={() => setCancelling(true)}>Cancel group</Button>}
      </>}
    >
      {list.length > 0 && <Progress mb="md" size="lg" value={(100 * done) / list.length} color={failed ? 'red' : 'steel'} aria-label={`${done} of ${plural(list.length, 'step')} done`} />}
      {group.data.cancelReason && <Text mb="sm">Cancelled: {group.data.cancelReason}</Text>}
      {jobs.error ? <ErrorCard error={jobs.error} retry={() => void jobs.refetch()} what="The steps could not be loaded" /> : jobs.isPending ? <Loading rows={6} /> : !list.length ? <div className="panel"><Empty title="No step">This group has nothing to do.</Empty></div> : (
        <div className="panel" style={{ overflow: 'auto' }} tabIndex={0} aria-label="Steps" role="region">
          {view === 'table' ? <JobTable jobs={list} /> : view === 'timeline' ? <Timeline jobs={list} /> : <Suspense fallback={<Loading />}><Graph jobs={list} /></Suspense>}
        </div>
      )}
      {cancelling && <CancelDialog id={id} close={() => setCancelling(false)} />}
    </Page>
  );
}

function CancelDialog({ id, close }: { id: string; close: () => void }) {
  const [reason, setReason] = useState('');
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: () => api.post(`/job-groups/${id}/actions/cancel`, { reason: reason.trim() }),
    onSuccess: () => {
      toast('Cancelling', 'Running steps end first.');
      void client.invalidateQueries({ queryKey: ['job-groups'] });
      close();
    },
    onError: (e) => toastError('Not cancelled', e),
  });
  return (
    <Modal opened onClose={close} title={<b>Cancel group {id}?</b>}>
      <Stack>
        <Text size="sm">Steps that have not begun are not run. What is done stays done.</Text>
        <Textarea label="Reason" required maxLength={500} value={reason} onChange={(e) => setReason(e.currentTarget.value)} />
        <Group justify="flex-end"><Button variant="default" onClick={close}>Go on</Button><Button color="red" disabled={!reason.trim()} loading={act.isPending} onClick={() => act.mutate()}>Cancel group</Button></Group>
      </Stack>
    </Modal>
  );
}
