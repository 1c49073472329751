import type { Job, SystemEvent } from '../api/types';
import { deliver } from '../live/stream';
import { connections, devices, events, groups, infrastructures, instances, iso, jobGroups, jobs, networks } from './data';

let nextJob = 1000;
let nextGroup = 50;
/** `?fail` in the page's address makes one step fail, for looking at the retry path. */
const failOnce = () => typeof location !== 'undefined' && location.search.includes('fail');

export function plan(infrastructureId: number) {
  const mine = groups.filter((g) => g.infrastructureId === infrastructureId);
  const nets = networks.filter((n) => n.infrastructureId === infrastructureId && n.serviceStatus === 'ordered');
  const fresh = mine.filter((g) => g.serviceStatus === 'ordered' || g.config!.instanceCount !== g.instanceCount || g.config!.deployType === 'delete');
  const on = fresh.reduce((sum, g) => sum + Math.max(0, g.config!.instanceCount - (g.serviceStatus === 'ordered' ? 0 : g.instanceCount)), 0);
  return {
    planId: 'plan-1', revision: 3,
    changes: [
      ...nets.map((n) => ({ kind: 'logical_network', id: n.id, label: n.label, op: 'create', fields: [{ field: 'vlan', before: null, after: 212 }, { field: 'subnet', before: null, after: '10.22.0.0/24' }] })),
      ...fresh.map((g) => ({ kind: 'server_instance_group', id: g.id, label: g.config!.label, op: g.serviceStatus === 'ordered' ? 'create' : g.config!.deployType === 'delete' ? 'delete' : 'edit', fields: [{ field: 'instanceCount', before: g.serviceStatus === 'ordered' ? null : g.instanceCount, after: g.config!.instanceCount }, { field: 'networks', before: null, after: (connections[g.id] ?? []).map((c) => networks.find((n) => String(n.id) === c.id)?.label).join(', ') }] })),
    ],
    allocations: fresh.flatMap((g) => Array.from({ length: g.config!.instanceCount }, (_, i) => ({ kind: 'server', what: `${g.config!.label}-${i + 1}`, value: `SY-R0${i + 1}-U${i * 2 + 1}` }))),
    impact: { serversPoweredOn: on, serversPoweredOff: 0, serversWiped: on, disksErased: on * 2, switchPorts: on * 2, switchDevices: on ? 2 : 0, addressesReleased: 0, otherTenantsAffected: 0, estimateSeconds: 40 },
    jobs: fresh.flatMap((g) => steps(g.config!.label, g.config!.instanceCount)).map((s) => ({ key: s.key, title: s.title, function: s.fn, dependsOn: s.deps })),
    warnings: on ? [`${on} servers will be powered on at the end.`] : [],
    problems: validate(infrastructureId).filter((p) => p.severity === 'error'),
  };
}
export function validate(infrastructureId: number) {
  return groups.filter((g) => g.infrastructureId === infrastructureId && g.serviceStatus !== 'deleted' && !(connections[g.id] ?? []).length).map((g) => ({ severity: 'warning', object: { kind: 'server_instance_group', id: g.id }, field: 'connections', code: 'no_network', message: `${g.config!.label} is on no network: its servers will not be reachable.`, fix: 'Connect it to a network.' }));
}
function steps(label: string, n: number) {
  const out: { key: string; title: string; fn: string; deps: string[]; i: number }[] = [];
  for (let i = 0; i < Math.min(n, 12); i++) {
    out.push({ key: `install/${label}-${i + 1}`, title: `Install ${label}-${i + 1}`, fn: 'server.install', deps: [], i });
    out.push({ key: `switch/${label}-${i + 1}`, title: `Attach ${label}-${i + 1} to its networks`, fn: 'switch.apply', deps: [`install/${label}-${i + 1}`], i });
    out.push({ key: `start/${label}-${i + 1}`, title: `Start ${label}-${i + 1}`, fn: 'server.start', deps: [`switch/${label}-${i + 1}`], i });
  }
  return out;
}

