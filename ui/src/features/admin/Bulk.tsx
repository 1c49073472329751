import { Button, Group, Menu, Modal, Progress, Stack, Table, Text } from '@mantine/core';
import { IconChevronDown } from '@tabler/icons-react';
import { useQueryClient } from '@tanstack/react-query';
import { useRef, useState } from 'react';
import { api } from '../../api/client';
import type { Server } from '../../api/types';
import { type Field, FormFields, type Values } from '../../components/Form';
import { plural } from '../../components/format';

interface Act {
  label: string;
  text: string;
  danger?: boolean;
  fields?: Field[];
  /** Servers that it is of no use for, with the reason. */
  not?: (s: Server) => string | null;
  run: (s: Server, values: Values) => Promise<unknown>;
}
const action = (s: Server, verb: string, body?: unknown) => api.post(`/servers/${s.serverId}/actions/${verb}`, body, s.revision);
const inUse = (s: Server) => (s.allocationInfo ? `in use by ${s.allocationInfo.infrastructure?.label ?? 'an infrastructure'}` : null);
const power = (command: string) => (s: Server) => action(s, 'set-power', { powerCommand: command });

const ACTS: Act[] = [
  { label: 'Power on', text: 'They start.', run: power('on') },
  { label: 'Shut down', text: 'Their operating systems are asked to shut down.', danger: true, run: power('soft') },
  { label: 'Power off', text: 'The power is cut at once. What is not written to disk is lost.', danger: true, run: power('off') },
  { label: 'Register again', text: 'Their inventory is read anew. Servers in use are only asked, never booted.', run: (s) => action(s, 're-register') },
  { label: 'Read firmware', text: 'Their BMCs are asked which firmware runs.', run: (s) => api.post(`/servers/${s.serverId}/firmware/actions/update-info`) },
  { label: 'Begin maintenance', text: 'Who uses one keeps it; nobody new gets one.', fields: [{ name: 'reason', label: 'Reason', required: true, maxLength: 500 }], not: (s) => (s.maintenance ? 'in maintenance already' : null), run: (s, v) => action(s, 'set-maintenance', { enabled: true, reason: v.reason }) },
  { label: 'End maintenance', text: 'They may be used again.', not: (s) => (s.maintenance ? null : 'not in maintenance'), run: (s) => action(s, 'set-maintenance', { enabled: false }) },
  { label: 'Clean', text: 'Their disks are erased as their cleanup policies say.', danger: true, not: (s) => inUse(s) ?? (s.serverStatus === 'cleaning_required' ? null : 'does not wait for cleaning'), run: (s) => action(s, 'clean') },
  { label: 'Add tags', text: 'They keep the tags that they have.', fields: [{ name: 'tags', label: 'Tags', kind: 'words', required: true }], run: (s, v) => api.patch(`/servers/${s.serverId}`, { tags: [...new Set([...(s.tags ?? []), ...((v.tags as string[] | undefined) ?? [])])] }, s.revision) },
];
const AT_ONCE = 4;

/** What is done with many servers: each is asked by itself, and each refusal is told with its server. */
export function BulkActions({ servers, done }: { servers: Server[]; done: () => void }) {
  const [act, setAct] = useState<Act | null>(null);
  return (
    <>
      <Menu position="bottom-end" shadow="md">
        <Menu.Target><Button variant="default" rightSection={<IconChevronDown size={16} />}>{`With ${plural(servers.length, 'server')}`}</Button></Menu.Target>
        <Menu.Dropdown>
          {ACTS.filter((a) => !a.danger).map((a) => <Menu.Item key={a.label} onClick={() => setAct(a)}>{a.label}…</Menu.Item>)}
          <Menu.Divider />
          {ACTS.filter((a) => a.danger).map((a) => <Menu.Item key={a.label} color="red" onClick={() => setAct(a)}>{a.label}…</Menu.Item>)}
          <Menu.Divider />
          <Menu.Item onClick={done}>Choose none</Menu.Item>
        </Menu.Dropdown>
      </Menu>
      {act && <BulkDialog key={act.label} act={act} servers={servers} close={() => setAct(null)} />}
    </>
  );
}

