import { beforeEach, describe, expect, it } from 'vitest';
import { type Doc, EMPTY, freeLabel, labelProblem, linkKey } from './doc';
import { autoLayout, CARD, complete, RAIL } from './layout';
import { asSaved } from './persist';
import { DEFAULT_RULES, judge, untaggedProblem } from './rules';
import * as store from './store';
import { difference, settle } from './sync';

const make = { fabricId: 1, profileId: 5 };
const group = { instanceCount: 3, serverTypeId: 1, osTemplateId: 1 };
const state = () => store.useDesigner.getState();
const doc = () => state().doc;

beforeEach(() => store.useDesigner.setState({ infrastructureId: 1, doc: EMPTY, saved: EMPTY, ids: {}, facts: {}, past: [], future: [], selection: null, link: null, rules: DEFAULT_RULES, locked: false, loaded: true }));

function drawTwo() {
  const web = store.addGroup({ ...group, label: 'web' });
  const db = store.addGroup({ ...group, label: 'db' });
  const lan = store.addNetwork({ ...make, label: 'lan' });
  return { web, db, lan };
}

describe('undo', () => {
  it('takes back and does again every kind of step, positions included', () => {
    const seen: Doc[] = [doc()];
    const note = () => seen.push(doc());
    const web = store.addGroup(group); note();
    const lan = store.addNetwork(make); note();
    store.connect(web, lan); note();
    store.editGroup(web, { instanceCount: 24 }); note();
    store.editLink(linkKey(web, lan), { mtu: 9000 }); note();
    store.move({ [web]: { x: 800, y: 640 } }); note();
    store.duplicate(web); note();
    store.arrange(); note();
    store.disconnect(linkKey(web, lan)); note();
    store.remove(lan); note();
    for (let i = seen.length - 2; i >= 0; i--) {
      store.undo();
      expect(doc()).toEqual(seen[i]);
    }
    for (let i = 1; i < seen.length; i++) {
      store.redo();
      expect(doc()).toEqual(seen[i]);
    }
  });
  it('forgets what was undone when something new is drawn', () => {
    store.addGroup(group);
    store.undo();
    store.addGroup(group);
    expect(state().future).toHaveLength(0);
  });
  it('does nothing while a deploy runs', () => {
    store.addGroup(group);
    store.useDesigner.setState({ locked: true });
    store.undo();
    store.addGroup(group);
    expect(Object.keys(doc().groups)).toHaveLength(1);
  });
});

describe('addresses and the way out', () => {
  it('a new network takes addresses from the pools; its first connection is the default route', () => {
    const { web, lan } = drawTwo();
    const back = store.addNetwork({ ...make, label: 'back' });
    expect(doc().networks[lan].addresses).toEqual({ kind: 'auto', prefixLength: 26 });
    store.connect(web, lan);
    store.connect(web, back);
    expect(Object.values(doc().links).map((l) => l.defaultRoute)).toEqual([true, false]);
  });
  it('moves the default route between connections, giving it up before taking it', () => {
    const { web, lan } = drawTwo();
    const back = store.addNetwork({ ...make, label: 'back' });
    store.connect(web, back);
    store.connect(web, lan);
    const saved = doc();
    store.editLink(linkKey(web, lan), { defaultRoute: true });
    expect(doc().links[linkKey(web, back)].defaultRoute).toBe(false);
    expect(difference(saved, doc()).map((op) => op.do === 'update-link' && op.to.defaultRoute)).toEqual([false, true]);
    expect(difference(doc(), saved).map((op) => op.do === 'update-link' && op.to.defaultRoute)).toEqual([false, true]);
  });
  it('a network without addresses is nobody’s default route', () => {
    const { web, lan } = drawTwo();
    store.connect(web, lan);
    store.editNetwork(lan, { addresses: { kind: 'none' } });
    expect(doc().links[linkKey(web, lan)].defaultRoute).toBe(false);
    store.undo();
    expect(doc().links[linkKey(web, lan)].defaultRoute).toBe(true);
  });
});

