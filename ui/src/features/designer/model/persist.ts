import { ApiError, api } from '../../../api/client';
import { designedSize, PATHS, sizeBody, type StorageElement, type StoreHosts } from '../../../api/storage';
import type { GroupConnection, LogicalNetwork, Page, Problem, ServerInstanceGroup } from '../../../api/types';
import { toast } from '../../../components/toast';
import type { Doc, GroupDoc, Key, LinkDoc, NetworkDoc, Position, StoreDoc } from './doc';
import { addressesOf, elementOf, EMPTY, linkKey, linksOf } from './doc';
import { complete } from './layout';
import { type Facts, type Step, useDesigner } from './store';
import { difference, type Op, same, settle } from './sync';

const get = useDesigner.getState;
const set = useDesigner.setState;
const DEBOUNCE_MS = 400;
const LAYOUT_DEBOUNCE_MS = 1500;
const HISTORY_DEBOUNCE_MS = 700;

/** Every page of a list. */
export async function listAll<T>(path: string, query: Record<string, string | number> = {}): Promise<T[]> {
  const ask = (page: number) => api.get<Page<T>>(path, { ...query, limit: 100, page });
  const first = await ask(1);
  const rest = await Promise.all(Array.from({ length: Math.max(0, (first.meta?.totalPages ?? 1) - 1) }, (_, i) => ask(i + 2)));
  return [first, ...rest].flatMap((answer) => answer.data);
}

const groupDoc = (g: ServerInstanceGroup): GroupDoc => ({
  label: g.config?.label ?? g.label,
  instanceCount: g.config?.instanceCount ?? g.instanceCount,
  serverTypeId: g.config?.defaultServerTypeId ?? g.defaultServerTypeId,
  osTemplateId: g.config?.osTemplateId ?? g.osTemplateId ?? null,
  deleted: g.config?.deployType === 'delete' && g.config.deployStatus !== 'finished',
});
const networkDoc = (n: LogicalNetwork): NetworkDoc => ({
  label: n.label, fabricId: n.fabricId, profileId: null, shared: n.infrastructureId === null,
  deleted: n.config?.deployType === 'delete' && n.config.deployStatus !== 'finished',
  addresses: addressesOf(n),
});

const KINDS = ['drive', 'own', 'share', 'bucket'] as const;
/** A kind of storage that this person may not see is not offered; any other failure is one. */
const unseen = (error: unknown): null => {
  if (error instanceof ApiError && (error.status === 403 || error.status === 404)) return null;
  throw error;
};
/** Ids of a file share's hosts are strings on the wire, those of a drive's numbers. */
const numbers = ({ instanceGroup: g }: StoreHosts): StoreHosts => ({ instanceGroup: { willBeConnected: g.willBeConnected.map(Number), connected: g.connected.map(Number), willBeDisconnected: g.willBeDisconnected.map(Number), disconnected: g.disconnected.map(Number) } });
async function fetchStores(id: number): Promise<StorageElement[]> {
  const all = await Promise.all(KINDS.map(async (kind) => (await listAll<StorageElement>(`/infrastructures/${id}/${PATHS[kind]}`).catch(unseen))?.map((e) => ({ ...e, kind }))));
  set({ storeKinds: KINDS.filter((_, i) => all[i]) });
  return Promise.all(
    all.flatMap((list) => list ?? []).filter((e) => e.serviceStatus !== 'deleted').map(async (e): Promise<StorageElement> => (e.kind === 'bucket' ? e : e.kind === 'own' ? { ...e, hosts: { instanceGroup: { connected: e.config.serverInstanceGroupId ? [e.config.serverInstanceGroupId] : [], willBeConnected: [], willBeDisconnected: [], disconnected: [] } } } : { ...e, hosts: numbers(await api.get<StoreHosts>(`/infrastructures/${id}/${PATHS[e.kind]}/${e.id}/hosts`)) })),
  );
}

interface Snapshot {
  doc: Doc;
  ids: Record<Key, number>;
  facts: Record<Key, Facts>;
}

