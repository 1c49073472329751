import { create } from 'zustand';
import type { StorageElement } from '../../../api/storage';
import type { LogicalNetwork, Problem, ServerInstanceGroup } from '../../../api/types';
import type { Doc, GroupDoc, Key, LinkDoc, NetworkDoc, Position, StoreDoc, StoreKind } from './doc';
import { addressesOf, AUTOMATIC, elementOf, EMPTY, freeLabel, isGroup, isStore, linkKey, linksOf, storesOf, without } from './doc';
import { autoLayout, complete, snap } from './layout';
import { DEFAULT_RULES, defaultRoute, defaultTagged, judge, type Rule, type Verdict } from './rules';

export interface Step {
  label: string;
  doc: Doc;
}
/** What the server says of an element, beside the design. */
export interface Facts {
  group?: ServerInstanceGroup;
  network?: LogicalNetwork;
  store?: StorageElement;
}
/** An element that someone else changed while it was changed here. */
export interface Conflict {
  mine: GroupDoc | NetworkDoc | StoreDoc;
  theirs: GroupDoc | NetworkDoc | StoreDoc;
  decide: (choice: 'mine' | 'theirs') => void;
}
export interface DesignerState {
  infrastructureId: number;
  doc: Doc;
  /** The design as the server has it. */
  saved: Doc;
  ids: Readonly<Record<Key, number>>;
  facts: Readonly<Record<Key, Facts>>;
  past: Step[];
  future: Step[];
  selection: Key | null;
  /** More than one picked element; then `selection` is empty. */
  picked: readonly Key[];
  /** `group|network` when a connection is selected. */
  link: string | null;
  rules: Rule[];
  problems: Problem[];
  /** Kinds of storage that this person may put into a design. */
  storeKinds: readonly StoreKind[];
  /** What this page sees by itself: more servers drawn than there are. */
  shortages: Problem[];
  saving: 'idle' | 'saving' | 'waiting';
  /** What is drawn in place of the design, for looking only: what runs now. */
  shown: Doc | null;
  conflict: Conflict | null;
  locked: boolean;
  loaded: boolean;
}
const LIMIT = 200;
export const NOWHERE: Doc['positions'] = {};

export const useDesigner = create<DesignerState>(() => ({
  infrastructureId: 0, doc: EMPTY, saved: EMPTY, ids: {}, facts: {}, past: [], future: [], selection: null, picked: [], link: null,
  rules: DEFAULT_RULES, problems: [], shortages: [], storeKinds: [], saving: 'idle', shown: null, conflict: null, locked: false, loaded: false,
}));
/** Positions under the hand until the drag ends, then one step of undo. Apart from the rest: it changes with every frame, and few are concerned. */
export const useDragging = create<{ at: Doc['positions'] }>(() => ({ at: NOWHERE }));
const get = useDesigner.getState;
const set = useDesigner.setState;

/** The drawing on the screen: the design, or what runs when that is looked at. */
export const shownDoc = (s: DesignerState): Doc => s.shown ?? s.doc;

let counter = 0;
export const newKey = (kind: 'g' | 'n' | 's') => `${kind}:new-${Date.now().toString(36)}-${counter++}`;

/** Every change of the design is one step that can be undone, positions included. */
export function apply(label: string, change: (doc: Doc) => Doc) {
  const { doc, past, locked } = get();
  if (locked) return;
  const next = complete(change(doc));
  if (next === doc) return;
  set({ doc: next, past: [...past.slice(-(LIMIT - 1)), { label, doc }], future: [] });
}
export function undo() {
  const { past, future, doc, locked } = get();
  const step = past.at(-1);
  if (!step || locked) return;
  set({ doc: step.doc, past: past.slice(0, -1), future: [...future, { label: step.label, doc }], ...keepSelection(step.doc) });
}
export function redo() {
  const { past, future, doc, locked } = get();
  const step = future.at(-1);
  if (!step || locked) return;
  set({ doc: step.doc, future: future.slice(0, -1), past: [...past, { label: step.label, doc }], ...keepSelection(step.doc) });
}
function keepSelection(doc: Doc) {
  const { selection, picked, link } = get();
  const left = picked.filter((k) => elementOf(doc, k));
  return {
    selection: selection && elementOf(doc, selection) ? selection : null,
    picked: left.length === picked.length ? picked : left.length > 1 ? left : [],
    link: link && doc.links[link] ? link : null,
  };
}

