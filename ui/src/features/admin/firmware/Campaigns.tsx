import { Alert, Button, Group, Progress, Table, Text, Title } from '@mantine/core';
import { IconPlayerPause, IconPlayerPlay, IconPlus, IconSquareX } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link, useNavigate } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { Campaign, Policy } from '../../../api/firmware';
import { sitesQuery } from '../../../api/names';
import type { Page as Answer, ServerType } from '../../../api/types';
import { FormDialog, type Values } from '../../../components/Form';
import { plural, words } from '../../../components/format';
import { ErrorCard, Loading } from '../../../components/states';
import { Ago, Status } from '../../../components/status';
import { toast } from '../../../components/toast';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';
import { type Column, DataTable, NoRows } from '../DataTable';
import { useList } from '../list';
import { Page } from '../Page';
import { baselinesQuery } from './Compliance';
import { FIRMWARE_SUB, FIRMWARE_TABS } from './tabs';

const sum = (counts: Record<string, number>) => Object.values(counts).reduce((a, b) => a + b, 0);
const over = (c: Campaign) => (c.serverCounts.done ?? 0) + (c.serverCounts.skipped ?? 0) + (c.serverCounts.failed ?? 0) + (c.serverCounts.failed_seen ?? 0);
const failures = (c: Campaign) => (c.serverCounts.failed ?? 0) + (c.serverCounts.failed_seen ?? 0);

function Bar({ of: c }: { of: Campaign }) {
  const all = sum(c.serverCounts);
  return (
    <Group gap={8} wrap="nowrap" w="100%">
      <Progress flex={1} value={all ? (100 * over(c)) / all : 0} color={failures(c) ? 'red' : 'steel'} aria-label={`${over(c)} of ${all} servers over`} />
      <Text size="xs" className="num">{over(c)}/{all}</Text>
    </Group>
  );
}

/** Many servers in waves: first one, then some, then the rest. */
export function CampaignDialog({ initial, close }: { initial: Values; close: () => void }) {
  const navigate = useNavigate();
  const client = useQueryClient();
  const baselines = useQuery(baselinesQuery);
  const policies = useQuery({ queryKey: ['firmware-policies'], retry: false, queryFn: () => api.get<Answer<Policy>>('/firmware/policies', { limit: 100 }) });
  const sites = useQuery(sitesQuery);
  const types = useQuery({ queryKey: ['server-types'], staleTime: 60_000, queryFn: () => api.get<Answer<ServerType>>('/server-types', { limit: 100 }) });
  return (
    <FormDialog
      title="Update firmware in waves"
      intro="A server that is used is updated only when its owner agrees. A failure stops the campaign until somebody has looked."
      initial={{ canaryCount: 1, secondWavePercent: 10, toleratedFailures: 0, ...initial }}
      fields={[
        { name: 'label', label: 'Label', required: true },
        { name: 'baselineId', label: 'Baseline', kind: 'select', numeric: true, options: baselines.data?.data.map((b) => ({ value: String(b.id), label: b.name })) ?? [], help: 'What they are brought to: a baseline, or what a policy says.', show: (v) => !v.policyId },
        { name: 'policyId', label: 'Policy', kind: 'select', numeric: true, options: policies.data?.data.map((p) => ({ value: String(p.id), label: p.label })) ?? [], help: 'Chooses servers and parts by its rules, and the newest that fits them.', show: (v) => !v.baselineId },
        { name: 'siteId', label: 'Only at site', kind: 'select', numeric: true, options: sites.data?.data.map((s) => ({ value: String(s.id), label: s.name })) ?? [] },
        { name: 'serverTypeId', label: 'Only of type', kind: 'select', numeric: true, options: types.data?.data.map((t) => ({ value: String(t.id), label: t.name })) ?? [] },
        { name: 'canaryCount', label: 'Servers in the first wave', kind: 'number', min: 0, max: 1000 },
        { name: 'secondWavePercent', label: 'Second wave, of the rest', kind: 'number', min: 0, max: 100, suffix: ' %' },
        { name: 'toleratedFailures', label: 'Failures that do not stop it', kind: 'number', min: 0, max: 1000 },
      ]}
      submit="Start"
      close={close}
      save={async (body) => {
        const made = await api.post<Campaign>('/firmware/campaigns', body);
        void client.invalidateQueries({ queryKey: ['list', '/firmware/campaigns'] });
        void navigate({ to: '/firmware/campaigns/$id', params: { id: String(made.id) } });
      }}
    />
  );
}

