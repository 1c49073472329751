import { Alert, Button, Group, SimpleGrid, Table, Tabs, Text, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { CleaningCertificate } from '../../../api/hardware';
import { useSiteNames } from '../../../api/names';
import type { JobGroup, Page as Answer, Server } from '../../../api/types';
import { count, duration, speed } from '../../../components/format';
import { ErrorCard, Loading } from '../../../components/states';
import { Ago, Status } from '../../../components/status';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';
import { ServerConsole } from '../../console/ConsoleTab';
import { CertificateDialog } from '../Cleaning';
import { Facts, Page } from '../Page';
import { Health } from './Health';
import { Bios, EventLog, Firmware, Sensors } from './Hardware';
import { BootOrder } from './BootOrder';
import { TypeMatch } from './TypeMatch';
import { WaitingLogin, waitsForLogin } from './WaitingLogin';
import { MoreMenu, nameOf, PowerMenu, RegisterAgain } from './actions';

const route = getRouteApi('/shell/servers/$id');

export function ServerDetail() {
  const { id } = route.useParams() as { id: string };
  const siteName = useSiteNames();
  const q = useQuery({ queryKey: ['server', id], queryFn: () => api.get<Server>(`/servers/${encodeURIComponent(id)}`), refetchInterval: 10_000 });
  const mine = (m: LiveMessage) => (m.topic === 'object' && m.data.kind === 'server' && String(m.data.id) === id) || (m.topic === 'job' && String(m.data.serverId) === id);
  useRefreshOn(['server', id], mine);
  if (q.error) return <Page title="Server"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Server"><Loading rows={8} /></Page>;
  const s = q.data;
  return (
    <Page
      title={nameOf(s)}
      sub={<Group gap={8}><Link to="/servers" className="link">Servers</Link> · {[s.vendor, s.model].filter(Boolean).join(' ')} · {siteName(s.siteId)} <Status value={s.serverStatus} /> <Status value={s.powerStatus} label={`Power ${s.powerStatus}`} /> <Health of={s.health} />{s.maintenance && <Status value="warning" label="In maintenance" />}</Group>}
      tools={<><RegisterAgain server={s} /><PowerMenu server={s} /><MoreMenu server={s} /></>}
    >
      {waitsForLogin(s) && <Alert color="amber" mb="md" p="sm" title="Waiting for credentials"><Text size="sm" mb="xs">Nobody has given the login of its BMC yet, and no default login fits its serial number, its MAC address or its site.</Text><WaitingLogin server={s} /></Alert>}
      {s.serverStatusReason && !waitsForLogin(s) && <Alert color={s.serverStatus === 'registering' ? 'steel' : 'amber'} mb="md" p="xs">{s.serverStatusReason}</Alert>}
      {s.maintenanceReason && <Alert color="amber" mb="md" p="xs" title="In maintenance">{s.maintenanceReason}</Alert>}
      {s.bmcError && <Alert color="red" mb="md" p="xs" title="The BMC cannot be reached">{s.bmcError.message}{s.bmcError.since && <> (since <Ago at={s.bmcError.since} />)</>}</Alert>}
      {(s.health === 'warning' || s.health === 'critical') && (
        <Alert color={s.health === 'critical' ? 'red' : 'amber'} mb="md" p="xs" title={s.health === 'critical' ? 'Something has failed' : 'Something needs a look'}>
          {s.healthProblems?.length ? s.healthProblems.map((p) => `${p.part}: ${p.health}`).join(', ') : 'The BMC says so, and names no part.'}{s.healthTimestamp && <> (told <Ago at={s.healthTimestamp} />)</>}
        </Alert>
      )}
      <Differences server={s} />
      <Tabs defaultValue="overview" keepMounted={false}>
        <Tabs.List mb="md">
          <Tabs.Tab value="overview">Overview</Tabs.Tab>
          <Tabs.Tab value="firmware">Firmware</Tabs.Tab>
          <Tabs.Tab value="sensors">Sensors</Tabs.Tab>
          <Tabs.Tab value="log">Event log</Tabs.Tab>
          <Tabs.Tab value="bios">Settings</Tabs.Tab>
          <Tabs.Tab value="console">Console</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="overview"><Overview server={s} /></Tabs.Panel>
        <Tabs.Panel value="firmware"><Firmware server={s} /></Tabs.Panel>
        <Tabs.Panel value="sensors"><Sensors server={s} /></Tabs.Panel>
        <Tabs.Panel value="log"><EventLog server={s} /></Tabs.Panel>
        <Tabs.Panel value="console"><ServerConsole id={s.serverId} /></Tabs.Panel>
        <Tabs.Panel value="bios"><Bios server={s} /><BootOrder server={s} /></Tabs.Panel>
      </Tabs>
    </Page>
  );
}

/** `8 × NVIDIA H100`, each model with its number. */
function gpus(s: Server): string {
  const by = new Map<string, number>();
  for (const g of s.gpuInfo ?? []) {
    const name = g.model && g.vendor && !g.model.startsWith(g.vendor) ? `${g.vendor} ${g.model}` : (g.model ?? 'unknown model');
    by.set(name, (by.get(name) ?? 0) + 1);
  }
  return by.size ? [...by].map(([name, n]) => `${n} × ${name}`).join(', ') : count(s.gpuCount);
}

function Overview({ server: s }: { server: Server }) {
  return (
    <>
      <SimpleGrid cols={{ base: 1, md: 2 }} mb="md">
        <section className="panel pad">
          <Title order={2} mb="sm">Inventory</Title>
          <Facts of={[
            ['Processor', s.processorName ? `${s.processorCount ?? 1} × ${s.processorName}, ${count(s.processorCoreCount)} cores each` : `${count(s.processorCount)} × ${count(s.processorCoreCount)} cores`],
            ['Memory', s.ramGbytes ? `${count(s.ramGbytes)} GB` : null],
            ...(s.gpuCount ? [['GPUs', gpus(s)] as [string, React.ReactNode]] : []),
            ['Server type', <TypeMatch key="tm" server={s} />],
            ['UUID', <span key="u" className="mono">{s.serverUUID}</span>],
            ['Rack', s.rackName ? `${s.rackName}${s.rackPositionLowerUnit ? `, unit ${s.rackPositionLowerUnit}` : ''}` : null],
          ]} />
        </section>
        <section className="panel pad">
          <Title order={2} mb="sm">Management</Title>
          <Facts of={[
            ['BMC address', <span key="a" className="mono">{s.managementAddress}</span>],
            ['BMC MAC', <span key="m" className="mono">{s.bmcMacAddress}</span>],
            ['BMC certificate', s.tlsFingerprint ? <span key="t" className="mono" title={s.tlsFingerprint}>{s.tlsFingerprint.slice(0, 24)}…</span> : null],
            ['Administration', s.administrationState],
            ...(s.serverComments ? [['Comments', s.serverComments] as [string, React.ReactNode]] : []),
            ['Used by', s.allocationInfo ? <a key="u" className="link" href={`/portal/infrastructures/${s.allocationInfo.infrastructure?.id}`}>{s.allocationInfo.infrastructure?.label ?? 'infrastructure'} / {s.allocationInfo.instanceLabel}</a> : 'nobody'],
          ]} />
        </section>
      </SimpleGrid>
      <section className="panel pad" style={{ marginBottom: 16, overflowX: 'auto' }}>
        <Title order={2} mb="sm">Interfaces</Title>
        {s.interfaces?.length ? (
          <Table aria-label="Interfaces">
            <Table.Thead><Table.Tr><Table.Th w={70}>#</Table.Th><Table.Th>Name</Table.Th><Table.Th>MAC</Table.Th><Table.Th>Speed</Table.Th><Table.Th>Switch</Table.Th><Table.Th>Port</Table.Th><Table.Th>VLAN</Table.Th><Table.Th>Addresses</Table.Th></Table.Tr></Table.Thead>
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
          <Table aria-label="Disks">
            <Table.Thead><Table.Tr><Table.Th>Model</Table.Th><Table.Th>Type</Table.Th><Table.Th>Size</Table.Th><Table.Th>Serial</Table.Th><Table.Th>State</Table.Th></Table.Tr></Table.Thead>
            <Table.Tbody>{s.disks.map((d) => <Table.Tr key={d.id}><Table.Td>{[d.vendor, d.model].filter(Boolean).join(' ')}</Table.Td><Table.Td>{d.type}</Table.Td><Table.Td className="num">{count(d.diskSizeGb)} GB</Table.Td><Table.Td className="mono">{d.serial}</Table.Td><Table.Td>{d.status}</Table.Td></Table.Tr>)}</Table.Tbody>
          </Table>
        ) : <Text c="dimmed" size="sm">No disk is known yet.</Text>}
      </section>
      <Certificates server={s} />
      <Jobs server={s} />
    </>
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

/** What the BMC says against what the machine itself says when it is booted. */
function Differences({ server }: { server: Server }) {
  const list = server.inventoryDifferences ?? [];
  if (!list.length) return null;
  return (
    <Alert color="amber" mb="md" p="xs" title="The BMC and the machine itself do not say the same">
      <Table aria-label="Differences" withRowBorders={false} verticalSpacing={2}>
        <Table.Thead><Table.Tr><Table.Th>Part</Table.Th><Table.Th>BMC</Table.Th><Table.Th>Machine</Table.Th></Table.Tr></Table.Thead>
        <Table.Tbody>{list.map((d) => <Table.Tr key={d.part}><Table.Td>{d.part}</Table.Td><Table.Td>{d.outOfBand ?? 'not there'}</Table.Td><Table.Td>{d.inBand ?? 'not there'}</Table.Td></Table.Tr>)}</Table.Tbody>
      </Table>
    </Alert>
  );
}

function Certificates({ server }: { server: Server }) {
  const [shown, show] = useState<CleaningCertificate | null>(null);
  const siteName = useSiteNames();
  const q = useQuery({ queryKey: ['cleaning-certificates', server.serverId, server.serverStatus], retry: false, queryFn: () => api.get<Answer<CleaningCertificate>>('/servers/cleaning-certificates', { 'filter.serverId': server.serverId, sortBy: 'id:DESC', limit: 5 }) });
  if (!q.data?.data.length) return null;
  return (
    <section className="panel pad" style={{ marginTop: 16 }}>
      <Title order={2} mb="sm">Cleanings</Title>
      <Table aria-label="Cleanings">
        <Table.Tbody>
          {q.data.data.map((c) => (
            <Table.Tr key={c.id}>
              <Table.Td><Status value={c.succeeded ? 'success' : 'failed'} label={c.succeeded ? 'Erased' : 'Not erased'} /></Table.Td>
              <Table.Td className={c.succeeded ? undefined : 'bad'}>{c.reason || `${c.disks.filter((d) => d.erased).length} of ${c.disks.length} disks`}</Table.Td>
              <Table.Td><Ago at={c.finishedTimestamp} /></Table.Td>
              <Table.Td w={120}><Button size="compact-sm" variant="light" onClick={() => show(c)}>Certificate</Button></Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      {shown && <CertificateDialog of={shown} site={siteName(shown.siteId)} close={() => show(null)} />}
    </section>
  );
}