export function addGroup(group: Omit<GroupDoc, 'label' | 'deleted'> & { label?: string }, at?: Position): Key {
  const key = newKey('g');
  apply('Add server group', (doc) => ({
    ...doc,
    groups: { ...doc.groups, [key]: { ...group, label: freeLabel(doc, group.label ?? 'servers'), deleted: false } },
    positions: at ? { ...doc.positions, [key]: { x: snap(at.x), y: snap(at.y) } } : doc.positions,
  }));
  select(key);
  return key;
}
export function addNetwork(network: Pick<NetworkDoc, 'fabricId' | 'profileId'> & { label?: string; existing?: LogicalNetwork }): Key {
  const { existing } = network;
  const key = existing ? `n:${existing.id}` : newKey('n');
  if (get().doc.networks[key]) return key;
  if (existing) set({ ids: { ...get().ids, [key]: existing.id }, facts: { ...get().facts, [key]: { network: existing } } });
  apply('Add network', (doc) => withNetwork(doc, key, { label: existing?.label ?? freeLabel(doc, network.label ?? 'lan'), fabricId: network.fabricId, profileId: network.profileId, shared: Boolean(existing), deleted: false, addresses: existing ? addressesOf(existing) : AUTOMATIC }));
  select(key);
  return key;
}
const withNetwork = (doc: Doc, key: Key, network: NetworkDoc): Doc => ({ ...doc, networks: { ...doc.networks, [key]: network } });

export function addStore(kind: StoreKind, sizeGb: number, label: string): Key {
  const key = newKey('s');
  apply(`Add ${label}`, (doc) => ({ ...doc, stores: { ...doc.stores, [key]: { kind, label: freeLabel(doc, label), sizeGb, storageId: null, hosts: [], deleted: false } } }));
  select(key);
  return key;
}
/** A drive for each server of a group, as many as there are servers. */
export function addOwnDrive(group: Key, sizeGb: number, boot = false): Key {
  const key = newKey('s');
  apply('Add a drive for each server', (doc) => ({ ...doc, stores: { ...doc.stores, [key]: { kind: 'own', label: freeLabel(doc, `${doc.groups[group].label}-${boot ? 'system' : 'data'}`.slice(0, 60)), sizeGb, storageId: null, hosts: [group], boot, deleted: false } } }));
  select(key);
  return key;
}
export const editStore = (key: Key, change: Partial<StoreDoc>) => apply(change.hosts ? 'Attach' : 'Edit storage', (doc) => ({ ...doc, stores: { ...doc.stores, [key]: { ...doc.stores[key], ...change } } }));
export const detach = (store: Key, group: Key) => apply('Detach', (doc) => ({ ...doc, stores: { ...doc.stores, [store]: { ...doc.stores[store], hosts: doc.stores[store].hosts.filter((h) => h !== group) } } }));

export const editGroup = (key: Key, change: Partial<GroupDoc>) =>
  apply(change.instanceCount === undefined ? 'Edit group' : 'Change count', (doc) => ({ ...doc, groups: { ...doc.groups, [key]: { ...doc.groups[key], ...change } } }));
export const editNetwork = (key: Key, change: Partial<NetworkDoc>) =>
  apply('Edit network', (doc) => {
    const networks = { ...doc.networks, [key]: { ...doc.networks[key], ...change } };
    // Without addresses there is no gateway: the network cannot be anyone's way out.
    const links = change.addresses?.kind === 'none' ? Object.fromEntries(Object.entries(doc.links).map(([k, l]) => [k, l.network === key && l.defaultRoute ? { ...l, defaultRoute: false } : l])) : doc.links;
    return { ...doc, networks, links };
  });
