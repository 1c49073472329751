/* Seeded data of the mock; the shapes are the wire's. */
import type { GroupConnection, Job, JobGroup, LogicalNetwork, NetworkDevice, Server, ServerInstance, ServerInstanceGroup, SwitchPort, SystemEvent } from '../api/types';

let seed = 7;
const random = () => (seed = (seed * 16807) % 2147483647) / 2147483647;
const hex = (n: number) => Array.from({ length: n }, () => Math.floor(random() * 16).toString(16)).join('');
const mac = () => `02:${Array.from({ length: 5 }, () => hex(2)).join(':')}`;
export const iso = (offsetSeconds = 0) => new Date(Date.now() + offsetSeconds * 1000).toISOString();

export const user = { id: 1, displayName: 'Ada Keller', email: 'admin@steelyard.local', accessLevel: 'admin', accountId: 1 };
export const sites = [
  { id: 1, slug: 'frankfurt-1', name: 'Frankfurt 1', revision: 1, isInMaintenance: false },
  { id: 2, slug: 'edge-lyon', name: 'Edge Lyon', revision: 1, isInMaintenance: false },
];
const type = (id: number, name: string, ramGbytes: number, cores: number, cpu: string, nics: number, gpu = 0) => ({
  id, name, label: name, ramGbytes, processorCount: 2, processorCoreCount: cores, processorCoreMhz: 2600, networkInterfaceCount: nics,
  networkInterfaceSpeeds: Array(nics).fill(25000), networkTotalCapacityMbps: nics * 25000, processorNames: [cpu], diskCount: 2, gpuCount: gpu, serverClass: 'bigdata',
});
export const serverTypes = [type(1, 'M.32.128', 128, 16, 'Xeon Gold 6426Y', 2), type(2, 'L.64.512', 512, 32, 'EPYC 9354', 4), type(3, 'G.96.1024.8', 1024, 48, 'EPYC 9474F', 4, 8)];
const os = (id: number, name: string, n: string, v: string) => ({ id, name, label: name.toLowerCase().replaceAll(' ', '-'), os: { name: n, version: v }, status: 'active', visibility: 'public' });
export const osTemplates = [os(1, 'Ubuntu 24.04', 'Ubuntu', '24.04'), os(2, 'Debian 12', 'Debian', '12'), os(3, 'Rocky Linux 9', 'Rocky', '9.4')];
export const fabrics = [{ id: '1', name: 'fra1-leaf-spine', siteId: 1, status: 'active', revision: '1' }];
export const profiles = [
  { id: 1, label: 'lan', name: 'Private LAN', kind: 'vlan', fabricId: 1 },
  { id: 2, label: 'storage', name: 'Storage network', kind: 'vlan', fabricId: 1 },
];
const net = (id: number, label: string, infrastructureId: number | null, vlan: number, subnet: string): LogicalNetwork => ({
  id, revision: 1, label, name: label, kind: 'vlan', fabricId: 1, infrastructureId, serviceStatus: 'active', mtu: 1500,
  config: { revision: 1, deployType: 'create', deployStatus: 'finished' },
  vlan: { vlans: [{ vlanId: vlan, allocationStatus: 'allocated' }] }, ipv4: { subnets: [{ networkAddress: subnet, prefixLength: 24, allocationStatus: 'allocated' }], subnetAllocationStrategies: [{ kind: 'auto', prefixLength: 24, subnetPoolIds: [] }] },
});
const infra = (id: number, label: string, serviceStatus: string, deployStatus: string) => ({
  id, revision: 3, label, siteId: 1, datacenterName: 'frankfurt-1', serviceStatus, designIsLocked: 0, createdTimestamp: iso(-864000), updatedTimestamp: iso(-3600 * id),
  instancesCountActive: serviceStatus === 'active' ? 5 : 0, config: { revision: 3, label, deployType: 'create', deployStatus, infrastructureDeployId: null },
});
export const infrastructures = [infra(1, 'web-shop', 'active', 'finished'), infra(2, 'render-farm', 'ordered', 'not_started'), infra(3, 'data-lake', 'active', 'finished')];
export const networks: LogicalNetwork[] = [net(1, 'internet', null, 100, '203.0.113.0'), net(2, 'backend', 1, 210, '10.20.0.0'), net(3, 'storage', 1, 211, '10.21.0.0')];
export const group = (id: number, infrastructureId: number, label: string, instanceCount: number, defaultServerTypeId: number, status: 'active' | 'ordered'): ServerInstanceGroup => ({
  id, revision: 1, label, infrastructureId, instanceCount, defaultServerTypeId, osTemplateId: 1, serviceStatus: status,
  config: { revision: 1, label, instanceCount, defaultServerTypeId, osTemplateId: 1, deployType: 'create', deployStatus: status === 'active' ? 'finished' : 'not_started' },
});
export const groups: ServerInstanceGroup[] = [group(1, 1, 'web', 3, 1, 'active'), group(2, 1, 'database', 2, 2, 'active')];
export const connections: Record<number, GroupConnection[]> = {
  1: [{ id: '1', tagged: false, accessMode: 'l2', mtu: 1500, redundancy: null }, { id: '2', tagged: true, accessMode: 'l2', mtu: 1500, redundancy: null }],
  2: [{ id: '2', tagged: false, accessMode: 'l2', mtu: 1500, redundancy: null }, { id: '3', tagged: true, accessMode: 'l2', mtu: 9000, redundancy: null }],
};
export const instances: ServerInstance[] = groups.flatMap((g) =>
  Array.from({ length: g.instanceCount }, (_, i) => ({
    id: g.id * 100 + i, label: `${g.label}-${i + 1}`, groupId: g.id, infrastructureId: 1, serverId: g.id * 10 + i, hostname: `${g.label}-${i + 1}`, serviceStatus: 'active' as const,
    config: { deployType: 'create' as const, deployStatus: 'finished' as const }, allocatedServerInfo: { id: g.id * 10 + i, vendor: 'Dell', model: 'PowerEdge R660' },
    allocatedNetworkConfig: { physicalInterfaceNetworkConfigs: { ens1: { addresses: [`10.20.0.${g.id * 10 + i}/24`] } } },
  })),
);
const states: Server['serverStatus'][] = ['available', 'available', 'available', 'used', 'available', 'cleaning', 'available', 'defective', 'registering', 'available'];
export const servers: Server[] = Array.from({ length: 240 }, (_, i) => {
  const t = serverTypes[i % 10 < 6 ? 0 : i % 10 < 9 ? 1 : 2];
  const status = i >= 10 && i < 13 ? 'used' : states[(i * 7) % 10];
  return {
    serverId: i + 1, revision: 1, siteId: 1, datacenterName: 'frankfurt-1', serverTypeId: t.id, serialNumber: `SY${hex(8).toUpperCase()}`, serverUUID: `${hex(8)}-${hex(4)}-${hex(4)}`, managementAddress: `10.0.${Math.floor(i / 200)}.${(i % 200) + 10}`,
    bmcMacAddress: mac(), vendor: i % 3 ? 'Dell' : 'Supermicro', model: i % 3 ? 'PowerEdge R660' : 'SYS-221H', serverStatus: status, powerStatus: status === 'used' ? 'on' : 'off', administrationState: 'managed',
    ramGbytes: t.ramGbytes, processorCount: 2, processorCoreCount: t.processorCoreCount, processorName: t.processorNames[0], gpuCount: t.gpuCount, rackName: `R${String(Math.floor(i / 20) + 1).padStart(2, '0')}`, rackPositionLowerUnit: String((i % 20) * 2 + 1), tags: i % 9 === 0 ? ['burn-in'] : [],
    interfaces: Array.from({ length: t.networkInterfaceCount }, (_, n) => ({ serverInterfaceId: i * 4 + n, index: n, macAddress: mac(), capacityMbps: 25000, switchHostname: `leaf-${(Math.floor(i / 20) % 6) * 2 + (n % 2) + 1}`, switchPortId: `swp${(i % 20) + 1}`, vlanId: status === 'used' ? 210 : 4000, ipv4Addresses: status === 'used' && n === 0 ? [`10.20.0.${i}`] : [], pxeEnabled: n === 0 ? 1 : 0 })),
    disks: [1, 2].map((d) => ({ id: i * 2 + d, model: 'PM9A3', vendor: 'Samsung', serial: hex(10).toUpperCase(), diskSizeGb: 960, type: 'nvme', status: 'ok' })),
    allocationInfo: status === 'used' ? { instanceId: 100, instanceLabel: 'web-1', instanceGroupLabel: 'web', infrastructure: { id: 1, label: 'web-shop' } } : null,
  };
});
export const devices: NetworkDevice[] = Array.from({ length: 14 }, (_, i) => {
  const spine = i < 2;
  return {
    id: String(i + 1), revision: 1, status: 'active', siteId: 1, identifierString: spine ? `spine-${i + 1}` : `leaf-${i - 1}`, managementAddress: `10.0.9.${i + 1}`, managementPort: 8765, serialNumber: `MT${hex(8).toUpperCase()}`,
    driver: 'cumulus_linux', position: spine ? 'spine' : 'leaf', loopbackAddressIpv4: `10.255.0.${i + 1}`, asn: 65000 + i, datacenterRack: spine ? 'R01' : `R${String(Math.floor((i - 2) / 2) + 1).padStart(2, '0')}`, tags: [],
  };
});
export const ports = (device: number): SwitchPort[] =>
  Array.from({ length: 32 }, (_, i) => ({
    interfaceId: device * 100 + i, interfaceName: `swp${i + 1}`, interfaceIndex: i + 1, macAddress: mac(), serverId: i < 20 ? i + 1 : null, serverInterfaceId: i < 20 ? i : null, dirtyBit: 0,
    lldpInformation: i < 20 ? `server-${i + 1}` : i > 29 ? `spine-${i - 29}` : null,
    driverDumpCachedJson: { operStatus: i < 18 || i > 29 ? 'up' : 'down', adminStatus: 'up', speedMbps: i > 29 ? 100000 : 25000, untaggedVlan: i < 5 ? 210 : 4000, taggedVlans: i < 3 ? [100] : [] },
  }));
