/** The design as the designer holds it: plain immutable data, keys that stay the same from first stroke to last save. */

import type { LogicalNetwork } from '../../../api/types';

export type Key = string;
/** Where the IPv4 subnet of a network comes from; `fixed` is one chosen by hand elsewhere, which is shown and kept. */
export type Addresses = { kind: 'auto'; prefixLength: number } | { kind: 'none' } | { kind: 'fixed' };
export const AUTOMATIC: Addresses = { kind: 'auto', prefixLength: 26 };
export interface GroupDoc {
  label: string;
  instanceCount: number;
  serverTypeId: number;
  osTemplateId: number | null;
  /** Marked for deletion at the next deploy (only for what is deployed). */
  deleted: boolean;
}
export interface NetworkDoc {
  label: string;
  fabricId: number;
  /** Made from this profile; only used at creation. */
  profileId: number | null;
  /** Belongs to the site, not to this infrastructure: may be connected, not edited. */
  shared: boolean;
  deleted: boolean;
  addresses: Addresses;
}
export interface LinkDoc {
  group: Key;
  network: Key;
  tagged: boolean;
  mtu: number;
  /** The servers' way out of all their networks; one connection of a group has it. */
  defaultRoute: boolean;
  redundancy: 'active-backup' | 'active-active' | null;
}
export type StoreKind = 'drive' | 'own' | 'share' | 'bucket';
/** Storage beside the servers: a drive or file share that groups attach, a drive of its own for each server of one group, or a bucket that is reached with its key. */
export interface StoreDoc {
  kind: StoreKind;
  label: string;
  sizeGb: number;
  /** The storage it lies on; null: chosen at deploy. */
  storageId: number | null;
  /** Groups whose servers have it, sorted. */
  hosts: readonly Key[];
  /** The servers start from it (only what each server has for itself). */
  boot?: boolean;
  deleted: boolean;
}
export const STORE_WORDS: Record<StoreKind, string> = { drive: 'Shared drive', own: 'Drive of each server', share: 'File share', bucket: 'Bucket' };
export interface Position {
  x: number;
  y: number;
}
export interface Doc {
  groups: Readonly<Record<Key, GroupDoc>>;
  networks: Readonly<Record<Key, NetworkDoc>>;
  links: Readonly<Record<string, LinkDoc>>;
  stores: Readonly<Record<Key, StoreDoc>>;
  /** Layout only: never a change of the design. */
  positions: Readonly<Record<Key, Position>>;
}
export const EMPTY: Doc = { groups: {}, networks: {}, links: {}, stores: {}, positions: {} };
export const linkKey = (group: Key, network: Key) => `${group}|${network}`;
const NONE: readonly LinkDoc[] = [];
const byElement = new WeakMap<Doc['links'], Map<Key, LinkDoc[]>>();
/** The connections of an element; the same list as long as no connection changes. */
export function linksOf(doc: Pick<Doc, 'links'>, key: Key): readonly LinkDoc[] {
  let all = byElement.get(doc.links);
  if (!all) {
    all = new Map();
    for (const l of Object.values(doc.links)) for (const end of [l.group, l.network]) all.get(end)?.push(l) ?? all.set(end, [l]);
    byElement.set(doc.links, all);
  }
  return all.get(key) ?? NONE;
}
export const isGroup = (key: Key) => key.startsWith('g:');
export const isStore = (key: Key) => key.startsWith('s:');
export const elementOf = (doc: Doc, key: Key): GroupDoc | NetworkDoc | StoreDoc | undefined => doc.groups[key] ?? doc.networks[key] ?? doc.stores[key];
export const elementKeys = (doc: Doc): Key[] => [...Object.keys(doc.networks), ...Object.keys(doc.groups), ...Object.keys(doc.stores)];
/** Stores that a group's servers have. */
export const storesOf = (doc: Doc, group: Key): Key[] => Object.keys(doc.stores).filter((k) => doc.stores[k].hosts.includes(group));

/** What the wire says of a network's IPv4 strategies. */
export function addressesOf(n: LogicalNetwork): Addresses {
  const first = n.ipv4?.subnetAllocationStrategies?.[0];
  if (!first) return { kind: 'none' };
  return first.kind === 'auto' && first.prefixLength ? { kind: 'auto', prefixLength: first.prefixLength } : { kind: 'fixed' };
}

export function without<T>(record: Readonly<Record<string, T>>, keys: Iterable<string>): Record<string, T> {
  const drop = new Set(keys);
  return Object.fromEntries(Object.entries(record).filter(([k]) => !drop.has(k)));
}

/** `workers`, `workers-2`, … : the first free label. */
export function freeLabel(doc: Doc, base: string): string {
  const taken = new Set([...Object.values(doc.groups), ...Object.values(doc.networks), ...Object.values(doc.stores)].map((o) => o.label));
  if (!taken.has(base)) return base;
  const stem = base.replace(/-\d+$/, '');
  for (let n = 2; ; n++) if (!taken.has(`${stem}-${n}`)) return `${stem}-${n}`;
}
/** Labels become host and subdomain names. */
export function labelProblem(label: string): string | null {
  if (!label) return 'A label is needed.';
  if (label.length > 63) return 'At most 63 characters.';
  return /^[a-z0-9]([a-z0-9-]*[a-z0-9])?$/.test(label) ? null : 'Lower-case letters, digits and hyphens; begin and end with a letter or digit.';
}
