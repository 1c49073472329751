import type { Doc, GroupDoc, Key, LinkDoc, NetworkDoc, StoreDoc } from './doc';

/** One write that brings the server's design closer to the drawn one. */
export type Op =
  | { do: 'create-network'; key: Key; to: NetworkDoc }
  | { do: 'update-network'; key: Key; from: NetworkDoc; to: NetworkDoc }
  | { do: 'delete-network'; key: Key }
  | { do: 'create-group'; key: Key; to: GroupDoc }
  | { do: 'update-group'; key: Key; from: GroupDoc; to: GroupDoc }
  | { do: 'delete-group'; key: Key }
  | { do: 'create-link'; link: string; to: LinkDoc }
  | { do: 'update-link'; link: string; from: LinkDoc; to: LinkDoc }
  | { do: 'delete-link'; link: string; from: LinkDoc }
  | { do: 'create-store'; key: Key; to: StoreDoc }
  | { do: 'update-store'; key: Key; from: StoreDoc; to: StoreDoc }
  | { do: 'host-store'; key: Key; from: readonly Key[]; to: readonly Key[] }
  | { do: 'delete-store'; key: Key; from: StoreDoc };

/** Equal as designs: order of fields does not count, nor does the profile that a network was once made from. */
export function same(a: object, b: object): boolean {
  if (a === b) return true;
  const text = (o: object) => JSON.stringify(Object.entries(o).filter(([k]) => k !== 'profileId').sort(([x], [y]) => (x < y ? -1 : 1)));
  return text(a) === text(b);
}

/** The writes from `saved` to `doc`, in an order in which none refers to what does not exist (yet or any more). */
export function difference(saved: Doc, doc: Doc): Op[] {
  const creates: Op[] = [];
  const updates: Op[] = [];
  const links: Op[] = [];
  const unlinks: Op[] = [];
  const deletes: Op[] = [];
  for (const [key, to] of Object.entries(doc.networks)) {
    const from = saved.networks[key];
    if (!from) {
      if (!to.shared) creates.push({ do: 'create-network', key, to });
    } else if (!from.deleted && to.deleted) deletes.push({ do: 'delete-network', key });
    else if (!same(from, to)) updates.push({ do: 'update-network', key, from, to });
  }
  for (const [key, to] of Object.entries(doc.groups)) {
    const from = saved.groups[key];
    if (!from) creates.push({ do: 'create-group', key, to });
    else if (!from.deleted && to.deleted) deletes.unshift({ do: 'delete-group', key });
    else if (!same(from, to)) updates.push({ do: 'update-group', key, from, to });
  }
  // Hosts are written once the groups are there, and before any of them goes.
  const hosts: Op[] = [];
  for (const [key, to] of Object.entries(doc.stores)) {
    const from = saved.stores[key];
    if (!from) {
      creates.push({ do: 'create-store', key, to });
      continue;
    }
    if (!from.deleted && to.deleted) deletes.unshift({ do: 'delete-store', key, from });
    else if (!same({ ...from, hosts: [] }, { ...to, hosts: [] })) updates.push({ do: 'update-store', key, from, to });
    if (to.kind !== 'own' && !to.deleted && from.hosts.join() !== to.hosts.join()) hosts.push({ do: 'host-store', key, from: from.hosts, to: to.hosts });
  }
  for (const [key, from] of Object.entries(saved.stores)) if (!doc.stores[key]) deletes.unshift({ do: 'delete-store', key, from });
  for (const [link, to] of Object.entries(doc.links)) {
    const from = saved.links[link];
    if (!from) links.push({ do: 'create-link', link, to });
    else if (!same(from, to)) updates.push({ do: 'update-link', link, from, to });
  }
  for (const [link, from] of Object.entries(saved.links)) {
    // Links of a deleted group go with it.
    if (!doc.links[link] && doc.groups[from.group]) unlinks.push({ do: 'delete-link', link, from });
  }
  for (const key of Object.keys(saved.groups)) if (!doc.groups[key]) deletes.unshift({ do: 'delete-group', key });
  for (const [key, n] of Object.entries(saved.networks)) if (!doc.networks[key] && !n.shared) deletes.push({ do: 'delete-network', key });
  // What frees a place (untagged, default route) is written before what takes it.
  const frees = (op: Op) => (op.do === 'update-link' && (op.to.defaultRoute < op.from.defaultRoute || op.to.tagged > op.from.tagged) ? 0 : 1);
  updates.sort((a, b) => frees(a) - frees(b));
  // Unlinking comes first of all: the freed untagged place may be taken by another connection.
  // A label is free again before something takes it: by what goes, then by renames, then comes what is new.
  const renames = updates.filter((op) => (op.do === 'update-group' || op.do === 'update-network' || op.do === 'update-store') && op.from.label !== op.to.label);
  const taken = new Set([...creates, ...renames].flatMap((op) => (op.do === 'create-group' || op.do === 'create-network' || op.do === 'create-store' || op.do === 'update-group' || op.do === 'update-network' || op.do === 'update-store' ? [op.to.label] : [])));
  const gone = deletes.filter((op) => taken.has((op.do === 'delete-group' ? saved.groups[op.key] : op.do === 'delete-network' ? saved.networks[op.key] : op.do === 'delete-store' ? op.from : undefined)?.label ?? ''));
  return [...unlinks, ...gone, ...renames, ...creates, ...updates.filter((op) => !renames.includes(op)), ...links, ...hosts, ...deletes.filter((op) => !gone.includes(op))];
}

function put<T>(record: Readonly<Record<string, T>>, key: string, value: T | undefined): Record<string, T> {
  const next = { ...record };
  if (value === undefined) delete next[key];
  else next[key] = value;
  return next;
}

/** What is saved after `op` has succeeded; also used to undo the drawing when the server refuses it (`take` from saved). */
export function settle(target: Doc, op: Op, source: Doc): Doc {
  switch (op.do) {
    case 'create-network':
    case 'update-network':
    case 'delete-network': {
      const links = op.do === 'delete-network' || !source.networks[op.key] ? Object.fromEntries(Object.entries(target.links).filter(([, l]) => l.network !== op.key || source.links[`${l.group}|${l.network}`])) : target.links;
      return { ...target, networks: put(target.networks, op.key, source.networks[op.key]), links };
    }
    case 'create-group':
    case 'update-group':
    case 'delete-group': {
      const links = source.groups[op.key] ? target.links : Object.fromEntries(Object.entries(target.links).filter(([, l]) => l.group !== op.key));
      return { ...target, groups: put(target.groups, op.key, source.groups[op.key]), links };
    }
    case 'create-store': {
      const made = source.stores[op.key];
      // It is made without hosts; they are the next write. What each server has for itself belongs to its group from the beginning.
      return { ...target, stores: put(target.stores, op.key, made && { ...made, hosts: made.kind === 'own' ? made.hosts : (target.stores[op.key]?.hosts ?? []) }) };
    }
    case 'update-store':
    case 'delete-store': {
      const next = source.stores[op.key];
      return { ...target, stores: put(target.stores, op.key, next && { ...next, hosts: target.stores[op.key]?.hosts ?? next.hosts }) };
    }
    case 'host-store': {
      const kept = target.stores[op.key];
      return kept ? { ...target, stores: { ...target.stores, [op.key]: { ...kept, hosts: source.stores[op.key]?.hosts ?? [] } } } : target;
    }
    default:
      return { ...target, links: put(target.links, op.link, source.links[op.link]) };
  }
}
