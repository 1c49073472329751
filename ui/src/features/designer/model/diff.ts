import type { Doc, GroupDoc, Key, NetworkDoc, StoreDoc } from './doc';
import { words } from '../../../components/format';
import { sizeOf } from '../../../api/storage';
import type { Facts } from './store';

export type Mark = 'added' | 'changed' | 'removed' | 'same';
export interface Diff {
  mark: Mark;
  /** One line per field that the next deploy changes. */
  fields: { field: string; before: string; after: string }[];
}
export const SIGN: Record<Mark, string> = { added: '+ new', changed: '~ changed', removed: '− removed', same: '' };

/** The designed element against what is deployed. */
export function diffOf(doc: Doc, facts: Facts | undefined, key: Key, name: { type: (id: number) => string; os: (id: number | null) => string }): Diff {
  if (doc.groups[key]) return diffOfGroup(doc.groups[key], facts, name);
  if (doc.stores[key]) return diffOfStore(doc.stores[key], facts);
  return diffOfNetwork(doc.networks[key], facts);
}
/** What the next deploy makes of a group as a whole. */
const TURNS: Record<string, string> = { stop: 'Stopped', suspend: 'Suspended', start: 'Active' };
export const AS_IS: Diff = { mark: 'same', fields: [] };

export function diffOfGroup(group: GroupDoc, facts: Facts | undefined, name: { type: (id: number) => string; os: (id: number | null) => string }): Diff {
  const old = facts?.group;
  if (group.deleted) return { mark: 'removed', fields: [] };
  if (!old || old.serviceStatus === 'ordered') return { mark: 'added', fields: [] };
  const fields: Diff['fields'] = [];
  const note = (field: string, before: string, after: string) => before !== after && fields.push({ field, before, after });
  note('Label', old.label, group.label);
  note('Servers', String(old.instanceCount), String(group.instanceCount));
  note('Server type', name.type(old.defaultServerTypeId), name.type(group.serverTypeId));
  note('Operating system', name.os(old.osTemplateId ?? null), name.os(group.osTemplateId));
  if (old.config && old.config.deployStatus !== 'finished' && TURNS[old.config.deployType]) note('State', words(old.serviceStatus), TURNS[old.config.deployType] ?? '');
  // A connection edit shows only as the kind of the next deploy: the wire has no deployed connections to compare.
  const pending = old.config?.deployType === 'edit' && old.config.deployStatus !== 'finished';
  return { mark: fields.length || pending ? 'changed' : 'same', fields };
}

export function diffOfNetwork(network: NetworkDoc | undefined, facts: Facts | undefined): Diff {
  if (!network) return { mark: 'same', fields: [] };
  if (network.shared) return { mark: 'same', fields: [] };
  if (network.deleted) return { mark: 'removed', fields: [] };
  const old = facts?.network;
  if (!old || old.serviceStatus === 'ordered') return { mark: 'added', fields: [] };
  return old.label === network.label ? { mark: 'same', fields: [] } : { mark: 'changed', fields: [{ field: 'Label', before: old.label, after: network.label }] };
}

export function diffOfStore(store: StoreDoc, facts: Facts | undefined): Diff {
  const old = facts?.store;
  if (store.deleted) return { mark: 'removed', fields: [] };
  if (!old || old.serviceStatus === 'ordered') return { mark: 'added', fields: [] };
  const fields: Diff['fields'] = [];
  if (old.label !== store.label) fields.push({ field: 'Label', before: old.label, after: store.label });
  if (sizeOf(old) !== store.sizeGb) fields.push({ field: 'Size', before: `${sizeOf(old)} GB`, after: `${store.sizeGb} GB` });
  if (store.kind === 'own' && Boolean(old.boot) !== Boolean(store.boot)) fields.push({ field: 'Servers start from it', before: old.boot ? 'yes' : 'no', after: store.boot ? 'yes' : 'no' });
  const pending = old.config.deployType === 'edit' && old.config.deployStatus !== 'finished';
  return { mark: fields.length || pending ? 'changed' : 'same', fields };
}
