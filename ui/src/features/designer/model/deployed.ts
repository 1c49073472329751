import { sizeOf } from '../../../api/storage';
import type { ServerInstance } from '../../../api/types';
import type { Doc, GroupDoc, Key, LinkDoc, NetworkDoc, StoreDoc } from './doc';
import { addressesOf, linkKey } from './doc';
import { complete } from './layout';
import type { Facts } from './store';

const runs = (status: string | undefined) => status !== undefined && status !== 'ordered' && status !== 'deleted';

/**
 * What runs now, drawn at the places of the design. The wire names no deployed connections: those of a group without pending
 * changes are its designed ones, those of any other are known by the addresses that its servers have.
 */
export function deployedDoc(doc: Doc, facts: Readonly<Record<Key, Facts>>, ids: Readonly<Record<Key, number>>, instances: readonly ServerInstance[]): Doc {
  const groups: Record<Key, GroupDoc> = {};
  const networks: Record<Key, NetworkDoc> = {};
  const links: Record<string, LinkDoc> = {};
  const networkKeys = new Map<number, Key>();
  for (const [key, { group, network }] of Object.entries(facts)) {
    if (group && runs(group.serviceStatus)) groups[key] = { label: group.label, instanceCount: group.instanceCount, serverTypeId: group.defaultServerTypeId, osTemplateId: group.osTemplateId ?? null, deleted: false };
    if (network && runs(network.serviceStatus)) {
      networks[key] = { label: network.label, fabricId: network.fabricId, profileId: null, shared: network.infrastructureId === null, deleted: false, addresses: addressesOf(network) };
      networkKeys.set(network.id, key);
    }
  }
  for (const key of Object.keys(groups)) {
    const config = facts[key].group?.config;
    const pending = config?.deployStatus === 'not_started' || doc.groups[key] === undefined;
    if (!pending) for (const [id, l] of Object.entries(doc.links)) if (l.group === key && networks[l.network]) links[id] = l;
    for (const instance of pending ? instances.filter((i) => i.groupId === ids[key]) : []) {
      for (const { logicalNetworkId } of instance.addresses ?? []) {
        const network = networkKeys.get(logicalNetworkId);
        if (network) links[linkKey(key, network)] ??= doc.links[linkKey(key, network)] ?? { group: key, network, tagged: false, mtu: 1500, defaultRoute: false, redundancy: null };
      }
    }
  }
  const stores: Record<Key, StoreDoc> = {};
  for (const [key, { store }] of Object.entries(facts)) {
    if (!store || !runs(store.serviceStatus)) continue;
    const hosts = (store.hosts?.instanceGroup ? [...store.hosts.instanceGroup.connected, ...store.hosts.instanceGroup.willBeDisconnected] : []).flatMap((id) => Object.keys(groups).filter((k) => ids[k] === id));
    stores[key] = { kind: store.kind, label: store.label, sizeGb: sizeOf(store), boot: Boolean(store.boot), storageId: store.storagePoolId ?? null, hosts: hosts.sort(), deleted: false };
  }
  return complete({ groups, networks, links, stores, positions: doc.positions });
}
