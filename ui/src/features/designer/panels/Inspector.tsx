import { ActionIcon, Button, Group, NumberInput, Select, Slider, Stack, Switch, Tabs, Text, Title, Tooltip } from '@mantine/core';
import { IconCopy, IconPlugConnected, IconServerBolt, IconTrash, IconX } from '@tabler/icons-react';
import type { ServerInstance } from '../../../api/types';
import { partition, plural } from '../../../components/format';
import { osName, typeName, useAvailability } from '../catalogue';
import { useDesignerContext } from '../context';
import { diffOf } from '../model/diff';
import { AUTOMATIC, isGroup, type Key, linkKey, linksOf, STORE_WORDS, storesOf } from '../model/doc';
import { untaggedProblem } from '../model/rules';
import { addOwnDrive, disconnect, duplicate, editGroup, editLink, editNetwork, isDeployed, select, selectLink, shownDoc, useDesigner } from '../model/store';
import { heldBy } from '../problems';
import { Head, LabelInput, ProblemList } from './parts';
import { Servers } from './Servers';
import { Several } from './Several';
import { StoreInspector } from './StoreInspector';

export function Inspector({ instances }: { instances: ServerInstance[] }) {
  const doc = useDesigner(shownDoc);
  const selection = useDesigner((s) => s.selection);
  const picked = useDesigner((s) => s.picked);
  const link = useDesigner((s) => s.link);
  const groups = Object.values(doc.groups);
  let body;
  if (picked.length) body = <Several keys={picked} />;
  else if (link && doc.links[link]) body = <LinkInspector id={link} />;
  else if (selection && doc.groups[selection]) body = <GroupInspector key={selection} id={selection} instances={instances} />;
  else if (selection && doc.stores[selection]) body = <StoreInspector key={selection} id={selection} />;
  else if (selection && doc.networks[selection]) body = <NetworkInspector key={selection} id={selection} />;
  else
    body = (
      <Stack gap="xs">
        <Title order={2}>Design</Title>
        <Text size="sm">
          {plural(groups.length, 'server group')}, {plural(groups.reduce((n, g) => n + g.instanceCount, 0), 'server')}, {plural(Object.keys(doc.networks).length, 'network')}{Object.keys(doc.stores).length > 0 && `, ${plural(Object.keys(doc.stores).length, 'storage element')}`}.
        </Text>
        <Text size="sm" c="dimmed">
          Select an element to see and change its settings. Nothing happens to hardware until you press Deploy.
        </Text>
        <dl className="sy-keys">
          {[['A', 'Add'], ['C', 'Connect selected'], ['Del', 'Delete'], ['Ctrl+Z / Ctrl+Y', 'Undo, redo'], ['Ctrl+D', 'Duplicate'], ['Ctrl+click', 'Pick several'], ['Shift+drag', 'Pick what is inside'], ['Ctrl+A', 'Pick all'], ['Shift+L', 'Arrange'], ['D', 'Changes on/off'], ['Esc', 'Nothing selected']].map(([k, t]) => (
            <div key={k}>
              <dt>
                <kbd>{k}</kbd>
              </dt>
              <dd>{t}</dd>
            </div>
          ))}
        </dl>
      </Stack>
    );
  return (
    <aside className="sy-side right" aria-label="Inspector">
      {body}
    </aside>
  );
}

