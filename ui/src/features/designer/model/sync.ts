import type { Doc, GroupDoc, Key, LinkDoc, NetworkDoc } from './doc';

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
  | { do: 'delete-link'; link: string; from: LinkDoc };

/** Equal as designs: order of fields does not count, nor does the profile that a network was once made from. */
export function same(a: object, b: object): boolean {
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
  // Unlinking before tagging changes and new links: the freed untagged place may be taken by another.
  return [...creates, ...unlinks, ...updates, ...links, ...deletes];
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
    default:
      return { ...target, links: put(target.links, op.link, source.links[op.link]) };
  }
}
