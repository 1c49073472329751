import { ActionIcon, Button, Group, Menu, Modal, Stack, Text, TextInput } from '@mantine/core';
import { IconDots, IconEye, IconPower } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type ReactNode, useEffect, useState } from 'react';
import { api } from '../../../api/client';
import type { CustomIso } from '../../../api/systems';
import type { InstanceCredentials, Page, ServerInstance } from '../../../api/types';
import { FormDialog, type Values } from '../../../components/Form';
import { plural } from '../../../components/format';
import { ErrorCard } from '../../../components/states';
import { Status } from '../../../components/status';
import { toast, toastError } from '../../../components/toast';
import type { LiveMessage } from '../../../live/stream';
import { useRefreshOn } from '../../../live/use';
import { InstanceConsole } from '../../console/ConsoleTab';
import { useDesignerContext } from '../context';
import type { Key } from '../model/doc';
import { flush, load } from '../model/persist';
import { useDesigner } from '../model/store';
import { Secret } from './parts';

/** Every address anywhere in the allocated network configuration (netplan shape, nested per interface). */
export function addressesOf(config: unknown): string[] {
  const out = new Set<string>();
  const walk = (value: unknown, field: string) => {
    if (typeof value === 'string') {
      if (/address/i.test(field) && /^[0-9a-f:.]+(\/\d+)?$/i.test(value) && /[.:]/.test(value) && !/^([0-9a-f]{2}:){5}[0-9a-f]{2}$/i.test(value)) out.add(value.split('/')[0]);
    } else if (Array.isArray(value)) for (const v of value) walk(v, field);
    else if (value && typeof value === 'object') for (const [k, v] of Object.entries(value)) walk(v, /^(ip|ipv4|ipv6|address)/i.test(k) || /address/i.test(k) ? 'address' : /address/i.test(field) ? field : k);
  };
  walk(config, '');
  return [...out];
}

type Power = 'on' | 'off' | 'soft' | 'reset';
const POWER: { command: Power; label: string; text: string }[] = [
  { command: 'on', label: 'Power on', text: 'Starts.' },
  { command: 'soft', label: 'Shut down', text: 'The operating system is asked to shut down.' },
  { command: 'reset', label: 'Restart', text: 'Restarts at once, without asking the operating system.' },
  { command: 'off', label: 'Power off', text: 'The power is cut at once. What is not written to disk is lost.' },
];
const PAGE = 25;
const SHOWN_MS = 120_000;