describe('connect', () => {
  it('makes the first connection untagged and the next ones tagged', () => {
    const { web, lan } = drawTwo();
    const other = store.addNetwork(make);
    store.connect(web, lan);
    store.connect(other, web);
    expect(doc().links[linkKey(web, lan)].tagged).toBe(false);
    expect(doc().links[linkKey(web, other)].tagged).toBe(true);
    expect(untaggedProblem(doc(), web, other)).toContain('only one');
  });
  it('refuses with a reason: twice, two networks, itself, a deleted one', () => {
    const { web, lan } = drawTwo();
    const other = store.addNetwork(make);
    store.connect(web, lan);
    const links = doc().links;
    for (const [from, to, why] of [[web, lan, 'already connected'], [lan, other, 'route domain'], [web, web, 'itself']] as const) {
      const verdict = store.connect(from, to);
      expect(verdict).toMatchObject({ effect: 'no' });
      expect(verdict.reason).toContain(why);
    }
    store.editNetwork(other, { deleted: true });
    expect(judge(DEFAULT_RULES, doc(), web, other).reason).toContain('marked for deletion');
    expect(doc().links).toBe(links);
  });
  it('joins two groups by a new network, in one step', () => {
    const { web, db } = drawTwo();
    const steps = state().past.length;
    expect(store.connect(web, db, make).effect).toBe('new_network');
    expect(Object.keys(doc().links)).toHaveLength(2);
    expect(state().past).toHaveLength(steps + 1);
  });
  it('follows the table of the server', () => {
    const { web, lan } = drawTwo();
    store.useDesigner.setState({ rules: [{ from: 'server_group', to: 'network', effect: 'no', reason: 'site policy' }] });
    expect(store.connect(web, lan)).toEqual({ effect: 'no', reason: 'site policy' });
  });
});

describe('delete', () => {
  it('only marks what is deployed, and keeps its connections until the deploy', () => {
    const { web, lan } = drawTwo();
    store.connect(web, lan);
    store.useDesigner.setState({ facts: { [web]: { group: { serviceStatus: 'active' } as never } } });
    store.remove(web);
    expect(doc().groups[web].deleted).toBe(true);
    expect(Object.keys(doc().links)).toHaveLength(1);
    store.restore(web);
    expect(doc().groups[web].deleted).toBe(false);
  });
  it('takes an undeployed element and its connections away at once', () => {
    const { web, lan } = drawTwo();
    store.connect(web, lan);
    store.remove(web);
    expect(doc().groups[web]).toBeUndefined();
    expect(doc().links).toEqual({});
  });
});

describe('saving', () => {
  it('orders the writes so that none refers to what is missing', () => {
    const { web, lan } = drawTwo();
    store.connect(web, lan);
    expect(difference(EMPTY, doc()).map((o) => o.do)).toEqual(['create-network', 'create-group', 'create-group', 'create-link']);
    expect(difference(doc(), EMPTY).map((o) => o.do)).toEqual(['delete-group', 'delete-group', 'delete-network']);
  });
  it('never writes for a moved card', () => {
    const { web } = drawTwo();
    const before = doc();
    store.move({ [web]: { x: 1, y: 2 } });
    expect(difference(before, doc())).toEqual([]);
  });
  it('settles op by op until nothing is left, from any design to any other', () => {
    const designs: Doc[] = [EMPTY];
    const { web, db, lan } = drawTwo();
    designs.push(doc());
    store.connect(web, lan); designs.push(doc());
    store.connect(db, lan); store.editGroup(db, { instanceCount: 9 }); designs.push(doc());
    store.remove(web); designs.push(doc());
    store.remove(lan); store.editGroup(db, { label: 'database' }); designs.push(doc());
    for (const from of designs) {
      for (const to of designs) {
        let saved = from;
        let guard = 0;
        for (let op = difference(saved, to)[0]; op; op = difference(saved, to)[0]) {
          saved = settle(saved, op, to);
          expect(guard++).toBeLessThan(50);
        }
        expect(saved.groups).toEqual(to.groups);
        expect(saved.links).toEqual(to.links);
        expect(Object.keys(saved.networks).sort()).toEqual(Object.keys(to.networks).sort());
      }
    }
  });
  it('frees the untagged place before it is taken again', () => {
    const { web, lan } = drawTwo();
    const other = store.addNetwork(make);
    store.connect(web, lan);
    const before = doc();
    store.disconnect(linkKey(web, lan));
    store.connect(web, other);
    expect(difference(before, doc()).map((o) => o.do)).toEqual(['delete-link', 'create-link']);
  });
});

