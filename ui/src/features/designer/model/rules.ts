import type { Doc, Key } from './doc';
import { elementOf, isGroup, isStore, linkKey, linksOf } from './doc';

export type Effect = 'no' | 'connection' | 'new_network' | 'attach' | 'move' | 'connect_roles';
export interface Rule {
  from: string;
  to: string;
  effect: Effect;
  reason: string;
}
export interface Verdict {
  effect: Effect;
  reason: string;
}

/** What holds before the server's table has arrived. */
export const DEFAULT_RULES: Rule[] = [
  { from: 'server_group', to: 'network', effect: 'connection', reason: 'one untagged and any number of tagged networks per group' },
  { from: 'network', to: 'server_group', effect: 'connection', reason: 'one untagged and any number of tagged networks per group' },
  { from: 'server_group', to: 'server_group', effect: 'new_network', reason: 'a new network is made, with a connection for either side' },
  { from: 'server_group', to: 'shared_drive', effect: 'attach', reason: 'every instance of the group sees the drive' },
  { from: 'shared_drive', to: 'server_group', effect: 'attach', reason: 'every instance of the group sees the drive' },
  { from: 'network', to: 'network', effect: 'no', reason: 'networks are joined by a route domain, not by a cable' },
];

// A file share is attached by the rules of a shared drive.
const element = (key: Key) => (isGroup(key) ? 'server_group' : isStore(key) ? 'shared_drive' : 'network');

/** May `from` be connected to `to` in this design, and if not, why. */
export function judge(rules: readonly Rule[], doc: Doc, from: Key, to: Key): Verdict {
  if (from === to) return { effect: 'no', reason: 'an element is not connected to itself' };
  const a = elementOf(doc, from);
  const b = elementOf(doc, to);
  if (!a || !b) return { effect: 'no', reason: 'this element is no longer in the design' };
  const gone = a.deleted ? a : b.deleted ? b : null;
  if (gone) return { effect: 'no', reason: `${gone.label} is marked for deletion` };
  const store = doc.stores[from] ?? doc.stores[to];
  if (store?.kind === 'bucket') return { effect: 'no', reason: 'a bucket is not attached: whoever has its key reaches it over the network' };
  if (store?.kind === 'own') return { effect: 'no', reason: `${store.label} belongs to the servers of one group; add a drive to the other group` };
  if (store && store.hosts.includes(isStore(from) ? to : from)) return { effect: 'no', reason: `${(isStore(from) ? b : a).label} has ${store.label} already` };
  const rule = rules.find((r) => r.from === element(from) && r.to === element(to));
  if (!rule) return { effect: 'no', reason: 'these two cannot be connected' };
  if (rule.effect === 'connection') {
    const [group, net] = isGroup(from) ? [from, to] : [to, from];
    if (doc.links[linkKey(group, net)]) return { effect: 'no', reason: `${doc.groups[group].label} is already connected to ${doc.networks[net].label}` };
  }
  return { effect: rule.effect, reason: store?.kind === 'share' && rule.effect === 'attach' ? 'every server of the group mounts the share' : rule.reason };
}

/** A port carries one untagged network: the first is untagged, the next ones are tagged. */
export const defaultTagged = (doc: Doc, group: Key) => linksOf(doc, group).some((l) => !l.tagged);

/** The first connection to a network with addresses is the way out. */
export const defaultRoute = (doc: Doc, group: Key, network: Key) => doc.networks[network]?.addresses.kind !== 'none' && !linksOf(doc, group).some((l) => l.defaultRoute);

/** Why this connection may not become untagged, or null. */
export function untaggedProblem(doc: Doc, group: Key, network: Key): string | null {
  const other = linksOf(doc, group).find((l) => !l.tagged && l.network !== network);
  return other ? `${doc.networks[other.network]?.label ?? 'Another network'} is already untagged on these ports; only one network can be.` : null;
}