/** The servers of a group: how to reach them, their power, and what can be done with each. */
export function Servers({ id, group, instances }: { id: Key; group: string; instances: ServerInstance[] }) {
  const { infrastructure } = useDesignerContext();
  const [search, setSearch] = useState('');
  const [most, setMost] = useState(PAGE);
  const [asked, ask] = useState<{ command: Power; of: ServerInstance[] } | null>(null);
  const fits = instances.filter((i) => !search || [i.label, i.hostname, ...addressesOf(i.allocatedNetworkConfig)].some((t) => t?.includes(search)));
  const shown = fits.slice(0, most);
  const running = instances.filter((i) => i.serviceStatus !== 'ordered');
  const ids = shown.filter((i) => i.serviceStatus !== 'ordered').map((i) => String(i.id));
  const power = useQuery({
    queryKey: ['power', infrastructure.id, ids],
    enabled: ids.length > 0,
    refetchInterval: 10_000,
    retry: false,
    queryFn: () => api.post<Record<string, string>>(`/infrastructures/${infrastructure.id}/actions/power-get`, ids),
  });
  useRefreshOn(['power', infrastructure.id], isJob);
  if (!instances.length)
    return (
      <Text size="sm" c="dimmed">
        Servers appear here once a deploy has begun.
      </Text>
    );
  return (
    <Stack gap="xs">
      {running.length > 0 && (
        <Group justify="space-between" gap="xs" wrap="nowrap">
          {instances.length > 5 ? <TextInput size="xs" flex={1} aria-label="Search servers" placeholder="Name or address" value={search} onChange={(e) => setSearch(e.currentTarget.value)} /> : <span />}
          <PowerMenu label={`Actions for all servers of ${group}`} text="All" choose={(command) => ask({ command, of: running })}><Rest id={id} /></PowerMenu>
        </Group>
      )}
      {shown.map((i) => (
        <Instance key={i.id} instance={i} power={power.data?.[String(i.id)]} choose={(command) => ask({ command, of: [i] })} />
      ))}
      {!fits.length && <Text size="sm" c="dimmed">None matches.</Text>}
      {fits.length > most && (
        <Button variant="subtle" size="compact-sm" onClick={() => setMost(most + 4 * PAGE)}>
          {`Show more (${fits.length - most})`}
        </Button>
      )}
      {asked && <PowerDialog command={asked.command} of={asked.of} group={group} close={() => ask(null)} />}
    </Stack>
  );
}
/** A group that rests keeps its servers; they are switched off by the next deploy, and on again by a later one. */
function Rest({ id }: { id: Key }) {
  const { infrastructure } = useDesignerContext();
  const client = useQueryClient();
  const facts = useDesigner((s) => s.facts[id]?.group);
  const locked = useDesigner((s) => s.locked);
  if (!facts || facts.serviceStatus === 'ordered') return null;
  const pending = facts.config && facts.config.deployStatus !== 'finished' ? facts.config.deployType : undefined;
  const rests = facts.serviceStatus === 'stopped' || facts.serviceStatus === 'suspended';
  const turn = async (verb: 'start' | 'stop' | 'suspend', said: string) => {
    try {
      await flush();
      const now = await api.get<{ revision: number }>(`/server-instance-groups/${facts.id}`);
      await api.post(`/server-instance-groups/${facts.id}/actions/${verb}`, undefined, now.revision);
      await Promise.all([load(infrastructure.id), client.invalidateQueries({ queryKey: ['infrastructure', infrastructure.id] })]);
      toast(said, 'Nothing happens before you press Deploy.');
    } catch (e) {
      toastError('Not changed', e);
    }
  };
  return (
    <>
      <Menu.Divider />
      {rests || pending === 'stop' || pending === 'suspend' ? (
        <Menu.Item disabled={locked || pending === 'start'} onClick={() => void turn('start', rests ? 'Started at the next deploy' : 'Stays as it is')}>{rests ? 'Start at next deploy' : 'Do not stop'}</Menu.Item>
      ) : (
        <>
          <Menu.Item disabled={locked} onClick={() => void turn('stop', 'Stopped at the next deploy')}>Stop at next deploy</Menu.Item>
          <Menu.Item disabled={locked} onClick={() => void turn('suspend', 'Suspended at the next deploy')}>Suspend at next deploy</Menu.Item>
        </>
      )}
    </>
  );
}
const isJob = (m: LiveMessage) => m.topic === 'job' || m.topic === 'reset' || (m.topic === 'object' && m.data.kind === 'server');

function PowerMenu({ label, text, choose, children }: { label: string; text?: string; choose: (command: Power) => void; children?: ReactNode }) {
  return (
    <Menu position="bottom-end" shadow="md">
      <Menu.Target>
        {text ? (
          <Button size="compact-sm" variant="default" leftSection={<IconPower size={15} />} aria-label={label}>{text}</Button>
        ) : (
          <ActionIcon variant="default" size={28} aria-label={label}><IconDots size={16} /></ActionIcon>
        )}
      </Menu.Target>
      <Menu.Dropdown>
        {POWER.map((p) => (
          <Menu.Item key={p.command} onClick={() => choose(p.command)}>{p.label}</Menu.Item>
        ))}
        {children}
      </Menu.Dropdown>
    </Menu>
  );
}

function PowerDialog({ command, of, group, close }: { command: Power; of: ServerInstance[]; group: string; close: () => void }) {
  const { infrastructure } = useDesignerContext();
  const client = useQueryClient();
  const what = POWER.find((p) => p.command === command) ?? POWER[0];
  const name = of.length === 1 ? of[0].hostname || of[0].label : `${plural(of.length, 'server')} of ${group}`;
  const act = useMutation({
    mutationFn: () => api.post(`/infrastructures/${infrastructure.id}/actions/power-set`, { powerCommand: command, instances: of.map((i) => String(i.id)) }),
    onSuccess: () => {
      toast(what.label, `${name}: the order is with the site.`);
      void client.invalidateQueries({ queryKey: ['power'] });
      close();
    },
  });
  return (
    <Modal opened onClose={close} title={<b>{what.label}: {name}?</b>}>
      <Stack>
        <Text size="sm">{what.text}</Text>
        {act.error && <ErrorCard error={act.error} what="Not done" />}
        <Group justify="flex-end">
          <Button variant="default" onClick={close}>Cancel</Button>
          <Button color={command === 'on' ? 'steel' : 'red'} loading={act.isPending} onClick={() => act.mutate()}>{what.label}</Button>
        </Group>
      </Stack>
    </Modal>
  );
}