describe('layout', () => {
  it('is the same each time, and nothing overlaps', () => {
    for (let i = 0; i < 23; i++) store.addGroup(group);
    for (let i = 0; i < 5; i++) store.addNetwork(make);
    const first = autoLayout(doc());
    expect(autoLayout(doc())).toEqual(first);
    for (const positions of [first, doc().positions]) {
      const cards = Object.keys(doc().groups).map((k) => positions[k]);
      cards.forEach((a, i) => cards.slice(i + 1).forEach((b) => expect(Math.abs(a.x - b.x) >= CARD.width || Math.abs(a.y - b.y) >= CARD.height).toBe(true)));
      const rails = Object.keys(doc().networks).map((k) => positions[k].y);
      expect(new Set(rails).size).toBe(5);
      expect(Math.max(...rails) + RAIL.height).toBeLessThan(Math.min(...cards.map((c) => c.y)));
    }
  });
  it('leaves what is placed where it is', () => {
    const key = store.addGroup(group, { x: 400, y: 400 });
    store.addGroup(group);
    expect(doc().positions[key]).toEqual({ x: 400, y: 400 });
    expect(complete(doc())).toBe(doc());
  });
});

describe('labels', () => {
  it('are free and valid', () => {
    const { web } = drawTwo();
    store.duplicate(web);
    expect(freeLabel(doc(), 'web')).toBe('web-3');
    expect(labelProblem('ok-1')).toBeNull();
    for (const bad of ['', '-a', 'a-', 'A', 'a_b', 'x'.repeat(64)]) expect(labelProblem(bad)).not.toBeNull();
  });
});

describe('labels that change hands', () => {
  it('are given up before they are taken: by a rename, or by what goes', () => {
    const first = store.addGroup({ ...group, label: 'servers' });
    const saved = doc();
    store.editGroup(first, { label: 'web' });
    store.addGroup({ ...group, label: 'servers' });
    expect(difference(saved, doc()).map((op) => op.do)).toEqual(['update-group', 'create-group']);
    store.useDesigner.setState({ doc: saved });
    store.remove(first);
    store.addGroup({ ...group, label: 'servers' });
    expect(difference(saved, doc()).map((op) => op.do)).toEqual(['delete-group', 'create-group']);
  });
  it('a design that goes back to what is saved is drawn at its places', () => {
    const saved = doc();
    const key = store.addGroup({ ...group, label: 'late' });
    const back = asSaved({ doc: doc(), saved: { ...saved, groups: doc().groups } });
    expect(back.positions[key]).toEqual(doc().positions[key]);
    expect(asSaved({ doc: EMPTY, saved: { ...EMPTY, groups: doc().groups } }).positions[key]).toBeDefined();
  });
});

describe('drives of each server', () => {
  it('are made with their group, never attached elsewhere, and go with it', () => {
    const web = store.addGroup({ instanceCount: 3, serverTypeId: 1, osTemplateId: null, label: 'web' });
    const other = store.addGroup({ instanceCount: 1, serverTypeId: 1, osTemplateId: null, label: 'other' });
    const drive = store.addOwnDrive(web, 50, true);
    expect(state().doc.stores[drive]).toMatchObject({ kind: 'own', label: 'web-system', hosts: [web], boot: true });
    expect(judge(state().rules, state().doc, drive, other)).toMatchObject({ effect: 'no', reason: expect.stringContaining('one group') });
    // One write makes it, with its group; none attaches it.
    let saved = state().saved;
    const ops: string[] = [];
    for (let op = difference(saved, state().doc)[0]; op; op = difference(saved, state().doc)[0]) {
      ops.push(op.do);
      saved = settle(saved, op, state().doc);
    }
    expect(ops.filter((o) => /store/.test(o))).toEqual(['create-store']);
    expect(ops.indexOf('create-group')).toBeLessThan(ops.indexOf('create-store'));
    store.duplicate(web);
    const copies = Object.values(state().doc.stores).filter((s) => s.kind === 'own');
    expect(copies).toHaveLength(2);
    expect(new Set(copies.map((c) => c.hosts[0])).size).toBe(2);
    store.remove(web);
    expect(state().doc.stores[drive]).toBeUndefined();
    expect(Object.values(state().doc.stores)).toHaveLength(1);
    store.undo();
    expect(state().doc.stores[drive]).toBeDefined();
  });
});
