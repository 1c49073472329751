/** A plan in words: ids become names, structures become short sentences. */
import { partitionKey, plural, words } from '../../../components/format';

export interface Names {
  network: (id: number) => string;
  device: (id: number) => string;
  server: (id: number) => string;
  instance: (id: number) => string;
  pool: (id: number) => string;
  type: (id: number) => string;
  os: (id: number | null) => string;
  group: (id: number) => string;
  storage: (id: number) => string;
  element: (id: number) => string;
}
type Row = Record<string, unknown>;
const rows = (value: unknown): Row[] => (Array.isArray(value) ? value.filter((v): v is Row => v !== null && typeof v === 'object') : []);
const num = (value: unknown) => Number(value);
const nothing = (value: unknown) => value === null || value === undefined || value === '' || (Array.isArray(value) && !value.length) || (typeof value === 'object' && !Array.isArray(value) && !Object.keys(value as object).length);

const TITLES: Record<string, string> = {
  ipv4Strategies: 'IPv4', vlanStrategy: 'VLAN', vlan: 'VLAN taken', pkeyStrategy: 'Partition key', pkey: 'Partition key taken', partitions: 'InfiniBand partitions', subnets: 'Subnet taken', serverTypeId: 'Server type', osTemplateId: 'Operating system', serverId: 'Server',
  instanceCount: 'Servers', mtu: 'MTU', networkConfig: 'Network configuration', unfinishedDeploy: 'Left by an unfinished deploy', username: 'User', variables: 'Variables', ports: 'Switch ports', sizeGib: 'Size', hosts: 'Attached to', instances: 'Used by', storageId: 'Storage', qos: 'Speed',
};
export const fieldTitle = (field: string) => TITLES[field] ?? words(field.replace(/([a-z])([A-Z])/g, '$1 $2').toLowerCase());

function strategy(s: Row, names: Names): string {
  if (s.kind === 'manual') return s.pkey !== undefined ? `${partitionKey(Number(s.pkey))}, chosen by hand` : s.vlan !== undefined ? `VLAN ${String(s.vlan)}, chosen by hand` : 'chosen by hand';
  const pools = Array.isArray(s.pool_ids) ? s.pool_ids.map((p) => names.pool(num(p))) : [];
  return s.prefix_len === undefined ? 'automatic' : `/${String(s.prefix_len)} from ${pools.length ? pools.join(', ') : 'any pool'}`;
}
function connection(c: Row, names: Names): string {
  const redundancy = c.redundancy as { mode?: string } | string | null;
  const mode = typeof redundancy === 'string' ? redundancy : redundancy?.mode;
  const parts = [c.tagged ? 'tagged' : 'untagged', `MTU ${String(c.mtu ?? 1500)}`];
  if (c.provides_default_route) parts.push('default route');
  if (c.disable_auto_ip) parts.push('no address');
  if (mode) parts.push(mode === 'active-active' ? 'two ports, LACP' : 'two ports, active-backup');
  return `${names.network(num(c.logical_network_id))}: ${parts.join(', ')}`;
}
/** `eno1 3:swp5 u100 t120,130` of the planner. */
function port(text: string, names: Names): string {
  const match = /^(\S+) (\d+):(\S+) (.*)$/.exec(text);
  if (!match) return text;
  const vlans = match[4].split(' ').map((v) => (v.startsWith('u') ? `VLAN ${v.slice(1)} untagged` : v.startsWith('t') ? `VLAN ${v.slice(1).replaceAll(',', ', ')} tagged` : v));
  return `${match[1]} → ${names.device(num(match[2]))} ${match[3]}: ${vlans.join(', ')}`;
}

/** One value of a change as lines; none when there is nothing worth a line. */
export function describe(field: string, value: unknown, names: Names): string[] {
  if (field === 'osTemplateId') return [names.os(value === null || value === undefined ? null : num(value))];
  if (nothing(value)) return [];
  switch (field) {
    case 'connections':
      return rows(value).map((c) => connection(c, names));
    case 'ipv4Strategies':
      return rows(value).map((s) => strategy(s, names));
    case 'vlanStrategy':
    case 'pkeyStrategy':
      return [strategy(value as Row, names)];
    case 'serverTypeId':
      return [names.type(num(value))];
    case 'serverId':
      return [names.server(num(value))];
    case 'sizeGib':
      return [`${num(value).toLocaleString('en')} GB`];
    case 'storageId':
      return [names.storage(num(value))];
    case 'hosts':
      return Array.isArray(value) ? [value.map((g) => names.group(num(g))).join(', ')] : [];
    case 'instances': {
      // By volume: one for all of them, or one each.
      const ids = [...new Set(Object.values(value as Row).flatMap((v) => (Array.isArray(v) ? v.map(num) : [])))];
      return ids.length ? [ids.map(names.instance).join(', ')] : [];
    }
    case 'ports':
      return (value as unknown[]).map((p) => port(String(p), names));
    case 'variables':
      return Object.entries(value as Row).map(([k, v]) => `${k} = ${typeof v === 'object' ? JSON.stringify(v) : String(v)}`);
    default:
      if (typeof value === 'boolean') return [value ? 'yes' : 'no'];
      if (Array.isArray(value)) return value.map((v) => (typeof v === 'object' ? JSON.stringify(v) : String(v)));
      return [typeof value === 'object' ? JSON.stringify(value) : String(value)];
  }
}

