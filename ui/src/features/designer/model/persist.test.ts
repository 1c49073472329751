import { beforeAll, beforeEach, describe, expect, it, vi } from 'vitest';
import { installMock } from '../../../mock';
import { flush, load, startAutosave } from './persist';
import * as store from './store';

const state = () => store.useDesigner.getState();

beforeAll(() => {
  vi.stubGlobal('EventSource', class {});
  installMock();
});
beforeEach(() => sessionStorage.clear());

describe('the draft on the server', () => {
  it('is what was drawn, after a reload too', async () => {
    await load(2);
    const stop = startAutosave();
    const workers = store.addGroup({ instanceCount: 4, serverTypeId: 1, osTemplateId: 1, label: 'workers' });
    const lan = store.addNetwork({ fabricId: 1, profileId: 1, label: 'lan' });
    store.connect(workers, lan);
    await flush();
    stop();
    store.useDesigner.setState({ infrastructureId: 0, ids: {}, past: [], future: [] });
    sessionStorage.clear();
    await load(2);
    const { doc } = state();
    expect(Object.values(doc.groups)).toMatchObject([{ label: 'workers', instanceCount: 4 }]);
    expect(Object.values(doc.links)).toMatchObject([{ tagged: false, mtu: 1500 }]);
  });
  it('a network whose addresses change is made anew and keeps its name and connections', async () => {
    await load(3);
    const stop = startAutosave();
    const workers = store.addGroup({ instanceCount: 1, serverTypeId: 1, osTemplateId: 1, label: 'nodes' });
    const lan = store.addNetwork({ fabricId: 1, profileId: null, label: 'plain' });
    store.connect(workers, lan);
    await flush();
    const before = state().ids[lan];
    store.editNetwork(lan, { addresses: { kind: 'auto', prefixLength: 28 } });
    await flush();
    expect(state().ids[lan]).not.toBe(before);
    await vi.waitFor(() => expect(state().saving).toBe('idle'));
    expect(Object.values(state().saved.networks).filter((n) => !n.shared)).toMatchObject([{ label: 'plain', addresses: { kind: 'auto', prefixLength: 28 } }]);
    expect(Object.values(state().saved.links)).toMatchObject([{ network: lan, defaultRoute: true }]);
    stop();
  });
  it('undo is saved like any other change', async () => {
    await load(1);
    const stop = startAutosave();
    const web = Object.keys(state().doc.groups)[0];
    store.editGroup(web, { instanceCount: 7 });
    await flush();
    expect(state().saved.groups[web].instanceCount).toBe(7);
    store.undo();
    await flush();
    expect(state().saved.groups[web].instanceCount).toBe(3);
    stop();
  });
  it('goes back to the server’s design when a stroke is refused', async () => {
    await load(1);
    const stop = startAutosave();
    const [web] = Object.keys(state().doc.groups);
    const tagged = Object.entries(state().doc.links).find(([, l]) => l.group === web && l.tagged)![0];
    const lan = store.addNetwork({ fabricId: 1, profileId: 1, label: 'second' });
    // Two untagged networks on the same ports: the store never draws this, the server has the last word.
    store.apply('force', (doc) => ({ ...doc, links: { ...doc.links, [`${web}|${lan}`]: { ...doc.links[tagged], network: lan, tagged: false } } }));
    await flush();
    expect(state().doc.links[`${web}|${lan}`]).toBeUndefined();
    stop();
  });
  it('storage is made, attached and detached as it was drawn', async () => {
    await load(2);
    const stop = startAutosave();
    const nodes = store.addGroup({ instanceCount: 2, serverTypeId: 1, osTemplateId: 1, label: 'store-nodes' });
    const drive = store.addStore('drive', 200, 'data');
    expect(store.connect(drive, nodes).effect).toBe('attach');
    const bucket = store.addStore('bucket', 50, 'backups');
    expect(store.connect(nodes, bucket).effect).toBe('no');
    await flush();
    expect(state().facts[drive].store?.hosts?.instanceGroup.willBeConnected).toEqual([state().ids[nodes]]);
    store.editStore(drive, { sizeGb: 300 });
    store.detach(drive, nodes);
    await flush();
    expect(state().saved.stores[drive]).toMatchObject({ sizeGb: 300, hosts: [] });
    store.undo();
    await flush();
    expect(state().saved.stores[drive].hosts).toEqual([nodes]);
    store.remove(nodes);
    expect(state().doc.stores[drive].hosts).toEqual([]);
    store.remove(drive, bucket);
    await flush();
    expect(state().saved.stores).toEqual({});
    stop();
  });
});
