import { ActionIcon, Button, Code, Group, NumberInput, Select, Stack, Switch, Text, Title, Tooltip } from '@mantine/core';
import { IconEye, IconPlugConnected, IconPlugOff } from '@tabler/icons-react';
import { useMutation } from '@tanstack/react-query';
import { api } from '../../../api/client';
import { PATHS, sizeOf, type StorageElement } from '../../../api/storage';
import { count, plural } from '../../../components/format';
import { toastError } from '../../../components/toast';
import { useDesignerContext } from '../context';
import { type Key, STORE_WORDS } from '../model/doc';
import { detach, editStore, shownDoc, useDesigner } from '../model/store';
import { Head, LabelInput, ProblemList, Secret } from './parts';
import { Snapshots } from './Snapshots';

const NEEDS = { drive: 'block', own: 'block', share: 'file', bucket: 'object' } as const;

/** A shared drive, a file share or a bucket: its size, where it lies, who has it and how it is reached. */
export function StoreInspector({ id }: { id: Key }) {
  const { catalogue, openConnect } = useDesignerContext();
  const doc = useDesigner(shownDoc);
  const facts = useDesigner((s) => s.facts[id]?.store);
  const locked = useDesigner((s) => s.locked);
  const store = doc.stores[id];
  const off = locked || store.deleted;
  const runs = facts && facts.serviceStatus !== 'ordered' ? facts : undefined;
  const least = runs ? sizeOf(runs) : 1;
  const offered = catalogue.storages.filter((s) => s.technologies.includes(NEEDS[store.kind]));
  return (
    <>
      <Head kind={STORE_WORDS[store.kind]} id={id} />
      <Stack gap="sm">
        <ProblemList id={id} />
        <LabelInput value={store.label} disabled={off} onCommit={(label) => editStore(id, { label })} />
        <NumberInput label="Size" suffix=" GB" description={runs ? `Deployed: ${count(least)} GB; it can grow, not shrink.` : undefined} min={least} max={1_048_576} clampBehavior="blur" allowDecimal={false} allowNegative={false} thousandSeparator="," disabled={off} value={store.sizeGb} onChange={(v) => typeof v === 'number' && v >= least && v !== store.sizeGb && editStore(id, { sizeGb: v })} />
        {offered.length > 0 && (
          <Select label="Storage" description={runs ? 'Where it lies is settled at its first deploy.' : undefined} placeholder="Chosen at deploy" clearable clearButtonProps={{ 'aria-label': 'Chosen at deploy' }} disabled={off || Boolean(runs)} data={offered.map((s) => ({ value: String(s.id), label: s.name }))} value={store.storageId === null ? null : String(store.storageId)} onChange={(v) => editStore(id, { storageId: v === null ? null : Number(v) })} />
        )}
        {store.kind === 'own' ? (
          <>
            <Switch label="The servers start from it" description={runs ? 'Settled at its first deploy.' : store.boot ? 'Their operating system is written to it, and a replaced server starts from it again.' : 'Off: they start from their own disk, and have this drive beside it.'} checked={Boolean(store.boot)} disabled={off || Boolean(runs)} onChange={(e) => editStore(id, { boot: e.currentTarget.checked })} />
            <Text size="sm">{`${plural(doc.groups[store.hosts[0]]?.instanceCount ?? 0, 'server')} of ${doc.groups[store.hosts[0]]?.label ?? 'its group'} ${(doc.groups[store.hosts[0]]?.instanceCount ?? 0) === 1 ? 'has' : 'have'} one each: ${count((doc.groups[store.hosts[0]]?.instanceCount ?? 0) * store.sizeGb)} GB in all.`}</Text>
          </>
        ) : store.kind === 'bucket' ? (
          <Text size="sm" c="dimmed">A bucket is not attached to servers: whoever has its key reaches it over the network.</Text>
        ) : (
          <>
            <Title order={3}>Attached to</Title>
            {store.hosts.map((key) => (
              <Group key={key} justify="space-between" wrap="nowrap" className="sy-attached">
                <Text size="sm" truncate>{doc.groups[key]?.label} <Text component="span" size="xs" c="dimmed">({plural(doc.groups[key]?.instanceCount ?? 0, 'server')})</Text></Text>
                <Tooltip label="Detach">
                  <ActionIcon variant="subtle" color="red" aria-label={`Detach ${doc.groups[key]?.label}`} disabled={off} onClick={() => detach(id, key)}><IconPlugOff size={16} /></ActionIcon>
                </Tooltip>
              </Group>
            ))}
            {!store.hosts.length && <Text size="sm" c="dimmed">No server has it yet.</Text>}
            <Button variant="light" leftSection={<IconPlugConnected size={16} />} disabled={off} onClick={() => openConnect(id)}>Attach</Button>
          </>
        )}
        {runs && <Reach of={runs} />}
        {runs && (store.kind === 'drive' || store.kind === 'share') && <Snapshots of={runs} off={off} />}
      </Stack>
    </>
  );
}

/** Every text below a key of that name, wherever it is. */
function texts(value: unknown, key: string): string[] {
  if (!value || typeof value !== 'object') return [];
  if (Array.isArray(value)) return value.flatMap((v) => texts(v, key));
  return Object.entries(value).flatMap(([k, v]) => (k === key && typeof v === 'string' && v ? [v] : texts(v, key)));
}

function Reach({ of }: { of: StorageElement }) {
  const { infrastructure } = useDesignerContext();
  const reveal = useMutation({
    gcTime: 0,
    mutationFn: () => api.get<{ accessKeyId?: string | null; secretKey?: string | null }>(`/infrastructures/${infrastructure.id}/${PATHS.bucket}/${of.id}/credentials`),
    onError: (e) => toastError('Key not shown', e),
  });
  const paths = [...new Set(texts(of.discoverInformation, 'fullPath'))];
  const targets = [...new Set([...texts(of.discoverInformation, 'targetIqn'), ...texts(of.discoverInformation, 'targetNqn')])];
  const portals = [...new Set(texts(of.discoverInformation, 'discoverIpAddress'))];
  const rows: [string, string][] = [...paths.map((p): [string, string] => ['Path', p]), ...targets.map((t): [string, string] => ['Target', t]), ...portals.map((p): [string, string] => ['Portal', p]), ...(of.wwn ? [['WWN', of.wwn] as [string, string]] : [])];
  if (!rows.length && of.kind !== 'bucket') return null;
  return (
    <>
      <Title order={3}>How it is reached</Title>
      {rows.map(([label, value]) => <Secret key={label + value} label={label} value={value} />)}
      {of.kind === 'bucket' &&
        (reveal.data ? (
          <>
            <Secret label="Key id" value={reveal.data.accessKeyId} />
            <Secret label="Secret" value={reveal.data.secretKey} />
            <Button size="compact-xs" variant="subtle" w="fit-content" onClick={() => reveal.reset()}>Hide</Button>
          </>
        ) : (
          <Button size="compact-sm" variant="light" w="fit-content" leftSection={<IconEye size={15} />} loading={reveal.isPending} title="Recorded in the event log" onClick={() => reveal.mutate()}>Reveal key</Button>
        ))}
      {of.kind === 'share' && paths[0] && <Code block style={{ whiteSpace: 'pre-wrap', overflowWrap: 'anywhere' }}>{`mount -t nfs ${paths[0]} /mnt`}</Code>}
    </>
  );
}
