import { describe as group, expect, it } from 'vitest';
import { describe, listings, type Names, waitsFor, worthSaying } from './words';

const names: Names = {
  network: (id) => ({ 1: 'front' })[id] ?? `network ${id}`, device: (id) => `leaf${id}`, server: (id) => `SN-${id}`, instance: (id) => `web-${id}`,
  pool: (id) => ({ 2: 'tenants' })[id] ?? `pool ${id}`, type: (id) => `type ${id}`, os: (id) => (id === null ? 'No operating system' : `os ${id}`),
  group: (id) => `group-${id}`, storage: (id) => `array-${id}`, element: (id) => `drive-${id}`,
};

group('a plan in words', () => {
  it('says connections, strategies and ports as a person would', () => {
    expect(describe('connections', [{ logical_network_id: 1, tagged: false, mtu: 1500, provides_default_route: true, redundancy: null, disable_auto_ip: false }], names)).toEqual(['front: untagged, MTU 1500, default route']);
    expect(describe('connections', [{ logical_network_id: 1, tagged: true, mtu: 9000, redundancy: { mode: 'active-active' } }], names)).toEqual(['front: tagged, MTU 9000, two ports, LACP']);
    expect(describe('vlanStrategy', { kind: 'auto' }, names)).toEqual(['automatic']);
    expect(describe('ipv4Strategies', [{ kind: 'auto', prefix_len: 26, pool_ids: [] }], names)).toEqual(['/26 from any pool']);
    expect(describe('ipv4Strategies', [{ kind: 'auto', prefix_len: 26, pool_ids: [2] }], names)).toEqual(['/26 from tenants']);
    expect(describe('ports', ['eno1 3:swp5 u100 t120,130', 'odd'], names)).toEqual(['eno1 → leaf3 swp5: VLAN 100 untagged, VLAN 120, 130 tagged', 'odd']);
  });
  it('says what becomes of storage', () => {
    expect(describe('sizeGib', 2000, names)).toEqual(['2,000 GB']);
    expect(describe('hosts', [1, 2], names)).toEqual(['group-1, group-2']);
    expect(describe('instances', { 'share-7': [3, 4] }, names)).toEqual(['web-3, web-4']);
    expect(describe('instances', { 'drive-9': [] }, names)).toEqual([]);
    expect(listings([{ kind: 'storage', elementId: 6, storageId: 1, sizeBytes: 214_748_364_800 }], names)[0].rows).toEqual([['drive-6', 'array-1', '200 GB']]);
  });
  it('leaves out what says nothing', () => {
    expect(describe('variables', {}, names)).toEqual([]);
    expect(worthSaying('web', { field: 'label', before: null, after: 'web' })).toBe(false);
    expect(worthSaying('web', { field: 'hostname', before: null, after: '' })).toBe(false);
    expect(worthSaying('web', { field: 'label', before: 'old', after: 'web' })).toBe(true);
  });
  it('makes one table per kind of what is taken', () => {
    const made = listings([{ kind: 'vlan', logicalNetworkId: 1, vlanId: 200 }, { kind: 'subnet', logicalNetworkId: 1, subnet: '172.24.0.0/26', gateway: '172.24.0.1', subnetPoolId: 2 }, { kind: 'server', serverInstanceId: 1, serverId: 9 }], names);
    expect(made.map((l) => l.title)).toEqual(['Servers', 'VLANs', 'Subnets']);
    expect(made[2].rows).toEqual([['front', '172.24.0.0/26', '172.24.0.1', 'tenants']]);
  });
  it('names the steps that a step waits for', () => {
    const titles = new Map([['a', 'Install'], ['b', 'Connect']]);
    expect(waitsFor([], titles)).toBe('at once');
    expect(waitsFor(['a', 'b', 'c', 'd'], titles)).toBe('after Install, Connect and 2 other steps');
  });
});
