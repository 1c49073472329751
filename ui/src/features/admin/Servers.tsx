import { Badge, Button, Group, Select, Text, TextInput } from '@mantine/core';
import { IconPlus, IconSearch } from '@tabler/icons-react';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { useEffect, useState } from 'react';
import { api } from '../../api/client';
import { sitesQuery, useSiteNames } from '../../api/names';
import type { Page as Answer, Server, ServerType } from '../../api/types';
import { words } from '../../components/format';
import { Status } from '../../components/status';
import { BulkActions } from './Bulk';
import { type Column, DataTable, NoRows, useColumns } from './DataTable';
import { useList } from './list';
import { Page } from './Page';
import { Health } from './server/Health';

export const SERVER_TABS = [{ to: '/servers', label: 'Registered' }, { to: '/servers/unknown', label: 'Unknown machines' }, { to: '/servers/types', label: 'Server types' }];

export interface ServerSearch {
  q?: string;
  status?: string;
  type?: number;
  power?: string;
  health?: string;
  site?: number;
  sort?: string;
}
const STATES = ['available', 'used', 'cleaning', 'cleaning_required', 'registering', 'pending_registration', 'registration_incomplete', 'unavailable', 'defective', 'updating_firmware', 'used_registering', 'used_diagnostics', 'removed_from_rack', 'decommissioned', 'deleting'];
/** A job of a server changes its state and its power. */
const KIND = /^(server|job)$/;
const route = getRouteApi('/shell/servers');