function Instance({ instance, power, choose }: { instance: ServerInstance; power: string | undefined; choose: (command: Power) => void }) {
  const { infrastructure, catalogue } = useDesignerContext();
  const client = useQueryClient();
  const locked = useDesigner((s) => s.locked);
  const reveal = useMutation({
    mutationFn: () => api.get<InstanceCredentials>(`/server-instances/${instance.id}/credentials`),
    gcTime: 0,
    onError: (e) => toastError('Credentials not shown', e),
  });
  const wanted = Boolean(instance.osReinstallRequired);
  const [asked, ask] = useState<'reinstall' | 'replace' | 'iso' | 'console' | null>(null);
  const again = () => Promise.all([load(infrastructure.id), client.invalidateQueries({ queryKey: ['instances'] }), client.invalidateQueries({ queryKey: ['infrastructure', infrastructure.id] })]);
  const order = async () => {
    await api.post(`/server-instances/${instance.id}/actions/reinstall-os`, { performAtNextDeploy: true, reinstallOS: !wanted });
    await again();
    toast(wanted ? 'Not reinstalled' : 'Reinstalled at the next deploy', wanted ? `${instance.label} keeps its system.` : `${instance.label}: its system disk is written anew.`);
  };
  // Shown once for a moment: a password does not stay on a screen that nobody looks at.
  const shown = reveal.data !== undefined;
  const { reset: hide } = reveal;
  useEffect(() => {
    if (!shown) return;
    const timer = setTimeout(hide, SHOWN_MS);
    return () => clearTimeout(timer);
  }, [shown, hide]);
  const template = catalogue.templates.find((t) => t.id === instance.osTemplateId);
  const erasesAll = template?.tags?.includes('erase-all-drives');
  const data = useDesigner((s) => Object.values(s.doc.stores).filter((x) => x.kind !== 'bucket' && !x.boot && x.hosts.some((h) => s.ids[h] === instance.groupId)).map((x) => x.label).join(', '));
  const addresses = addressesOf(instance.allocatedNetworkConfig);
  const c = reveal.data;
  const active = instance.serviceStatus === 'active';
  return (
    <div className="panel" style={{ padding: 10 }}>
      <Group justify="space-between" wrap="nowrap" gap="xs">
        <Text fw={600} size="sm" truncate>
          {instance.hostname || instance.label}
        </Text>
        <Group gap={6} wrap="nowrap" style={{ flex: 'none' }}>
          {power && power !== 'unknown' && <Status value={power} />}
          {!active && <Status value={instance.serviceStatus} />}
          {instance.serviceStatus !== 'ordered' && (
            <PowerMenu label={`Actions for ${instance.label}`} choose={choose}>
              <Menu.Divider />
              <Menu.Item disabled={!instance.serverId} onClick={() => ask('console')}>Console…</Menu.Item>
              <Menu.Item disabled={locked || instance.osTemplateId === null} onClick={() => (wanted ? void order().catch((e) => toastError('Not changed', e)) : ask('reinstall'))}>
                {wanted ? 'Do not reinstall' : 'Reinstall at next deploy…'}
              </Menu.Item>
              <Menu.Item disabled={locked || !instance.serverId} onClick={() => ask('iso')}>Boot from an image…</Menu.Item>
              <Menu.Item color="red" disabled={locked} onClick={() => ask('replace')}>Replace server…</Menu.Item>
            </PowerMenu>
          )}
        </Group>
      </Group>
      <Text size="sm" className="mono">
        {addresses.join(', ') || 'no address yet'}
      </Text>
      {asked === 'reinstall' && (
        <FormDialog
          title={`Install ${instance.label} anew?`}
          intro={
            <>
              With the next deploy {template ? <b>{template.name}</b> : 'its operating system'} is written to its system disk; what is on that disk is lost.
              <ul style={{ margin: '8px 0 0', paddingLeft: 20 }}>
                <li>{erasesAll ? <span className="bad">Its other disks are erased too: the template says so.</span> : 'Its other disks stay as they are.'}</li>
                {data && <li>{data}: not touched.</li>}
                <li>It gets a new password; its addresses stay.</li>
              </ul>
            </>
          }
          fields={erasesAll ? [{ name: 'sure', label: 'What is on its other disks may be lost', kind: 'switch', required: true }] : []}
          submit="Reinstall at next deploy"
          danger
          close={() => ask(null)}
          save={async ({ sure }) => {
            if (erasesAll && !sure) throw new Error('Say that the other disks may be erased, or have a template without the tag erase-all-drives.');
            await order();
          }}
        />
      )}
      <Modal opened={asked === 'console'} onClose={() => ask(null)} title={`Console of ${instance.hostname || instance.label}`} size="xl" trapFocus={false}>
        <InstanceConsole id={instance.id} />
      </Modal>
      {asked === 'iso' && <BootDialog instance={instance} close={() => ask(null)} />}
      {asked === 'replace' && (
        <FormDialog
          title={`Replace the server of ${instance.label}?`}
          intro="With the next deploy it gets another server of the same type. What is on the disks of this one does not move; the deploy asks for leave to lose it. The broken server goes out of service."
          fields={[{ name: 'reason', label: 'What is broken', required: true, maxLength: 500, show: (v) => !v.cancel }, { name: 'cancel', label: 'Keep the server after all', kind: 'switch', help: 'Takes an earlier request back.' }]}
          submit="Replace at next deploy"
          danger
          close={() => ask(null)}
          save={async (body) => {
            await api.post(`/server-instances/${instance.id}/actions/replace`, body);
            await again();
            toast(body.cancel ? 'Kept' : 'Replaced at the next deploy', instance.label);
          }}
        />
      )}
      {wanted && <Text size="sm" className="mark-changed">Is installed anew at the next deploy.</Text>}
      {instance.osInstallError && (
        <Text size="sm" className="bad">
          {instance.osInstallError}
        </Text>
      )}
      {c ? (
        <Stack gap={2} mt={6}>
          <Secret label="User" value={c.username} />
          <Secret label="Password" value={c.initialPassword} />
          {addresses[0] && <Secret label="SSH" value={`ssh ${c.username ?? 'root'}@${addresses[0]}`} />}
          <Button size="compact-xs" variant="subtle" w="fit-content" onClick={() => reveal.reset()}>
            Hide
          </Button>
        </Stack>
      ) : (
        <Button mt={6} size="compact-sm" variant="light" leftSection={<IconEye size={15} />} disabled={!active} loading={reveal.isPending} title={active ? 'Recorded in the event log' : 'Available when the server is active'} onClick={() => reveal.mutate()}>
          Reveal credentials
        </Button>
      )}
    </div>
  );
}