async function fetchDesign(id: number): Promise<Snapshot> {
  const [groups, own, stores, connected, layout] = await Promise.all([
    listAll<ServerInstanceGroup>(`/infrastructures/${id}/server-instance-groups`),
    listAll<LogicalNetwork>('/logical-networks', { 'filter.infrastructureId': id }),
    fetchStores(id),
    // Those of all groups at once: a large design is one question, not one for each of its groups.
    api.get<{ data: GroupConnection[] }>(`/infrastructures/${id}/network-connections`),
    api.get<{ positions?: Record<string, Position> } | null>(`/infrastructures/${id}/layout`).catch(() => null),
  ]);
  const live = groups.filter((g) => g.serviceStatus !== 'deleted');
  const connections = new Map<number, GroupConnection[]>();
  for (const c of connected.data) connections.get(Number(c.serverInstanceGroupId))?.push(c) ?? connections.set(Number(c.serverInstanceGroupId), [c]);
  const networks = own.filter((n) => n.serviceStatus !== 'deleted');
  const known = new Set(networks.map((n) => n.id));
  const foreign = [...new Set(connected.data.map((c) => Number(c.id)))].filter((n) => !known.has(n));
  networks.push(...(await Promise.all(foreign.map((n) => api.get<LogicalNetwork>(`/logical-networks/${n}`).catch(unseen)))).filter((n) => n !== null));

  const back = new Map(Object.entries(get().infrastructureId === id ? get().ids : {}).map(([key, value]) => [`${key[0]}:${value}`, key]));
  const keyOf = (kind: 'g' | 'n' | 's', value: number | string) => back.get(`${kind}:${value}`) ?? `${kind}:${value}`;
  const out: Snapshot = { doc: EMPTY, ids: {}, facts: {} };
  const doc = { groups: {} as Record<Key, GroupDoc>, networks: {} as Record<Key, NetworkDoc>, links: {} as Record<string, LinkDoc>, stores: {} as Record<Key, StoreDoc>, positions: {} as Record<Key, Position> };
  const place = (key: Key, wire: string) => {
    const at = layout?.positions?.[wire];
    if (at && Number.isFinite(at.x) && Number.isFinite(at.y)) doc.positions[key] = { x: at.x, y: at.y };
  };
  for (const n of networks) {
    const key = keyOf('n', n.id);
    doc.networks[key] = networkDoc(n);
    out.ids[key] = n.id;
    out.facts[key] = { network: n };
    place(key, `network:${n.id}`);
  }
  live.forEach((g) => {
    const key = keyOf('g', g.id);
    doc.groups[key] = groupDoc(g);
    out.ids[key] = g.id;
    out.facts[key] = { group: g };
    place(key, `group:${g.id}`);
    for (const c of connections.get(g.id) ?? []) {
      const network = keyOf('n', Number(c.id));
      if (!doc.networks[network]) continue;
      doc.links[linkKey(key, network)] = { group: key, network, tagged: c.tagged, mtu: c.mtu ?? 1500, defaultRoute: c.providesDefaultRoute ?? false, redundancy: c.redundancy?.mode ?? null };
    }
  });
  for (const e of stores) {
    // Drives, shares and buckets are one family with one row of ids.
    const key = keyOf('s', e.id);
    const hosts = e.hosts?.instanceGroup;
    const gone = e.config.deployType === 'delete' && e.config.deployStatus !== 'finished';
    doc.stores[key] = {
      kind: e.kind, label: e.config.label, sizeGb: designedSize(e), ...(e.kind === 'own' ? { boot: Boolean(e.config.boot) } : {}), storageId: e.config.storagePoolId ?? null, deleted: gone,
      hosts: (hosts ? [...hosts.connected, ...(gone ? hosts.willBeDisconnected : hosts.willBeConnected)] : []).map((g) => keyOf('g', g)).filter((g) => doc.groups[g]).sort(),
    };
    out.ids[key] = e.id;
    out.facts[key] = { store: e };
    place(key, `store:${e.id}`);
  }
  out.doc = complete(doc);
  return out;
}

