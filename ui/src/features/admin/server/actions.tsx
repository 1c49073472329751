import { ActionIcon, Button, Group, Menu, Modal, Stack, Text } from '@mantine/core';
import { IconDots, IconPower, IconRefresh } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { useState } from 'react';
import { api } from '../../../api/client';
import type { CleanupPolicy } from '../../../api/hardware';
import type { CustomIso } from '../../../api/systems';
import type { Page as Answer, Server, ServerType } from '../../../api/types';
import { type Field, FormDialog, type Values } from '../../../components/Form';
import { words } from '../../../components/format';
import { ErrorCard } from '../../../components/states';
import { toast } from '../../../components/toast';
import { profilesQuery } from '../Registration';
import { SecretDialog } from '../SecretDialog';

export const nameOf = (s: Server) => s.serialNumber || `server ${s.serverId}`;

const POWER = [
  { command: 'on', label: 'Power on', text: 'The server starts.' },
  { command: 'soft', label: 'Shut down', text: 'The operating system is asked to shut down.' },
  { command: 'reset', label: 'Reset', text: 'The server restarts at once, without asking its operating system.' },
  { command: 'off', label: 'Power off', text: 'The power is cut at once. What is not written to disk is lost.' },
];

function useDone() {
  const client = useQueryClient();
  return (title: string, text: string) => {
    toast(title, text);
    void client.invalidateQueries({ queryKey: ['server'] });
    void client.invalidateQueries({ queryKey: ['job-groups'] });
  };
}

export function PowerMenu({ server }: { server: Server }) {
  const [asked, ask] = useState<(typeof POWER)[number] | null>(null);
  const done = useDone();
  const act = useMutation({
    mutationFn: (command: string) => api.post(`/servers/${server.serverId}/actions/set-power`, { powerCommand: command }, server.revision),
    onSuccess: () => {
      done('Power command sent', `${asked?.label}: ${nameOf(server)}`);
      ask(null);
    },
  });
  return (
    <>
      <Menu position="bottom-end" shadow="md">
        <Menu.Target><Button variant="default" leftSection={<IconPower size={17} />}>Power</Button></Menu.Target>
        <Menu.Dropdown>{POWER.map((p) => <Menu.Item key={p.command} onClick={() => { act.reset(); ask(p); }}>{p.label}…</Menu.Item>)}</Menu.Dropdown>
      </Menu>
      {asked && <Modal opened onClose={() => ask(null)} title={<b>{asked.label}: {nameOf(server)}</b>}>
        <Stack>
          <Text size="sm">{asked.text}</Text>
          {server.allocationInfo && asked.command !== 'on' && <Text size="sm" className="bad">In use by {server.allocationInfo.infrastructure?.label} / {server.allocationInfo.instanceLabel}.</Text>}
          {act.error && <ErrorCard error={act.error} what="Power command refused" />}
          <Group justify="flex-end">
            <Button variant="default" onClick={() => ask(null)}>Cancel</Button>
            <Button color={asked.command === 'on' ? undefined : 'red'} loading={act.isPending} onClick={() => act.mutate(asked.command)}>{asked.label}</Button>
          </Group>
        </Stack>
      </Modal>}
    </>
  );
}

/** What a person may make of a server; the rest of its states is made by its own jobs. */
const BY_HAND: Record<string, string[]> = {
  available: ['unavailable', 'defective'],
  unavailable: ['available', 'defective', 'decommissioned'],
  registration_incomplete: ['unavailable', 'defective'],
  cleaning_required: ['defective'],
  defective: ['cleaning_required', 'unavailable', 'removed_from_rack', 'decommissioned'],
};

interface Verb {
  label: string;
  danger?: boolean;
  when?: (s: Server) => boolean;
  title: (s: Server) => string;
  intro: (s: Server) => string;
  fields?: (s: Server) => Field[];
  values?: (s: Server) => Values;
  submit: string;
  run: (s: Server, body: Values) => Promise<unknown>;
  said: string;
}
const action = (s: Server, verb: string, body?: unknown) => api.post(`/servers/${s.serverId}/actions/${verb}`, body, s.revision);

