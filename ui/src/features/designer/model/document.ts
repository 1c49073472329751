/** The design as a document: labels, never ids. It is the form of `steelyard export` and `steelyard apply`. */
import { isMap, isSeq, LineCounter, type Node, parseDocument, stringify } from 'yaml';
import type { Catalogue } from '../catalogue';
import { type Addresses, type Doc, type GroupDoc, type Key, labelProblem, type LinkDoc, linkKey, linksOf, type NetworkDoc } from './doc';
import { complete } from './layout';
import type { Facts } from './store';

export interface Document {
  infrastructure: string;
  site: string;
  networks?: { label: string; fabric: string; vlan?: number; ipv4PrefixLength?: number }[];
  groups?: { label: string; count: number; serverType: string; osTemplate?: string; variables?: Record<string, unknown>; connections?: { network: string; tagged: boolean; mtu: number; defaultRoute: boolean }[] }[];
}
export interface Place {
  infrastructure: string;
  site: string;
}

export function toDocument(doc: Doc, facts: Readonly<Record<Key, Facts>>, catalogue: Catalogue, place: Place): Document {
  const networks = Object.entries(doc.networks).filter(([, n]) => !n.shared && !n.deleted).map(([key, n]) => {
    const vlan = facts[key]?.network?.vlan?.vlanAllocationStrategies?.[0]?.vlanId;
    return { label: n.label, fabric: catalogue.fabrics.find((f) => Number(f.id) === n.fabricId)?.name ?? String(n.fabricId), ...(vlan ? { vlan } : {}), ...(n.addresses.kind === 'auto' ? { ipv4PrefixLength: n.addresses.prefixLength } : {}) };
  });
  const groups = Object.entries(doc.groups).filter(([, g]) => !g.deleted).map(([key, g]) => {
    const os = catalogue.templates.find((t) => t.id === g.osTemplateId);
    const variables = facts[key]?.group?.config?.customVariables as Record<string, unknown> | null | undefined;
    const connections = linksOf(doc, key).map((l) => ({ network: doc.networks[l.network]?.label ?? '', tagged: l.tagged, mtu: l.mtu, defaultRoute: l.defaultRoute }));
    return {
      label: g.label, count: g.instanceCount, serverType: catalogue.types.find((t) => t.id === g.serverTypeId)?.name ?? String(g.serverTypeId), ...(os ? { osTemplate: os.label ?? os.name } : {}),
      ...(variables && Object.keys(variables).length ? { variables } : {}), ...(connections.length ? { connections } : {}),
    };
  });
  return { ...place, ...(networks.length ? { networks } : {}), ...(groups.length ? { groups } : {}) };
}
export const toYaml = (document: Document) => stringify(document, { indentSeq: false, lineWidth: 0 });

export interface Fault {
  line: number;
  message: string;
}
const KEYS = {
  document: ['infrastructure', 'site', 'networks', 'groups'],
  network: ['label', 'fabric', 'vlan', 'ipv4PrefixLength'],
  group: ['label', 'count', 'serverType', 'osTemplate', 'variables', 'connections'],
  connection: ['network', 'tagged', 'mtu', 'defaultRoute'],
};

