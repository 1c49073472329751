import { Button, Group, Modal, Stack, Table, Text } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { Confirmation } from '../../../api/firmware';
import type { Page, ServerInstance } from '../../../api/types';
import { type Field, FormDialog, type Values } from '../../../components/Form';
import { plural, when } from '../../../components/format';
import { toast } from '../../../components/toast';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';

type Verb = 'confirm' | 'postpone' | 'deny';
const WORDS: Record<Verb, { label: string; text: string; submit: string; said: string }> = {
  confirm: { label: 'Update', text: 'The server is shut down and restarted for it. Its disks are not touched.', submit: 'Update', said: 'Agreed' },
  postpone: { label: 'Later', text: 'The question stands until then; without an answer nothing happens.', submit: 'Answer later', said: 'Postponed' },
  deny: { label: 'Do not update', text: 'The firmware stays as it is.', submit: 'Do not update', said: 'Not updated' },
};
const concerns = (m: LiveMessage) => m.topic === 'object' && /firmware/.test(String(m.data.kind));
/** The time of an input as the wire has it. */
const moment = (v: unknown) => (typeof v === 'string' && v ? new Date(v).toISOString() : undefined);
const local = (date: Date) => new Date(date.getTime() - date.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);

/** Firmware of servers in use is updated only when their owner says so: what waits for that word. */
export function Confirmations({ infrastructureId, instances }: { infrastructureId: number; instances: readonly ServerInstance[] }) {
  const key = ['firmware-confirmations', infrastructureId];
  const client = useQueryClient();
  const [open, setOpen] = useState(false);
  const [asked, ask] = useState<{ verb: Verb; of: Confirmation[] } | null>(null);
  const q = useQuery({ queryKey: key, retry: false, staleTime: 30_000, queryFn: () => api.get<Page<Confirmation>>('/firmware/confirmations', { 'filter.infrastructureId': infrastructureId, 'filter.status': 'waiting', limit: 100 }) });
  useRefreshOn(key, concerns);
  const list = q.data?.data ?? [];
  if (!list.length) return null;
  const name = (c: Confirmation) => instances.find((i) => i.id === c.serverInstanceId)?.label ?? `server ${c.serverId}`;
  const fields: Field[] = asked?.verb === 'postpone' ? [{ name: 'until', label: 'Until', kind: 'moment', required: true }] : asked?.verb === 'confirm' ? [{ name: 'start', label: 'From', kind: 'moment', help: 'Empty: at once.' }] : [];
  const bodyOf = (v: Values) => (asked?.verb === 'postpone' ? { untilTimestamp: moment(v.until) } : asked?.verb === 'confirm' && v.start ? { startTimestamp: moment(v.start) } : {});
  return (
    <>
      <div className="sy-ask" role="status">
        <span>The firmware of {plural(list.length, 'server')} is to be updated and waits for your word.</span>
        <Button size="compact-xs" variant="white" onClick={() => setOpen(true)}>Look…</Button>
      </div>
      <Modal opened={open && !asked} onClose={() => setOpen(false)} size={820} title={<b>Firmware updates that wait for you</b>}>
        <Stack>
          <Text size="sm">Without an answer nothing happens.</Text>
          <Table aria-label="Updates">
            <Table.Thead><Table.Tr><Table.Th>Server</Table.Th><Table.Th>What</Table.Th><Table.Th>Answer until</Table.Th><Table.Th aria-label="Answer" /></Table.Tr></Table.Thead>
            <Table.Tbody>
              {list.map((c) => (
                <Table.Tr key={c.id}>
                  <Table.Td><b>{name(c)}</b></Table.Td>
                  <Table.Td>{c.updates.map((u) => <div key={u.componentId}>{u.name}: {u.from ?? '?'} → {u.to ?? '?'}</div>)}</Table.Td>
                  <Table.Td>{when(c.dueTimestamp)}</Table.Td>
                  <Table.Td>
                    <Group gap={4} wrap="nowrap" justify="flex-end">
                      {(['confirm', 'postpone', 'deny'] as const).map((verb) => <Button key={verb} size="compact-sm" variant={verb === 'confirm' ? 'filled' : 'default'} aria-label={`${WORDS[verb].label}: ${name(c)}`} onClick={() => ask({ verb, of: [c] })}>{WORDS[verb].label}</Button>)}
                    </Group>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
          {list.length > 1 && <Group justify="flex-end"><Button onClick={() => ask({ verb: 'confirm', of: list })}>{`Update all ${list.length}`}</Button></Group>}
        </Stack>
      </Modal>
      {asked && (
        <FormDialog
          title={`${WORDS[asked.verb].label}: ${asked.of.length === 1 ? name(asked.of[0]) : plural(asked.of.length, 'server')}`}
          intro={WORDS[asked.verb].text}
          fields={fields}
          initial={asked.verb === 'postpone' ? { until: local(new Date(Date.now() + 86_400_000)) } : {}}
          submit={WORDS[asked.verb].submit}
          close={() => ask(null)}
          save={async (values) => {
            for (const c of asked.of) await api.post(`/firmware/confirmations/${c.id}/actions/${asked.verb}`, asked.verb === 'deny' ? undefined : bodyOf(values), c.revision);
            await client.invalidateQueries({ queryKey: key });
            if (list.length === asked.of.length) setOpen(false);
            toast(WORDS[asked.verb].said, asked.of.length === 1 ? name(asked.of[0]) : plural(asked.of.length, 'server'));
          }}
        />
      )}
    </>
  );
}