function BulkDialog({ act, servers: now, close }: { act: Act; servers: Server[]; close: () => void }) {
  const client = useQueryClient();
  // As they were when it was asked for: what it does to them must not change whom it is about.
  const [servers] = useState(now);
  const [values, setValues] = useState<Values>({});
  const [over, setOver] = useState<number | null>(null);
  const [refused, setRefused] = useState<{ server: Server; why: string }[]>([]);
  const stopped = useRef(false);
  const left = servers.map((server) => ({ server, why: act.not?.(server) ?? null }));
  const fit = left.filter((l) => !l.why).map((l) => l.server);
  const lacks = act.fields?.some((f) => f.required && !String(values[f.name] ?? '').length);
  const name = (s: Server) => s.serialNumber || `server ${s.serverId}`;
  const run = async () => {
    let at = 0;
    setOver(0);
    setRefused([]);
    await Promise.all(
      Array.from({ length: AT_ONCE }, async () => {
        while (at < fit.length && !stopped.current) {
          const server = fit[at++];
          await act.run(server, values).catch((e: unknown) => setRefused((all) => [...all, { server, why: e instanceof Error ? e.message : String(e) }]));
          setOver((n) => (n ?? 0) + 1);
        }
      }),
    );
    void client.invalidateQueries({ queryKey: ['list', '/servers'] });
  };
  const running = over !== null && over < fit.length && !stopped.current;
  const ended = over !== null && !running;
  const leave = () => {
    stopped.current = true;
    close();
  };
  return (
    <Modal opened onClose={leave} closeOnClickOutside={!running} title={<b>{`${act.label}: ${plural(servers.length, 'server')}`}</b>} size="lg">
      <form noValidate onSubmit={(e) => { e.preventDefault(); if (over === null && fit.length && !lacks) void run(); }}>
        <Stack>
          <Text size="sm">{act.text}</Text>
          {act.danger && fit.some(inUse) && <Text size="sm" className="bad">{`${plural(fit.filter(inUse).length, 'server')} of them ${fit.filter(inUse).length === 1 ? 'is' : 'are'} in use.`}</Text>}
          {left.some((l) => l.why) && <Text size="sm" c="dimmed">{`${plural(left.length - fit.length, 'server')} left alone: ${[...new Set(left.flatMap((l) => l.why ?? []))].slice(0, 3).join('; ')}.`}</Text>}
          {act.fields && over === null && <FormFields fields={act.fields} values={values} error={() => undefined} set={(field, value) => setValues((v) => ({ ...v, [field]: value }))} />}
          {over !== null && (
            <div role="status">
              <Progress value={(100 * over) / Math.max(1, fit.length)} color={refused.length ? 'amber' : 'steel'} aria-label="Progress" mb={6} />
              <Text size="sm" className="num">{`${over} of ${fit.length} asked${refused.length ? `, ${refused.length} refused` : ended ? '. What comes of it is shown in the list and among the jobs.' : ''}`}</Text>
            </div>
          )}
          {refused.length > 0 && (
            <div style={{ maxHeight: 240, overflow: 'auto' }} tabIndex={0} role="region" aria-label="Refusals">
              <Table aria-label="Refused">
                <Table.Tbody>{refused.map((r) => <Table.Tr key={r.server.serverId}><Table.Td className="mono">{name(r.server)}</Table.Td><Table.Td className="bad">{r.why}</Table.Td></Table.Tr>)}</Table.Tbody>
              </Table>
            </div>
          )}
          <Group justify="flex-end">
            {!ended && <Button variant="default" onClick={leave}>{running ? 'Stop' : 'Cancel'}</Button>}
            {ended ? <Button data-autofocus onClick={leave}>Close</Button> : <Button type="submit" color={act.danger ? 'red' : undefined} loading={running} disabled={!fit.length || lacks}>{`${act.label}: ${fit.length}`}</Button>}
          </Group>
        </Stack>
      </form>
    </Modal>
  );
}
