import { Table, Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import type { UnknownMachine } from '../../api/hardware';
import { useSiteNames } from '../../api/names';
import type { Page as Answer, Server } from '../../api/types';
import { count, plural } from '../../components/format';
import { ErrorCard, Loading } from '../../components/states';
import { Status } from '../../components/status';
import type { LiveMessage } from '../../live/stream';
import { useRefreshOn } from '../../live/use';
import { WaitingLogin, waitsForLogin } from './server/WaitingLogin';

const concerns = (m: LiveMessage) => m.topic === 'job' || (m.topic === 'object' && /server|machine/.test(String(m.data.kind)));
const MOST = 100;

/** BMCs that came by themselves: those that wait for a login, with the form for it, and those on their way. */
export function ZeroTouch() {
  const siteName = useSiteNames();
  const q = useQuery({ queryKey: ['waiting'], refetchInterval: 10_000, queryFn: () => api.get<Answer<Server>>('/servers', { 'filter.serverStatus': '$in:registering,pending_registration,used_registering', sortBy: 'serverId:DESC', limit: MOST }) });
  const machines = useQuery({ queryKey: ['waiting', 'machines'], refetchInterval: 15_000, retry: false, queryFn: () => api.get<Answer<UnknownMachine>>('/servers/unknown-machines', { limit: 1 }) });
  useRefreshOn(['waiting'], concerns, 1_000);
  if (q.error) return <ErrorCard error={q.error} retry={() => void q.refetch()} what="The waiting servers could not be loaded" />;
  if (!q.data) return <Loading rows={3} />;
  const waiting = q.data.data.filter(waitsForLogin);
  const coming = q.data.data.filter((s) => !waitsForLogin(s));
  const unknown = machines.data?.meta.totalItems ?? 0;
  return (
    <>
      <Text size="sm" role="status">
        {waiting.length ? `${plural(waiting.length, 'server')} ${waiting.length === 1 ? 'waits' : 'wait'} for the login of ${waiting.length === 1 ? 'its BMC' : 'their BMCs'}` : 'No server waits for a login'}
        {coming.length ? `, ${count(coming.length)} on the way` : ''}.{' '}
        {unknown > 0 && <Link className="link" to="/servers/unknown">{plural(unknown, 'unknown machine')}</Link>}
      </Text>
      {q.data.data.length > 0 && (
        <Table.ScrollContainer minWidth={760}>
          <Table aria-label="Servers that came by themselves" verticalSpacing="sm">
            <Table.Thead><Table.Tr><Table.Th w={220}>Server</Table.Th><Table.Th w={170}>BMC</Table.Th><Table.Th w={120}>Site</Table.Th><Table.Th>What happens</Table.Th></Table.Tr></Table.Thead>
            <Table.Tbody>
              {[...waiting, ...coming].map((s) => (
                <Table.Tr key={s.serverId} style={{ verticalAlign: 'top' }}>
                  <Table.Td><Link className="link mono" to="/servers/$id" params={{ id: String(s.serverId) }}>{s.serialNumber || `server ${s.serverId}`}</Link><Text size="xs" c="dimmed">{[s.vendor, s.model].filter(Boolean).join(' ')}</Text></Table.Td>
                  <Table.Td className="mono">{s.managementAddress || '–'}<Text size="xs" c="dimmed" className="mono">{s.bmcMacAddress}</Text></Table.Td>
                  <Table.Td>{siteName(s.siteId)}</Table.Td>
                  <Table.Td>{waitsForLogin(s) ? <><Status value="pending" label="Waiting for credentials" /><div style={{ marginTop: 8 }}><WaitingLogin server={s} /></div></> : <><Status value={s.serverStatus} /> <Text size="sm" component="span">{s.serverStatusReason}</Text></>}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Table.ScrollContainer>
      )}
    </>
  );
}
