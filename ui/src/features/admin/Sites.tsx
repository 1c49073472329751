import { Alert, Button, Code, CopyButton, Group, Modal, Stack, Table, Text, TextInput, Title } from '@mantine/core';
import { IconBuildingWarehouse, IconLink, IconPlus } from '@tabler/icons-react';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { api } from '../../api/client';
import { sitesQuery } from '../../api/names';
import type { Agent, Overview, Site } from '../../api/types';
import { fieldErrors } from '../../components/fields';
import { duration, when } from '../../components/format';
import { Empty, ErrorCard, Loading } from '../../components/states';
import { Ago, Status } from '../../components/status';
import { Page } from './Page';

export function Sites() {
  const [adding, setAdding] = useState(false);
  const [enrol, setEnrol] = useState<Site | null>(null);
  const sites = useQuery(sitesQuery);
  const overview = useQuery({ queryKey: ['overview'], queryFn: () => api.get<Overview>('/overview'), refetchInterval: 10_000 });
  return (
    <Page title="Sites" sub="Each site has a controller that runs the work there and keeps doing so when the line is down." tools={<Button leftSection={<IconPlus size={17} />} onClick={() => setAdding(true)}>Add site</Button>}>
      {sites.error && <ErrorCard error={sites.error} retry={() => void sites.refetch()} />}
      {sites.isPending && <Loading />}
      {sites.data && !sites.data.data.length && <div className="panel"><Empty icon={<IconBuildingWarehouse size={44} />} title="No site yet" action={<Button onClick={() => setAdding(true)}>Add site</Button>}>A site is a datacenter or a room with its own controller.</Empty></div>}
      <Stack>
        {sites.data?.data.map((s) => <SiteCard key={s.id} site={s} state={overview.data?.sites.find((x) => x.id === s.id)} enrol={() => setEnrol(s)} />)}
      </Stack>
      {adding && <AddDialog close={() => setAdding(false)} next={setEnrol} />}
      {enrol && <EnrolDialog site={enrol} close={() => setEnrol(null)} />}
    </Page>
  );
}

function SiteCard({ site, state, enrol }: { site: Site; state?: Overview['sites'][number]; enrol: () => void }) {
  const agents = useQuery({ queryKey: ['controllers', site.id], queryFn: () => api.get<Agent[]>(`/sites/${site.id}/controllers`), refetchInterval: 15_000 });
  return (
    <section className="panel pad">
      <Group justify="space-between" mb="xs">
        <Group gap="sm">
          <Title order={2}>{site.name}</Title>
          <Text c="dimmed" size="sm" className="mono">{site.slug}</Text>
          {state && <Status value={state.connected ? 'connected' : 'offline'} label={state.connected ? 'Connected' : 'Not connected'} />}
          {site.isInMaintenance && <Status value="warning" label="Maintenance" />}
        </Group>
        <Button variant="light" leftSection={<IconLink size={16} />} onClick={enrol}>Enrol a controller</Button>
      </Group>
      {agents.error ? <ErrorCard error={agents.error} retry={() => void agents.refetch()} /> : !agents.data ? <Loading rows={1} /> : !agents.data.length ? (
        <Text size="sm" c="dimmed">No controller is enrolled: nothing can be deployed here yet.</Text>
      ) : (
        <Table>
          <Table.Thead><Table.Tr><Table.Th>Controller</Table.Th><Table.Th>State</Table.Th><Table.Th>Version</Table.Th><Table.Th>Address</Table.Th><Table.Th>Drives</Table.Th><Table.Th>Clock</Table.Th><Table.Th>Last seen</Table.Th></Table.Tr></Table.Thead>
          <Table.Tbody>
            {agents.data.map((a, i) => (
              <Table.Tr key={a.agentConnectedInfo?.agentId ?? i}>
                <Table.Td>{a.agentConnectedInfo?.hostname || a.agentConnectedInfo?.agentId || a.siteName}</Table.Td>
                <Table.Td><Status value={a.connected === false ? 'offline' : 'connected'} label={a.connected === false ? 'Not connected' : 'Connected'} /></Table.Td><Table.Td>{a.agentVersion}</Table.Td><Table.Td className="mono">{a.agentSeenIpAddress}</Table.Td><Table.Td>{a.capabilities?.join(', ') || '–'}</Table.Td><Table.Td className="num">{clock(a.clockSkewMilliseconds)}</Table.Td><Table.Td>{a.connected ? 'now' : <Ago at={a.agentSeenTimestamp} />}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
    </section>
  );
}

/** A clock that differs makes certificates and leases fail: from a second on it is said. */
function clock(skew: number | null | undefined) {
  if (skew === null || skew === undefined) return '–';
  return Math.abs(skew) < 1000 ? 'in step' : <span className="bad">{duration(Math.abs(skew))} {skew > 0 ? 'ahead' : 'behind'}</span>;
}

function AddDialog({ close, next }: { close: () => void; next: (site: Site) => void }) {
  const [name, setName] = useState('');
  const client = useQueryClient();
  const slug = name.toLowerCase().replace(/[^a-z0-9]+/g, '-').replace(/^-|-$/g, '');
  const add = useMutation({
    mutationFn: () => api.post<Site>('/sites', { name: name.trim(), slug }),
    onSuccess: (site) => {
      void client.invalidateQueries({ queryKey: ['sites'] });
      void client.invalidateQueries({ queryKey: ['overview'] });
      close();
      next(site);
    },
  });
  const { of, rest } = fieldErrors(add.error, ['name', 'slug']);
  return (
    <Modal opened onClose={close} title={<b>Add site</b>}>
      <form onSubmit={(e: FormEvent) => { e.preventDefault(); if (slug) add.mutate(); }}>
        <Stack>
          <TextInput data-autofocus label="Name" required maxLength={63} value={name} error={of('name') ?? of('slug')} description={slug ? `In addresses: ${slug}` : undefined} onChange={(e) => setName(e.currentTarget.value)} />
          {Boolean(rest) && <ErrorCard error={rest} what="Not added" />}
          <Group justify="flex-end"><Button variant="default" onClick={close}>Cancel</Button><Button type="submit" disabled={!slug} loading={add.isPending}>Add</Button></Group>
        </Stack>
      </form>
    </Modal>
  );
}

function EnrolDialog({ site, close }: { site: Site; close: () => void }) {
  const token = useMutation({ gcTime: 0, mutationFn: () => api.post<{ token: string; command: string; expiresAt: string }>(`/sites/${site.id}/enrolment-tokens`) });
  return (
    <Modal opened onClose={close} size="lg" title={<b>Enrol a controller at {site.name}</b>}>
      <Stack>
        <Text size="sm">The command is run once on the machine that becomes the controller. It calls this server; no port is opened at the site. The token works one time.</Text>
        {token.error && <ErrorCard error={token.error} what="No token was made" />}
        {token.data ? (
          <>
            <Alert color="amber" p="xs">Shown only this once. It works one time, until {when(token.data.expiresAt)}.</Alert>
            <Code block aria-label="Enrolment command" style={{ whiteSpace: 'pre-wrap', overflowWrap: 'anywhere' }}>{token.data.command}</Code>
            <Group justify="flex-end">
              <CopyButton value={token.data.command}>{({ copied, copy }) => <Button onClick={copy}>{copied ? 'Copied' : 'Copy command'}</Button>}</CopyButton>
              <Button variant="default" onClick={close}>Done</Button>
            </Group>
          </>
        ) : (
          <Group justify="flex-end"><Button loading={token.isPending} onClick={() => token.mutate()}>Make a one-time command</Button></Group>
        )}
      </Stack>
    </Modal>
  );
}
