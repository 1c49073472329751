import * as d from './data';
import { deploy, plan, validate } from './deploy';
import { storageRoutes } from './storage';

interface Answer {
  status: number;
  value?: unknown;
}
type Body = Record<string, any>;
type Handler = (args: { id: number; sub: number; body: Body; query: URLSearchParams }) => unknown;

const layouts: Record<number, unknown> = {};
let signedIn = true;
let next = 500;
const refuse = (status: number, message: string): never => {
  throw { status, message };
};
const find = <T>(list: T[], test: (x: T) => boolean): T => list.find(test) ?? refuse(404, 'Not found.');

/** page, limit, search, sortBy and filter.* as the wire has them (equality and $null only). */
function page<T extends object>(list: T[], q: URLSearchParams) {
  let rows = list as Record<string, any>[];
  for (const [key, raw] of q) {
    if (!key.startsWith('filter.') || !raw) continue;
    const field = key.slice(7);
    const not = raw.startsWith('$not:');
    const want = raw.replace(/^\$not:/, '').replace(/^\$(eq|ilike|in):/, '').split(',');
    rows = rows.filter((r) => (raw === '$null' ? r[field] === null || r[field] === undefined : want.includes(String(r[field])) !== not));
  }
  const search = q.get('search')?.toLowerCase();
  if (search) rows = rows.filter((r) => JSON.stringify(Object.values(r).filter((v) => typeof v !== 'object')).toLowerCase().includes(search));
  const [field, direction] = (q.get('sortBy') ?? '').split(':');
  if (field) rows = [...rows].sort((a, b) => (a[field] < b[field] ? -1 : a[field] > b[field] ? 1 : 0) * (direction === 'DESC' ? -1 : 1));
  const limit = Number(q.get('limit') ?? 20);
  const current = Number(q.get('page') ?? 1);
  return { data: rows.slice((current - 1) * limit, current * limit), meta: { itemsPerPage: limit, totalItems: rows.length, totalPages: Math.max(1, Math.ceil(rows.length / limit)), currentPage: current }, links: {} };
}

const jobIn = (status: string): Handler => ({ id }) => void Object.assign(find(d.jobs, (j) => j.jobId === id), { status, error: null, percent: 0 });

/** A change of its connections moves a group's revision. */
const moved = (id: number) => void find(d.groups, (g) => g.id === id).revision++;

