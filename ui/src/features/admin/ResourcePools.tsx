import { ActionIcon, Button, Group, Table, Text, Title } from '@mantine/core';
import { IconPlus, IconX } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { getRouteApi, Link } from '@tanstack/react-router';
import { type ReactNode, useState } from 'react';
import { api } from '../../api/client';
import type { Page as Answer, Server, Subnet, User } from '../../api/types';
import { type Field, FormDialog } from '../../components/Form';
import { ErrorCard, Loading } from '../../components/states';
import { Ago, Status } from '../../components/status';
import { toast, toastError } from '../../components/toast';
import { Crud } from './Crud';
import { Page } from './Page';

interface ResourcePool {
  resourcePoolId: number;
  resourcePoolLabel: string;
  resourcePoolDescription: string;
  resourcePoolUpdatedTimestamp?: string;
  statistics?: Record<string, unknown> | null;
}
const FIELDS: Field[] = [
  { name: 'resourcePoolLabel', label: 'Label', required: true },
  { name: 'resourcePoolDescription', label: 'Description', required: true },
];
const total = (p: ResourcePool, part: RegExp) => Object.entries(p.statistics ?? {}).find(([k, v]) => part.test(k) && typeof v === 'number')?.[1] as number | undefined;

export function ResourcePools() {
  return (
    <Page title="Resource pools" sub="Servers and subnet pools that are kept for some people only. What is in no pool is for everybody.">
      <Crud<ResourcePool>
        noun="resource pool"
        table="Resource pools"
        path="/resource-pools"
        query={{ sortBy: 'resourcePoolId:ASC' }}
        kind={/resource_pool/}
        method="put"
        keyOf={(p) => p.resourcePoolId}
        name={(p) => p.resourcePoolLabel}
        columns={[
          { id: 'label', title: 'Label', width: 'minmax(180px, 1fr)', cell: (p) => <Link to="/resource-pools/$id" params={{ id: String(p.resourcePoolId) }} className="link">{p.resourcePoolLabel}</Link> },
          { id: 'text', title: 'Description', width: 'minmax(220px, 2fr)', cell: (p) => p.resourcePoolDescription },
          { id: 'servers', title: 'Servers', width: '100px', cell: (p) => <span className="num">{total(p, /server/i) ?? '–'}</span> },
          { id: 'users', title: 'People', width: '100px', cell: (p) => <span className="num">{total(p, /user/i) ?? '–'}</span> },
          { id: 'changed', title: 'Changed', width: '150px', cell: (p) => <Ago at={p.resourcePoolUpdatedTimestamp} /> },
        ]}
        fields={() => FIELDS}
        values={(p) => (p ? { ...p } : {})}
        body={(v) => ({ resourcePoolLabel: v.resourcePoolLabel, resourcePoolDescription: v.resourcePoolDescription })}
        removeText="Its servers and subnet pools are for everybody again."
        empty="Without one, everybody who may order servers may get any free one."
      />
    </Page>
  );
}

const route = getRouteApi('/shell/resource-pools/$id');

export function ResourcePoolDetail() {
  const { id } = route.useParams() as { id: string };
  const path = `/resource-pools/${encodeURIComponent(id)}`;
  const q = useQuery({ queryKey: ['resource-pool', id], queryFn: () => api.get<ResourcePool>(path) });
  if (q.error) return <Page title="Resource pool"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Resource pool"><Loading rows={6} /></Page>;
  return (
    <Page title={q.data.resourcePoolLabel} sub={<><Link to="/resource-pools" className="link">Resource pools</Link> · {q.data.resourcePoolDescription}</>}>
      <Members<User> title="People" noun="person" list={`${path}/users`} all="/users" idOf={(u) => Number(u.id)} label={(u) => `${u.displayName || u.email} · ${u.email}`} put={(member) => ['post', `/resource-pools/user/${member}/pool/${id}`]} remove={(member) => `/resource-pools/user/${member}/pool/${id}`} empty="Nobody may use what is in it yet." row={(u) => [u.displayName || u.email, u.email]} />
      <Members<Server> title="Servers" noun="server" list={`${path}/servers`} all="/servers" id="serverId" idOf={(s) => s.serverId} label={(s) => `${s.serialNumber ?? s.serverId} · ${s.model ?? ''}`} put={(member) => ['put', `${path}/server/${member}`]} remove={(member) => `${path}/server/${member}`} empty="No server is kept for it." row={(s) => [<Link key="l" className="link mono" to="/servers/$id" params={{ id: String(s.serverId) }}>{s.serialNumber ?? s.serverId}</Link>, s.model ?? '–', <Status key="s" value={s.serverStatus} />]} />
      <Members<Subnet> title="Subnet pools" noun="subnet pool" list={`${path}/subnet-pools`} all="/subnets" filter={{ 'filter.isPool': 'true' }} idOf={(s) => s.id} label={(s) => `${s.label} ${s.networkAddress}/${s.prefixLength}`} put={(member) => ['put', `${path}/subnet-pool/${member}`]} remove={(member) => `${path}/subnet-pool/${member}`} empty="No subnet pool is kept for it." row={(s) => [s.label, <span key="n" className="mono">{s.networkAddress}/{s.prefixLength}</span>]} />
    </Page>
  );
}

