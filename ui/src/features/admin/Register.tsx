import { Alert, Button, Checkbox, Group, SegmentedControl, Stack, Table, Text, Title } from '@mantine/core';
import { useMutation, useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type FormEvent, useEffect, useState } from 'react';
import { api } from '../../api/client';
import type { Registered, RegisteredMany, Scan } from '../../api/hardware';
import { sitesQuery } from '../../api/names';
import type { Page as Answer, Server } from '../../api/types';
import { fieldErrors } from '../../components/fields';
import { bodyOf, type Field, FormFields, type Values } from '../../components/Form';
import { plural } from '../../components/format';
import { ErrorCard, Loading } from '../../components/states';
import { Status } from '../../components/status';
import type { LiveMessage } from '../../live/stream';
import { useRefreshOn } from '../../live/use';
import { Page } from './Page';
import { profilesQuery } from './Registration';
import { WaitingLogin, waitsForLogin } from './server/WaitingLogin';
import { ZeroTouch } from './ZeroTouch';

type Way = 'one' | 'csv' | 'range' | 'zero';
const WAYS: { value: Way; label: string }[] = [{ value: 'one', label: 'One server' }, { value: 'csv', label: 'Table' }, { value: 'range', label: 'Address range' }, { value: 'zero', label: 'Comes by itself' }];
const TEXT: Record<Way, string> = {
  one: 'The site asks the BMC for the inventory, then boots the server once from the network to learn its cabling.',
  csv: 'Comma-separated values; the first line names the columns. A line that is wrong is told and keeps no other from coming in.',
  range: 'The site asks each address for a Redfish service and shows what answers. Nothing is registered by looking.',
  zero: 'A BMC that asks the site for an address becomes a server by itself. Its login is that of its serial number, its MAC address or its site; without one it waits here.',
};
const EXAMPLE = 'managementAddress,username,password,serialNumber,rackName\n10.0.8.21,root,secret,,R12\n10.0.8.22,root,secret,,R12';

function useChoices() {
  const sites = useQuery(sitesQuery);
  const profiles = useQuery(profilesQuery);
  return {
    first: sites.data?.data[0]?.id,
    site: { name: 'siteId', label: 'Site', kind: 'select', numeric: true, required: true, options: sites.data?.data.map((s) => ({ value: String(s.id), label: s.name })) ?? [] } satisfies Field,
    profile: { name: 'registrationProfileId', label: 'Registration profile', kind: 'select', numeric: true, placeholder: 'System defaults', options: profiles.data?.data.map((p) => ({ value: String(p.id), label: p.name })) ?? [] } satisfies Field,
  };
}

/** Servers come in one by one, as a table, or by looking through a range of addresses; what becomes of each is shown live below. */
export function Register() {
  const [way, setWay] = useState<Way>('one');
  const [made, setMade] = useState<Registered[]>([]);
  const client = useQueryClient();
  const add = (rows: Registered[]) => {
    setMade((all) => [...rows, ...all]);
    void client.invalidateQueries({ queryKey: ['list', '/servers'] });
  };
  return (
    <Page title="Register servers" sub={<><Link to="/servers" className="link">Servers</Link> · a server in use is only asked, never booted</>}>
      <section className="panel pad" style={{ marginBottom: 16 }}>
        <Stack>
          <Group><SegmentedControl aria-label="How" value={way} onChange={(v) => setWay(v as Way)} data={WAYS} /></Group>
          <Text size="sm">{TEXT[way]}</Text>
          {way === 'one' ? <One add={add} /> : way === 'csv' ? <Csv add={add} /> : way === 'range' ? <Range add={add} /> : <ZeroTouch />}
        </Stack>
      </section>
      {made.length > 0 && <Rows of={made} />}
    </Page>
  );
}

/** A form on the page; it stays as it is after it was sent, so that the next server is only another address. */
function PageForm({ fields, initial, submit, send, after, children }: { fields: Field[]; initial: Values; submit: string; send: (body: Values) => Promise<unknown>; after?: (values: Values) => Values; children?: React.ReactNode }) {
  const [values, setValues] = useState<Values>({});
  const all = { ...initial, ...values };
  const act = useMutation({ mutationFn: send, onSuccess: () => after && setValues(after(values)) });
  const { of, rest } = fieldErrors(act.error, fields.map((f) => f.name));
  const missing = fields.some((f) => f.required && !all[f.name]);
  return (
    <form
      noValidate
      onSubmit={(e: FormEvent) => {
        e.preventDefault();
        if (!missing && !act.isPending) act.mutate(bodyOf(fields, all));
      }}
    >
      <Stack maw={640}>
        <FormFields fields={fields} values={all} error={of} set={(name, value) => setValues((v) => ({ ...v, [name]: value }))} />
        {children}
        {Boolean(rest) && <ErrorCard error={rest} what="Not done" />}
        <Group><Button type="submit" loading={act.isPending} disabled={missing}>{submit}</Button></Group>
      </Stack>
    </form>
  );
}