/** What did not change stays the same object, so that only what did is drawn again. */
function kept<T extends object>(next: Readonly<Record<string, T>>, before: Readonly<Record<string, T>>): Record<string, T> {
  return Object.fromEntries(Object.entries(next).map(([key, value]) => [key, before[key] && JSON.stringify(before[key]) === JSON.stringify(value) ? before[key] : value]));
}
function whole<T extends object>(next: Readonly<Record<string, T>>, before: Readonly<Record<string, T>>): Readonly<Record<string, T>> {
  const out = kept(next, before);
  const keys = Object.keys(out);
  return keys.length === Object.keys(before).length && keys.every((k) => out[k] === before[k]) ? before : out;
}
function shared(s: Snapshot, before: { saved: Doc; facts: Readonly<Record<Key, Facts>> } | undefined): Snapshot {
  if (!before) return s;
  const { saved } = before;
  return { ...s, facts: kept(s.facts, before.facts), doc: { ...s.doc, groups: whole(s.doc.groups, saved.groups), networks: whole(s.doc.networks, saved.networks), links: whole(s.doc.links, saved.links), stores: whole(s.doc.stores, saved.stores) } };
}

const historyKey = (id: number) => `steelyard.designer.${id}`;

/** Loads the draft; undo of this browser tab survives a reload if the server's design is still the one we left. */
export async function load(id: number) {
  const fresh = get().infrastructureId !== id;
  if (fresh) {
    let history: { past: Step[]; future: Step[]; ids: Record<Key, number> } = { past: [], future: [], ids: {} };
    try {
      history = { ...history, ...JSON.parse(sessionStorage.getItem(historyKey(id)) ?? '{}') };
      // Steps of an older release do not know of storage.
      if ([...history.past, ...history.future].some((s) => !s.doc.stores)) history = { ...history, past: [], future: [] };
    } catch {
      // A damaged history is only a lost undo.
    }
    set({ infrastructureId: id, loaded: false, doc: EMPTY, saved: EMPTY, facts: {}, selection: null, link: null, problems: [], ...history });
  }
  const snapshot = shared(await fetchDesign(id), fresh ? undefined : get());
  if (get().infrastructureId !== id) return;
  const known = get().ids;
  const ids = Object.entries(snapshot.ids).every(([key, value]) => known[key] === value) ? known : { ...known, ...snapshot.ids };
  if (!fresh && (difference(get().saved, get().doc).length > 0 || get().saving === 'saving')) {
    // Unsaved strokes stay; only what the server says beside the design is refreshed.
    set({ facts: snapshot.facts, ids });
    return;
  }
  const positions = { ...snapshot.doc.positions, ...(fresh ? {} : get().doc.positions) };
  // Shared networks that are drawn but not connected yet exist only here.
  const loose = fresh ? [] : Object.entries(get().doc.networks).filter(([k, n]) => n.shared && !snapshot.doc.networks[k]);
  const doc = complete({ ...snapshot.doc, networks: { ...snapshot.doc.networks, ...Object.fromEntries(loose) }, positions });
  set({ doc, saved: doc, facts: { ...(loose.length ? get().facts : {}), ...snapshot.facts }, ids, loaded: true });
  void validate();
}

const groupBody = (g: GroupDoc) => ({ label: g.label, instanceCount: g.instanceCount, defaultServerTypeId: g.serverTypeId, osTemplateId: g.osTemplateId ?? undefined });
const linkBody = (l: LinkDoc) => ({ tagged: l.tagged, accessMode: 'l2', mtu: l.mtu, providesDefaultRoute: l.defaultRoute, redundancy: l.redundancy ? { mode: l.redundancy } : null });