export const editLink = (key: string, change: Partial<LinkDoc>) =>
  apply('Edit connection', (doc) => {
    const links = { ...doc.links, [key]: { ...doc.links[key], ...change } };
    // One way out per group: giving it to one connection takes it from the other.
    if (change.defaultRoute) for (const l of linksOf(doc, doc.links[key].group)) if (l.defaultRoute && linkKey(l.group, l.network) !== key) links[linkKey(l.group, l.network)] = { ...l, defaultRoute: false };
    return { ...doc, links };
  });

/** What is deployed is only marked; what is not goes at once. Several elements are one step. */
export function remove(...keys: Key[]) {
  apply(keys.length > 1 ? `Delete ${keys.length} elements` : 'Delete', (doc) => keys.reduce(removed, doc));
  set(keepSelection(get().doc));
}
function removed(doc: Doc, key: Key): Doc {
  const deployed = isDeployed(key);
  if (isStore(key)) return { ...doc, stores: deployed ? { ...doc.stores, [key]: { ...doc.stores[key], deleted: true } } : without(doc.stores, [key]) };
  const links = without(doc.links, linksOf(doc, key).map((l) => linkKey(l.group, l.network)));
  if (isGroup(key)) {
    const groups = deployed ? { ...doc.groups, [key]: { ...doc.groups[key], deleted: true } } : without(doc.groups, [key]);
    // What is only marked keeps what it has until the deploy; what goes at once lets go of it.
    // The drives of its servers go with it.
    const own = Object.keys(doc.stores).filter((k) => doc.stores[k].kind === 'own' && doc.stores[k].hosts.includes(key));
    const rest = own.reduce(removed, doc).stores;
    const stores = deployed ? rest : Object.fromEntries(Object.entries(rest).map(([k, s]) => [k, s.kind !== 'own' && s.hosts.includes(key) ? { ...s, hosts: s.hosts.filter((h) => h !== key) } : s]));
    return { ...doc, groups, links: deployed ? doc.links : links, stores };
  }
  const shared = doc.networks[key]?.shared;
  const networks = deployed && !shared ? { ...doc.networks, [key]: { ...doc.networks[key], deleted: true } } : without(doc.networks, [key]);
  return { ...doc, networks, links };
}
export function restore(key: Key) {
  // The drives of its servers were marked with it, and stay with it.
  if (isGroup(key)) apply('Keep group', (doc) => ({ ...doc, groups: { ...doc.groups, [key]: { ...doc.groups[key], deleted: false } }, stores: Object.fromEntries(Object.entries(doc.stores).map(([k, s]) => [k, s.kind === 'own' && s.hosts.includes(key) && s.deleted ? { ...s, deleted: false } : s])) }));
  else if (isStore(key)) editStore(key, { deleted: false });
  else editNetwork(key, { deleted: false });
}
export function disconnect(link: string) {
  apply('Disconnect', (doc) => ({ ...doc, links: without(doc.links, [link]) }));
  set(keepSelection(get().doc));
}
export function duplicate(...keys: Key[]) {
  const copies: Key[] = [];
  const groups = keys.filter((k) => get().doc.groups[k]);
  if (!groups.length) return;
  apply(groups.length > 1 ? `Duplicate ${groups.length} groups` : 'Duplicate', (doc) =>
    groups.reduce((d, key) => {
      const copy = newKey('g');
      copies.push(copy);
      return {
        ...d,
        groups: { ...d.groups, [copy]: { ...d.groups[key], label: freeLabel(d, d.groups[key].label), deleted: false } },
        links: { ...d.links, ...Object.fromEntries(linksOf(d, key).map((l) => [linkKey(copy, l.network), { ...l, group: copy }])) },
        stores: {
          ...Object.fromEntries(Object.entries(d.stores).map(([k, s]) => [k, s.kind !== 'own' && s.hosts.includes(key) && !s.deleted ? { ...s, hosts: [...s.hosts, copy].sort() } : s])),
          ...Object.fromEntries(storesOf(d, key).filter((k) => d.stores[k].kind === 'own' && !d.stores[k].deleted).map((k, i) => [newKey('s'), { ...d.stores[k], label: freeLabel(d, `${d.stores[k].label}${i ? `-${i}` : ''}`), hosts: [copy] }])),
        },
      };
    }, doc),
  );
  pick(copies);
}
/** One step for several groups: what is the same for all of them. */
export const editGroups = (keys: readonly Key[], change: Partial<GroupDoc>) =>
  apply(`Edit ${keys.length} groups`, (doc) => ({ ...doc, groups: { ...doc.groups, ...Object.fromEntries(keys.map((k) => [k, { ...doc.groups[k], ...change }])) } }));
