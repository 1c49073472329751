import type { StorageElement } from '../api/storage';
import { iso } from './data';

type Body = Record<string, any>;
type Row = StorageElement & { infrastructureId: number; groups: number[]; deployed: number[] };
type Kind = Row['kind'];
let next = 700;
const element = (kind: Kind, infrastructureId: number, label: string, size: number, serviceStatus: Row['serviceStatus'], groups: number[]): Row => {
  const sized = kind === 'drive' ? { sizeMb: size * 1024 } : { sizeGB: size };
  return {
    kind, id: next++, infrastructureId, revision: 1, label, ...sized, storagePoolId: 1, serviceStatus, groups, deployed: serviceStatus === 'active' ? groups : [],
    config: { revision: 1, label, ...sized, storagePoolId: 1, deployType: 'create', deployStatus: serviceStatus === 'active' ? 'finished' : 'not_started' },
    discoverInformation: kind === 'share' ? { mountingInformation: [{ fullPath: '10.40.0.5:/exports/share-1', host: '10.40.0.5', port: 2049 }] } : kind === 'drive' ? [{ targetIqn: 'iqn.2026-01.example:drive-1', discoverIpAddress: '10.40.0.5', discoverPort: 3260 }] : {},
  };
};
export const elements: Row[] = [element('drive', 1, 'data', 500, 'active', [2]), element('share', 1, 'media', 2000, 'active', [1, 2]), element('bucket', 1, 'backups', 1000, 'active', [])];
export const storages = [
  { id: 1, revision: 1, siteId: 1, name: 'fra1-array-1', driver: 'netapp', technologies: ['block', 'file', 'object'], status: 'active', managementHost: '10.0.9.10', username: 'steelyard', inMaintenance: 0, datacenterName: 'frankfurt-1', operationMode: 'normal', subnetType: 'ipv4', tags: ['tier-1'] },
  { id: 2, revision: 1, siteId: 1, name: 'fra1-node-1', driver: 'linux', technologies: ['block', 'file'], status: 'ready', managementHost: '10.0.9.20', username: 'root', inMaintenance: 1, datacenterName: 'frankfurt-1', operationMode: 'normal', subnetType: 'ipv4', tags: [] },
];

const hosts = (e: Row) => {
  const wanted = e.config.deployType === 'delete' ? [] : e.groups;
  return { instanceGroup: { willBeConnected: wanted.filter((g) => !e.deployed.includes(g)), connected: e.deployed.filter((g) => wanted.includes(g)), willBeDisconnected: e.deployed.filter((g) => !wanted.includes(g)), disconnected: [] } };
};
export type Route = [string, (args: { id: number; sub: number; body: Body; query: URLSearchParams }) => unknown];

