import { Alert, Button, Group, Progress, SimpleGrid, Table, Text, Title } from '@mantine/core';
import { IconPencil, IconRefresh } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../api/client';
import { sitesQuery, useInfrastructureNames, useSiteNames } from '../../api/names';
import { sizeOf, type Storage, type StorageElement, type StorageStatistics } from '../../api/storage';
import type { Fabric, Page as Answer } from '../../api/types';
import { type Field, FormDialog } from '../../components/Form';
import { bytes, count, words } from '../../components/format';
import { ErrorCard, Loading } from '../../components/states';
import { Status } from '../../components/status';
import { toast, toastError } from '../../components/toast';
import type { LiveMessage } from '../../live/stream';
import { useRefreshOn } from '../../live/use';
import { Crud } from './Crud';
import { Facts, Page } from './Page';
import { SecretDialog } from './SecretDialog';

const DRIVERS: Record<string, string> = { linux: 'Linux storage node', netapp: 'NetApp ONTAP', power_store: 'Dell PowerStore', pure: 'Pure FlashArray', power_flex: 'Dell PowerFlex', power_scale: 'Dell PowerScale' };
const driver = (name: string) => DRIVERS[name] ?? words(name);
const TECHNOLOGIES: Record<string, string> = { block: 'Drives', file: 'File shares', object: 'Buckets' };
const offers = (s: Storage) => s.technologies.map((t) => TECHNOLOGIES[t] ?? t).join(', ');
const KIND = /^storage/;
/** The wire counts in GiB here. */
const GIB = 2 ** 30;

function Capacity({ total, used }: { total: number | null | undefined; used: number | null | undefined }) {
  if (!total) return <span>–</span>;
  const percent = Math.min(100, (100 * (used ?? 0)) / total);
  return (
    <Group gap={8} wrap="nowrap" w="100%">
      <Progress flex={1} value={percent} color={percent > 90 ? 'red' : percent > 75 ? 'amber' : 'steel'} aria-label={`${Math.round(percent)} % used`} />
      <Text size="xs" className="num" style={{ flex: 'none' }}>{bytes(used ?? 0)} of {bytes(total)}</Text>
    </Group>
  );
}

function useFields() {
  const sites = useQuery(sitesQuery);
  const fabrics = useQuery({ queryKey: ['fabrics'], staleTime: 60_000, queryFn: () => api.get<Answer<Fabric>>('/network-fabrics', { limit: 100 }) });
  return (row: Storage | null): Field[] => [
    { name: 'name', label: 'Name', required: true },
    { name: 'siteId', label: 'Site', kind: 'select', numeric: true, required: true, options: sites.data?.data.map((s) => ({ value: String(s.id), label: s.name })) ?? [], show: () => !row },
    { name: 'driver', label: 'What it is', kind: 'select', required: true, options: Object.entries(DRIVERS).map(([value, label]) => ({ value, label })), show: () => !row },
    { name: 'technologies', label: 'What it offers', kind: 'choices', options: Object.entries(TECHNOLOGIES).map(([value, label]) => ({ value, label })), show: () => !row },
    { name: 'managementHost', label: 'Management address', required: true, mono: true },
    { name: 'managementPort', label: 'Port', kind: 'number', min: 1, max: 65535, help: 'Empty: the usual one.' },
    { name: 'username', label: 'User' },
    { name: 'password', label: 'Password', kind: 'password', help: row ? 'Empty: as it is.' : undefined },
    { name: 'privateKey', label: 'Private SSH key', kind: 'area', mono: true, help: 'In place of a password.', show: (v) => (row?.driver ?? v.driver) === 'linux' },
    { name: 'networkFabricId', label: 'Fabric it is connected to', kind: 'select', numeric: true, options: fabrics.data?.data.map((f) => ({ value: String(f.id), label: f.name })) ?? [], help: 'Empty: every fabric of the site.' },
    { name: 'overcommitPercent', label: 'Most that is promised', kind: 'number', min: 1, max: 10_000, suffix: ' %', help: 'Of its capacity. 100 % promises nothing that is not there.' },
    { name: 'inMaintenance', label: 'In maintenance', kind: 'switch', help: 'What lies on it stays; nothing new is put there.' },
    { name: 'tags', label: 'Tags', kind: 'words' },
  ];
}

const valuesOf = (s: Storage) => ({ name: s.name, managementHost: s.managementHost, managementPort: s.managementPort, username: s.username, networkFabricId: s.networkFabricId, overcommitPercent: s.overcommitPercent, inMaintenance: Boolean(s.inMaintenance), tags: s.tags ?? [] });
const bodyOf = (v: Record<string, unknown>) => ({ ...v, inMaintenance: v.inMaintenance ? 1 : 0 });