export function Campaigns() {
  const [adding, add] = useState(false);
  const list = useList<Campaign>('/firmware/campaigns', { sortBy: 'id:DESC' }, { kind: /firmware|job/, interval: 15_000 });
  const columns: Column<Campaign>[] = [
    { id: 'label', title: 'Label', width: 'minmax(180px, 1.4fr)', cell: (c) => <Link to="/firmware/campaigns/$id" params={{ id: String(c.id) }} className="link">{c.label}</Link> },
    { id: 'status', title: 'State', width: '130px', cell: (c) => <Status value={c.status} /> },
    { id: 'wave', title: 'Wave', width: '100px', cell: (c) => <span className="num">{c.wave} of {c.waves}</span> },
    { id: 'progress', title: 'Servers', width: 'minmax(180px, 1fr)', cell: (c) => <Bar of={c} /> },
    { id: 'failed', title: 'Failed', width: '90px', cell: (c) => <span className={failures(c) ? 'bad num' : 'num'}>{failures(c)}</span> },
    { id: 'started', title: 'Started', width: '150px', cell: (c) => <Ago at={c.createdTimestamp} /> },
  ];
  return (
    <Page title="Firmware" sub={FIRMWARE_SUB} tabs={FIRMWARE_TABS}>
      <DataTable label="Campaigns" columns={columns} source={list} keyOf={(c) => c.id} tools={<Button leftSection={<IconPlus size={17} />} onClick={() => add(true)}>Start campaign</Button>} empty={<NoRows title="No campaign yet">A campaign brings many servers to a baseline: first one, then some, then the rest.</NoRows>} />
      {adding && <CampaignDialog initial={{}} close={() => add(false)} />}
    </Page>
  );
}

const route = getRouteApi('/shell/firmware/campaigns/$id');
const concerns = (m: LiveMessage) => m.topic === 'job' || (m.topic === 'object' && /firmware|server/.test(String(m.data.kind)));
type Verb = 'pause' | 'resume' | 'abort';