function useVerbs(open: boolean): Verb[] {
  const types = useQuery({ queryKey: ['server-types'], enabled: open, staleTime: 60_000, queryFn: () => api.get<Answer<ServerType>>('/server-types', { limit: 100 }) });
  const policies = useQuery({ queryKey: ['cleanup-policies'], enabled: open, staleTime: 30_000, retry: false, queryFn: () => api.get<Answer<CleanupPolicy>>('/servers/cleanup-policies', { limit: 100 }) });
  const profiles = useQuery({ ...profilesQuery, enabled: open });
  const isos = useQuery({ queryKey: ['custom-isos'], enabled: open, staleTime: 30_000, retry: false, queryFn: () => api.get<Answer<CustomIso>>('/custom-isos', { limit: 100 }) });
  const ids = (list: { id: number; name?: string; label?: string | null }[] | undefined) => list?.map((x) => ({ value: String(x.id), label: x.name ?? x.label ?? String(x.id) })) ?? [];
  return [
    {
      label: 'Edit…', title: (s) => `Edit ${nameOf(s)}`, intro: () => '', submit: 'Save', said: 'Server changed',
      fields: () => [
        { name: 'rackName', label: 'Rack' },
        { name: 'rackPositionLowerUnit', label: 'Lowest unit' },
        { name: 'serverTypeId', label: 'Server type', kind: 'select', numeric: true, options: ids(types.data?.data) },
        { name: 'serverCleanupPolicyId', label: 'Cleanup policy', kind: 'select', numeric: true, placeholder: 'Of its profile or site', options: ids(policies.data?.data) },
        { name: 'registrationProfileId', label: 'Registration profile', kind: 'select', numeric: true, options: ids(profiles.data?.data) },
        { name: 'tags', label: 'Tags', kind: 'words' },
        { name: 'serverComments', label: 'Comments', kind: 'area' },
      ],
      values: (s) => ({ rackName: s.rackName, rackPositionLowerUnit: s.rackPositionLowerUnit, serverTypeId: s.serverTypeId, serverCleanupPolicyId: s.serverCleanupPolicyId, registrationProfileId: s.registrationProfileId, tags: s.tags ?? [], serverComments: s.serverComments }),
      run: (s, body) => api.patch(`/servers/${s.serverId}`, body, s.revision),
    },
    {
      label: 'Change state…', when: (s) => (BY_HAND[s.serverStatus] ?? []).length > 0, title: (s) => `State of ${nameOf(s)}`, intro: (s) => `It is ${words(s.serverStatus).toLowerCase()} now.`, submit: 'Change', said: 'State changed',
      fields: (s) => [{ name: 'serverStatus', label: 'New state', kind: 'select', required: true, options: (BY_HAND[s.serverStatus] ?? []).map((v) => ({ value: v, label: words(v) })) }],
      run: (s, body) => api.patch(`/servers/${s.serverId}`, body, s.revision),
    },
    {
      label: 'Begin maintenance…', when: (s) => !s.maintenance, title: (s) => `Maintenance of ${nameOf(s)}`, intro: (s) => (s.allocationInfo ? 'Whoever uses it keeps it; nobody new gets it.' : 'Nobody gets it until the maintenance ends.'), submit: 'Begin maintenance', said: 'In maintenance',
      fields: () => [{ name: 'reason', label: 'Reason', required: true, maxLength: 500 }],
      run: (s, body) => action(s, 'set-maintenance', { enabled: true, ...body }),
    },
    { label: 'End maintenance', when: (s) => Boolean(s.maintenance), title: (s) => `End maintenance of ${nameOf(s)}?`, intro: () => 'It may be used again.', submit: 'End maintenance', said: 'Maintenance ended', run: (s) => action(s, 'set-maintenance', { enabled: false }) },
    { label: 'Identify', title: (s) => `Identify ${nameOf(s)}?`, intro: () => 'Its light blinks, so that it is found in the rack.', submit: 'Blink', said: 'Its light blinks', run: (s) => action(s, 'identify-server') },
    { label: 'Clean…', danger: true, when: (s) => !s.allocationInfo && s.serverStatus === 'cleaning_required', title: (s) => `Clean ${nameOf(s)}?`, intro: () => 'Its disks are erased as its cleanup policy says. A certificate tells what was done.', submit: 'Clean', said: 'Cleaning begun', run: (s) => action(s, 'clean') },
    {
      label: 'Change BMC login…', title: (s) => `BMC login of ${nameOf(s)}`, intro: () => 'The login that sites use for this BMC.', submit: 'Save', said: 'BMC login changed',
      fields: () => [{ name: 'username', label: 'User', required: true }, { name: 'password', label: 'Password', kind: 'password', required: true }, { name: 'host', label: 'BMC address', mono: true, help: 'Empty: as it is.' }, { name: 'updateOnServer', label: 'Set this password on the BMC too', kind: 'switch' }],
      run: (s, body) => action(s, 'update-ipmi-credentials', body),
    },
    { label: 'New BMC password…', title: (s) => `A new password for the BMC of ${nameOf(s)}?`, intro: () => 'The site gives the account a random password of its own and proves it. Until then the old one stays.', submit: 'Change', said: 'The password is being changed', run: (s) => action(s, 'rotate-credentials') },
    { label: 'Trust certificate…', when: (s) => Boolean(s.tlsFingerprintShown), title: (s) => `Trust the new certificate of ${nameOf(s)}?`, intro: (s) => `The BMC shows another certificate than before: ${s.tlsFingerprintShown}. Compare it with the BMC before you trust it.`, submit: 'Trust it', said: 'Certificate trusted', danger: true, run: (s) => action(s, 'trust-certificate') },
    {
      label: 'Boot from an image…', when: (s) => !s.allocationInfo, title: (s) => `Boot ${nameOf(s)} from an image`, intro: () => 'It is put into the virtual drive of the BMC, booted once, and taken out again.', submit: 'Boot', said: 'It boots from the image',
      fields: () => [{ name: 'iso', label: 'Image', kind: 'select', required: true, options: isos.data?.data.map((i) => ({ value: String(i.id), label: i.name || i.label })) ?? [], help: isos.data?.data.length ? undefined : 'There is none yet: add one under OS templates.' }, { name: 'hours', label: 'Taken out after', kind: 'number', min: 1, max: 48, suffix: ' h' }],
      values: () => ({ hours: 4 }),
      run: (s, body) => api.post(`/custom-isos/${Number(body.iso)}/actions/boot-into-server/${s.serverId}?ejectAfterSeconds=${Number(body.hours ?? 4) * 3600}`),
    },
    { label: 'Take the image out…', title: (s) => `Take the image out of ${nameOf(s)}?`, intro: () => 'The virtual drive of its BMC is emptied.', submit: 'Take out', said: 'The image is taken out', run: (s) => action(s, 'eject-virtual-media') },
    { label: 'Restart the BMC…', title: (s) => `Restart the BMC of ${nameOf(s)}?`, intro: () => 'The server itself goes on. The BMC does not answer for some minutes.', submit: 'Restart', said: 'The BMC restarts', run: (s) => action(s, 'reset-bmc') },
    { label: 'Switch on SNMP', title: (s) => `Switch on SNMP at the BMC of ${nameOf(s)}?`, intro: () => 'Only to be read.', submit: 'Switch on', said: 'SNMP is being switched on', run: (s) => action(s, 'enable-snmp') },
    { label: 'Send events by syslog…', title: (s) => `Events of ${nameOf(s)} by syslog`, intro: () => 'The BMC sends what it logs.', submit: 'Set', said: 'Being set', fields: () => [{ name: 'target', label: 'Where to', mono: true, placeholder: '10.0.0.5:514', help: 'Empty: its site.' }], run: (s, body) => action(s, 'syslog-subscribe', body) },
    { label: 'Interrupt (NMI)…', danger: true, when: (s) => s.powerStatus === 'on', title: (s) => `Interrupt ${nameOf(s)}?`, intro: (s) => `Its operating system is interrupted (NMI); most write a dump and restart.${s.allocationInfo ? ` It is used by ${s.allocationInfo.infrastructure?.label ?? 'an infrastructure'}.` : ''}`, submit: 'Interrupt', said: 'Interrupted', run: (s) => action(s, 'send-nmi') },
    { label: 'Factory settings…', danger: true, when: (s) => !s.allocationInfo, title: (s) => `Put ${nameOf(s)} back to the settings of the factory?`, intro: () => 'BMC and firmware settings are lost, its login too: it must be registered again, with the login of the factory.', submit: 'Put back', said: 'Being put back', run: (s) => action(s, 'factory-reset') },
    { label: 'Archive…', danger: true, when: (s) => !s.allocationInfo, title: (s) => `Archive ${nameOf(s)}?`, intro: () => 'It leaves the lists and is no longer asked. Its history stays.', submit: 'Archive', said: 'Archived', run: (s) => action(s, 'archive') },
  ];
}

