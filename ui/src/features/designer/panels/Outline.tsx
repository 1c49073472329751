import { Button, Menu, Text, UnstyledButton } from '@mantine/core';
import { IconNetwork, IconPlus, IconServer2, IconWorld } from '@tabler/icons-react';
import { memo, useEffect, useRef } from 'react';
import { useShallow } from 'zustand/react/shallow';
import { count } from '../../../components/format';
import { defaultNetwork, osName, typeName } from '../catalogue';
import { useDesignerContext } from '../context';
import { diffOfGroup, diffOfNetwork, diffOfStore, SIGN } from '../model/diff';
import { STORE_ICONS } from '../canvas/StoreNode';
import { elementKeys, elementOf, type GroupDoc, isGroup, isStore, type Key, linkKey, linksOf, type NetworkDoc, STORE_WORDS, type StoreDoc, type StoreKind, storesOf } from '../model/doc';
import { addGroup, addNetwork, addOwnDrive, addStore, pickedKeys, select, selectLink, shownDoc, togglePick, useDesigner } from '../model/store';
import { useProblems } from '../problems';

/** Behind the name of what a group has, where there is little room. */
const SHORT: Record<StoreKind, string> = { drive: 'shared drive', own: 'own drive', share: 'share', bucket: 'bucket' };
const STORES: { kind: StoreKind; label: string; sizeGb: number; text: string }[] = [
  { kind: 'drive', label: 'drive', sizeGb: 100, text: 'A block device for several servers' },
  { kind: 'share', label: 'share', sizeGb: 100, text: 'Files over NFS' },
  { kind: 'bucket', label: 'bucket', sizeGb: 100, text: 'Objects over S3, reached with a key' },
];

/** The palette and, below it, the design as a tree: everything on the canvas can be reached here. */
export function Outline({ addOpen, setAddOpen }: { addOpen: boolean; setAddOpen: (open: boolean) => void }) {
  const { catalogue } = useDesignerContext();
  const doc = useDesigner(shownDoc);
  const locked = useDesigner((s) => s.locked);
  const kinds = useDesigner((s) => s.storeKinds);
  const free = catalogue.shared.filter((n) => !Object.values(doc.networks).some((d) => d.shared && d.label === n.label));
  // The group that is selected, or the only one that there is.
  const target = useDesigner((s) => {
    const { groups: all, stores } = shownDoc(s);
    const groups = Object.keys(all).filter((k) => !all[k].deleted);
    return [...pickedKeys(s), stores[s.selection ?? '']?.hosts[0]].find((k) => k && groups.includes(k)) ?? (groups.length === 1 ? groups[0] : null);
  });
  const OwnIcon = STORE_ICONS.own;
  const template = catalogue.templates[0]?.id ?? null;
  // The choice may arrive after the menu was opened: the keyboard then begins at its first line all the same.
  const menu = useRef<HTMLDivElement>(null);
  useEffect(() => {
    if (!addOpen) return;
    const frame = requestAnimationFrame(() => menu.current?.querySelector<HTMLElement>('[role=menuitem]:not(:disabled)')?.focus());
    return () => cancelAnimationFrame(frame);
  }, [addOpen, catalogue]);
  return (
    <aside className="sy-side" aria-label="Palette and outline">
      <Menu opened={addOpen} onChange={setAddOpen} position="bottom-start" width={260} shadow="md" disabled={locked}>
        <Menu.Target>
          <Button fullWidth leftSection={<IconPlus size={18} />} disabled={locked} title={locked ? 'A deploy is running' : 'Add to the design (A)'}>
            Add
          </Button>
        </Menu.Target>
        <Menu.Dropdown ref={menu}>
          <Menu.Label>Server group of type</Menu.Label>
          {catalogue.types.map((t) => (
            <Menu.Item key={t.id} leftSection={<IconServer2 size={16} />} onClick={() => addGroup({ instanceCount: 1, serverTypeId: t.id, osTemplateId: template })}>
              {t.name}
              <Text size="xs" c="dimmed">
                {t.processorCount}× {t.processorCoreCount} cores · {t.ramGbytes} GB{t.gpuCount ? ` · ${t.gpuCount} GPU` : ''}
              </Text>
            </Menu.Item>
          ))}
          {!catalogue.types.length && <Menu.Item disabled>No server type yet: register servers first</Menu.Item>}
          <Menu.Divider />
          <Menu.Label>Network</Menu.Label>
          {catalogue.profiles.map((p) => (
            <Menu.Item key={p.id} leftSection={<IconNetwork size={16} />} onClick={() => addNetwork({ fabricId: p.fabricId, profileId: p.id, label: p.label || 'lan' })}>
              New: {p.name || p.label}
            </Menu.Item>
          ))}
          {!catalogue.profiles.length && (
            <Menu.Item leftSection={<IconNetwork size={16} />} disabled={!defaultNetwork(catalogue)} onClick={() => { const make = defaultNetwork(catalogue); if (make) addNetwork(make); }}>
              New private network
            </Menu.Item>
          )}
          {free.map((n) => (
            <Menu.Item key={n.id} leftSection={<IconWorld size={16} />} onClick={() => addNetwork({ fabricId: n.fabricId, profileId: null, existing: n })}>
              Shared: {n.name || n.label}
            </Menu.Item>
          ))}
          {kinds.length > 0 && <Menu.Divider />}
          {kinds.length > 0 && <Menu.Label>Storage</Menu.Label>}
          {kinds.includes('own') && (
            <Menu.Item leftSection={<OwnIcon size={16} />} disabled={!target} onClick={() => target && addOwnDrive(target, 100)}>
              {STORE_WORDS.own}
              <Text size="xs" c="dimmed">{target ? `A block device for each server of ${doc.groups[target].label}` : 'Select a server group first'}</Text>
            </Menu.Item>
          )}
          {STORES.filter((s) => kinds.includes(s.kind)).map(({ kind, label, sizeGb, text }) => {
            const Icon = STORE_ICONS[kind];
            return (
              <Menu.Item key={kind} leftSection={<Icon size={16} />} onClick={() => addStore(kind, sizeGb, label)}>
                {STORE_WORDS[kind]}
                <Text size="xs" c="dimmed">{text}</Text>
              </Menu.Item>
            );
          })}
        </Menu.Dropdown>
      </Menu>
      <nav aria-label="Outline" className="sy-outline">
        {Object.keys(doc.networks).length > 0 && (
          <Text size="xs" c="dimmed" fw={650} tt="uppercase">
            Networks
          </Text>
        )}
        <ul>
          {Object.keys(doc.networks).map((key) => (
            <Row key={key} id={key} />
          ))}
        </ul>
        {Object.keys(doc.groups).length > 0 && (
          <Text size="xs" c="dimmed" fw={650} tt="uppercase" mt="sm">
            Server groups
          </Text>
        )}
        <ul>
          {Object.keys(doc.groups).map((key) => (
            <Row key={key} id={key} />
          ))}
        </ul>
        {Object.keys(doc.stores).length > 0 && (
          <Text size="xs" c="dimmed" fw={650} tt="uppercase" mt="sm">
            Storage
          </Text>
        )}
        <ul>
          {Object.keys(doc.stores).map((key) => (
            <Row key={key} id={key} />
          ))}
        </ul>
        {!elementKeys(doc).length && (
          <Text size="sm" c="dimmed">
            Nothing drawn yet.
          </Text>
        )}
      </nav>
    </aside>
  );
}