/** The design that a text describes, over the present one; or what is wrong with the text, line by line. */
export function fromYaml(text: string, doc: Doc, facts: Readonly<Record<Key, Facts>>, catalogue: Catalogue, place: Place, newKey: (kind: 'g' | 'n') => Key): { doc: Doc } | { faults: Fault[] } {
  const lines = new LineCounter();
  const parsed = parseDocument(text, { lineCounter: lines });
  const faults: Fault[] = parsed.errors.map((e) => ({ line: e.linePos?.[0].line ?? 1, message: e.message.split('\n')[0].replace(/ at line \d+, column \d+:?$/, '') }));
  if (faults.length) return { faults };
  const root = parsed.contents as Node | null;
  const lineOf = (node: unknown) => lines.linePos((node as Node | null)?.range?.[0] ?? 0).line;
  const fault = (node: unknown, message: string) => void faults.push({ line: lineOf(node), message });
  if (!isMap(root)) return { faults: [{ line: 1, message: 'A document with infrastructure, site, networks and groups is expected.' }] };

  const item = (node: unknown, kind: keyof typeof KEYS) => {
    if (!isMap(node)) return void fault(node, `A ${kind} with ${KEYS[kind].join(', ')} is expected.`);
    for (const pair of node.items) if (!KEYS[kind].includes(String(pair.key))) fault(pair.key, `${String(pair.key)} is not known here; possible are ${KEYS[kind].join(', ')}.`);
    const get = (name: string) => node.get(name, true) as Node | undefined;
    return {
      node,
      at: (name: string) => get(name) ?? node,
      value: (name: string) => node.get(name) as unknown,
      whole: (name: string, low: number, high: number) => {
        const v = node.get(name);
        if (v === undefined || v === null) return undefined;
        if (typeof v === 'number' && Number.isInteger(v) && v >= low && v <= high) return v;
        fault(get(name), `${name} is a whole number from ${low} to ${high}.`);
        return undefined;
      },
      flag: (name: string) => {
        const v = node.get(name);
        if (v !== undefined && v !== null && typeof v !== 'boolean') fault(get(name), `${name} is true or false.`);
        return v === true;
      },
    };
  };
  const list = (node: unknown, what: string): unknown[] => {
    if (node === undefined || node === null) return [];
    if (isSeq(node)) return node.items;
    fault(node, `${what} is a list.`);
    return [];
  };
  const head = item(root, 'document');
  if (!head) return { faults };
  if (head.value('infrastructure') !== place.infrastructure) fault(head.at('infrastructure'), `This design is of ${place.infrastructure}.`);
  if (head.value('site') !== place.site) fault(head.at('site'), `This design is at ${place.site}.`);

  const seen = new Set<string>();
  const label = (of: NonNullable<ReturnType<typeof item>>, kind: string): string | null => {
    const text = String(of.value('label') ?? '');
    const problem = labelProblem(text) ?? (seen.has(kind + text) ? `${text} is there twice.` : null);
    if (problem) {
      fault(of.at('label'), problem);
      return null;
    }
    seen.add(kind + text);
    return text;
  };
  const keyOf = <T extends { label: string; deleted: boolean }>(all: Readonly<Record<Key, T>>, text: string) => Object.keys(all).find((k) => all[k].label === text);

  // What is shared stays drawn; what runs and is not in the text is marked for deletion, what never ran goes.
  const networks: Record<Key, NetworkDoc> = Object.fromEntries(Object.entries(doc.networks).filter(([, n]) => n.shared));
  const groups: Record<Key, GroupDoc> = {};
  const links: Record<string, LinkDoc> = {};
  for (const node of list(root.get('networks', true), 'networks')) {
    const of = item(node, 'network');
    const name = of && label(of, 'n');
    if (!of || !name) continue;
    const key = keyOf(doc.networks, name);
    const old = key ? doc.networks[key] : undefined;
    if (old?.shared) fault(of.at('label'), `${name} is a shared network of the site; only connect it.`);
    const fabric = catalogue.fabrics.find((f) => f.name === of.value('fabric'));
    if (!fabric) fault(of.at('fabric'), `There is no fabric ${String(of.value('fabric') ?? '')} at this site; there is ${catalogue.fabrics.map((f) => f.name).join(', ') || 'none'}.`);
    if (old && fabric && old.fabricId !== Number(fabric.id)) fault(of.at('fabric'), `${name} is on another fabric; make a new network there.`);
    const vlan = of.whole('vlan', 1, 4094);
    if (vlan !== undefined && (!key || facts[key]?.network?.vlan?.vlanAllocationStrategies?.[0]?.vlanId !== vlan)) fault(of.at('vlan'), 'A VLAN is chosen by hand with "steelyard apply"; leave it out here.');
    const prefix = of.whole('ipv4PrefixLength', 8, 30);
    const addresses: Addresses = prefix !== undefined ? { kind: 'auto', prefixLength: prefix } : old?.addresses.kind === 'fixed' ? old.addresses : { kind: 'none' };
    networks[key ?? newKey('n')] = old ? { ...old, deleted: false, addresses } : { label: name, fabricId: Number(fabric?.id ?? 0), profileId: null, shared: false, deleted: false, addresses };
  }
  for (const node of list(root.get('groups', true), 'groups')) {
    const of = item(node, 'group');
    const name = of && label(of, 'g');
    if (!of || !name) continue;
    const type = catalogue.types.find((t) => t.name === of.value('serverType'));
    if (!type) fault(of.at('serverType'), `There is no server type ${String(of.value('serverType') ?? '')}.`);
    const wanted = of.value('osTemplate');
    const os = wanted === undefined || wanted === null ? null : catalogue.templates.find((t) => t.label === wanted || t.name === wanted);
    if (os === undefined) fault(of.at('osTemplate'), `There is no OS template ${String(wanted)}.`);
    const count = of.whole('count', 1, 10_000);
    if (of.value('count') === undefined) fault(of.node, 'count is missing: the number of servers.');
    const key = keyOf(doc.groups, name) ?? newKey('g');
    groups[key] = { label: name, instanceCount: count ?? 1, serverTypeId: type?.id ?? 0, osTemplateId: os?.id ?? null, deleted: false };
    let untagged: string | null = null;
    let way: string | null = null;
    for (const connection of list(of.node.get('connections', true), 'connections')) {
      const c = item(connection, 'connection');
      if (!c) continue;
      const to = String(c.value('network') ?? '');
      const network = Object.keys(networks).find((k) => networks[k].label === to);
      if (!network) {
        fault(c.at('network'), `There is no network ${to} in this document or shared at this site.`);
        continue;
      }
      const tagged = c.flag('tagged');
      const defaultRoute = c.flag('defaultRoute');
      if (!tagged && untagged) fault(c.node, `${untagged} is untagged already; a port carries one untagged network.`);
      if (defaultRoute && way) fault(c.node, `${way} provides the default route already.`);
      if (!tagged) untagged = to;
      if (defaultRoute) way = to;
      links[linkKey(key, network)] = { group: key, network, tagged, mtu: c.whole('mtu', 1280, 9216) ?? 1500, defaultRoute, redundancy: doc.links[linkKey(key, network)]?.redundancy ?? null };
    }
  }
  if (faults.length) return { faults: faults.sort((a, b) => a.line - b.line) };
  const deployed = (key: Key) => {
    const status = facts[key]?.group?.serviceStatus ?? facts[key]?.network?.serviceStatus;
    return status !== undefined && status !== 'ordered' && status !== 'deleted';
  };
  for (const [key, n] of Object.entries(doc.networks)) if (!networks[key] && deployed(key)) networks[key] = { ...n, deleted: true };
  for (const [key, g] of Object.entries(doc.groups)) {
    if (groups[key] || !deployed(key)) continue;
    groups[key] = { ...g, deleted: true };
    for (const l of linksOf(doc, key)) links[linkKey(key, l.network)] = l;
  }
  // The document does not speak of storage: it stays as it is drawn, attached to what is left.
  const stores = Object.fromEntries(Object.entries(doc.stores).map(([k, s]) => [k, { ...s, hosts: s.hosts.filter((h) => groups[h]) }]));
  return { doc: complete({ groups, networks, links, stores, positions: doc.positions }) };
}