const subnet = (id: number, label: string, networkAddress: string, prefixLength: number, isPool: boolean, parentSubnetId: number | null) => ({ id, revision: 1, label, name: label, ipVersion: 'ipv4', networkAddress, prefixLength, defaultGatewayAddress: isPool ? null : networkAddress.replace(/0$/, '1'), isPool, parentSubnetId });
export const subnets = [subnet(1, 'private-pool', '10.20.0.0', 14, true, null), subnet(2, 'backend', '10.20.0.0', 24, false, 1), subnet(3, 'storage', '10.21.0.0', 24, false, 1), subnet(4, 'public-pool', '203.0.113.0', 24, true, null)];
export const jobGroups: JobGroup[] = [
  { id: 7, type: 'infrastructure_deploy', description: 'Deploy data-lake', createdTimestamp: iso(-90), finishedTimestamp: null, infrastructureId: 3 },
  { id: 6, type: 'infrastructure_deploy', description: 'Deploy web-shop', createdTimestamp: iso(-7200), finishedTimestamp: iso(-7150), infrastructureId: 1 },
];
const STEPS = [['server.install', 'Install'], ['switch.apply', 'Attach'], ['server.start', 'Start']];
export const jobs: Job[] = [7, 6].flatMap((jobGroupId) =>
  Array.from({ length: 15 }, (_, n) => {
    const [fn, verb] = STEPS[n % 3];
    const host = `node-${Math.floor(n / 3) + 1}`;
    const status = jobGroupId === 6 ? 'returned_success' : n === 6 ? 'thrown_error' : n === 7 || n === 8 ? 'not_called' : n % 3 === 0 ? 'returned_success' : n % 3 === 1 ? (n > 9 ? 'running' : 'returned_success') : n > 9 ? 'not_called' : 'running';
    const started = status === 'not_called' ? null : iso((jobGroupId === 6 ? -7200 : -88) + (n % 3) * 25 + n);
    return {
      jobId: jobGroupId * 100 + n, jobGroupId, siteId: 1, infrastructureId: jobGroupId === 7 ? 3 : 1, type: 'asynchronous', status, functionName: fn, callCount: status === 'not_called' ? 0 : status === 'thrown_error' ? 6 : 1, retryMax: 5, retryCount: status === 'thrown_error' ? 5 : 0,
      durationMilliseconds: status === 'returned_success' ? 21000 : null, options: { canBeSkipped: true }, createdTimestamp: iso(-90), updatedTimestamp: iso(-20), startTimestamp: started, title: `${verb} ${host}`, key: `${fn}/${host}/${jobGroupId}`,
      dependsOn: n % 3 ? [`${STEPS[(n % 3) - 1][0]}/${host}/${jobGroupId}`] : [], percent: status === 'running' ? 55 : status === 'returned_success' ? 100 : 0, message: status === 'running' ? 'Waiting for the server to call home' : null,
      error: status === 'thrown_error' ? 'BMC 10.0.0.31: setting the boot source answered 503 (ServiceUnavailable) six times. Check that the BMC is not in a firmware update, then retry.' : null,
    };
  }),
);
export const events: SystemEvent[] = Array.from({ length: 30 }, (_, i) => ({
  id: 30 - i, type: 1, severity: i % 11 === 3 ? 'important' : i % 7 === 2 ? 'warning' : 'info', title: ['Server powered on', 'Switch configuration applied', 'Address leased', 'Server registered'][i % 4], message: ['SY41 reached power state on', 'leaf-3 revision 214 applied and confirmed', '10.0.0.31 to 02:1f:aa:90:11:e3', 'PowerEdge R660 matched type M.32.128'][i % 4],
  occurredTimestamp: iso(-i * 97), siteId: 1, infrastructureId: i % 4 === 0 ? 1 : null, userEmailAuthenticated: i % 5 === 0 ? user.email : null,
}));