/** With more groups than this, only the selected one shows what it is connected to. */
const CROWD = 60;

const Row = memo(function Row({ id }: { id: Key }) {
  const { catalogue, openConnect } = useDesignerContext();
  const element = useDesigner((s) => elementOf(shownDoc(s), id));
  const links = useDesigner((s) => linksOf(shownDoc(s), id));
  const facts = useDesigner((s) => s.facts[id]);
  const selected = useDesigner((s) => s.selection === id || s.picked.includes(id));
  const link = useDesigner((s) => (s.link?.startsWith(`${id}|`) ? s.link : null));
  const networks = useDesigner(useShallow((s) => (isGroup(id) ? linksOf(shownDoc(s), id).map((l) => shownDoc(s).networks[l.network]?.label) : [])));
  const attached = useDesigner(useShallow((s) => (isGroup(id) ? storesOf(shownDoc(s), id) : [])));
  const stores = useDesigner((s) => shownDoc(s).stores);
  const crowded = useDesigner((s) => Object.keys(shownDoc(s).groups).length > CROWD);
  const problems = useProblems(id);
  if (!element) return null;
  const group = isGroup(id) ? (element as GroupDoc) : undefined;
  const store = isStore(id) ? (element as StoreDoc) : undefined;
  const diff = group ? diffOfGroup(group, facts, { type: (n) => typeName(catalogue, n), os: (n) => osName(catalogue, n) }) : store ? diffOfStore(store, facts) : diffOfNetwork(element as NetworkDoc, facts);
  const Icon = group ? IconServer2 : store ? STORE_ICONS[store.kind] : (element as NetworkDoc).shared ? IconWorld : IconNetwork;
  return (
    <li>
      <UnstyledButton className={selected ? 'sy-row is-selected' : 'sy-row'} aria-current={selected || undefined} onClick={(e) => (e.shiftKey || e.ctrlKey || e.metaKey ? togglePick(id) : select(id))} onKeyDown={(e) => e.key.toLowerCase() === 'c' && !e.ctrlKey && !e.metaKey && (e.stopPropagation(), openConnect(id))}>
        <Icon size={16} aria-hidden />
        <span className="sy-row-label">{element.label}</span>
        {store && <span className="num sy-dim">{count(store.sizeGb)} GB</span>}
        {group && <span className="num sy-dim">×{count(group.instanceCount)}</span>}
        {problems.length > 0 && <span className={`sy-badge ${problems.some((p) => p.severity === 'error') ? 'bad' : 'warn'}`}>{problems.length}</span>}
        {diff.mark !== 'same' && (
          <span className={`sy-mark mark-${diff.mark}`} title={SIGN[diff.mark]}>
            {SIGN[diff.mark].charAt(0)}
            <span className="sr-only">{SIGN[diff.mark].slice(2)}</span>
          </span>
        )}
      </UnstyledButton>
      {group && (selected || !crowded) && (
        <ul>
          {links.map((l, i) => {
            const key = linkKey(l.group, l.network);
            return (
              <li key={key}>
                <UnstyledButton className={link === key ? 'sy-row is-selected' : 'sy-row'} onClick={() => selectLink(key)}>
                  <span className="sy-dim">↳</span>
                  <span className="sy-row-label">{networks[i]}</span>
                  <span className="sy-dim">{l.tagged ? 'tagged' : 'untagged'}</span>
                </UnstyledButton>
              </li>
            );
          })}
          {attached.map((key) => (
            <li key={key}>
              <UnstyledButton className="sy-row" onClick={() => select(key)}>
                <span className="sy-dim">↳</span>
                <span className="sy-row-label">{stores[key]?.label}</span>
                <span className="sy-dim">{stores[key] && SHORT[stores[key].kind]}</span>
              </UnstyledButton>
            </li>
          ))}
        </ul>
      )}
    </li>
  );
});