async function run(op: Op): Promise<void> {
  const { infrastructureId, ids, facts } = get();
  const remember = (key: Key, id: number, fact: Facts) => set((s) => ({ ids: { ...s.ids, [key]: id }, facts: { ...s.facts, [key]: fact } }));
  const storesPath = (s: StoreDoc) => `/infrastructures/${infrastructureId}/${PATHS[s.kind]}`;
  const links = (group: Key) => `/server-instance-groups/${ids[group]}/config/networking/connections`;
  switch (op.do) {
    case 'create-network': {
      const common = { label: op.to.label, name: op.to.label, infrastructureId };
      const made = op.to.profileId
        ? await api.post<LogicalNetwork>('/logical-networks/actions/create-from-profile', { ...common, logicalNetworkProfileId: op.to.profileId })
        : await api.post<LogicalNetwork>('/logical-networks', plainNetwork(op.to, infrastructureId));
      return remember(op.key, made.id, { network: made });
    }
    case 'update-network': {
      if (!same(op.from.addresses, op.to.addresses)) return replaceNetwork(op.key, op.to);
      const now = await api.get<LogicalNetwork>(`/logical-networks/${ids[op.key]}`);
      const named = networkDoc(now);
      if (named.label !== op.from.label && named.label !== op.to.label && (await askWhich(op.to, named)) === 'theirs') return takeTheirs({ networks: { [op.key]: { ...op.from, ...named } } });
      const made = await api.patch<LogicalNetwork>(`/logical-networks/${ids[op.key]}`, { label: op.to.label, name: op.to.label }, now.revision);
      return remember(op.key, ids[op.key], { network: { ...now, ...made } });
    }
    case 'delete-network':
    case 'delete-group': {
      const path = op.do === 'delete-group' ? `/server-instance-groups/${ids[op.key]}` : `/logical-networks/${ids[op.key]}`;
      const now = await api.get<{ revision: number }>(path);
      return void (await api.delete(path, now.revision));
    }
    case 'create-group': {
      const made = await api.post<ServerInstanceGroup>(`/infrastructures/${infrastructureId}/server-instance-groups`, groupBody(op.to));
      return remember(op.key, made.id, { group: made });
    }
    case 'update-group': {
      // A connection write also moves the group's revision, so the number is taken fresh; foreign edits are found by comparing fields.
      const now = await api.get<ServerInstanceGroup>(`/server-instance-groups/${ids[op.key]}`);
      const theirs = groupDoc(now);
      if (!theirs.deleted && !op.from.deleted && !same(theirs, op.from) && !same(theirs, op.to) && (await askWhich(op.to, theirs)) === 'theirs') return takeTheirs({ groups: { [op.key]: theirs } });
      const config = await api.patch<ServerInstanceGroup['config']>(`/server-instance-groups/${ids[op.key]}/config`, groupBody(op.to), now.config?.revision ?? now.revision);
      return remember(op.key, ids[op.key], { group: { ...(facts[op.key]?.group ?? now), config: config ?? now.config } });
    }
    case 'create-store': {
      const made = await api.post<StorageElement>(storesPath(op.to), { label: op.to.label, ...sizeBody(op.to.kind, op.to.sizeGb), storagePoolId: op.to.storageId ?? undefined, ...(op.to.kind === 'own' ? { serverInstanceGroupId: ids[op.to.hosts[0]], ...(op.to.boot ? { boot: true } : {}) } : {}) });
      return remember(op.key, made.id, { store: { ...made, kind: op.to.kind } });
    }
    case 'update-store': {
      const path = `${storesPath(op.to)}/${ids[op.key]}`;
      const now = await api.get<StorageElement>(path);
      const resized = op.from.sizeGb !== op.to.sizeGb ? sizeBody(op.to.kind, op.to.sizeGb) : {};
      await api.patch(`${path}/config`, { label: op.to.label, ...resized, ...(op.from.storageId !== op.to.storageId ? { storagePoolId: op.to.storageId ?? 0 } : {}), ...(Boolean(op.from.boot) !== Boolean(op.to.boot) ? { boot: Boolean(op.to.boot) } : {}) }, now.config.revision);
      const made = await api.get<StorageElement>(path);
      return remember(op.key, ids[op.key], { store: { ...made, kind: op.to.kind, hosts: facts[op.key]?.store?.hosts } });
    }
    case 'host-store': {
      const { kind } = get().doc.stores[op.key] ?? get().saved.stores[op.key];
      const path = `/infrastructures/${infrastructureId}/${PATHS[kind]}/${ids[op.key]}`;
      const change = (operationType: 'add' | 'remove', keys: readonly Key[], but: readonly Key[]) => keys.filter((k) => !but.includes(k) && ids[k] !== undefined).map((k) => ({ serverInstanceGroupId: ids[k], operationType }));
      const operations = [...change('remove', op.from, op.to), ...change('add', op.to, op.from)];
      if (!operations.length) return;
      const now = await api.get<{ revision: number }>(path);
      return void (await (kind === 'drive'
        ? api.post(`${path}/actions/modify-server-instance-group-hosts-bulk`, { sharedDriveHostBulkOperations: operations }, now.revision)
        : api.post(`${path}/actions/modify-instance-array-hosts-bulk`, { fileShareHostBulkOperations: operations }, now.revision)));
    }
    case 'delete-store': {
      const path = `${storesPath(op.from)}/${ids[op.key]}`;
      const now = await api.get<{ revision: number }>(path);
      return void (await api.delete(path, now.revision));
    }
    case 'create-link':
      return void (await api.post(links(op.to.group), { logicalNetworkId: String(ids[op.to.network]), ...linkBody(op.to) }));
    case 'update-link':
      return void (await api.patch(`${links(op.to.group)}/${ids[op.to.network]}`, linkBody(op.to)));
    case 'delete-link':
      return void (await api.delete(`${links(op.from.group)}/${ids[op.from.network]}`));
  }
}

