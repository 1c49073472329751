import { Button, Group, NumberInput, Select, Stack, Text, Title } from '@mantine/core';
import { IconCopy, IconTrash } from '@tabler/icons-react';
import { plural } from '../../../components/format';
import { toast } from '../../../components/toast';
import { useDesignerContext } from '../context';
import type { Key } from '../model/doc';
import { duplicate, editGroups, remove, select, shownDoc, undo, useDesigner } from '../model/store';

/** What can be said of several picked elements at once. */
export function Several({ keys }: { keys: readonly Key[] }) {
  const { catalogue } = useDesignerContext();
  const doc = useDesigner(shownDoc);
  const locked = useDesigner((s) => s.locked);
  const groups = keys.filter((k) => doc.groups[k] && !doc.groups[k].deleted);
  const networks = keys.filter((k) => doc.networks[k]).length;
  const all = <T,>(of: (key: Key) => T): T | undefined => {
    const [first, ...rest] = groups.map(of);
    return rest.every((v) => v === first) ? first : undefined;
  };
  const type = all((k) => doc.groups[k].serverTypeId);
  const os = all((k) => doc.groups[k].osTemplateId);
  return (
    <Stack gap="sm">
      <div>
        <Text size="xs" c="dimmed">Picked</Text>
        <Title order={2}>{plural(keys.length, 'element')}</Title>
      </div>
      <Text size="sm">
        {[groups.length && `${plural(groups.length, 'server group')} with ${plural(groups.reduce((n, k) => n + doc.groups[k].instanceCount, 0), 'server')}`, networks && plural(networks, 'network')].filter(Boolean).join(', ')}.
      </Text>
      {groups.length > 0 && (
        <>
          <NumberInput label="Servers in each group" placeholder="Different" min={1} max={10_000} clampBehavior="strict" allowDecimal={false} allowNegative={false} disabled={locked} value={all((k) => doc.groups[k].instanceCount) ?? ''} onChange={(v) => typeof v === 'number' && v >= 1 && editGroups(groups, { instanceCount: v })} />
          <Select label="Server type" placeholder="Different" allowDeselect={false} disabled={locked} data={catalogue.types.map((t) => ({ value: String(t.id), label: t.name }))} value={type === undefined ? null : String(type)} onChange={(v) => v && editGroups(groups, { serverTypeId: Number(v) })} />
          <Select label="Operating system" placeholder="Different, or none" allowDeselect={false} disabled={locked} data={catalogue.templates.map((t) => ({ value: String(t.id), label: t.name }))} value={os === undefined || os === null ? null : String(os)} onChange={(v) => v && editGroups(groups, { osTemplateId: Number(v) })} />
        </>
      )}
      <Group gap="xs">
        {groups.length > 0 && <Button variant="light" leftSection={<IconCopy size={16} />} disabled={locked} onClick={() => duplicate(...groups)}>Duplicate</Button>}
        <Button variant="light" color="red" leftSection={<IconTrash size={16} />} disabled={locked} onClick={() => { remove(...keys); toast('Deleted', plural(keys.length, 'element'), { action: { label: 'Undo', run: undo } }); }}>Delete</Button>
        <Button variant="subtle" onClick={() => select(null)}>Pick none</Button>
      </Group>
    </Stack>
  );
}