function GroupInspector({ id, instances }: { id: Key; instances: ServerInstance[] }) {
  const { infrastructure, catalogue } = useDesignerContext();
  const doc = useDesigner(shownDoc);
  const facts = useDesigner((s) => s.facts[id]);
  const serverId = useDesigner((s) => s.ids[id]);
  const locked = useDesigner((s) => s.locked);
  const group = doc.groups[id];
  const availability = useAvailability(infrastructure.siteId, group.serverTypeId);
  const off = locked || group.deleted;
  const most = availability.data ? availability.data.free + heldBy(facts) : undefined;
  const diff = diffOf(doc, facts, id, { type: (n) => typeName(catalogue, n), os: (n) => osName(catalogue, n) });
  const mine = instances.filter((i) => i.groupId === serverId && i.serviceStatus !== 'deleted');
  const was = (field: string) => {
    const f = diff.fields.find((x) => x.field === field);
    return f ? `Deployed: ${f.before}` : undefined;
  };
  return (
    <>
      <Head
        kind="Server group"
        id={id}
        extra={
          <Tooltip label="Duplicate (Ctrl+D)">
            <ActionIcon variant="light" aria-label="Duplicate" disabled={off} onClick={() => duplicate(id)}>
              <IconCopy size={17} />
            </ActionIcon>
          </Tooltip>
        }
      />
      <Tabs classNames={{ tab: 'sy-tab' }} defaultValue="config" keepMounted={false}>
        <Tabs.List mb="sm">
          <Tabs.Tab value="config">Config</Tabs.Tab>
          <Tabs.Tab value="connections">Connections</Tabs.Tab>
          <Tabs.Tab value="changes">Changes{diff.fields.length ? ` (${diff.fields.length})` : ''}</Tabs.Tab>
          <Tabs.Tab value="servers">Servers{mine.length ? ` (${mine.length})` : ''}</Tabs.Tab>
        </Tabs.List>
        <Tabs.Panel value="config">
          <Stack gap="sm">
            <ProblemList id={id} />
            <LabelInput value={group.label} disabled={off} onCommit={(label) => editGroup(id, { label })} />
            <NumberInput label="Servers" description={was('Servers')} min={1} max={10_000} clampBehavior="strict" allowDecimal={false} allowNegative={false} disabled={off} value={group.instanceCount} onChange={(v) => typeof v === 'number' && v >= 1 && v !== group.instanceCount && editGroup(id, { instanceCount: v })} />
            {most !== undefined && (
              <div>
                <Slider min={1} max={Math.max(2, most, group.instanceCount)} value={group.instanceCount} disabled={off} onChangeEnd={(v) => v !== group.instanceCount && editGroup(id, { instanceCount: v })} label={(v) => v} thumbLabel="Servers" />
                <Text size="xs" mt={6} c={group.instanceCount > most ? undefined : 'dimmed'} className={group.instanceCount > most ? 'bad' : ''}>
                  {group.instanceCount > most ? `${plural(most, 'server')} of this type can be had; you ask ${group.instanceCount}: ${group.instanceCount - most} short.` : `Up to ${plural(most, 'server')} of this type at ${catalogue.site?.name ?? 'this site'}.`}
                </Text>
              </div>
            )}
            <Select label="Server type" description={was('Server type')} disabled={off} allowDeselect={false} data={catalogue.types.map((t) => ({ value: String(t.id), label: `${t.name} · ${t.ramGbytes} GB` }))} value={String(group.serverTypeId)} onChange={(v) => v && editGroup(id, { serverTypeId: Number(v) })} />
            <Select label="Operating system" description={was('Operating system')} disabled={off} clearable placeholder="None" clearButtonProps={{ 'aria-label': 'No operating system' }} data={catalogue.templates.map((t) => ({ value: String(t.id), label: t.name }))} value={group.osTemplateId === null ? null : String(group.osTemplateId)} onChange={(v) => editGroup(id, { osTemplateId: v === null ? null : Number(v) })} />
          </Stack>
        </Tabs.Panel>
        <Tabs.Panel value="connections">
          <Connections id={id} />
        </Tabs.Panel>
        <Tabs.Panel value="changes">
          {diff.mark === 'added' && <Text size="sm">New: will be made at the next deploy.</Text>}
          {diff.mark === 'removed' && <Text size="sm">Will be deleted at the next deploy; its servers are wiped.</Text>}
          {diff.mark === 'same' && (
            <Text size="sm" c="dimmed">
              As deployed.
            </Text>
          )}
          {diff.fields.map((f) => (
            <Text size="sm" key={f.field}>
              <b>{f.field}</b>: {f.before} → {f.after}
            </Text>
          ))}
        </Tabs.Panel>
        <Tabs.Panel value="servers">
          <Servers id={id} group={group.label} instances={mine} />
        </Tabs.Panel>
      </Tabs>
    </>
  );
}

