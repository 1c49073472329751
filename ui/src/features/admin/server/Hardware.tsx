import { Alert, Button, Group, SimpleGrid, Table, Text, TextInput, Title } from '@mantine/core';
import { IconEraser, IconRefresh, IconSearch } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { type ReactNode, useState } from 'react';
import { api } from '../../../api/client';
import type { Component } from '../../../api/firmware';
import type { Page as Answer, Server } from '../../../api/types';
import { type Field, FormDialog } from '../../../components/Form';
import { count, when, words } from '../../../components/format';
import { ErrorCard, Loading } from '../../../components/states';
import { Ago, Status } from '../../../components/status';
import { toast } from '../../../components/toast';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';
import { nameOf } from './actions';

/** What a BMC is asked for when the tab is opened: it takes a moment, and is not asked again by itself. */
function useAsked<T>(server: Server, what: string) {
  return useQuery({ queryKey: ['bmc', server.serverId, what], staleTime: 60_000, retry: false, refetchOnWindowFocus: false, queryFn: () => api.get<T>(`/servers/${server.serverId}/${what}`) });
}
/** Sensors answer from the site's last reading; who asks again wants them read now. */
function useReadings(server: Server) {
  const [now, again] = useState(false);
  const q = useQuery({ queryKey: ['bmc', server.serverId, 'sensors', now], staleTime: 60_000, retry: false, refetchOnWindowFocus: false, queryFn: () => api.get<Readings>(`/servers/${server.serverId}/sensors`, now ? { now: 'true' } : undefined) });
  const at = Date.parse(q.data?.read_at ?? '');
  return { isFetching: q.isFetching, error: q.error, data: q.data, dataUpdatedAt: Number.isNaN(at) ? q.dataUpdatedAt : at, refetch: () => (now ? void q.refetch() : again(true)) };
}
function Asked({ q, title, tools, children }: { q: { isFetching: boolean; error: unknown; data: unknown; refetch: () => unknown; dataUpdatedAt: number }; title: string; tools?: ReactNode; children: ReactNode }) {
  return (
    <section className="panel pad">
      <Group justify="space-between" mb="sm">
        <Title order={2}>{title} {q.dataUpdatedAt > 0 && <Text component="span" size="sm" c="dimmed">read <Ago at={new Date(q.dataUpdatedAt).toISOString()} /></Text>}</Title>
        <Group gap="xs">
          {tools}
          <Button variant="default" size="xs" leftSection={<IconRefresh size={15} />} loading={q.isFetching} onClick={() => void q.refetch()}>Read again</Button>
        </Group>
      </Group>
      {q.error ? <ErrorCard error={q.error} retry={() => void q.refetch()} what="The BMC did not tell" /> : q.data === undefined ? <><Text size="sm" c="dimmed" mb="xs">The site asks the BMC…</Text><Loading rows={5} /></> : children}
    </section>
  );
}

interface Reading {
  name: string;
  value: number;
  health: string;
}
interface Readings {
  health: string;
  temperatures: Reading[];
  fans: Reading[];
  power_watts?: number | null;
  problems?: { part: string; health: string }[] | null;
  read_at?: string | null;
}
const HEALTH: Record<string, string> = { ok: 'success', warning: 'warning', critical: 'critical' };
const health = (h: string) => <Status value={HEALTH[h.toLowerCase()] ?? 'unknown'} label={words(h)} />;

