import { Alert, Button, Group, Select, Table, Text, Tooltip } from '@mantine/core';
import { IconRefresh, IconRocket } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { Baseline, Compliance as State, Matrix } from '../../../api/firmware';
import { sitesQuery } from '../../../api/names';
import type { Page as Answer, ServerType } from '../../../api/types';
import { count, plural, words } from '../../../components/format';
import { Empty, ErrorCard, Loading } from '../../../components/states';
import { Status } from '../../../components/status';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';
import { toast, toastError } from '../../../components/toast';
import { Page } from '../Page';
import { CampaignDialog } from './Campaigns';
import { FIRMWARE_SUB, FIRMWARE_TABS } from './tabs';

export const baselinesQuery = { queryKey: ['firmware-baselines'], staleTime: 30_000, queryFn: () => api.get<Answer<Baseline>>('/firmware/baseline', { limit: 100 }) };

const SAID: Record<State, [string, string]> = { compliant: ['success', 'Compliant'], outdated: ['error', 'Too old'], newer_available: ['warning', 'Newer available'], unknown: ['unknown', 'Not known'] };
const SIGN: Record<State, string> = { compliant: '✓', outdated: '✗', newer_available: '↑', unknown: '?' };

/** Servers against what a baseline wants of each of their parts. */
export function Compliance() {
  const [chosen, choose] = useState<string | null>(null);
  const [site, setSite] = useState<string | null>(null);
  const [type, setType] = useState<string | null>(null);
  const [only, setOnly] = useState<State | null>(null);
  const [starting, start] = useState(false);
  const baselines = useQuery(baselinesQuery);
  const sites = useQuery(sitesQuery);
  const types = useQuery({ queryKey: ['server-types'], staleTime: 60_000, queryFn: () => api.get<Answer<ServerType>>('/server-types', { limit: 100 }) });
  const baseline = chosen ?? (baselines.data?.data[0] ? String(baselines.data.data[0].id) : null);
  const matrix = useQuery({
    queryKey: ['compliance', baseline, site, type],
    enabled: baseline !== null,
    placeholderData: (before) => before,
    queryFn: () => api.post<Matrix>(`/firmware/baseline/${baseline}/actions/check-compliance`, { ...(site ? { siteId: Number(site) } : {}), ...(type ? { serverTypeId: Number(type) } : {}) }),
  });
  useRefreshOn(['compliance'], isRead, 2_000);
  const m = matrix.data;
  const columns = Object.entries(m?.componentTypes ?? {});
  const rows = m?.servers.filter((s) => !only || s.state === only) ?? [];
  const unread = m?.servers.filter((s) => !s.components.length) ?? [];
  const late = m?.servers.filter((s) => s.state === 'outdated' || s.state === 'newer_available') ?? [];
  return (
    <Page
      title="Firmware"
      sub={FIRMWARE_SUB}
      tabs={FIRMWARE_TABS}
    >
      {baselines.error ? (
        <ErrorCard error={baselines.error} retry={() => void baselines.refetch()} />
      ) : baselines.data && !baselines.data.data.length ? (
        <div className="panel"><Empty title="No baseline yet" action={<Link to="/firmware/baselines" className="link">To the baselines</Link>}>A baseline says which versions servers should have: those of catalogs, or at least certain ones.</Empty></div>
      ) : matrix.error ? (
        <ErrorCard error={matrix.error} retry={() => void matrix.refetch()} what="Compliance could not be checked" />
      ) : !m ? (
        <div className="panel" style={{ padding: 16 }}><Loading rows={8} /></div>
      ) : (
        <>
          <Group justify="space-between" mb="md">
          <Group gap="xs">
            <Select aria-label="Baseline" w={170} allowDeselect={false} data={baselines.data?.data.map((b) => ({ value: String(b.id), label: b.name })) ?? []} value={baseline} onChange={choose} />
            <Select aria-label="Site" placeholder="Every site" clearable clearButtonProps={{ 'aria-label': 'Every site' }} w={140} data={sites.data?.data.map((s) => ({ value: String(s.id), label: s.name })) ?? []} value={site} onChange={setSite} />
            <Select aria-label="Type" placeholder="Every type" clearable clearButtonProps={{ 'aria-label': 'Every type' }} w={140} data={types.data?.data.map((t) => ({ value: String(t.id), label: t.name })) ?? []} value={type} onChange={setType} />
          </Group>
          <Group gap="xs">
            {unread.length > 0 && <ReadAll ids={unread.map((s) => s.serverId)} />}
            <Button leftSection={<IconRocket size={17} />} disabled={!late.length} title={late.length ? undefined : 'No server is older than the baseline wants'} onClick={() => start(true)}>Update in waves</Button>
          </Group>
          </Group>
          <Group gap="xs" mb="md" role="group" aria-label="Servers by state">
            {(Object.keys(SAID) as State[]).map((s) => (
              <Button key={s} size="xs" variant={only === s ? 'filled' : 'default'} aria-pressed={only === s} onClick={() => setOnly(only === s ? null : s)}>
                {SAID[s][1]}: {count(m.summary[s] ?? 0)}
              </Button>
            ))}
          </Group>
          {!m.servers.length ? (
            <div className="panel"><Empty title="No server">None is at this place.</Empty></div>
          ) : (
            <div className="panel" style={{ overflow: 'auto', maxHeight: 'calc(100vh - 300px)' }} tabIndex={0} role="region" aria-label="Compliance of servers">
              <Table stickyHeader aria-label="Compliance" highlightOnHover>
                <Table.Thead>
                  <Table.Tr>
                    <Table.Th>Server</Table.Th>
                    <Table.Th>State</Table.Th>
                    {columns.map(([key, label]) => <Table.Th key={key}>{words(label)}</Table.Th>)}
                  </Table.Tr>
                </Table.Thead>
                <Table.Tbody>
                  {rows.slice(0, 500).map((s) => (
                    <Table.Tr key={s.serverId}>
                      <Table.Td><Link className="link mono" to="/servers/$id" params={{ id: String(s.serverId) }}>{s.serverName}</Link><Text size="xs" c="dimmed">{[s.vendor, s.model].filter(Boolean).join(' ')}</Text></Table.Td>
                      <Table.Td><Status value={SAID[s.state][0]} label={SAID[s.state][1]} /></Table.Td>
                      {columns.map(([key]) => (
                        <Table.Td key={key} className="mono">
                          {s.components.filter((c) => c.type === key).map((c) => (
                            <Tooltip key={c.componentId} label={`${c.name}: ${SAID[c.state]?.[1] ?? c.state}${c.minimumVersion ? `, at least ${c.minimumVersion}` : ''}${c.newestVersion ? `, newest ${c.newestVersion}` : ''}`}>
                              <div className={c.state === 'outdated' ? 'bad' : c.state === 'newer_available' ? 'mark-edit' : undefined}><span aria-hidden>{SIGN[c.state] ?? '?'} </span>{c.version ?? '–'}<span className="sr-only"> {SAID[c.state]?.[1] ?? c.state}</span></div>
                            </Tooltip>
                          ))}
                        </Table.Td>
                      ))}
                    </Table.Tr>
                  ))}
                </Table.Tbody>
              </Table>
              {rows.length > 500 && <Alert color="steel" p="xs" m="xs">The first 500 of {count(rows.length)} are shown; choose a site or a type.</Alert>}
              {!rows.length && <Empty title="None">No server is in this state.</Empty>}
            </div>
          )}
        </>
      )}
      {starting && m && <CampaignDialog initial={{ baselineId: m.baseline.id, label: `${m.baseline.name}`, ...(site ? { siteId: Number(site) } : {}), ...(type ? { serverTypeId: Number(type) } : {}) }} close={() => start(false)} />}
    </Page>
  );
}

const isRead = (m: LiveMessage) => m.topic === 'job' && m.data.status === 'returned_success';
const AT_ONCE = 4;

/** Servers whose firmware was never read: their BMCs are asked, a few at a time. */
function ReadAll({ ids }: { ids: number[] }) {
  const client = useQueryClient();
  const [done, setDone] = useState<number | null>(null);
  const run = async () => {
    let at = 0;
    let refused = 0;
    let last: unknown;
    setDone(0);
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (at < ids.length) {
          const id = ids[at++];
          await api.post(`/servers/${id}/firmware/actions/update-info`).catch((e: unknown) => {
            refused++;
            last = e;
          });
          setDone((n) => (n ?? 0) + 1);
        }
      }),
    );
    if (refused) toastError(`${plural(refused, 'server')} not asked`, last);
    else toast('Being read', `${plural(ids.length, 'BMC')} ${ids.length === 1 ? 'is' : 'are'} asked.`);
    setTimeout(() => void client.invalidateQueries({ queryKey: ['compliance'] }).then(() => setDone(null)), 3_000);
  };
  return <Button variant="default" leftSection={<IconRefresh size={16} />} loading={done !== null} onClick={() => void run()}>{`Read ${plural(ids.length, 'server')}`}</Button>;
}