function Connections({ id }: { id: Key }) {
  const doc = useDesigner(shownDoc);
  const links = linksOf(doc, id);
  const { openConnect } = useDesignerContext();
  const locked = useDesigner((s) => s.locked);
  const kinds = useDesigner((s) => s.storeKinds);
  return (
    <Stack gap={6}>
      {links.map((l) => (
        <Button key={l.network + l.group} variant="default" justify="space-between" rightSection={<Text size="xs" c="dimmed">{l.tagged ? 'tagged' : 'untagged'}</Text>} onClick={() => selectLink(linkKey(l.group, l.network))}>
          {(l.group === id ? doc.networks[l.network] : doc.groups[l.group])?.label}
        </Button>
      ))}
      {isGroup(id) && storesOf(doc, id).map((key) => (
        <Button key={key} variant="default" justify="space-between" rightSection={<Text size="xs" c="dimmed">{STORE_WORDS[doc.stores[key].kind].toLowerCase()}</Text>} onClick={() => select(key)}>
          {doc.stores[key].label}
        </Button>
      ))}
      {!links.length && (
        <Text size="sm" c="dimmed">
          Not connected yet.
        </Text>
      )}
      <Button variant="light" leftSection={<IconPlugConnected size={16} />} disabled={locked} onClick={() => openConnect(id)}>
        Connect
      </Button>
      {isGroup(id) && kinds.includes('own') && (
        <Button variant="light" leftSection={<IconServerBolt size={16} />} disabled={locked || doc.groups[id]?.deleted} onClick={() => addOwnDrive(id, 100)}>
          Drive for each server
        </Button>
      )}
    </Stack>
  );
}

function NetworkInspector({ id }: { id: Key }) {
  const doc = useDesigner(shownDoc);
  const facts = useDesigner((s) => s.facts[id]?.network);
  const locked = useDesigner((s) => s.locked);
  const network = doc.networks[id];
  const subnet = facts?.ipv4?.subnets?.[0];
  return (
    <>
      <Head kind={network.shared ? 'Shared network' : 'Network'} id={id} />
      <Stack gap="sm">
        <ProblemList id={id} />
        <LabelInput value={network.label} disabled={locked || network.shared || network.deleted} onCommit={(label) => editNetwork(id, { label })} />
        {network.shared && (
          <Text size="xs" c="dimmed">
            Run by the site; it can be connected, not changed.
          </Text>
        )}
        {!network.shared && !facts?.pkey && <AddressChoice id={id} />}
        <dl className="sy-facts">
          <dt>{facts?.pkey ? 'InfiniBand' : 'VLAN'}</dt>
          <dd className="num">{facts?.pkey ? partition(facts.pkey) : (facts?.vlan?.vlans?.[0]?.vlanId ?? 'chosen at deploy')}</dd>
          <dt>Subnet</dt>
          <dd className="num mono">{subnet?.networkAddress ? `${subnet.networkAddress}/${subnet.prefixLength}` : network.addresses.kind === 'none' ? 'none' : 'chosen at deploy'}</dd>
        </dl>
        <Title order={3}>Connected groups</Title>
        <Connections id={id} />
      </Stack>
    </>
  );
}

/** Every size that a pool is asked for; three addresses of each are not a server's: network, gateway, broadcast. */
const SIZES = [20, 21, 22, 23, 24, 25, 26, 27, 28, 29];
const size = (prefix: number) => `/${prefix} · up to ${plural(2 ** (32 - prefix) - 3, 'server')}`;