const LOGIN: Field[] = [
  { name: 'username', label: 'BMC user', help: 'Empty: the default login of the site' },
  { name: 'password', label: 'BMC password', kind: 'password' },
];

function One({ add }: { add: (rows: Registered[]) => void }) {
  const { first, site, profile } = useChoices();
  const fields: Field[] = [site, { name: 'managementAddress', label: 'BMC address', required: true, mono: true, help: 'IP address or host name, with :PORT where it is not 443; ipmi://ADDRESS for a BMC without Redfish' }, ...LOGIN, profile];
  return (
    <PageForm
      fields={fields}
      initial={{ siteId: first }}
      submit="Register"
      after={(v) => ({ ...v, managementAddress: '' })}
      send={async (body) => {
        const { serverId } = await api.post<{ serverId: number }>('/servers', body);
        add([{ serverId, managementAddress: String(body.managementAddress) }]);
      }}
    />
  );
}

function Csv({ add }: { add: (rows: Registered[]) => void }) {
  const { first, site, profile } = useChoices();
  const fields: Field[] = [site, { name: 'csv', label: 'Table', kind: 'area', required: true, mono: true, placeholder: EXAMPLE, help: 'Columns: managementAddress, username, password, serialNumber, bmcMacAddress, vendor, model, registrationProfileId, rackName. Up to 2,000 lines.' }, profile];
  const [file, setFile] = useState('');
  return (
    <>
      <Group>
        <Button component="label" variant="default" size="xs">
          Read a file…
          <input type="file" accept=".csv,text/csv,text/plain" aria-label="Table as a file" className="sr-only" onChange={(e) => void e.currentTarget.files?.[0]?.text().then(setFile)} />
        </Button>
      </Group>
      <PageForm
        key={file}
        fields={fields}
        initial={{ siteId: first, csv: file }}
        submit="Register all"
        after={(v) => ({ ...v, csv: '' })}
        send={async (body) => add((await api.post<RegisteredMany>('/servers/actions/register-csv', body)).results)}
      />
    </>
  );
}

function Range({ add }: { add: (rows: Registered[]) => void }) {
  const { first, site } = useChoices();
  const [job, setJob] = useState<number | null>(null);
  const fields: Field[] = [
    site,
    { name: 'firstAddress', label: 'First address', required: true, mono: true },
    { name: 'lastAddress', label: 'Last address', required: true, mono: true, help: 'At most 4,096 addresses at once.' },
    { name: 'port', label: 'Port', kind: 'number', min: 1, max: 65535, placeholder: '443' },
  ];
  return (
    <>
      <PageForm fields={fields} initial={{ siteId: first }} submit="Look" send={async (body) => setJob((await api.post<{ jobId: number }>('/servers/actions/scan', body)).jobId)} />
      {job !== null && <Found key={job} job={job} add={add} />}
    </>
  );
}

const OVER = /^(returned_success|thrown_error|skipped|thrown_error_silenced)$/;