export function Sensors({ server }: { server: Server }) {
  const q = useReadings(server);
  const rows = (list: Reading[], unit: string) => (
    <Table aria-label={unit === '°C' ? 'Temperatures' : 'Fans'}>
      <Table.Tbody>
        {list.map((r) => <Table.Tr key={r.name}><Table.Td>{r.name}</Table.Td><Table.Td className="num" w={130}>{count(Math.round(r.value * 10) / 10)} {unit}</Table.Td><Table.Td w={110}>{health(r.health)}</Table.Td></Table.Tr>)}
      </Table.Tbody>
    </Table>
  );
  const d = q.data;
  return (
    <Asked q={q} title="Sensors">
      {d && (
        <>
          <Group mb="md">{health(d.health)}{typeof d.power_watts === 'number' && <Text size="sm">takes <b className="num">{count(Math.round(d.power_watts))} W</b></Text>}</Group>
          {Boolean(d.problems?.length) && <Alert color="amber" mb="md" p="xs">{d.problems?.map((p) => `${p.part}: ${p.health}`).join(', ')}</Alert>}
          <SimpleGrid cols={{ base: 1, md: 2 }}>
            <div><Title order={3} mb="xs">Temperatures</Title>{d.temperatures.length ? rows(d.temperatures, '°C') : <Text size="sm" c="dimmed">None is told.</Text>}</div>
            <div><Title order={3} mb="xs">Fans</Title>{d.fans.length ? rows(d.fans, 'rpm') : <Text size="sm" c="dimmed">None is told.</Text>}</div>
          </SimpleGrid>
        </>
      )}
    </Asked>
  );
}

interface Entry {
  id: string;
  at?: string | null;
  severity: string;
  message: string;
}

export function EventLog({ server }: { server: Server }) {
  const q = useAsked<{ entries: Entry[] }>(server, 'event-log');
  const client = useQueryClient();
  const [clearing, clear] = useState(false);
  const [search, setSearch] = useState('');
  const [most, setMost] = useState(100);
  const fits = (q.data?.entries ?? []).filter((e) => !search || e.message.toLowerCase().includes(search.toLowerCase()));
  return (
    <Asked
      q={q}
      title="Event log of the hardware"
      tools={
        <>
          <TextInput size="xs" aria-label="Search the log" placeholder="Search" leftSection={<IconSearch size={14} />} value={search} onChange={(e) => setSearch(e.currentTarget.value)} />
          <Button variant="default" size="xs" leftSection={<IconEraser size={15} />} disabled={!q.data?.entries.length} onClick={() => clear(true)}>Empty it…</Button>
        </>
      }
    >
      {fits.length ? (
        <Table aria-label="Event log">
          <Table.Thead><Table.Tr><Table.Th w={240}>Time</Table.Th><Table.Th w={120}>Weight</Table.Th><Table.Th>What happened</Table.Th></Table.Tr></Table.Thead>
          <Table.Tbody>{fits.slice(0, most).map((e) => <Table.Tr key={e.id}><Table.Td className="num">{e.at && !Number.isNaN(Date.parse(e.at)) ? when(e.at) : (e.at ?? '–')}</Table.Td><Table.Td>{health(e.severity)}</Table.Td><Table.Td>{e.message}</Table.Td></Table.Tr>)}</Table.Tbody>
        </Table>
      ) : (
        <Text size="sm" c="dimmed">{search ? 'Nothing matches.' : 'The log is empty.'}</Text>
      )}
      {fits.length > most && <Button mt="xs" variant="subtle" onClick={() => setMost(most + 400)}>{`Show more (${count(fits.length - most)})`}</Button>}
      {clearing && (
        <FormDialog
          title={`Empty the event log of ${nameOf(server)}?`}
          intro="What is in it stays in the answer of the job."
          fields={[]}
          submit="Empty it"
          danger
          close={() => clear(false)}
          save={async () => {
            await api.post(`/servers/${server.serverId}/actions/clear-event-log`, undefined, server.revision);
            toast('The log is being emptied', nameOf(server));
            setTimeout(() => void client.invalidateQueries({ queryKey: ['bmc', server.serverId] }), 3_000);
          }}
        />
      )}
    </Asked>
  );
}

type Setting = string | number | boolean;