function AddressChoice({ id }: { id: Key }) {
  const network = useDesigner((s) => shownDoc(s).networks[id]);
  const locked = useDesigner((s) => s.locked);
  const profile = useDesigner((s) => s.facts[id]?.network?.lastAppliedLogicalNetworkProfileId);
  const { addresses } = network;
  const fixed = addresses.kind === 'fixed' ? 'Chosen by hand for this network.' : profile || network.profileId ? 'As the network profile says.' : isDeployed(id) ? 'Deployed: for other addresses, make a new network.' : undefined;
  const off = locked || network.deleted || Boolean(fixed);
  return (
    <>
      <Switch label="IPv4 addresses for the servers" description={fixed ?? (addresses.kind === 'auto' ? 'A subnet is taken from the pools at deploy.' : 'The servers get no address on this network.')} checked={addresses.kind !== 'none'} disabled={off} onChange={(e) => editNetwork(id, { addresses: e.currentTarget.checked ? AUTOMATIC : { kind: 'none' } })} />
      {addresses.kind === 'auto' && (
        <Select label="Subnet size" allowDeselect={false} disabled={off} data={[...new Set([...SIZES, addresses.prefixLength])].sort((a, b) => a - b).map((p) => ({ value: String(p), label: size(p) }))} value={String(addresses.prefixLength)} onChange={(v) => v && Number(v) !== addresses.prefixLength && editNetwork(id, { addresses: { kind: 'auto', prefixLength: Number(v) } })} />
      )}
    </>
  );
}

function LinkInspector({ id }: { id: string }) {
  const doc = useDesigner(shownDoc);
  const locked = useDesigner((s) => s.locked);
  const link = doc.links[id];
  const group = doc.groups[link.group];
  const network = doc.networks[link.network];
  const blocked = link.tagged ? untaggedProblem(doc, link.group, link.network) : null;
  return (
    <Stack gap="sm">
      <Group justify="space-between" wrap="nowrap">
        <div>
          <Text size="xs" c="dimmed">
            Connection
          </Text>
          <Title order={2}>
            {group?.label} → {network?.label}
          </Title>
        </div>
        <Group gap={4} wrap="nowrap">
          <ActionIcon variant="light" color="red" aria-label="Disconnect" disabled={locked} onClick={() => disconnect(id)}>
            <IconTrash size={17} />
          </ActionIcon>
          <ActionIcon variant="subtle" color="gray" aria-label="Close inspector" onClick={() => select(null)}>
            <IconX size={17} />
          </ActionIcon>
        </Group>
      </Group>
      <Switch label="Tagged (802.1Q)" description={blocked ?? 'Untagged: the servers see the network without a VLAN header.'} checked={link.tagged} disabled={locked || Boolean(blocked)} onChange={(e) => editLink(id, { tagged: e.currentTarget.checked })} />
      <Switch label="Default route" description={network?.addresses.kind === 'none' ? 'This network has no addresses, so no gateway.' : link.defaultRoute ? 'The servers reach other networks through its gateway.' : 'Moves the default route of the group here.'} checked={link.defaultRoute} disabled={locked || (network?.addresses.kind === 'none' && !link.defaultRoute)} onChange={(e) => editLink(id, { defaultRoute: e.currentTarget.checked })} />
      <Select label="MTU" allowDeselect={false} disabled={locked} data={['1500', '9000', '9216'].concat(['1500', '9000', '9216'].includes(String(link.mtu)) ? [] : [String(link.mtu)])} value={String(link.mtu)} onChange={(v) => v && editLink(id, { mtu: Number(v) })} />
      <Select label="Redundancy" description="Two ports of each server as a bond" allowDeselect={false} disabled={locked} data={[{ value: 'none', label: 'None' }, { value: 'active-backup', label: 'Active-backup' }, { value: 'active-active', label: 'Active-active (LACP)' }]} value={link.redundancy ?? 'none'} onChange={(v) => editLink(id, { redundancy: v === 'none' ? null : (v as 'active-backup') })} />
      <Text size="sm" c="dimmed">
        {group ? `The switch ports of ${plural(group.instanceCount, 'server')} change at the next deploy.` : ''}
      </Text>
    </Stack>
  );
}