export function deploy(infrastructureId: number) {
  const infra = infrastructures.find((x) => x.id === infrastructureId)!;
  infra.config.deployStatus = 'ongoing';
  infra.designIsLocked = 1;
  const id = nextGroup++;
  jobGroups.unshift({ id, type: 'infrastructure_deploy', description: `Deploy ${infra.label}`, createdTimestamp: iso(), finishedTimestamp: null, infrastructureId });
  for (const g of groups.filter((x) => x.infrastructureId === infrastructureId && x.config!.deployStatus !== 'finished')) {
    for (let i = 0; i < g.config!.instanceCount; i++) {
      if (!instances.some((x) => x.groupId === g.id && x.label === `${g.config!.label}-${i + 1}`)) {
        instances.push({ id: g.id * 100 + i, label: `${g.config!.label}-${i + 1}`, groupId: g.id, infrastructureId, serverId: 30 + i, hostname: `${g.config!.label}-${i + 1}`, serviceStatus: 'ordered', config: { deployType: 'create', deployStatus: 'ongoing' }, allocatedServerInfo: { id: 30 + i, vendor: 'Dell', model: 'PowerEdge R660' }, allocatedNetworkConfig: { physicalInterfaceNetworkConfigs: { ens1: { addresses: [`10.22.0.${10 + i}/24`] } } } });
      }
    }
    const mine: Job[] = steps(g.config!.label, g.config!.instanceCount).map((s) => ({
      jobId: nextJob++, jobGroupId: id, siteId: 1, infrastructureId, instanceId: g.id * 100 + s.i, serverId: s.fn.startsWith('server') ? 30 + s.i : null, networkDeviceId: s.fn.startsWith('switch') ? Number(devices[2].id) : null, type: 'asynchronous', status: 'not_called', functionName: s.fn,
      callCount: 0, retryMax: 5, retryCount: 0, options: { canBeSkipped: true }, createdTimestamp: iso(), updatedTimestamp: iso(), title: s.title, key: s.key, dependsOn: s.deps, percent: 0, message: null, error: null,
    }));
    jobs.push(...mine);
  }
  let failed = !failOnce();
  const timer = setInterval(() => {
    const all = jobs.filter((j) => j.jobGroupId === id);
    for (const job of all) {
      const ready = (job.dependsOn ?? []).every((key) => all.find((j) => j.key === key)?.status.match(/success|skipped/));
      if (job.status === 'not_called' && ready && all.filter((j) => j.status === 'running').length < 8) {
        job.status = 'running';
        job.callCount++;
        job.startTimestamp = iso();
        job.message = job.functionName === 'server.install' ? 'Booting from the network' : 'Applying';
      } else if (job.status === 'running') {
        job.percent = Math.min(100, (job.percent ?? 0) + 8 + Math.random() * 12);
        if (job.functionName === 'server.install' && job.percent > 30) job.message = 'Writing the image';
        if (!failed && job.percent > 50) {
          failed = true;
          Object.assign(job, { status: 'thrown_error', error: 'BMC 10.0.0.31: POST /redfish/v1/Systems/1/Actions/ComputerSystem.Reset answered 503 five times; check the power supply of the server, then retry.' });
        } else if (job.percent >= 100) {
          Object.assign(job, { status: 'returned_success', message: 'Done', durationMilliseconds: Date.now() - Date.parse(job.startTimestamp!) });
        }
      } else continue;
      job.updatedTimestamp = iso();
      deliver({ topic: 'job', data: { kind: 'job', id: job.jobId, jobId: job.jobId, groupId: id, infrastructureId, status: job.status, percent: job.percent, message: job.message, error: job.error } });
    }
    if (all.every((j) => /success|skipped/.test(j.status))) {
      clearInterval(timer);
      finish(infrastructureId);
      jobGroups.find((g) => g.id === id)!.finishedTimestamp = iso();
      const event: SystemEvent = { id: events.length + 1, type: 1, severity: 'info', title: 'Infrastructure deployed', message: `${infra.label} is active`, occurredTimestamp: iso(), infrastructureId, siteId: 1 };
      events.unshift(event);
      deliver({ topic: 'event', data: event });
      deliver({ topic: 'object', data: { kind: 'infrastructure', id: infrastructureId, revision: 9 } });
    }
  }, 350);
}
function finish(infrastructureId: number) {
  const infra = infrastructures.find((x) => x.id === infrastructureId)!;
  Object.assign(infra, { serviceStatus: 'active', designIsLocked: 0 });
  infra.config.deployStatus = 'finished';
  for (const g of groups.filter((x) => x.infrastructureId === infrastructureId)) {
    const { label, instanceCount, defaultServerTypeId, osTemplateId, deployType } = g.config!;
    Object.assign(g, { label, instanceCount, defaultServerTypeId, osTemplateId, serviceStatus: deployType === 'delete' ? 'deleted' : 'active' });
    g.config!.deployStatus = 'finished';
  }
  for (const n of networks.filter((x) => x.infrastructureId === infrastructureId)) {
    n.serviceStatus = n.config.deployType === 'delete' ? 'deleted' : 'active';
    n.config.deployStatus = 'finished';
    n.vlan = { vlans: [{ vlanId: 210 + n.id, allocationStatus: 'allocated' }] };
    n.ipv4 = { subnets: [{ networkAddress: `10.${20 + n.id}.0.0`, prefixLength: 24 }] };
  }
  for (const i of instances.filter((x) => x.infrastructureId === infrastructureId)) {
    i.serviceStatus = 'active';
    i.config.deployStatus = 'finished';
  }
}