export function Servers() {
  const search = route.useSearch() as ServerSearch;
  const navigate = route.useNavigate();
  // The address is the view: it can be kept, shared and gone back to.
  // Two entries share these features, so the router's types are not registered globally: the shape is said here.
  const change = (next: Partial<ServerSearch>) => void navigate({ search: ((old: ServerSearch) => ({ ...old, ...next })) as never, replace: true });
  const [text, setText] = useState(search.q ?? '');
  useEffect(() => {
    if (text === (search.q ?? '')) return;
    const timer = setTimeout(() => change({ q: text || undefined }), 250);
    return () => clearTimeout(timer);
    // eslint-disable-next-line react-hooks/exhaustive-deps
  }, [text]);
  const types = useQuery({ queryKey: ['server-types'], queryFn: () => api.get<Answer<ServerType>>('/server-types', { limit: 100 }), staleTime: 60_000 });
  const sites = useQuery(sitesQuery);
  const siteName = useSiteNames();
  const [picked, pick] = useState<ReadonlyMap<string | number, Server>>(new Map());
  const list = useList<Server>('/servers', { 'filter.siteId': search.site, search: search.q, 'filter.serverStatus': search.status, 'filter.serverTypeId': search.type, 'filter.powerStatus': search.power, 'filter.health': search.health, sortBy: search.sort ?? 'serverId:ASC' }, { kind: KIND });
  const name = (id: number | null | undefined) => types.data?.data.find((t) => t.id === id)?.name ?? (id ? `type ${id}` : '–');
  const all: Column<Server>[] = [
    { id: 'serial', title: 'Serial', width: 'minmax(130px, 1.2fr)', sort: 'serialNumber', cell: (s) => <Link to="/servers/$id" params={{ id: String(s.serverId) }} className="link mono">{s.serialNumber || `server ${s.serverId}`}</Link> },
    { id: 'status', title: 'State', width: '140px', sort: 'serverStatus', cell: (s) => <Status value={s.serverStatus} /> },
    { id: 'power', title: 'Power', width: '90px', sort: 'powerStatus', cell: (s) => <Status value={s.powerStatus} /> },
    { id: 'health', title: 'Health', width: '130px', sort: 'health', cell: (s) => <Health of={s.health} /> },
    { id: 'type', title: 'Type', width: 'minmax(120px, 1fr)', cell: (s) => name(s.serverTypeId) },
    { id: 'model', title: 'Model', width: 'minmax(170px, 1.3fr)', sort: 'model', cell: (s) => [s.vendor, s.model].filter(Boolean).join(' ') || '–' },
    { id: 'site', title: 'Site', width: 'minmax(100px, 0.8fr)', has: () => (sites.data?.data.length ?? 0) > 1, cell: (s) => siteName(s.siteId) },
    { id: 'rack', title: 'Rack', width: '80px', has: (s) => Boolean(s.rackName), cell: (s) => (s.rackName ? `${s.rackName}${s.rackPositionLowerUnit ? ` U${s.rackPositionLowerUnit}` : ''}` : '–') },
    { id: 'bmc', title: 'Management', width: '165px', sort: 'managementAddress', cell: (s) => <span className="mono">{s.managementAddress || '–'}</span> },
    { id: 'alloc', title: 'Used by', width: 'minmax(130px, 1fr)', cell: (s) => s.allocationInfo ? <Text size="sm" truncate>{s.allocationInfo.infrastructure?.label ?? ''} / {s.allocationInfo.instanceLabel}</Text> : '–' },
    { id: 'tags', title: 'Tags', width: 'minmax(90px, 0.7fr)', has: (s) => Boolean(s.tags?.length), cell: (s) => s.tags?.map((t) => <Badge key={t} variant="light" color="gray" mr={4}>{t}</Badge>) },
  ];
  const { shown, menu } = useColumns('servers', all, ['serial', 'status']);
  const filtered = Boolean(search.q || search.status || search.type || search.power || search.health || search.site);
  // What is chosen is shown as it is now, also where the list has moved on since.
  const fresh = new Map(list.rows.map((s) => [s.serverId, s]));
  const chosen = [...picked.values()].map((s) => fresh.get(s.serverId) ?? s);
  return (
    <Page
      title="Servers"
      tabs={SERVER_TABS}
      sub={`${list.total} ${filtered ? 'match' : 'registered'}`}
      tools={<Button renderRoot={(props) => <Link to="/servers/register" {...props} />} leftSection={<IconPlus size={17} />}>Register servers</Button>}
    >
      <Group gap="xs" mb="sm">
        <TextInput aria-label="Search servers" placeholder="Serial, address, model" leftSection={<IconSearch size={16} />} w={220} value={text} onChange={(e) => setText(e.currentTarget.value)} />
        <Select aria-label="State" placeholder="Any state" clearable clearButtonProps={{ 'aria-label': 'Any state' }} w={150} data={STATES.map((v) => ({ value: v, label: words(v) }))} value={search.status ?? null} onChange={(v) => change({ status: v ?? undefined })} />
        <Select aria-label="Type" placeholder="Any type" clearable clearButtonProps={{ 'aria-label': 'Any type' }} w={150} data={(types.data?.data ?? []).map((t) => ({ value: String(t.id), label: t.name }))} value={search.type ? String(search.type) : null} onChange={(v) => change({ type: v ? Number(v) : undefined })} />
        <Select aria-label="Health" placeholder="Any health" clearable clearButtonProps={{ 'aria-label': 'Any health' }} w={130} data={['ok', 'warning', 'critical'].map((v) => ({ value: v, label: v === 'ok' ? 'Healthy' : words(v) }))} value={search.health ?? null} onChange={(v) => change({ health: v ?? undefined })} />
        <Select aria-label="Power" placeholder="Any power" clearable clearButtonProps={{ 'aria-label': 'Any power' }} w={130} data={['on', 'off', 'unknown'].map((v) => ({ value: v, label: words(v) }))} value={search.power ?? null} onChange={(v) => change({ power: v ?? undefined })} />
        {(sites.data?.data.length ?? 0) > 1 && <Select aria-label="Site" placeholder="Any site" clearable clearButtonProps={{ 'aria-label': 'Any site' }} w={150} data={sites.data?.data.map((s) => ({ value: String(s.id), label: s.name }))} value={search.site ? String(search.site) : null} onChange={(v) => change({ site: v ? Number(v) : undefined })} />}
        {filtered && <Button variant="subtle" onClick={() => { setText(''); change({ q: undefined, status: undefined, type: undefined, power: undefined, health: undefined, site: undefined }); }}>Clear filters</Button>}
        <Group gap="xs" ml="auto">
          {chosen.length > 0 && <BulkActions servers={chosen} done={() => pick(new Map())} />}
          {menu}
        </Group>
      </Group>
      <DataTable label="Servers" columns={shown} source={list} keyOf={(s) => s.serverId} sort={search.sort ?? 'serverId:ASC'} onSort={(sort) => change({ sort })} picking={{ picked, pick, name: (s) => s.serialNumber || `server ${s.serverId}` }} empty={<NoRows title="No server">{filtered ? 'Nothing matches these filters.' : 'Servers appear here when they are registered or found by their site.'}</NoRows>} />
    </Page>
  );
}