/** A rescue system or a maker's tool on a server that is one's own. */
function BootDialog({ instance, close }: { instance: ServerInstance; close: () => void }) {
  const isos = useQuery({ queryKey: ['custom-isos'], staleTime: 30_000, queryFn: () => api.get<Page<CustomIso>>('/custom-isos', { limit: 100 }) });
  const list = isos.data?.data ?? [];
  return (
    <FormDialog
      title={`Boot ${instance.label} from an image`}
      intro={isos.error ? <ErrorCard error={isos.error} what="The images could not be loaded" /> : isos.data && !list.length ? 'There is no image yet. Give an address below: it is kept for the next time.' : 'What runs on it is stopped at once. It starts once from the image, and from its own disk again afterwards.'}
      fields={[
        ...(list.length ? [{ name: 'iso', label: 'Image', kind: 'select' as const, options: list.map((i) => ({ value: String(i.id), label: i.name || i.label })), show: (v: Values) => !v.accessUrl }] : []),
        { name: 'accessUrl', label: list.length ? 'Or another one by its address' : 'Address', mono: true, required: !list.length, placeholder: 'http://images.example.net/rescue.iso', show: (v: Values) => !v.iso },
        { name: 'hours', label: 'Taken out after', kind: 'number', min: 1, max: 48, suffix: ' h' },
      ]}
      initial={{ hours: 4 }}
      submit="Stop it and boot"
      danger
      close={close}
      save={async ({ iso, accessUrl, hours }) => {
        let id = Number(iso);
        if (!id) {
          if (!accessUrl) throw new Error('Choose an image, or give an address.');
          const label = (String(accessUrl).split('/').pop() ?? '').toLowerCase().replace(/\.iso$/, '').replace(/[^a-z0-9]+/g, '-').replace(/^-+|-+$/g, '').slice(0, 50) || 'image';
          id = (await api.post<CustomIso>('/custom-isos', { label: `${label}-${Date.now().toString(36).slice(-4)}`, name: label, accessUrl })).id;
        }
        await api.post(`/custom-isos/${id}/actions/boot-into-server/${instance.serverId}?confirm=true&ejectAfterSeconds=${Number(hours ?? 4) * 3600}`);
        toast('It boots from the image', instance.label);
      }}
    />
  );
}
