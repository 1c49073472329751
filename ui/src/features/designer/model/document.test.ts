import { describe, expect, it } from 'vitest';
import type { Catalogue } from '../catalogue';
import { matching } from '../../../components/Palette';
import { deployedDoc } from './deployed';
import { type Doc, EMPTY } from './doc';
import { fromYaml, toDocument, toYaml } from './document';
import { difference } from './sync';
import type { Facts } from './store';

const catalogue = {
  types: [{ id: 1, name: 'M.2x32' }], templates: [{ id: 4, name: 'Debian 12', label: 'debian-12' }], profiles: [], fabrics: [{ id: '1', name: 'fabric' }], shared: [],
} as unknown as Catalogue;
const place = { infrastructure: 'shop', site: 'dc1' };
const doc: Doc = {
  ...EMPTY,
  groups: { 'g:1': { label: 'web', instanceCount: 3, serverTypeId: 1, osTemplateId: 4, deleted: false } },
  networks: { 'n:1': { label: 'lan', fabricId: 1, profileId: null, shared: false, deleted: false, addresses: { kind: 'auto', prefixLength: 26 } }, 'n:9': { label: 'wan', fabricId: 1, profileId: null, shared: true, deleted: false, addresses: { kind: 'fixed' } } },
  links: { 'g:1|n:1': { group: 'g:1', network: 'n:1', tagged: false, mtu: 1500, defaultRoute: true, redundancy: null }, 'g:1|n:9': { group: 'g:1', network: 'n:9', tagged: true, mtu: 9000, defaultRoute: false, redundancy: null } },
  positions: { 'g:1': { x: 300, y: 200 }, 'n:1': { x: 0, y: 0 }, 'n:9': { x: 0, y: 68 } },
};
const facts = { 'g:1': { group: { id: 1, label: 'web', serviceStatus: 'active', instanceCount: 2, defaultServerTypeId: 1, osTemplateId: 4, config: { deployStatus: 'not_started' } } } } as unknown as Record<string, Facts>;
let n = 0;
const read = (text: string, from = doc, known = facts) => fromYaml(text, from, known, catalogue, place, (kind) => `${kind}:new-${n++}`);
const text = toYaml(toDocument(doc, facts, catalogue, place));

describe('the design as YAML', () => {
  it('has labels in place of ids, in the form of the command line', () => {
    expect(text).toBe(`infrastructure: shop
site: dc1
networks:
- label: lan
  fabric: fabric
  ipv4PrefixLength: 26
groups:
- label: web
  count: 3
  serverType: M.2x32
  osTemplate: debian-12
  connections:
  - network: lan
    tagged: false
    mtu: 1500
    defaultRoute: true
  - network: wan
    tagged: true
    mtu: 9000
    defaultRoute: false
`);
  });
  it('read back is the same design', () => {
    const again = read(text);
    expect('doc' in again && difference(doc, again.doc)).toEqual([]);
  });
  it('takes changes, and keeps what runs until a deploy', () => {
    const more = read(text.replace('count: 3', 'count: 5'));
    expect('doc' in more && difference(doc, more.doc)).toMatchObject([{ do: 'update-group', to: { instanceCount: 5 } }]);
    const none = read('infrastructure: shop\nsite: dc1\n');
    expect('doc' in none && none.doc.groups['g:1'].deleted).toBe(true);
    expect('doc' in none && none.doc.networks['n:1']).toBeUndefined();
  });
  it('says what is wrong by line', () => {
    const wrong = (change: (t: string) => string) => {
      const answer = read(change(text));
      return 'faults' in answer ? answer.faults : [];
    };
    expect(wrong((t) => t.replace('count: 3', 'count: many'))).toMatchObject([{ line: 9 }]);
    expect(wrong((t) => t.replace('serverType: M.2x32', 'serverType: X'))).toEqual([{ line: 10, message: 'There is no server type X.' }]);
    expect(wrong((t) => t.replace('tagged: true', 'tagged: false'))).toMatchObject([{ line: 17, message: expect.stringContaining('untagged already') }]);
    expect(wrong((t) => t.replace('  - network: wan', '  - network: gone'))).toMatchObject([{ line: 17 }]);
    expect(wrong((t) => t.replace('site: dc1', 'site: [dc1'))[0].line).toBeGreaterThan(0);
    expect(wrong((t) => t.replace('fabric: fabric', 'fabrik: fabric'))).toHaveLength(2);
    expect(wrong(() => '')).toHaveLength(1);
  });
});

describe('what is deployed', () => {
  it('is what runs, not what is drawn', () => {
    const shown = deployedDoc(doc, facts, { 'g:1': 1, 'n:1': 7 }, []);
    expect(shown.groups['g:1'].instanceCount).toBe(2);
    expect(shown.networks).toEqual({});
    expect(shown.links).toEqual({});
  });
});

describe('the palette', () => {
  it('finds by every typed word', () => {
    const all = [{ id: '1', label: 'Servers', hint: 'Page', run: () => undefined }, { id: '2', label: 'Server D0', hint: 'Dell', run: () => undefined }];
    expect(matching(all, 'serv dell').map((c) => c.id)).toEqual(['2']);
    expect(matching(all, '')).toHaveLength(2);
  });
});