/** Positions are layout: they are one step of undo, and no change of the design. */
export const move = (moved: Record<Key, Position>) => apply('Move', (doc) => ({ ...doc, positions: { ...doc.positions, ...moved } }));
export const arrange = () => apply('Arrange', (doc) => ({ ...doc, positions: { ...doc.positions, ...autoLayout(doc) } }));

/** Connects if the rules allow it; the verdict says what was done or why not. A new network between two groups is made from `make`. */
export function connect(from: Key, to: Key, make?: Pick<NetworkDoc, 'fabricId' | 'profileId'>): Verdict {
  const { rules, doc } = get();
  const verdict = judge(rules, doc, from, to);
  if (verdict.effect === 'connection') {
    const [group, network] = isGroup(from) ? [from, to] : [to, from];
    apply('Connect', (d) => withLink(d, group, network));
    selectLink(linkKey(group, network));
  } else if (verdict.effect === 'attach') {
    const [store, group] = isStore(from) ? [from, to] : [to, from];
    editStore(store, { hosts: [...doc.stores[store].hosts, group].sort() });
    select(store);
  } else if (verdict.effect === 'new_network') {
    if (!make) return { effect: 'no', reason: 'no network profile is available at this site; ask an administrator' };
    const key = newKey('n');
    apply('Connect through a new network', (d) => withLink(withLink(withNetwork(d, key, { label: freeLabel(d, 'lan'), ...make, shared: false, deleted: false, addresses: AUTOMATIC }), from, key), to, key));
    select(key);
  }
  return verdict;
}
function withLink(doc: Doc, group: Key, network: Key): Doc {
  const link: LinkDoc = { group, network, tagged: defaultTagged(doc, group), mtu: 1500, defaultRoute: defaultRoute(doc, group, network), redundancy: null };
  return { ...doc, links: { ...doc.links, [linkKey(group, network)]: link } };
}
export function connectToNew(group: Key, make: Pick<NetworkDoc, 'fabricId' | 'profileId'>) {
  const key = newKey('n');
  apply('Connect to a new network', (d) => withLink(withNetwork(d, key, { label: freeLabel(d, 'lan'), ...make, shared: false, deleted: false, addresses: AUTOMATIC }), group, key));
  select(key);
}

export const select = (key: Key | null) => set({ selection: key, picked: [], link: null });
export const selectLink = (link: string | null) => set({ link, selection: null, picked: [] });
/** Several elements at once; one of them is simply selected. */
export function pick(keys: readonly Key[]) {
  const { doc, picked } = get();
  const known = keys.filter((k) => elementOf(doc, k));
  if (known.length < 2) return select(known[0] ?? null);
  if (known.length !== picked.length || known.some((k) => !picked.includes(k))) set({ selection: null, link: null, picked: known });
}
export function togglePick(key: Key) {
  const now = pickedKeys(get());
  pick(now.includes(key) ? now.filter((k) => k !== key) : [...now, key]);
}
/** What a key stroke is about: all that is picked, or the one that is selected. */
export const pickedKeys = (s: Pick<DesignerState, 'selection' | 'picked'>): readonly Key[] => (s.picked.length ? s.picked : s.selection ? [s.selection] : []);

export function isDeployed(key: Key): boolean {
  const facts = get().facts[key];
  const status = facts?.group?.serviceStatus ?? facts?.network?.serviceStatus ?? facts?.store?.serviceStatus;
  return status !== undefined && status !== 'ordered' && status !== 'deleted';
}
