import { Tooltip, Group, Title } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { api } from '../../api/client';
import { useServerNames } from '../../api/names';
import type { NetworkDevice, SwitchPort } from '../../api/types';
import { speed, words } from '../../components/format';
import { ErrorCard, Loading } from '../../components/states';
import { Status } from '../../components/status';
import { type Column, DataTable, NoRows } from './DataTable';
import { useList } from './list';
import { Facts, Page } from './Page';

const DRIVERS: Record<string, string> = { cumulus_linux: 'Cumulus Linux', cumulus: 'Cumulus Linux' };
const driver = (name: string) => DRIVERS[name] ?? words(name);
const KIND = /^(network_device|switch|job)/;
export function Switches() {
  const list = useList<NetworkDevice>('/network-devices', { sortBy: 'id:ASC' }, { kind: KIND });
  const columns: Column<NetworkDevice>[] = [
    { id: 'name', title: 'Name', width: 'minmax(140px, 1fr)', cell: (d) => <Link to="/switches/$id" params={{ id: String(d.id) }} className="link">{d.identifierString || d.id}</Link> },
    { id: 'status', title: 'State', width: '130px', cell: (d) => <Status value={d.status} /> },
    { id: 'role', title: 'Role', width: '100px', cell: (d) => words(d.position) },
    { id: 'driver', title: 'Operating system', width: 'minmax(140px, 1fr)', cell: (d) => driver(d.driver) },
    { id: 'address', title: 'Management', width: 'minmax(150px, 1fr)', cell: (d) => <span className="mono">{d.managementAddress}</span> },
    { id: 'loopback', title: 'Loopback', width: '140px', has: (d) => Boolean(d.loopbackAddressIpv4), cell: (d) => <span className="mono">{d.loopbackAddressIpv4 || '–'}</span> },
    { id: 'asn', title: 'ASN', width: '100px', has: (d) => Boolean(d.asn), cell: (d) => <span className="num">{d.asn || '–'}</span> },
    { id: 'rack', title: 'Rack', width: '90px', has: (d) => Boolean(d.datacenterRack), cell: (d) => d.datacenterRack || '–' },
    { id: 'serial', title: 'Serial', width: 'minmax(140px, 1fr)', cell: (d) => <span className="mono">{d.serialNumber || '–'}</span> },
  ];
  return (
    <Page title="Switches" sub={`${list.total} registered`}>
      <DataTable label="Switches" columns={columns} source={list} keyOf={(d) => d.id} empty={<NoRows title="No switch">Register the switches of a site before its servers: cabling is learned from them.</NoRows>} />
    </Page>
  );
}

const route = getRouteApi('/shell/switches/$id');
const numbered = (name: string) => Number(/(\d+)(?:s\d+)?$/.exec(name)?.[1] ?? 0);

export function SwitchDetail() {
  const { id } = route.useParams() as { id: string };
  const q = useQuery({ queryKey: ['switch', id], queryFn: () => api.get<NetworkDevice>(`/network-devices/${encodeURIComponent(id)}`) });
  const ports = useList<SwitchPort>(`/network-devices/${encodeURIComponent(id)}/ports`, {}, { kind: KIND, interval: 15_000 });
  const names = useServerNames(ports.rows.flatMap((p) => (p.serverId ? [p.serverId] : [])));
  if (q.error) return <Page title="Switch"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Switch"><Loading rows={8} /></Page>;
  const d = q.data;
  const state = (p: SwitchPort) => p.driverDumpCachedJson?.operStatus ?? 'unknown';
  const columns: Column<SwitchPort>[] = [
    { id: 'name', title: 'Port', width: '110px', cell: (p) => <span className="mono">{p.interfaceName}</span> },
    { id: 'state', title: 'Link', width: '100px', cell: (p) => <Status value={state(p) === 'down' ? 'off' : state(p)} label={words(state(p))} /> },
    { id: 'speed', title: 'Speed', width: '80px', cell: (p) => speed(p.driverDumpCachedJson?.speedMbps) },
    { id: 'untagged', title: 'Untagged', width: '100px', cell: (p) => <span className="num">{p.driverDumpCachedJson?.untaggedVlan ?? '–'}</span> },
    { id: 'tagged', title: 'Tagged', width: 'minmax(120px, 1fr)', cell: (p) => <span className="num">{p.driverDumpCachedJson?.taggedVlans?.join(', ') || '–'}</span> },
    { id: 'server', title: 'Server', width: '140px', cell: (p) => (p.serverId ? <Link className="link" to="/servers/$id" params={{ id: String(p.serverId) }}>{names.data?.get(p.serverId)?.serial ?? `server ${p.serverId}`}</Link> : '–') },
    { id: 'lldp', title: 'Neighbour (LLDP)', width: 'minmax(180px, 1.5fr)', cell: (p) => p.lldpInformation || '–' },
    { id: 'mac', title: 'MAC', width: '170px', cell: (p) => <span className="mono">{p.macAddress || '–'}</span> },
  ];
  return (
    <Page title={d.identifierString || `Switch ${d.id}`} sub={<Group gap={8}><Link to="/switches" className="link">Switches</Link> · {words(d.position)} <Status value={d.status} /></Group>}>
      <section className="panel pad" style={{ marginBottom: 16 }}>
        <Facts of={[['Operating system', driver(d.driver)], ['Management', <span key="m" className="mono">{d.managementAddress}:{d.managementPort}</span>], ['Loopback', d.loopbackAddressIpv4 ? <span key="l" className="mono">{d.loopbackAddressIpv4}</span> : null], ['ASN', d.asn || null], ['Rack', d.datacenterRack], ['Serial', <span key="s" className="mono">{d.serialNumber}</span>]]} />
      </section>
      {ports.rows.length > 0 && (
        <section className="panel pad" style={{ marginBottom: 16 }}>
          <Title order={2} mb="sm">Front</Title>
          <div className="ports" role="group" tabIndex={0} aria-label={`${ports.rows.filter((p) => state(p) === 'up').length} of ${ports.rows.length} ports up`}>
            {[...ports.rows].sort((a, b) => numbered(a.interfaceName) - numbered(b.interfaceName)).map((p) => (
              <Tooltip key={p.interfaceId} label={`${p.interfaceName}: ${state(p)}${p.lldpInformation ? `, ${p.lldpInformation}` : ''}`}>
                <span className={`port ${state(p)}`}>{numbered(p.interfaceName) || p.interfaceName}</span>
              </Tooltip>
            ))}
          </div>
        </section>
      )}
      <DataTable label="Ports" columns={columns} source={ports} keyOf={(p) => p.interfaceId} height="560px" empty={<NoRows title="No port">The ports appear when the switch was read for the first time.</NoRows>} />
    </Page>
  );
}