/** Wishes before what was taken for them. */
const ORDER = ['label', 'instanceCount', 'serverTypeId', 'osTemplateId', 'serverId', 'username', 'vlanStrategy', 'vlan', 'pkeyStrategy', 'pkey', 'partitions', 'ipv4Strategies', 'subnets', 'addresses', 'connections', 'ports', 'sizeGib', 'storageId', 'hosts', 'instances'];
export const inOrder = (a: { field: string }, b: { field: string }) => (ORDER.indexOf(a.field) + 1 || 99) - (ORDER.indexOf(b.field) + 1 || 99);

/** A field of a change that says no more than the row's title is left out. */
export const worthSaying = (label: string, field: { field: string; before: unknown; after: unknown }) => !(field.field === 'label' && nothing(field.before) && field.after === label) && !(nothing(field.before) && nothing(field.after));

export interface Listing {
  title: string;
  columns: string[];
  rows: string[][];
}
/** What is taken (or given back), a table per kind. */
export function listings(allocations: readonly Row[], names: Names): Listing[] {
  const size = (value: unknown) => `${(num(value) / 2 ** 30).toLocaleString('en', { maximumFractionDigits: 1 })} GB`;
  const of = (kind: string) => allocations.filter((a) => a.kind === kind);
  const text = (value: unknown) => (value === null || value === undefined || value === '' ? '–' : String(value));
  const all: Listing[] = [
    { title: 'Servers', columns: ['For', 'Server'], rows: of('server').map((a) => [names.instance(num(a.serverInstanceId)), names.server(num(a.serverId))]) },
    { title: 'Partition keys', columns: ['Network', 'Key'], rows: of('pkey').map((a) => [names.network(num(a.logicalNetworkId)), partitionKey(num(a.pkey))]) },
    { title: 'VLANs', columns: ['Network', 'VLAN'], rows: of('vlan').map((a) => [names.network(num(a.logicalNetworkId)), text(a.vlanId)]) },
    { title: 'Subnets', columns: ['Network', 'Subnet', 'Gateway', 'From pool'], rows: of('subnet').map((a) => [names.network(num(a.logicalNetworkId)), text(a.subnet), text(a.gateway), a.subnetPoolId ? names.pool(num(a.subnetPoolId)) : 'chosen by hand']) },
    { title: 'Addresses', columns: ['For', 'Network', 'Address'], rows: of('address').map((a) => [names.instance(num(a.serverInstanceId)), names.network(num(a.logicalNetworkId)), text(a.address)]) },
    { title: 'Switch ports', columns: ['For', 'Interface', 'Switch port', 'Network'], rows: of('connection').map((a) => [names.instance(num(a.serverInstanceId)), `${text(a.interface)} (${text(a.macAddress)})`, a.networkDeviceId == null ? 'done outside' : `${names.device(num(a.networkDeviceId))} ${text(a.port)}`, `${names.network(num(a.logicalNetworkId))}, ${a.tagged ? 'tagged' : 'untagged'}`]) },
  ];
  all.push({ title: 'Storage', columns: ['For', 'Storage', 'Size'], rows: of('storage').map((a) => [names.element(num(a.elementId)), names.storage(num(a.storageId)), size(a.sizeBytes)]) });
  return all.filter((l) => l.rows.length);
}

/** What a job waits for, by the names of the steps. */
export function waitsFor(dependsOn: readonly string[], titles: ReadonlyMap<string, string>): string {
  if (!dependsOn.length) return 'at once';
  const shown = dependsOn.slice(0, 2).map((k) => titles.get(k) ?? k);
  return `after ${shown.join(', ')}${dependsOn.length > 2 ? ` and ${plural(dependsOn.length - 2, 'other step')}` : ''}`;
}