const plainNetwork = (n: NetworkDoc, infrastructureId: number, label = n.label) => ({
  label, name: label, infrastructureId, kind: 'vlan', fabricId: n.fabricId,
  ...(n.addresses.kind === 'auto' ? { ipv4: { subnetAllocationStrategies: [{ kind: 'auto', prefixLength: n.addresses.prefixLength, subnetPoolIds: [], scope: { kind: 'global', resourceId: 0 } }] } } : {}),
});

/** The strategies of a network are said once, at its making: one that was never deployed is made anew, with its connections. */
async function replaceNetwork(key: Key, to: NetworkDoc): Promise<void> {
  const { infrastructureId, ids, saved } = get();
  const old = ids[key];
  // Under another name until the old one is gone: what fails on the way loses nothing.
  const made = await api.post<LogicalNetwork>('/logical-networks', plainNetwork(to, infrastructureId, `${to.label.slice(0, 55)}-${old}-new`));
  for (const link of linksOf(saved, key)) {
    const connections = `/server-instance-groups/${ids[link.group]}/config/networking/connections`;
    await api.delete(`${connections}/${old}`);
    await api.post(connections, { logicalNetworkId: String(made.id), ...linkBody(link) });
  }
  const now = await api.get<LogicalNetwork>(`/logical-networks/${old}`);
  await api.delete(`/logical-networks/${old}`, now.revision);
  const named = await api.patch<LogicalNetwork>(`/logical-networks/${made.id}`, { label: to.label, name: to.label }, made.revision);
  set((s) => ({ ids: { ...s.ids, [key]: made.id }, facts: { ...s.facts, [key]: { network: { ...made, ...named } } } }));
}

/** Asks the person; the answer is awaited by the write that found the difference. */
const askWhich = (mine: GroupDoc | NetworkDoc, theirs: GroupDoc | NetworkDoc) =>
  new Promise<'mine' | 'theirs'>((resolve) =>
    set({
      conflict: {
        mine,
        theirs,
        decide: (choice) => {
          set({ conflict: null });
          resolve(choice);
        },
      },
    }),
  );
/** What they made of it becomes the design here too; undo does not bring back what it was before. */
function takeTheirs({ groups, networks }: { groups?: Doc['groups']; networks?: Doc['networks'] }) {
  const merge = (doc: Doc): Doc => ({ ...doc, groups: { ...doc.groups, ...groups }, networks: { ...doc.networks, ...networks } });
  set((s) => ({ doc: merge(s.doc), saved: merge(s.saved), past: [], future: [] }));
  throw new Settled();
}
class Settled extends Error {}

/** What the server has, at the places where it is drawn. */
export const asSaved = (s: { doc: Doc; saved: Doc }): Doc => complete({ ...s.saved, positions: { ...s.saved.positions, ...s.doc.positions } });