export function MoreMenu({ server }: { server: Server }) {
  const [used, use] = useState(false);
  const [verb, setVerb] = useState<string | null>(null);
  const [login, showLogin] = useState(false);
  const verbs = useVerbs(used);
  const done = useDone();
  const open = verbs.find((v) => v.label === verb);
  return (
    <>
      <Menu position="bottom-end" shadow="md" onOpen={() => use(true)}>
        <Menu.Target><ActionIcon variant="default" size={36} aria-label="More actions"><IconDots size={18} /></ActionIcon></Menu.Target>
        <Menu.Dropdown>
          {verbs.filter((v) => !v.danger && (!v.when || v.when(server))).map((v) => <Menu.Item key={v.label} onClick={() => setVerb(v.label)}>{v.label}</Menu.Item>)}
          <Menu.Item onClick={() => showLogin(true)}>Show BMC login…</Menu.Item>
          {verbs.some((v) => v.danger && (!v.when || v.when(server))) && <Menu.Divider />}
          {verbs.filter((v) => v.danger && (!v.when || v.when(server))).map((v) => <Menu.Item key={v.label} color="red" onClick={() => setVerb(v.label)}>{v.label}</Menu.Item>)}
        </Menu.Dropdown>
      </Menu>
      {open && (
        <FormDialog
          title={open.title(server)}
          intro={open.intro(server)}
          fields={open.fields?.(server) ?? []}
          initial={open.values?.(server)}
          submit={open.submit}
          danger={open.danger}
          close={() => setVerb(null)}
          save={async (body) => {
            await open.run(server, body);
            done(open.said, nameOf(server));
          }}
        />
      )}
      {login && (
        <SecretDialog
          title={`BMC login of ${nameOf(server)}`}
          ask={async () => {
            const c = await api.get<{ username?: string | null; password?: string | null }>(`/servers/${server.serverId}/credentials`);
            return [['User', c.username], ['Password', c.password]];
          }}
          close={() => showLogin(false)}
        />
      )}
    </>
  );
}

export function RegisterAgain({ server }: { server: Server }) {
  const [asked, ask] = useState(false);
  const done = useDone();
  return (
    <>
      <Button variant="default" leftSection={<IconRefresh size={17} />} onClick={() => ask(true)}>Register again</Button>
      {asked && (
        <FormDialog
          title={`Register ${nameOf(server)} again?`}
          intro={server.allocationInfo ? 'It is in use: its BMC is asked, the server itself is left alone.' : 'Its inventory is read over the BMC, then it is booted once from the network.'}
          fields={[]}
          submit="Register again"
          close={() => ask(false)}
          save={async () => {
            await action(server, 're-register');
            done('Registration begun', nameOf(server));
          }}
        />
      )}
    </>
  );
}