export function CampaignDetail() {
  const { id } = route.useParams() as { id: string };
  const path = `/firmware/campaigns/${encodeURIComponent(id)}`;
  const key = ['campaign', id];
  const q = useQuery({ queryKey: key, queryFn: () => api.get<Campaign>(path), refetchInterval: (x) => (/running/.test(x.state.data?.status ?? '') ? 5_000 : false) });
  useRefreshOn(key, concerns);
  const client = useQueryClient();
  const [verb, setVerb] = useState<Verb | null>(null);
  if (q.error) return <Page title="Campaign"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Campaign"><Loading rows={8} /></Page>;
  const c = q.data;
  const servers = c.servers ?? [];
  const waves = [...new Set(servers.map((s) => s.wave))].sort((a, b) => a - b);
  return (
    <Page
      title={c.label}
      sub={<Group gap={8}><Link to="/firmware/campaigns" className="link">Campaigns</Link> · wave {c.wave} of {c.waves} · started <Ago at={c.createdTimestamp} /> <Status value={c.status} /></Group>}
      tools={
        <>
          {c.status === 'running' && <Button variant="default" leftSection={<IconPlayerPause size={16} />} onClick={() => setVerb('pause')}>Pause</Button>}
          {c.status === 'paused' && <Button leftSection={<IconPlayerPlay size={16} />} onClick={() => setVerb('resume')}>Go on</Button>}
          {/running|paused/.test(c.status) && <Button color="red" variant="light" leftSection={<IconSquareX size={16} />} onClick={() => setVerb('abort')}>Abort</Button>}
        </>
      }
    >
      {c.reason && <Alert color={c.status === 'paused' ? 'amber' : 'steel'} mb="md" p="xs" title={c.status === 'paused' ? 'It waits for somebody' : undefined}>{c.reason}</Alert>}
      <div className="panel pad" style={{ marginBottom: 16 }}>
        <Bar of={c} />
        <Group gap="md" mt="xs" role="status">{Object.entries(c.serverCounts).filter(([, n]) => n > 0).map(([state, n]) => <Text key={state} size="sm" className={/failed/.test(state) ? 'bad' : undefined}><b className="num">{n}</b> {state === 'asked' ? 'wait for their owners' : words(state).toLowerCase()}</Text>)}</Group>
      </div>
      {waves.map((wave) => {
        const of = servers.filter((s) => s.wave === wave);
        return (
          <section key={wave} className="panel pad" style={{ marginBottom: 16 }}>
            <Title order={2} mb="xs">Wave {wave} <Text component="span" size="sm" c="dimmed">{plural(of.length, 'server')}{wave === 1 && waves.length > 1 ? ', to see whether it goes well' : ''}{wave > c.wave ? ' · not begun' : ` · ${of.filter((s) => /^(done|skipped|failed)/.test(s.status)).length} over`}</Text></Title>
            <Table layout="fixed" aria-label={`Wave ${wave}`}>
              <Table.Tbody>
                {of.slice(0, 300).map((s) => (
                  <Table.Tr key={s.serverId}>
                    <Table.Td w={200}><Link className="link mono" to="/servers/$id" params={{ id: String(s.serverId) }}>{s.serverName ?? `server ${s.serverId}`}</Link></Table.Td>
                    <Table.Td w={150}><Status value={s.status} label={s.status === 'asked' ? 'Owner is asked' : words(s.status)} /></Table.Td>
                    <Table.Td className={/failed/.test(s.status) ? 'bad' : undefined}>{s.reason}</Table.Td>
                    <Table.Td w={100}>{s.jobGroupId && <Link className="link" to="/jobs/$id" params={{ id: String(s.jobGroupId) }}>Jobs</Link>}</Table.Td>
                    <Table.Td w={140}><Ago at={s.updatedTimestamp} /></Table.Td>
                  </Table.Tr>
                ))}
              </Table.Tbody>
            </Table>
          </section>
        );
      })}
      {verb && (
        <FormDialog
          title={verb === 'pause' ? `Pause ${c.label}?` : verb === 'resume' ? `Go on with ${c.label}?` : `Abort ${c.label}?`}
          intro={verb === 'pause' ? 'What runs goes on; nothing new begins.' : verb === 'resume' ? 'The next servers begin.' : 'Servers that were not begun stay as they are. It cannot go on afterwards.'}
          fields={verb === 'resume' ? (failures(c) ? [{ name: 'retryFailed', label: 'Try the failed ones again', kind: 'switch' }] : []) : [{ name: 'reason', label: 'Reason', maxLength: 500 }, ...(verb === 'abort' ? [{ name: 'stopRunning', label: 'Stop what runs too', kind: 'switch' as const, help: 'An update that is being written is not interrupted.' }] : [])]}
          submit={verb === 'pause' ? 'Pause' : verb === 'resume' ? 'Go on' : 'Abort'}
          danger={verb === 'abort'}
          close={() => setVerb(null)}
          save={async (body) => {
            await api.post(`${path}/actions/${verb}`, body, c.revision);
            void client.invalidateQueries({ queryKey: ['campaign'] });
            toast(verb === 'pause' ? 'Paused' : verb === 'resume' ? 'Goes on' : 'Aborted', c.label);
          }}
        />
      )}
    </Page>
  );
}