export function Bios({ server }: { server: Server }) {
  const q = useAsked<{ attributes: Record<string, Setting>; pending: Record<string, Setting> }>(server, 'bios');
  const client = useQueryClient();
  const [search, setSearch] = useState('');
  const [edited, edit] = useState<string | null>(null);
  const waits = Object.keys(q.data?.pending ?? {}).length;
  const all = Object.entries(q.data?.attributes ?? {}).filter(([k]) => k.toLowerCase().includes(search.toLowerCase()));
  const said = (v: Setting) => (typeof v === 'boolean' ? (v ? 'on' : 'off') : String(v));
  const field = (name: string): Field => {
    const v = q.data?.attributes[name];
    return typeof v === 'boolean' ? { name: 'value', label: name, kind: 'switch' } : typeof v === 'number' ? { name: 'value', label: name, kind: 'number', required: true } : { name: 'value', label: name, required: true, mono: true };
  };
  return (
    <Asked q={q} title="Firmware settings" tools={<TextInput size="xs" aria-label="Search settings" placeholder="Search" leftSection={<IconSearch size={14} />} value={search} onChange={(e) => setSearch(e.currentTarget.value)} />}>
      {waits > 0 && <Alert color="amber" p="xs" mb="sm">{waits === 1 ? 'One setting waits' : `${waits} settings wait`} for the next restart.</Alert>}
      <Table aria-label="Settings">
        <Table.Thead><Table.Tr><Table.Th>Setting</Table.Th><Table.Th>Value</Table.Th><Table.Th>After restart</Table.Th><Table.Th w={90} aria-label="Change" /></Table.Tr></Table.Thead>
        <Table.Tbody>
          {all.map(([name, v]) => (
            <Table.Tr key={name}>
              <Table.Td className="mono">{name}</Table.Td>
              <Table.Td className="mono">{said(v)}</Table.Td>
              <Table.Td className="mono">{q.data?.pending[name] === undefined ? '' : <span className="mark-edit">{said(q.data.pending[name])}</span>}</Table.Td>
              <Table.Td><Button size="compact-xs" variant="subtle" aria-label={`Change ${name}`} onClick={() => edit(name)}>Change</Button></Table.Td>
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
      {!all.length && <Text size="sm" c="dimmed" mt="xs">{search ? 'Nothing matches.' : 'This BMC tells no setting.'}</Text>}
      {edited && (
        <FormDialog
          title={`Change ${edited}`}
          intro="In force after the next restart. Not possible on a server that is used."
          fields={[field(edited)]}
          initial={{ value: q.data?.pending[edited] ?? q.data?.attributes[edited] }}
          submit="Change"
          close={() => edit(null)}
          save={async ({ value }) => {
            await api.patch(`/servers/${server.serverId}/bios`, { attributes: { [edited]: value } }, server.revision);
            toast('Being set', `${edited}: ${said(value as Setting)}`);
            setTimeout(() => void client.invalidateQueries({ queryKey: ['bmc', server.serverId, 'bios'] }), 3_000);
          }}
        />
      )}
    </Asked>
  );
}

/** Versions that can be had, whatever list or map the server keeps them in. */
function versions(of: unknown): string[] {
  if (Array.isArray(of)) return of.flatMap((v) => (typeof v === 'string' ? [v] : versions(v)));
  if (!of || typeof of !== 'object') return [];
  const map = of as Record<string, unknown>;
  const own = typeof map.version === 'string' ? [map.version] : typeof map.packageVersion === 'string' ? [map.packageVersion] : [];
  return own.length ? own : Object.values(map).flatMap((v) => (typeof v === 'object' ? versions(v) : []));
}
const concerns = (id: number) => (m: LiveMessage) => (m.topic === 'job' && Number(m.data.serverId) === id) || (m.topic === 'object' && m.data.kind === 'server' && Number(m.data.id) === id);

export function Firmware({ server }: { server: Server }) {
  const key = ['components', server.serverId];
  const q = useQuery({ queryKey: key, queryFn: () => api.get<Answer<Component>>(`/servers/${server.serverId}/firmware/components`, { limit: 100 }) });
  useRefreshOn(key, concerns(server.serverId));
  const client = useQueryClient();
  const [asked, ask] = useState<Component | null>(null);
  const read = async () => {
    await api.post(`/servers/${server.serverId}/firmware/actions/update-info`, undefined);
    toast('The firmware is being read', nameOf(server));
    setTimeout(() => void client.invalidateQueries({ queryKey: key }), 3_000);
  };
  const list = q.data?.data ?? [];
  return (
    <section className="panel pad">
      <Group justify="space-between" mb="sm">
        <Title order={2}>Firmware</Title>
        <ReadButton read={read} />
      </Group>
      {q.error ? <ErrorCard error={q.error} retry={() => void q.refetch()} /> : !q.data ? <Loading rows={5} /> : !list.length ? <Text size="sm" c="dimmed">Nothing is known yet: read it from the BMC.</Text> : (
        <Table aria-label="Firmware">
          <Table.Thead><Table.Tr><Table.Th>Part</Table.Th><Table.Th>Kind</Table.Th><Table.Th>Version</Table.Th><Table.Th>Can be had</Table.Th><Table.Th>State</Table.Th><Table.Th w={110} aria-label="Update" /></Table.Tr></Table.Thead>
          <Table.Tbody>
            {list.map((c) => {
              const newer = versions(c.firmwareUpdateAvailableVersions).filter((v) => v !== c.firmwareVersion);
              return (
                <Table.Tr key={c.id}>
                  <Table.Td>{c.name ?? c.externalId}{c.firmwareFailure && <Text size="xs" className="bad">{c.firmwareFailure}</Text>}</Table.Td>
                  <Table.Td>{words(c.type ?? '–')}</Table.Td>
                  <Table.Td className="mono">{c.firmwareVersion ?? '–'}</Table.Td>
                  <Table.Td className="mono">{c.firmwareTargetVersion ?? (newer.join(', ') || '–')}</Table.Td>
                  <Table.Td>{c.firmwareStatus === 'updating' ? <Status value="running" label="Updating" /> : c.firmwareStatus === 'failed_upgrade' ? <Status value="failed" label="Update failed" /> : c.firmwareScheduledTimestamp ? <>from {when(c.firmwareScheduledTimestamp)}</> : ''}</Table.Td>
                  <Table.Td>{c.firmwareUpdateable ? <Button size="compact-sm" variant="light" disabled={c.firmwareStatus === 'updating'} aria-label={`Update ${c.name ?? c.externalId}`} onClick={() => ask(c)}>Update…</Button> : null}</Table.Td>
                </Table.Tr>
              );
            })}
          </Table.Tbody>
        </Table>
      )}
      {asked && (
        <FormDialog
          title={`Update ${asked.name ?? asked.externalId}`}
          intro={server.allocationInfo ? 'The server is used: its owner is asked first.' : 'The server may restart for it.'}
          fields={[
            { name: 'componentFirmwareNewVersion', label: 'Version', kind: versions(asked.firmwareUpdateAvailableVersions).length ? 'select' : 'text', options: versions(asked.firmwareUpdateAvailableVersions).map((v) => ({ value: v, label: v })), help: 'Out of the catalogs.' },
            { name: 'firmwareBinaryUrl', label: 'Or an image by its address', mono: true },
            { name: 'rebootRequired', label: 'Restart for it', kind: 'switch' },
          ]}
          submit="Update"
          close={() => ask(null)}
          save={async (body) => {
            await api.post(`/servers/${server.serverId}/firmware/components/${asked.id}/actions/upgrade`, body);
            toast('Update ordered', asked.name ?? String(asked.id));
            void client.invalidateQueries({ queryKey: key });
          }}
        />
      )}
    </section>
  );
}

function ReadButton({ read }: { read: () => Promise<void> }) {
  const [busy, setBusy] = useState(false);
  const [error, setError] = useState<unknown>();
  return (
    <Group gap="xs">
      {error !== undefined && <Text size="sm" className="bad" role="alert">{error instanceof Error ? error.message : String(error)}</Text>}
      <Button variant="default" size="xs" leftSection={<IconRefresh size={15} />} loading={busy} onClick={() => { setBusy(true); setError(undefined); read().catch(setError).finally(() => setBusy(false)); }}>Read from the BMC</Button>
    </Group>
  );
}
