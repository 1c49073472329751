import { plural } from '../../components/format';
import { toast } from '../../components/toast';
import { type Catalogue, defaultNetwork } from './catalogue';
import { isGroup, isStore, type Key, linkKey } from './model/doc';
import { connect, undo, useDesigner } from './model/store';

export const sentence = (text: string) => `${text.charAt(0).toUpperCase()}${text.slice(1)}${/[.!?]$/.test(text) ? '' : '.'}`;

/** Connects and says what that did, or why not. */
export function connectAndTell(from: Key, to: Key, catalogue: Catalogue) {
  const verdict = connect(from, to, defaultNetwork(catalogue));
  const { doc } = useDesigner.getState();
  if (verdict.effect === 'no') return toast('Not connected', sentence(verdict.reason), { kind: 'error' });
  if (verdict.effect === 'new_network') return toast('Connected through a new network', 'Name it in the inspector.', { action: { label: 'Undo', run: undo } });
  if (verdict.effect === 'attach') {
    const [store, group] = isStore(from) ? [from, to] : [to, from];
    return toast('Attached', `${doc.stores[store].label} → ${doc.groups[group].label} (${plural(doc.groups[group].instanceCount, 'server')}).`, { action: { label: 'Undo', run: undo } });
  }
  if (verdict.effect !== 'connection') return toast('Not connected', 'This kind of connection is not available here yet.', { kind: 'error' });
  const [group, network] = isGroup(from) ? [from, to] : [to, from];
  const link = doc.links[linkKey(group, network)];
  const g = doc.groups[group];
  toast('Connection created', `${g.label} (${plural(g.instanceCount, 'server')}) → ${doc.networks[network].label}, ${link?.tagged ? 'tagged' : 'untagged'}, MTU ${link?.mtu ?? 1500}.`, { action: { label: 'Undo', run: undo } });
}