export function Storages() {
  const siteName = useSiteNames();
  const fields = useFields();
  const sites = useQuery(sitesQuery);
  return (
    <Page title="Storages" sub="Arrays and storage nodes: what designs put drives, file shares and buckets on.">
      <Crud<Storage>
        noun="storage"
        table="Storages"
        path="/storages"
        kind={KIND}
        keyOf={(s) => s.id}
        name={(s) => s.name}
        revision={(s) => s.revision}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(150px, 1.2fr)', cell: (s) => <Link to="/storages/$id" params={{ id: String(s.id) }} className="link">{s.name}</Link> },
          { id: 'status', title: 'State', width: 'minmax(130px, 0.8fr)', cell: (s) => <Group gap={4} wrap="nowrap"><Status value={s.status} />{s.inMaintenance ? <Status value="warning" label="Maintenance" /> : null}</Group> },
          { id: 'driver', title: 'What it is', width: 'minmax(150px, 1fr)', cell: (s) => driver(s.driver) },
          { id: 'offers', title: 'Offers', width: 'minmax(150px, 1fr)', cell: (s) => <span title={offers(s)}>{offers(s)}</span> },
          { id: 'site', title: 'Site', width: 'minmax(100px, 0.8fr)', has: () => (sites.data?.data.length ?? 0) > 1, cell: (s) => siteName(s.siteId) },
          { id: 'capacity', title: 'Capacity', width: 'minmax(240px, 1.6fr)', cell: (s) => <Capacity total={s.capacityBytes} used={s.usedBytes} /> },
        ]}
        fields={fields}
        values={(s) => (s ? valuesOf(s) : { siteId: sites.data?.data[0]?.id, driver: 'linux', technologies: ['block', 'file'], overcommitPercent: 100, tags: [] })}
        body={bodyOf}
        intro="The site logs in, looks at what it is and how much room it has, and tells here."
        removeText="Only what holds nothing can be deleted. What is on it is not erased."
        empty="Add an array or a Linux storage node; then designs can have drives, file shares and buckets."
      />
    </Page>
  );
}

const route = getRouteApi('/shell/storages/$id');
const concerns = (m: LiveMessage) => m.topic === 'job' || (m.topic === 'object' && KIND.test(String(m.data.kind)));

