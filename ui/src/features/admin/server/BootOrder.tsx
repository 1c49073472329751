import { ActionIcon, Button, Group, Modal, Stack, Text, Title } from '@mantine/core';
import { IconArrowDown, IconArrowUp, IconPencil } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { Server } from '../../../api/types';
import { ErrorCard, Loading } from '../../../components/states';
import { toast } from '../../../components/toast';

interface Option {
  id: string;
  name?: string | null;
}
interface Told {
  order?: string[];
  options?: Record<string, string> | null;
}
/** In the order in which they are tried; what the order does not name is not tried. */
const inOrder = (told: Told | undefined): Option[] => (told?.order ?? []).map((id) => ({ id, name: told?.options?.[id] }));

/** What a server boots from, first to last, as its firmware keeps it. */
export function BootOrder({ server }: { server: Server }) {
  const client = useQueryClient();
  const key = ['bmc', server.serverId, 'boot-order'];
  const q = useQuery({ queryKey: key, staleTime: 60_000, retry: false, refetchOnWindowFocus: false, queryFn: () => api.get<Told>(`/servers/${server.serverId}/boot-order`) });
  const [list, setList] = useState<Option[] | null>(null);
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  const now = inOrder(q.data);
  const swap = (a: number, b: number) => setList((all) => all && all.map((o, i) => (i === a ? all[b] : i === b ? all[a] : o)));
  const save = async () => {
    if (!list) return;
    setBusy(true);
    setError(undefined);
    try {
      await api.put(`/servers/${server.serverId}/boot-order`, { order: list.map((o) => o.id) });
      toast('Boot order is being set', server.serialNumber ?? '');
      setList(null);
      setTimeout(() => void client.invalidateQueries({ queryKey: key }), 3_000);
    } catch (e) {
      setError(e);
    } finally {
      setBusy(false);
    }
  };
  return (
    <section className="panel pad" style={{ marginTop: 16 }}>
      <Group justify="space-between" mb="sm">
        <Title order={2}>Boot order</Title>
        {now.length > 1 && <Button variant="default" size="xs" leftSection={<IconPencil size={15} />} disabled={Boolean(server.allocationInfo)} title={server.allocationInfo ? 'It is in use' : undefined} onClick={() => setList(now)}>Change</Button>}
      </Group>
      {q.error ? <ErrorCard error={q.error} retry={() => void q.refetch()} what="The BMC did not tell" /> : !q.data ? <Loading rows={2} /> : !now.length ? <Text size="sm" c="dimmed">This BMC tells none.</Text> : (
        <ol style={{ margin: 0, paddingLeft: 22, fontSize: 14 }}>{now.map((o) => <li key={o.id}>{o.name || o.id} {o.name && o.name !== o.id && <Text component="span" size="xs" c="dimmed" className="mono">{o.id}</Text>}</li>)}</ol>
      )}
      {list && (
        <Modal opened onClose={() => setList(null)} title={<b>Boot order</b>}>
          <Stack gap="xs">
            {list.map((o, i) => (
              <Group key={o.id} justify="space-between" wrap="nowrap">
                <Text size="sm">{i + 1}. {o.name || o.id}</Text>
                <Group gap={4} wrap="nowrap">
                  <ActionIcon variant="default" aria-label={`${o.name || o.id} earlier`} disabled={i === 0} onClick={() => swap(i, i - 1)}><IconArrowUp size={16} /></ActionIcon>
                  <ActionIcon variant="default" aria-label={`${o.name || o.id} later`} disabled={i === list.length - 1} onClick={() => swap(i, i + 1)}><IconArrowDown size={16} /></ActionIcon>
                </Group>
              </Group>
            ))}
            {error !== undefined && <ErrorCard error={error} what="Not changed" />}
            <Group justify="flex-end" mt="sm"><Button variant="default" onClick={() => setList(null)}>Cancel</Button><Button loading={busy} onClick={() => void save()}>Change</Button></Group>
          </Stack>
        </Modal>
      )}
    </section>
  );
}
