import { ActionIcon, Button, Group, Menu, Stack, Text, Title } from '@mantine/core';
import { IconCamera, IconDots } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../../api/client';
import { PATHS, type Snapshot, type StorageElement } from '../../../api/storage';
import { FormDialog } from '../../../components/Form';
import { ErrorCard } from '../../../components/states';
import { Ago, Status } from '../../../components/status';
import { toast } from '../../../components/toast';
import { useRefreshOn } from '../../../live/use';
import { useDesignerContext } from '../context';

type Asked = { verb: 'take' } | { verb: 'restore' | 'delete'; name: string };

/** Something is being done with it: until that is over there is nothing else to do with it. */
const busy = (s: Snapshot) => !!s.status && !/^(ready|active|done|failed|error)$/.test(s.status);

/** States of a drive or share that are kept: taken, gone back to and forgotten at once, without a deploy. */
export function Snapshots({ of, off }: { of: StorageElement; off: boolean }) {
  const { infrastructure } = useDesignerContext();
  const client = useQueryClient();
  const path = `/infrastructures/${infrastructure.id}/${PATHS[of.kind]}/${of.id}/snapshots`;
  const key = ['snapshots', infrastructure.id, of.id];
  const q = useQuery({ queryKey: key, retry: false, queryFn: async () => {
    const answer = await api.get<Snapshot[] | { data: Snapshot[] }>(path);
    return Array.isArray(answer) ? answer : answer.data;
  }, refetchInterval: (x) => (x.state.data?.some(busy) ? 2_000 : false) });
  useRefreshOn(key, (m) => m.topic === 'job' && Number(m.data.infrastructureId) === infrastructure.id);
  const [asked, ask] = useState<Asked | null>(null);
  const again = () => {
    void client.invalidateQueries({ queryKey: key });
    setTimeout(() => void client.invalidateQueries({ queryKey: key }), 2_500);
  };
  const kind = of.kind === 'share' ? 'share' : 'drive';
  return (
    <>
      <Group justify="space-between"><Title order={3}>Snapshots</Title><Button size="compact-xs" variant="light" leftSection={<IconCamera size={14} />} disabled={off} onClick={() => ask({ verb: 'take' })}>Take one</Button></Group>
      {q.error ? <ErrorCard error={q.error} what="Snapshots are not known" retry={() => void q.refetch()} /> : !q.data?.length ? <Text size="sm" c="dimmed">None yet.</Text> : (
        <Stack gap={2} component="ul" style={{ listStyle: 'none', margin: 0, padding: 0 }}>
          {q.data.map((s) => (
            <Group key={s.name} component="li" justify="space-between" wrap="nowrap" gap="xs">
              <div style={{ minWidth: 0 }}>
                <Text size="sm" truncate>{s.name}</Text>
                <Text size="xs" c="dimmed"><Ago at={s.createdTimestamp} /></Text>
                {s.error && <Text size="xs" className="bad">{s.error}</Text>}
              </div>
              <Group gap={4} wrap="nowrap">
                {s.status && !/^(ready|active|done)$/.test(s.status) && <Status value={s.status} />}
                <Menu position="bottom-end" shadow="md">
                  <Menu.Target><ActionIcon variant="subtle" color="gray" aria-label={`Actions for snapshot ${s.name}`} disabled={off || busy(s)}><IconDots size={16} /></ActionIcon></Menu.Target>
                  <Menu.Dropdown>
                    <Menu.Item onClick={() => ask({ verb: 'restore', name: s.name })}>Go back to it…</Menu.Item>
                    <Menu.Item color="red" onClick={() => ask({ verb: 'delete', name: s.name })}>Delete…</Menu.Item>
                  </Menu.Dropdown>
                </Menu>
              </Group>
            </Group>
          ))}
        </Stack>
      )}
      {asked?.verb === 'take' && (
        <FormDialog
          title={`Snapshot of ${of.label}`}
          intro="What is on it now is kept beside it. Systems that write at this moment should be told to flush first."
          fields={[{ name: 'name', label: 'Name', required: true, maxLength: 63, mono: true, help: 'Small letters, digits and hyphens.' }]}
          initial={{ name: `s-${new Date().toISOString().slice(0, 16).replace(/[-:T]/g, '')}` }}
          submit="Take"
          close={() => ask(null)}
          save={async (body) => {
            await api.post(path, body);
            toast('Snapshot is being taken', of.label);
            again();
          }}
        />
      )}
      {asked && asked.verb !== 'take' && (
        <FormDialog
          key={asked.verb}
          title={asked.verb === 'restore' ? `Put ${of.label} back to ${asked.name}?` : `Delete snapshot ${asked.name}?`}
          intro={asked.verb === 'restore' ? `What was written to this ${kind} since is lost. Stop the systems that use it first, or they will not understand what they find.` : 'It cannot be gone back to any more.'}
          fields={[]}
          submit={asked.verb === 'restore' ? 'Go back' : 'Delete'}
          danger
          close={() => ask(null)}
          save={async () => {
            if (asked.verb === 'restore') await api.post(`${path}/restore`, { name: asked.name });
            else await api.remove(path, { name: asked.name });
            toast(asked.verb === 'restore' ? 'Being put back' : 'Snapshot is being deleted', asked.name);
            again();
          }}
        />
      )}
    </>
  );
}