export function storageRoutes(page: (list: any[], q: URLSearchParams) => unknown, find: <T>(list: T[], test: (x: T) => boolean) => T): Route[] {
  const of = (kind: Kind, path: string, verb: string, list: string): Route[] => {
    const one = (id: number) => find(elements, (e) => e.kind === kind && e.id === id);
    const base = `/infrastructures/:id/${path}`;
    return [
      [`GET ${base}`, ({ id, query }) => page(elements.filter((e) => e.kind === kind && e.infrastructureId === id), query)],
      [`POST ${base}`, ({ id, body }) => (elements.push(element(kind, id, body.label, body.sizeGB ?? body.sizeMb / 1024, 'ordered', [])), elements.at(-1))],
      [`GET ${base}/:sub`, ({ sub }) => one(sub)],
      [`PATCH ${base}/:sub/config`, ({ sub, body }) => {
        const e = one(sub);
        Object.assign(e.config, body, { revision: e.config.revision + 1, deployType: e.serviceStatus === 'active' ? 'edit' : 'create', deployStatus: 'not_started' });
        return e;
      }],
      [`GET ${base}/:sub/hosts`, ({ sub }) => hosts(one(sub))],
      [`GET ${base}/:sub/credentials`, () => ({ accessKeyId: 'MOCKKEY', secretKey: 'mock-secret' })],
      [`POST ${base}/:sub/actions/${verb}`, ({ sub, body }) => {
        const e = one(sub);
        for (const o of body[list] as { serverInstanceGroupId: number; operationType: string }[]) e.groups = o.operationType === 'add' ? [...new Set([...e.groups, o.serverInstanceGroupId])] : e.groups.filter((g) => g !== o.serverInstanceGroupId);
        if (e.serviceStatus === 'active') Object.assign(e.config, { deployType: 'edit', deployStatus: 'not_started' });
        return hosts(e);
      }],
      [`DELETE ${base}/:sub`, ({ sub }) => {
        const e = one(sub);
        if (e.serviceStatus === 'active') Object.assign(e.config, { deployType: 'delete', deployStatus: 'not_started' });
        else elements.splice(elements.indexOf(e), 1);
      }],
    ];
  };
  return [
    ...of('drive', 'drives', 'modify-server-instance-group-hosts-bulk', 'sharedDriveHostBulkOperations'),
    ...of('share', 'file-shares', 'modify-instance-array-hosts-bulk', 'fileShareHostBulkOperations'),
    ...of('bucket', 'buckets', 'none', 'none'),
    ['GET /storages', ({ query }) => page(storages, query)],
    ['GET /storages/:id', ({ id }) => find(storages, (s) => s.id === id)],
    ['GET /storages/:id/statistics', ({ id }) => (id === 1 ? { totalSpaceGB: 102_400, usedSpaceGB: 41_000, freeSpaceGB: 61_400, promisedSpaceGB: 120_000, overcommitPercent: 150 } : { totalSpaceGB: 7_600, usedSpaceGB: 7_100, freeSpaceGB: 500, promisedSpaceGB: 7_100, overcommitPercent: 100 })],
    ['GET /storages/:id/drives', ({ query }) => page(elements.filter((e) => e.kind === 'drive'), query)],
    ['GET /storages/:id/file-shares', ({ query }) => page(elements.filter((e) => e.kind === 'share'), query)],
    ['GET /storages/:id/buckets', ({ query }) => page(elements.filter((e) => e.kind === 'bucket'), query)],
    ['GET /servers/registration-profiles', ({ query }) => page([{ id: 1, revision: '1', name: 'rack-servers', isDefault: false, settings: { registerCredentials: 'random', minimumNumberOfConnectedInterfaces: 2, alwaysDiscoverInterfacesWithBDK: true, serverCleanupPolicyId: 1 } }], query)],
    ['GET /servers/default-credentials', ({ query }) => page([{ id: 1, siteId: 1, serverSerialNumber: '', serverMacAddress: '', defaultUsername: 'root' }, { id: 2, siteId: 1, serverSerialNumber: 'SY4471A', serverMacAddress: '', defaultUsername: 'ADMIN', defaultRackName: 'R12' }], query)],
    ['GET /servers/cleanup-policies', ({ query }) => page([{ id: 1, revision: 1, label: 'regulated', cleanupDrivesForOobEnabledServer: 1, eraseMethod: 'overwrite', keepDiskTypes: [], keepDiskSerialNumbers: [], updatedTimestamp: iso(-9000) }], query)],
    ['GET /servers/cleaning-certificates', ({ query }) => page([{ id: 1, serverId: 3, siteId: 1, serialNumber: 'SY4471A', jobId: 90, finishedTimestamp: iso(-4000), succeeded: true, cleanupPolicyLabel: 'regulated', eraseMethod: 'overwrite', reason: null, disks: [{ name: '/dev/nvme0n1', serialNumber: 'S6XN-1', model: 'NVMe P5600', sizeBytes: 1_600_000_000_000, erased: true, method: 'overwrite', verification: 'read back at 64 places' }, { name: '/dev/nvme1n1', serialNumber: 'S6XN-2', model: 'NVMe P5600', sizeBytes: 1_600_000_000_000, erased: true, method: 'overwrite', verification: 'read back at 64 places' }] }], query)],
    ['GET /servers/unknown-machines', ({ query }) => page([{ id: 1, siteId: 1, macAddress: '0c:42:a1:00:10:20', address: '10.0.200.17', circuitId: 'leaf3:swp12', vendorClass: 'PXEClient:Arch:00007', kind: 'host', status: 'quarantined', serverId: null, firstSeenTimestamp: iso(-7000), lastSeenTimestamp: iso(-30) }], query)],
  ];
}
