import { Button, Group, List, Modal, Stack, Text } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { Server, ServerType } from '../../../api/types';
import { ErrorCard, Loading } from '../../../components/states';
import { Status } from '../../../components/status';
import { toast } from '../../../components/toast';
import { nameOf } from './actions';

interface Suggestion {
  serverTypeId: number;
  name: string;
  match: 'exact' | 'near';
  current: boolean;
  differences: string[];
}

/** Its type by name, and those that fit it. */
export function TypeMatch({ server }: { server: Server }) {
  const [open, setOpen] = useState(false);
  const type = useQuery({ queryKey: ['server-types', server.serverTypeId], enabled: Boolean(server.serverTypeId), staleTime: 60_000, retry: false, queryFn: () => api.get<ServerType>(`/server-types/${server.serverTypeId}`) });
  return (
    <>
      {server.serverTypeId ? (type.data?.name ?? `type ${server.serverTypeId}`) : 'none'}{' '}
      <button type="button" className="link plain" onClick={() => setOpen(true)}>Match…</button>
      {open && <Dialog server={server} close={() => setOpen(false)} />}
    </>
  );
}

function Dialog({ server, close }: { server: Server; close: () => void }) {
  const client = useQueryClient();
  const q = useQuery({ queryKey: ['type-suggestions', server.serverId], retry: false, queryFn: async () => (await api.get<{ data: Suggestion[] }>(`/servers/${server.serverId}/server-type-suggestions`)).data });
  const [error, setError] = useState<unknown>();
  const [busy, setBusy] = useState(0);
  const put = async (s: Suggestion) => {
    setBusy(s.serverTypeId);
    setError(undefined);
    try {
      await api.patch(`/servers/${server.serverId}`, { serverTypeId: s.serverTypeId }, server.revision);
      void client.invalidateQueries({ queryKey: ['server'] });
      toast('Server type changed', `${nameOf(server)}: ${s.name}`);
      close();
    } catch (e) {
      setError(e);
    } finally {
      setBusy(0);
    }
  };
  return (
    <Modal opened onClose={close} size="lg" title={<b>Types that fit {nameOf(server)}</b>}>
      <Stack>
        {q.error ? <ErrorCard error={q.error} what="Nothing to compare" /> : !q.data ? <Loading rows={3} /> : !q.data.length ? <Text size="sm">No type is near: register the server again, and its hardware makes one.</Text> : null}
        {q.data?.map((s) => (
          <div key={s.serverTypeId} className="panel" style={{ padding: 12 }}>
            <Group justify="space-between" wrap="nowrap" align="flex-start">
              <div>
                <Group gap="xs"><b>{s.name}</b><Status value={s.match === 'exact' ? 'success' : 'warning'} label={s.match === 'exact' ? 'Fits exactly' : 'Near'} />{s.current && <Text size="sm" c="dimmed">its type now</Text>}</Group>
                {s.differences.length > 0 && <List size="sm" mt={4}>{s.differences.map((d) => <List.Item key={d}>{d}</List.Item>)}</List>}
              </div>
              {!s.current && <Button size="xs" variant="light" loading={busy === s.serverTypeId} disabled={Boolean(server.allocationInfo)} title={server.allocationInfo ? 'It is in use' : undefined} onClick={() => void put(s)} aria-label={`Choose ${s.name}`}>Choose</Button>}
            </Group>
          </div>
        ))}
        {error !== undefined && <ErrorCard error={error} what="Not changed" />}
        <Group justify="flex-end"><Button variant="default" onClick={close}>Close</Button></Group>
      </Stack>
    </Modal>
  );
}