function Found({ job, add }: { job: number; add: (rows: Registered[]) => void }) {
  const key = ['scan', job];
  const scan = useQuery({ queryKey: key, queryFn: () => api.get<Scan>(`/servers/scans/${job}`), refetchInterval: (q) => (q.state.data && OVER.test(q.state.data.status) ? false : 1_500) });
  useRefreshOn(key, (m) => m.topic === 'job' && Number(m.data.jobId) === job);
  const { profile } = useChoices();
  const [left, leave] = useState<Set<string>>(new Set());
  if (scan.error) return <ErrorCard error={scan.error} retry={() => void scan.refetch()} what="The result could not be loaded" />;
  if (!scan.data) return <Loading rows={2} />;
  const { found, status, error, askedCount, cutShort } = scan.data;
  const over = OVER.test(status);
  const fresh = found.filter((f) => !f.serverId);
  const picked = fresh.filter((f) => !left.has(f.managementAddress));
  return (
    <Stack role="region" aria-label="What answered">
      <Group gap="xs">
        <Title order={2}>What answered</Title>
        {!over && <Status value="running" label="Looking…" />}
        {over && <Text size="sm" c="dimmed">{plural(askedCount, 'address', 'addresses')} asked, {plural(found.length, 'BMC')} found</Text>}
      </Group>
      {error && <Alert color="red" p="xs">{error}</Alert>}
      {cutShort && <Alert color="amber" p="xs">The time was over before every address was asked: look again at a smaller range.</Alert>}
      {over && !found.length && !error && <Text size="sm" c="dimmed">Nothing in this range speaks Redfish.</Text>}
      {found.length > 0 && (
        <Table aria-label="BMCs found">
          <Table.Thead><Table.Tr><Table.Th w={40} aria-label="Register" /><Table.Th>Address</Table.Th><Table.Th>Maker</Table.Th><Table.Th>Product</Table.Th><Table.Th>UUID</Table.Th></Table.Tr></Table.Thead>
          <Table.Tbody>
            {found.map((f) => (
              <Table.Tr key={f.managementAddress}>
                <Table.Td>{!f.serverId && <Checkbox aria-label={`Register ${f.managementAddress}`} checked={!left.has(f.managementAddress)} onChange={(e) => { const next = new Set(left); if (e.currentTarget.checked) next.delete(f.managementAddress); else next.add(f.managementAddress); leave(next); }} />}</Table.Td>
                <Table.Td className="mono">{f.managementAddress}</Table.Td>
                <Table.Td>{f.vendor || '–'}</Table.Td>
                <Table.Td>{f.product || '–'}</Table.Td>
                <Table.Td className="mono">{f.serverId ? <Link className="link" to="/servers/$id" params={{ id: String(f.serverId) }}>registered already</Link> : f.serverUUID || '–'}</Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
      {over && fresh.length > 0 && (
        <PageForm
          fields={[...LOGIN, profile]}
          initial={{}}
          submit={`Register ${plural(picked.length, 'server')}`}
          send={async (body) => {
            if (!picked.length) return;
            add((await api.post<RegisteredMany>(`/servers/scans/${job}/actions/register`, { ...body, managementAddresses: picked.map((f) => f.managementAddress) })).results);
            void scan.refetch();
          }}
        />
      )}
    </Stack>
  );
}

const isServer = (m: LiveMessage) => m.topic === 'job' || (m.topic === 'object' && m.data.kind === 'server');
const MOST = 100;

/** What became of each of them, as it happens. */
function Rows({ of }: { of: Registered[] }) {
  const ids = of.flatMap((r) => (r.serverId ? [r.serverId] : [])).slice(0, MOST);
  const key = ['registered', ids];
  const servers = useQuery({ queryKey: key, enabled: ids.length > 0, queryFn: async () => new Map((await api.get<Answer<Server>>('/servers', { 'filter.serverId': `$in:${ids.join(',')}`, limit: MOST })).data.map((s) => [s.serverId, s])), placeholderData: (before) => before, refetchInterval: 5_000 });
  useRefreshOn(key, isServer);
  const refused = of.filter((r) => r.error).length;
  const ready = [...(servers.data?.values() ?? [])].filter((s) => s.serverStatus === 'available').length;
  const [said, say] = useState('');
  const text = `${plural(ids.length, 'server')} registered, ${ready} available${refused ? `, ${refused} refused` : ''}`;
  useEffect(() => say(text), [text]);
  return (
    <section className="panel pad">
      <Group justify="space-between" mb="sm">
        <Title order={2}>Registered here</Title>
        <Text size="sm" c="dimmed" role="status">{said}</Text>
      </Group>
      <Table aria-label="Registered here">
        <Table.Thead><Table.Tr><Table.Th>BMC</Table.Th><Table.Th>Server</Table.Th><Table.Th>State</Table.Th><Table.Th>Model</Table.Th><Table.Th>What happens</Table.Th></Table.Tr></Table.Thead>
        <Table.Tbody>
          {of.slice(0, 500).map((r, i) => {
            const s = r.serverId ? servers.data?.get(r.serverId) : undefined;
            return (
              <Table.Tr key={`${r.serverId ?? r.managementAddress}-${i}`}>
                <Table.Td className="mono">{r.managementAddress || '–'}</Table.Td>
                <Table.Td>{r.serverId ? <Link className="link mono" to="/servers/$id" params={{ id: String(r.serverId) }}>{s?.serialNumber || `server ${r.serverId}`}</Link> : '–'}</Table.Td>
                <Table.Td>{r.error ? <Status value="failed" label="Refused" /> : s && waitsForLogin(s) ? <Status value="pending" label="Waiting for credentials" /> : <Status value={s?.serverStatus ?? 'registering'} />}</Table.Td>
                <Table.Td>{[s?.vendor, s?.model].filter(Boolean).join(' ') || '–'}</Table.Td>
                <Table.Td className={r.error ? 'bad' : undefined}>{s && waitsForLogin(s) ? <WaitingLogin server={s} /> : r.error ?? s?.serverStatusReason ?? (s?.serverStatus === 'available' ? 'Ready to be used.' : s ? '' : 'The site has the order.')}</Table.Td>
              </Table.Tr>
            );
          })}
        </Table.Tbody>
      </Table>
    </section>
  );
}
