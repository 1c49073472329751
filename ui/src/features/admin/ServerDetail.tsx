import { Alert, Button, Group, Menu, Modal, SimpleGrid, Table, Text, Title } from '@mantine/core';
import { IconPower, IconRefresh } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../api/client';
import type { JobGroup, Page as Answer, Server } from '../../api/types';
import { count, duration, speed } from '../../components/format';
import { ErrorCard, Loading } from '../../components/states';
import { Ago, Status } from '../../components/status';
import type { LiveMessage } from '../../live/stream';
import { toast, toastError } from '../../components/toast';
import { useRefreshOn } from '../../live/use';
import { Facts, Page } from './Page';

const POWER = [
  { command: 'on', label: 'Power on', text: 'The server starts.' },
  { command: 'soft', label: 'Shut down', text: 'The operating system is asked to shut down.' },
  { command: 'reset', label: 'Reset', text: 'The server restarts at once, without asking its operating system.' },
  { command: 'off', label: 'Power off', text: 'The power is cut at once. What is not written to disk is lost.' },
];
const route = getRouteApi('/shell/servers/$id');

export function ServerDetail() {
  const { id } = route.useParams() as { id: string };
  const q = useQuery({ queryKey: ['server', id], queryFn: () => api.get<Server>(`/servers/${encodeURIComponent(id)}`), refetchInterval: 10_000 });
  const mine = (m: LiveMessage) => (m.topic === 'object' && m.data.kind === 'server' && String(m.data.id) === id) || (m.topic === 'job' && String(m.data.serverId) === id);
  useRefreshOn(['server', id], mine);
  if (q.error) return <Page title="Server"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Server"><Loading rows={8} /></Page>;
  const s = q.data;
  return (
    <Page
      title={<>{s.serialNumber || `Server ${s.serverId}`}</>}
      sub={<Group gap={8}><Link to="/servers" className="link">Servers</Link> · {[s.vendor, s.model].filter(Boolean).join(' ')} · {s.datacenterName} <Status value={s.serverStatus} /> <Status value={s.powerStatus} label={`Power ${s.powerStatus}`} /></Group>}
      tools={<><RegisterAgain server={s} /><PowerMenu server={s} /></>}
    >
      {s.serverStatusReason && <Alert color={s.serverStatus === 'registering' ? 'steel' : 'amber'} mb="md" p="xs">{s.serverStatusReason}</Alert>}
      <SimpleGrid cols={{ base: 1, md: 2 }} mb="md">
        <section className="panel pad">
          <Title order={2} mb="sm">Inventory</Title>
          <Facts of={[
            ['Processor', s.processorName ? `${s.processorCount ?? 1} × ${s.processorName}, ${count(s.processorCoreCount)} cores each` : `${count(s.processorCount)} × ${count(s.processorCoreCount)} cores`],
            ['Memory', s.ramGbytes ? `${count(s.ramGbytes)} GB` : null],
            ['GPUs', count(s.gpuCount ?? 0)],
            ['UUID', <span key="u" className="mono">{s.serverUUID}</span>],
            ['Rack', s.rackName ? `${s.rackName}${s.rackPositionLowerUnit ? `, unit ${s.rackPositionLowerUnit}` : ''}` : null],
          ]} />
        </section>
        <section className="panel pad">
          <Title order={2} mb="sm">Management</Title>
          <Facts of={[
            ['BMC address', <span key="a" className="mono">{s.managementAddress}</span>],
            ['BMC MAC', <span key="m" className="mono">{s.bmcMacAddress}</span>],
            ['Administration', s.administrationState],
            ['Used by', s.allocationInfo ? `${s.allocationInfo.infrastructure?.label ?? 'infrastructure'} / ${s.allocationInfo.instanceLabel}` : 'nobody'],
          ]} />
        </section>
      </SimpleGrid>
      <section className="panel pad" style={{ marginBottom: 16, overflowX: 'auto' }}>
        <Title order={2} mb="sm">Interfaces</Title>
        {s.interfaces?.length ? (
          <Table>
            <Table.Thead><Table.Tr><Table.Th>#</Table.Th><Table.Th>Name</Table.Th><Table.Th>MAC</Table.Th><Table.Th>Speed</Table.Th><Table.Th>Switch</Table.Th><Table.Th>Port</Table.Th><Table.Th>VLAN</Table.Th><Table.Th>Addresses</Table.Th></Table.Tr></Table.Thead>
            <Table.Tbody>
              {s.interfaces.map((i) => (
                <Table.Tr key={i.serverInterfaceId}>
                  <Table.Td className="num">{i.index}{i.pxeEnabled ? ' · boots' : ''}</Table.Td>
                  <Table.Td>{i.description || '–'}</Table.Td>
                  <Table.Td className="mono">{i.macAddress}</Table.Td>
                  <Table.Td className="num">{speed(i.capacityMbps)}</Table.Td>
                  <Table.Td>{i.networkDevice ? <Link className="link" to="/switches/$id" params={{ id: String(i.networkDevice.id) }}>{i.networkDevice.identifierString}</Link> : i.switchHostname || '–'}</Table.Td>
                  <Table.Td className="mono">{i.switchPortId || '–'}</Table.Td>
                  <Table.Td className="num">{i.vlanId ?? '–'}</Table.Td>
                  <Table.Td className="mono">{i.ipv4Addresses?.join(', ') || '–'}</Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        ) : <Text c="dimmed" size="sm">No interface is known yet.</Text>}
      </section>
      <section className="panel pad">
        <Title order={2} mb="sm">Disks</Title>
        {s.disks?.length ? (
          <Table>
            <Table.Thead><Table.Tr><Table.Th>Model</Table.Th><Table.Th>Type</Table.Th><Table.Th>Size</Table.Th><Table.Th>Serial</Table.Th><Table.Th>State</Table.Th></Table.Tr></Table.Thead>
            <Table.Tbody>{s.disks.map((d) => <Table.Tr key={d.id}><Table.Td>{[d.vendor, d.model].filter(Boolean).join(' ')}</Table.Td><Table.Td>{d.type}</Table.Td><Table.Td className="num">{count(d.diskSizeGb)} GB</Table.Td><Table.Td className="mono">{d.serial}</Table.Td><Table.Td>{d.status}</Table.Td></Table.Tr>)}</Table.Tbody>
          </Table>
        ) : <Text c="dimmed" size="sm">No disk is known yet.</Text>}
      </section>
      <Jobs server={s} />
    </Page>
  );
}

function Jobs({ server }: { server: Server }) {
  const key = ['job-groups', 'of-server', server.serverId];
  const q = useQuery({ queryKey: key, queryFn: () => api.get<Answer<JobGroup>>('/job-groups', { 'filter.serverId': server.serverId, sortBy: 'id:DESC', limit: 8 }) });
  useRefreshOn(key, (m) => m.topic === 'job' && Number(m.data.serverId) === server.serverId);
  if (!q.data?.data.length) return null;
  return (
    <section className="panel pad" style={{ marginTop: 16 }}>
      <Title order={2} mb="sm">Jobs</Title>
      <Table>
        <Table.Tbody>
          {q.data.data.map((g) => {
            const done = g.finishedTimestamp && !g.finishedTimestamp.startsWith('0000') ? g.finishedTimestamp : null;
            return (
              <Table.Tr key={g.id}>
                <Table.Td><Link className="link" to="/jobs/$id" params={{ id: String(g.id) }}>{g.description}</Link></Table.Td>
                <Table.Td w={130}><Status value={done ? 'success' : 'running'} label={done ? 'Finished' : 'Running'} /></Table.Td>
                <Table.Td w={150}><Ago at={g.createdTimestamp} /></Table.Td>
                <Table.Td w={110} className="num">{done ? duration(Date.parse(done) - Date.parse(g.createdTimestamp)) : '–'}</Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </section>
  );
}

function RegisterAgain({ server }: { server: Server }) {
  const [asked, ask] = useState(false);
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: () => api.post(`/servers/${server.serverId}/actions/re-register`, undefined, server.revision),
    onSuccess: () => {
      ask(false);
      toast('Registration begun', server.serialNumber ?? String(server.serverId));
      void client.invalidateQueries({ queryKey: ['server'] });
    },
    onError: (e) => toastError('Not registered again', e),
  });
  return (
    <>
      <Button variant="default" leftSection={<IconRefresh size={17} />} onClick={() => ask(true)}>Register again</Button>
      <Modal opened={asked} onClose={() => ask(false)} title={<b>Register {server.serialNumber} again?</b>}>
        <Text size="sm">{server.allocationInfo ? 'It is in use: its BMC is asked, the server itself is left alone.' : 'Its inventory is read over the BMC, then it is booted once from the network.'}</Text>
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={() => ask(false)}>Cancel</Button>
          <Button loading={act.isPending} onClick={() => act.mutate()}>Register again</Button>
        </Group>
      </Modal>
    </>
  );
}

function PowerMenu({ server }: { server: Server }) {
  const [asked, ask] = useState<(typeof POWER)[number] | null>(null);
  const client = useQueryClient();
  const act = useMutation({
    mutationFn: (command: string) => api.post(`/servers/${server.serverId}/actions/set-power`, { powerCommand: command }, server.revision),
    onSuccess: () => {
      toast('Power command sent', `${asked?.label}: ${server.serialNumber ?? server.serverId}`);
      ask(null);
      void client.invalidateQueries({ queryKey: ['server'] });
    },
    onError: (e) => toastError('Power command refused', e),
  });
  return (
    <>
      <Menu position="bottom-end" shadow="md">
        <Menu.Target><Button variant="default" leftSection={<IconPower size={17} />}>Power</Button></Menu.Target>
        <Menu.Dropdown>{POWER.map((p) => <Menu.Item key={p.command} onClick={() => ask(p)}>{p.label}…</Menu.Item>)}</Menu.Dropdown>
      </Menu>
      <Modal opened={Boolean(asked)} onClose={() => ask(null)} title={<b>{asked?.label}: {server.serialNumber}</b>}>
        <Text size="sm">{asked?.text}</Text>
        {server.allocationInfo && asked?.command !== 'on' && <Text size="sm" mt="xs" className="bad">In use by {server.allocationInfo.infrastructure?.label} / {server.allocationInfo.instanceLabel}.</Text>}
        <Group justify="flex-end" mt="md">
          <Button variant="default" onClick={() => ask(null)}>Cancel</Button>
          <Button color={asked?.command === 'on' ? undefined : 'red'} loading={act.isPending} onClick={() => asked && act.mutate(asked.command)}>{asked?.label}</Button>
        </Group>
      </Modal>
    </>
  );
}