export function StorageDetail() {
  const { id } = route.useParams() as { id: string };
  const path = `/storages/${encodeURIComponent(id)}`;
  const q = useQuery({ queryKey: ['storage', id], queryFn: () => api.get<Storage>(path) });
  const room = useQuery({ queryKey: ['storage', id, 'statistics'], queryFn: () => api.get<StorageStatistics>(`${path}/statistics`) });
  useRefreshOn(['storage', id], concerns);
  const siteName = useSiteNames();
  const [secret, show] = useState(false);
  const [trusting, trust] = useState(false);
  const client = useQueryClient();
  if (q.error) return <Page title="Storage"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Storage"><Loading rows={8} /></Page>;
  const s = q.data;
  const r = room.data;
  return (
    <Page title={s.name} sub={<Group gap={8}><Link to="/storages" className="link">Storages</Link> · {driver(s.driver)} · {siteName(s.siteId)} <Status value={s.status} />{s.inMaintenance ? <Status value="warning" label="In maintenance" /> : null}</Group>} tools={<Actions storage={s} />}>
      {s.statusReason && <Alert color="amber" mb="md" p="xs">{s.statusReason}</Alert>}
      {s.tlsFingerprintShown && (
        <Alert color="red" mb="md" p="xs" title="It shows another certificate than before">
          <Text size="sm" className="mono" mb="xs">{s.tlsFingerprintShown}</Text>
          <Button size="xs" color="red" variant="light" onClick={() => trust(true)}>Trust it…</Button>
        </Alert>
      )}
      <SimpleGrid cols={{ base: 1, md: 2 }} mb="md">
        <section className="panel pad">
          <Title order={2} mb="sm">Room</Title>
          <Text size="sm" c="dimmed" mb={2}>Used</Text>
          <Capacity total={r ? r.totalSpaceGB * GIB : s.capacityBytes} used={r ? r.usedSpaceGB * GIB : s.usedBytes} />
          {r && r.totalSpaceGB > 0 && (
            <>
              <Promised promised={(r.promisedSpaceGB ?? 0) * GIB} total={r.totalSpaceGB * GIB} percent={r.overcommitPercent ?? 100} />
              <div style={{ marginTop: 12 }}><Facts of={[['Free', bytes(r.freeSpaceGB * GIB)], ['May be promised', `${bytes((r.totalSpaceGB * GIB * (r.overcommitPercent ?? 100)) / 100)} (${r.overcommitPercent ?? 100} % of it)`]]} /></div>
            </>
          )}
          {room.error && <ErrorCard error={room.error} retry={() => void room.refetch()} what="Its room is not known" />}
        </section>
        <section className="panel pad">
          <Title order={2} mb="sm">What it is</Title>
          <Facts of={[['Model', [s.vendor, s.model].filter(Boolean).join(' ')], ['Version', s.version], ['Serial', s.serialNumber && <span key="s" className="mono">{s.serialNumber}</span>], ['Offers', offers(s)], ['Management', <span key="m" className="mono">{s.managementHost}{s.managementPort ? `:${s.managementPort}` : ''}</span>], ['Login', <button key="l" type="button" className="link plain" onClick={() => show(true)}>Show…</button>], ['Certificate', s.tlsFingerprint ? <span key="c" className="mono">{s.tlsFingerprint.slice(0, 24)}…</span> : null]]} />
        </section>
      </SimpleGrid>
      {(s.pools ?? []).length > 0 && <Pools of={s.pools ?? []} />}
      <Ports path={path} />
      <On path={path} kind="drives" title="Shared drives" />
      <On path={path} kind="file-shares" title="File shares" />
      <On path={path} kind="buckets" title="Buckets" />
      {trusting && (
        <FormDialog
          title={`Trust the new certificate of ${s.name}?`}
          intro={`Compare it with the storage before you trust it: ${s.tlsFingerprintShown ?? ''}`}
          fields={[]}
          submit="Trust it"
          danger
          close={() => trust(false)}
          save={async () => {
            await api.post(`${path}/actions/trust-certificate`, undefined, s.revision);
            void client.invalidateQueries({ queryKey: ['storage'] });
            toast('Certificate trusted', s.name);
          }}
        />
      )}
      {secret && (
        <SecretDialog
          title={`Login of ${s.name}`}
          ask={async () => {
            const c = await api.get<{ username?: string | null; password?: string | null; privateKey?: string | null }>(`${path}/credentials`);
            return [['User', c.username], ['Password', c.password], ['Private key', c.privateKey]];
          }}
          close={() => show(false)}
        />
      )}
    </Page>
  );
}

function Pools({ of }: { of: Record<string, unknown>[] }) {
  const number = (v: unknown) => (typeof v === 'number' ? v : null);
  return (
    <section className="panel pad" style={{ marginBottom: 16 }}>
      <Title order={2} mb="sm">Pools</Title>
      <Table aria-label="Pools">
        <Table.Thead><Table.Tr><Table.Th>Pool</Table.Th><Table.Th>Capacity</Table.Th></Table.Tr></Table.Thead>
        <Table.Tbody>
          {of.map((p, i) => {
            const room = (p.capacity ?? p) as Record<string, unknown>;
            return <Table.Tr key={String(p.name ?? i)}><Table.Td>{String(p.name ?? i)}</Table.Td><Table.Td><Capacity total={number(room.total_bytes ?? room.totalBytes)} used={number(room.used_bytes ?? room.usedBytes)} /></Table.Td></Table.Tr>;
          })}
        </Table.Tbody>
      </Table>
    </section>
  );
}

function On({ path, kind, title }: { path: string; kind: string; title: string }) {
  const q = useQuery({ queryKey: ['storage', path, kind], queryFn: () => api.get<Answer<StorageElement & { infrastructureId: number }>>(`${path}/${kind}`, { limit: 100 }), retry: false });
  const names = useInfrastructureNames(q.data?.data.map((e) => e.infrastructureId) ?? []);
  if (!q.data?.data.length) return null;
  return (
    <section className="panel pad" style={{ marginBottom: 16 }}>
      <Title order={2} mb="sm">{title} <Text component="span" size="sm" c="dimmed">{count(q.data.meta.totalItems)}</Text></Title>
      <Table aria-label={title}>
        <Table.Thead><Table.Tr><Table.Th>Label</Table.Th><Table.Th w={140}>Size</Table.Th><Table.Th w={140}>State</Table.Th><Table.Th w={220}>Infrastructure</Table.Th></Table.Tr></Table.Thead>
        <Table.Tbody>
          {q.data.data.map((e) => <Table.Tr key={e.id}><Table.Td>{e.label}</Table.Td><Table.Td className="num">{count(sizeOf(e))} GB</Table.Td><Table.Td><Status value={e.serviceStatus} /></Table.Td><Table.Td><a className="link" href={`/portal/infrastructures/${e.infrastructureId}`}>{names.data?.get(e.infrastructureId) ?? `infrastructure ${e.infrastructureId}`}</a></Table.Td></Table.Tr>)}
        </Table.Tbody>
      </Table>
    </section>
  );
}