let busy = false;
async function save() {
  if (busy) return;
  busy = true;
  let failures = 0;
  const infrastructureId = get().infrastructureId;
  try {
    for (;;) {
      if (get().infrastructureId !== infrastructureId) return;
      const target = get().doc;
      const op = difference(get().saved, target)[0];
      if (!op) break;
      set({ saving: failures ? 'waiting' : 'saving' });
      try {
        await run(op);
        set({ saved: settle(get().saved, op, target) });
        failures = 0;
      } catch (error) {
        if (error instanceof Settled) continue;
        const status = error instanceof ApiError ? error.status : 0;
        if (status === 0 || status >= 500 || status === 401) {
          failures += 1;
          set({ saving: 'waiting' });
          await new Promise((resolve) => setTimeout(resolve, Math.min(500 * 2 ** failures, 8_000)));
          continue;
        }
        // Refused: the drawing goes back to what the server has, and the person is told why.
        toast('Not saved', error instanceof Error ? error.message : String(error), { kind: 'error' });
        set({ doc: complete(settle(get().doc, op, get().saved)) });
        if (status === 412 || status === 404 || status === 409) {
          set({ doc: asSaved(get()), past: [], future: [], saving: 'idle' });
          await load(infrastructureId);
        }
      }
    }
    await validate();
    await load(infrastructureId);
  } catch {
    // Loading again failed: the next change or live message tries anew.
  } finally {
    busy = false;
    set({ saving: 'idle' });
  }
}

export async function validate() {
  const id = get().infrastructureId;
  try {
    const answer = await api.post<{ problems: Problem[] }>(`/infrastructures/${id}/actions/validate`, {});
    if (get().infrastructureId === id) set({ problems: answer.problems ?? [] });
  } catch {
    // The plan says the same before a deploy; badges are only early advice.
  }
}

async function saveLayout() {
  const { infrastructureId, doc, ids } = get();
  const positions: Record<string, Position> = {};
  for (const [key, at] of Object.entries(doc.positions)) {
    if (ids[key] !== undefined && elementOf(doc, key)) positions[`${key.startsWith('g:') ? 'group' : key.startsWith('s:') ? 'store' : 'network'}:${ids[key]}`] = at;
  }
  await api.put(`/infrastructures/${infrastructureId}/layout`, { version: 1, positions }).catch(() => undefined);
}

/** Keeps the server's draft, the layout and this tab's undo history up to date while the designer is open. */
export function startAutosave(): () => void {
  let saveTimer: ReturnType<typeof setTimeout> | undefined;
  let layoutTimer: ReturnType<typeof setTimeout> | undefined;
  let historyTimer: ReturnType<typeof setTimeout> | undefined;
  const keepHistory = () => {
    clearTimeout(historyTimer);
    historyTimer = undefined;
    const state = get();
    if (!state.loaded) return;
    try {
      sessionStorage.setItem(historyKey(state.infrastructureId), JSON.stringify({ past: state.past.slice(-50), future: state.future.slice(-50), ids: state.ids }));
    } catch {
      // Storage full or refused: undo then lives as long as the page.
    }
  };
  const leave = () => historyTimer !== undefined && keepHistory();
  window.addEventListener('pagehide', leave);
  const stop = useDesigner.subscribe((state, before) => {
    if (!state.loaded) return;
    // Written once the hand rests: a large design is megabytes, and strokes come fast.
    if (state.past !== before.past || state.ids !== before.ids) historyTimer ??= setTimeout(keepHistory, HISTORY_DEBOUNCE_MS);
    if (state.doc === before.doc || !before.loaded) return;
    if (difference(state.saved, state.doc).length) {
      clearTimeout(saveTimer);
      saveTimer = setTimeout(() => void save(), DEBOUNCE_MS);
    }
    if (state.doc.positions !== before.doc.positions) {
      clearTimeout(layoutTimer);
      layoutTimer = setTimeout(() => void saveLayout(), LAYOUT_DEBOUNCE_MS);
    }
  });
  return () => {
    stop();
    clearTimeout(saveTimer);
    clearTimeout(layoutTimer);
    leave();
    window.removeEventListener('pagehide', leave);
    const state = get();
    if (state.loaded && difference(state.saved, state.doc).length) void save();
    if (state.loaded && !state.locked) void saveLayout();
  };
}

/** Resolves when nothing is left to save (before a plan is asked for). */
export async function flush(): Promise<void> {
  let deadline = Date.now() + 15_000;
  while (busy || difference(get().saved, get().doc).length) {
    if (!busy) void save();
    // A person who is asked something may take their time.
    if (get().conflict) deadline = Date.now() + 15_000;
    if (Date.now() > deadline) throw new Error('The design could not be saved; check the connection and try again.');
    await new Promise((resolve) => setTimeout(resolve, 60));
  }
}