const ROUTES: [string, Handler][] = [
  ['GET /user', () => (signedIn ? d.user : refuse(401, 'Sign in first.'))],
  ['POST /login', ({ body }) => (body.properties?.password ? ((signedIn = true), d.user) : refuse(401, 'E-mail or password is wrong.'))],
  ['POST /logout', () => void (signedIn = false)],
  ['GET /planner/connect-rules', () => []],
  ['GET /overview', () => ({ servers: { total: d.servers.length, byStatus: d.servers.reduce<Record<string, number>>((a, s) => ({ ...a, [s.serverStatus]: (a[s.serverStatus] ?? 0) + 1 }), {}) }, switches: { total: d.devices.length, byStatus: { active: d.devices.length } }, sites: [{ id: 1, name: 'Frankfurt 1', connected: true, lastSeen: d.iso(-2), version: '0.1.0' }, { id: 2, name: 'Edge Lyon', connected: false, lastSeen: d.iso(-4000), version: '0.1.0' }], jobs: { running: d.jobs.filter((j) => j.status === 'running').length, failed: d.jobs.filter((j) => j.status === 'thrown_error').length } })],
  ['GET /sites', ({ query }) => page(d.sites, query)],
  ['POST /sites', ({ body }) => (d.sites.push({ id: next++, revision: 1, slug: body.slug, name: body.name, isInMaintenance: false }), d.sites.at(-1))],
  ['GET /sites/:id', ({ id }) => find(d.sites, (s) => s.id === id)],
  ['GET /sites/:id/controllers', ({ id }) => (id === 1 ? [{ siteName: 'frankfurt-1', agentType: 'site_controller', agentVersion: '0.1.0', agentSeenIpAddress: '192.0.2.14', agentSeenTimestamp: d.iso(-2), agentCreationTimestamp: d.iso(-90000), agentConnectedInfo: { agentId: 'sc-fra1-a', hostname: 'fra1-ctl-1' } }] : [])],
  ['POST /sites/:id/enrolment-tokens', () => ({ token: 'syt_5f2e9c1ab04d', command: 'steelyard site --global https://global.example:8443 --token syt_5f2e9c1ab04d' })],
  ['GET /sites/:id/availability', ({ query }) => ({ free: { 1: 96, 2: 40, 3: 6 }[Number(query.get('serverTypeId'))] ?? 0, total: 120 })],
  ['GET /server-types', ({ query }) => page(d.serverTypes, query)],
  ['GET /os-templates', ({ query }) => page(d.osTemplates, query)],
  ['GET /network-fabrics', ({ query }) => page(d.fabrics, query)],
  ['GET /logical-network-profiles', ({ query }) => page(d.profiles, query)],
  ['GET /infrastructures', ({ query }) => page(d.infrastructures, query)],
  ['POST /infrastructures', ({ body }) => (d.infrastructures.unshift({ ...d.infrastructures[0], id: next++, label: body.label, siteId: body.siteId, serviceStatus: 'ordered', designIsLocked: 0, instancesCountActive: 0, updatedTimestamp: d.iso(), config: { revision: 1, label: body.label, deployType: 'create', deployStatus: 'not_started', infrastructureDeployId: null } }), d.infrastructures[0])],
  ['GET /infrastructures/:id', ({ id }) => find(d.infrastructures, (i) => i.id === id)],
  ['DELETE /infrastructures/:id', ({ id }) => void (find(d.infrastructures, (i) => i.id === id).config.deployType = 'delete')],
  ['GET /infrastructures/:id/layout', ({ id }) => layouts[id] ?? {}],
  ['PUT /infrastructures/:id/layout', ({ id, body }) => (layouts[id] = body)],
  ['GET /infrastructures/:id/network-connections', ({ id }) => ({ data: d.groups.filter((g) => g.infrastructureId === id).flatMap((g) => (d.connections[g.id] ?? []).map((c) => ({ ...c, serverInstanceGroupId: g.id }))) })],
  ['GET /infrastructures/:id/drive-groups', ({ query }) => page([], query)],
  ['POST /infrastructures/:id/actions/validate', ({ id }) => ({ problems: validate(id) })],
  ['POST /infrastructures/:id/actions/plan', ({ id }) => plan(id)],
  ['POST /infrastructures/:id/actions/deploy', ({ id }) => (deploy(id), { __status: 202, ...find(d.infrastructures, (i) => i.id === id) })],
  ['POST /infrastructures/:id/actions/revert', () => undefined],
  ['GET /infrastructures/:id/server-instance-groups', ({ id, query }) => page(d.groups.filter((g) => g.infrastructureId === id), query)],
  ['POST /infrastructures/:id/server-instance-groups', ({ id, body }) => {
    const g = d.group(next++, id, body.label, body.instanceCount, body.defaultServerTypeId, 'ordered');
    g.osTemplateId = g.config!.osTemplateId = body.osTemplateId ?? null;
    d.groups.push(g);
    return g;
  }],
  ['GET /infrastructures/:id/server-instances', ({ id, query }) => page(d.instances.filter((i) => i.infrastructureId === id), query)],
  ['GET /server-instances/:id/credentials', () => ({ username: 'steel', initialPassword: 'k7Q-mock-only', publicSshKey: null })],
  ['GET /server-instance-groups/:id', ({ id }) => find(d.groups, (g) => g.id === id)],
  ['PATCH /server-instance-groups/:id/config', ({ id, body }) => {
    const g = find(d.groups, (x) => x.id === id);
    Object.assign(g.config!, body, { revision: g.config!.revision + 1, deployStatus: 'not_started', deployType: g.serviceStatus === 'active' ? 'edit' : 'create' });
    return g.config;
  }],
  ['DELETE /server-instance-groups/:id', ({ id }) => {
    const g = find(d.groups, (x) => x.id === id);
    if (g.serviceStatus === 'active') Object.assign(g.config!, { deployType: 'delete', deployStatus: 'not_started' });
    else d.groups.splice(d.groups.indexOf(g), 1);
  }],
  ['GET /server-instance-groups/:id/config/networking/connections', ({ id }) => ({ data: d.connections[id] ?? [] })],
  ['POST /server-instance-groups/:id/config/networking/connections', ({ id, body }) => {
    const c = { id: body.logicalNetworkId, tagged: body.tagged, accessMode: 'l2' as const, mtu: body.mtu, providesDefaultRoute: body.providesDefaultRoute ?? false, redundancy: body.redundancy ?? null };
    if (!c.tagged && (d.connections[id] ?? []).some((x) => !x.tagged)) refuse(400, 'connections: a second untagged network on the same ports.');
    (d.connections[id] ??= []).push(c);
    moved(id);
    return c;
  }],
  ['PATCH /server-instance-groups/:id/config/networking/connections/:sub', ({ id, sub, body }) => (moved(id), Object.assign(find(d.connections[id] ?? [], (c) => c.id === String(sub)), body))],
  ['DELETE /server-instance-groups/:id/config/networking/connections/:sub', ({ id, sub }) => void (moved(id), (d.connections[id] = (d.connections[id] ?? []).filter((c) => c.id !== String(sub))))],
  ['GET /logical-networks', ({ query }) => page(d.networks, query)],
  ['GET /logical-networks/:id', ({ id }) => find(d.networks, (n) => n.id === id)],
  ['PATCH /logical-networks/:id', ({ id, body }) => Object.assign(find(d.networks, (n) => n.id === id), body)],
  ['DELETE /logical-networks/:id', ({ id }) => {
    const n = find(d.networks, (x) => x.id === id);
    if (n.serviceStatus === 'active') Object.assign(n.config, { deployType: 'delete', deployStatus: 'not_started' });
    else d.networks.splice(d.networks.indexOf(n), 1);
  }],
  ['POST /logical-networks/actions/create-from-profile', ({ body }) => {
    const n = { ...d.networks[1], id: next++, revision: 1, label: body.label, name: body.label, infrastructureId: body.infrastructureId, serviceStatus: 'ordered' as const, vlan: null, ipv4: null, config: { revision: 1, deployType: 'create' as const, deployStatus: 'not_started' as const } };
    d.networks.push(n);
    return n;
  }],
  ['POST /logical-networks', ({ body }) => {
    const n = { ...d.networks[1], id: next++, revision: 1, label: body.label, name: body.label, infrastructureId: body.infrastructureId, serviceStatus: 'ordered' as const, vlan: null, ipv4: body.ipv4 ? { ...body.ipv4, subnets: [] } : null, config: { revision: 1, deployType: 'create' as const, deployStatus: 'not_started' as const } };
    d.networks.push(n);
    return n;
  }],
  ['GET /servers', ({ query }) => page(d.servers, query)],
  ['GET /servers/:id', ({ id }) => find(d.servers, (s) => s.serverId === id)],
  ['POST /servers/:id/actions/set-power', ({ id, body }) => void (find(d.servers, (s) => s.serverId === id).powerStatus = body.powerCommand === 'on' ? 'on' : 'off')],
  ['GET /network-devices', ({ query }) => page(d.devices, query)],
  ['GET /network-devices/:id', ({ id }) => find(d.devices, (s) => Number(s.id) === id)],
  ['GET /network-devices/:id/ports', ({ id, query }) => page(d.ports(id), query)],
  ['GET /subnets', ({ query }) => page(d.subnets, query)],
  ['GET /job-groups', ({ query }) => page(d.jobGroups, query)],
  ['GET /job-groups/:id', ({ id }) => find(d.jobGroups, (g) => g.id === id)],
  ['GET /job-groups/:id/jobs', ({ id, query }) => page(d.jobs.filter((j) => j.jobGroupId === id), query)],
  ['GET /job-groups/:id/statistics', ({ id }) => {
    const all = d.jobs.filter((j) => j.jobGroupId === id);
    return { jobsTotal: all.length, jobsCompleted: all.filter((j) => /success|skipped/.test(j.status)).length, jobsThrownError: all.filter((j) => j.status === 'thrown_error').length };
  }],
  ['POST /job-groups/:id/actions/cancel', ({ id, body }) => void Object.assign(find(d.jobGroups, (g) => g.id === id), { cancelReason: body.reason, finishedTimestamp: d.iso() })],
  ['GET /jobs', ({ query }) => page(d.jobs, query)],
  ['POST /jobs/:id/actions/retry', jobIn('not_called')],
  ['POST /jobs/:id/actions/skip', jobIn('skipped')],
  ['POST /jobs/:id/actions/kill', jobIn('thrown_error')],
  ['POST /jobs/:id/actions/stop-retrying', jobIn('thrown_error')],
  ['GET /events', ({ query }) => page(d.events, query)],
];
const COMPILED = [...storageRoutes(page, find), ...ROUTES].map(([pattern, handler]) => {
  const [method, path] = pattern.split(' ');
  return { method, expression: new RegExp(`^${path.replace(':id', '(?<id>[^/]+)').replace(':sub', '(?<sub>[^/]+)')}$`), handler };
});

export function answer(method: string, path: string, body: Body | undefined): Answer {
  const [bare, query] = path.split('?');
  for (const route of COMPILED) {
    const match = route.method === method && route.expression.exec(bare);
    if (!match) continue;
    try {
      const value = route.handler({ id: Number(match.groups?.id), sub: Number(match.groups?.sub), body: body ?? {}, query: new URLSearchParams(query) });
      return value === undefined ? { status: 204 } : { status: 200, value: structuredClone(value) };
    } catch (error) {
      const { status, message } = error as { status?: number; message: string };
      if (!status) throw error;
      return { status, value: { statusCode: status, message, error: 'Refused' } };
    }
  }
  return { status: 404, value: { statusCode: 404, message: `Cannot ${method} ${bare}`, error: 'Not Found' } };
}