const MOST = 100;

function Members<T>({ title, noun, list, all, id = 'id', filter, idOf, label, put, remove, empty, row }: { title: string; noun: string; list: string; all: string; id?: string; filter?: Record<string, string>; idOf: (m: T) => number; label: (m: T) => string; put: (id: number) => ['put' | 'post', string]; remove: (id: number) => string; empty: string; row: (m: T) => ReactNode[] }) {
  const client = useQueryClient();
  const [adding, add] = useState(false);
  // The wire has people whole and the others by id: what those are is asked once for all of them.
  const q = useQuery({
    queryKey: ['members', list],
    queryFn: async () => {
      const members = await api.get<(number | T)[]>(list);
      const ids = members.filter((m): m is number => typeof m === 'number');
      if (ids.length < members.length) return members as T[];
      return ids.length ? (await api.get<Answer<T>>(all, { [`filter.${id}`]: `$in:${ids.slice(0, MOST).join(',')}`, limit: MOST })).data : [];
    },
  });
  const choice = useQuery({ queryKey: ['choice', all], enabled: adding, queryFn: () => api.get<Answer<T>>(all, { limit: 100, ...filter }) });
  const mine = new Set(q.data?.map(idOf));
  const refresh = () => client.invalidateQueries({ queryKey: ['members', list] });
  return (
    <section className="panel pad" style={{ marginBottom: 16 }}>
      <Group justify="space-between" mb="xs">
        <Title order={2}>{title}</Title>
        <Button variant="light" leftSection={<IconPlus size={16} />} onClick={() => add(true)}>{`Add ${noun}`}</Button>
      </Group>
      {q.error ? <ErrorCard error={q.error} retry={() => void q.refetch()} /> : !q.data ? <Loading rows={1} /> : !q.data.length ? <Text size="sm" c="dimmed">{empty}</Text> : (
        <Table aria-label={title}>
          <Table.Tbody>
            {q.data.map((m) => (
              <Table.Tr key={idOf(m)}>
                {row(m).map((cell, i) => <Table.Td key={i}>{cell}</Table.Td>)}
                <Table.Td w={50}>
                  <ActionIcon variant="subtle" color="red" aria-label={`Take ${label(m)} out`} onClick={() => void api.delete(remove(idOf(m))).then(refresh).catch((e) => toastError('Not taken out', e))}><IconX size={16} /></ActionIcon>
                </Table.Td>
              </Table.Tr>
            ))}
          </Table.Tbody>
        </Table>
      )}
      {adding && (
        <FormDialog
          title={`Add ${noun}`}
          fields={[{ name: 'member', label: noun.charAt(0).toUpperCase() + noun.slice(1), kind: 'select', required: true, options: choice.data?.data.filter((m) => !mine.has(idOf(m))).map((m) => ({ value: String(idOf(m)), label: label(m) })) ?? [] }]}
          submit="Add"
          close={() => add(false)}
          save={async ({ member }) => {
            const [method, to] = put(Number(member));
            await (method === 'put' ? api.put(to, {}) : api.post(to));
            void refresh();
            toast('Added', title);
          }}
        />
      )}
    </section>
  );
}