/** What designs were given against what it has: beyond its size it lives on hope. */
function Promised({ promised, total, percent }: { promised: number; total: number; percent: number }) {
  const most = (total * percent) / 100;
  const scale = Math.max(most, promised, total) || 1;
  const within = Math.min(promised, total);
  const beyond = Math.max(0, promised - total);
  return (
    <>
      <Text size="sm" c="dimmed" mt="sm" mb={2}>Promised to designs</Text>
      <Group gap={8} wrap="nowrap">
        <Progress.Root flex={1} aria-label="Promised">
          <Progress.Section value={(100 * within) / scale} color={promised > most ? 'red' : 'steel'} aria-label={`${Math.round((100 * promised) / total)} % of its size promised`} />
          {beyond > 0 && <Progress.Section value={(100 * beyond) / scale} color={promised > most ? 'red' : 'amber'} aria-label="More than it has" />}
        </Progress.Root>
        <Text size="xs" className={promised > most ? 'bad num' : 'num'} style={{ flex: 'none' }}>{bytes(promised)} of {bytes(most)}</Text>
      </Group>
      {beyond > 0 && <Text size="xs" className="mark-edit" mt={2}>{`${bytes(beyond)} more than it has.`}</Text>}
    </>
  );
}

function Actions({ storage: s }: { storage: Storage }) {
  const client = useQueryClient();
  const fields = useFields();
  const [editing, edit] = useState(false);
  const [busy, setBusy] = useState(false);
  const look = async () => {
    setBusy(true);
    try {
      await api.post(`/storages/${s.id}/actions/discover`);
      toast('The site looks at it', s.name);
      setTimeout(() => void client.invalidateQueries({ queryKey: ['storage'] }), 3_000);
    } catch (e) {
      toastError('Not looked at', e);
    } finally {
      setBusy(false);
    }
  };
  return (
    <>
      <Button variant="default" leftSection={<IconRefresh size={16} />} loading={busy} onClick={() => void look()}>Look again</Button>
      <Button variant="default" leftSection={<IconPencil size={16} />} onClick={() => edit(true)}>Edit</Button>
      {editing && (
        <FormDialog
          title={`Edit ${s.name}`}
          fields={fields(s)}
          initial={valuesOf(s)}
          submit="Save"
          close={() => edit(false)}
          save={async (values) => {
            await api.patch(`/storages/${s.id}`, bodyOf(values), s.revision);
            void client.invalidateQueries({ queryKey: ['storage'] });
            toast('Storage changed', s.name);
          }}
        />
      )}
    </>
  );
}

interface Port {
  id: number;
  name: string;
  protocols: string[];
  isUplink: boolean;
  useForDeploys: boolean;
  linkedNetworkDeviceInformation?: Record<string, unknown> | null;
}

/** Where hosts reach it. */
function Ports({ path }: { path: string }) {
  const q = useQuery({ queryKey: ['storage', path, 'interfaces'], retry: false, queryFn: () => api.get<Answer<Port>>(`${path}/interfaces`, { limit: 100 }) });
  if (!q.data?.data.length) return null;
  const at = (p: Port) => Object.values(p.linkedNetworkDeviceInformation ?? {}).filter((v) => typeof v === 'string' && v).join(' ');
  return (
    <section className="panel pad" style={{ marginBottom: 16 }}>
      <Title order={2} mb="sm">Ports</Title>
      <Table aria-label="Ports">
        <Table.Thead><Table.Tr><Table.Th>Port</Table.Th><Table.Th>Protocols</Table.Th><Table.Th>Connected to</Table.Th><Table.Th>Hosts</Table.Th></Table.Tr></Table.Thead>
        <Table.Tbody>{q.data.data.map((p) => <Table.Tr key={p.id}><Table.Td className="mono">{p.name}</Table.Td><Table.Td>{p.protocols.map(words).join(', ') || '–'}</Table.Td><Table.Td>{at(p) || '–'}</Table.Td><Table.Td>{p.useForDeploys ? 'are sent here' : 'not sent here'}</Table.Td></Table.Tr>)}</Table.Tbody>
      </Table>
    </section>
  );
}
