import { Button, ScrollArea, Table, Tabs, Text, Title } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { lazy, Suspense, useMemo, useState } from 'react';
import { api } from '../../../api/client';
import { useServerNames } from '../../../api/names';
import type { Page, Plan, PlanChange, ServerInstance, Subnet } from '../../../api/types';
import { words } from '../../../components/format';
import { osName, typeName } from '../catalogue';
import { useDesignerContext } from '../context';
import { useDesigner } from '../model/store';
import { describe, fieldTitle, inOrder, listings, type Names, waitsFor, worthSaying } from './words';

const SIGNS: Record<string, [string, string]> = { create: ['+ new', 'mark-added'], edit: ['~ changed', 'mark-changed'], delete: ['− removed', 'mark-removed'] };
const MOST = 100;
const Yaml = lazy(() => import('../../../components/Yaml'));

/** Names of what a plan speaks of by id. What the person may not see stays a number. */
function useNames(plan: Plan): Names {
  const { catalogue, infrastructure } = useDesignerContext();
  const client = useQueryClient();
  const facts = useDesigner((s) => s.facts);
  const both = [...plan.allocations, ...(plan.releases ?? [])];
  const ids = (field: string) => [...new Set(both.map((a) => Number(a[field])).filter((n) => n > 0))].sort((a, b) => a - b).slice(0, MOST);
  const serverIds = ids('serverId');
  const poolIds = ids('subnetPoolId');
  const servers = useServerNames(serverIds);
  const pools = useQuery({
    queryKey: ['names', 'pools', poolIds],
    enabled: poolIds.length > 0,
    retry: false,
    queryFn: async () => new Map((await api.get<Page<Subnet>>('/subnets', { 'filter.id': `$in:${poolIds.join(',')}`, limit: MOST })).data.map((s) => [s.id, `${s.label} ${s.networkAddress}/${s.prefixLength}`])),
  });
  return useMemo(() => {
    const networks = new Map(Object.values(facts).flatMap((f) => (f.network ? [[f.network.id, f.network.label] as const] : [])));
    for (const c of plan.changes) if (c.kind === 'logical_network') networks.set(Number(c.id), c.label);
    const running = client.getQueryData<ServerInstance[]>(['instances', infrastructure.id]) ?? [];
    const groups = new Map(Object.values(facts).flatMap((f) => (f.group ? [[f.group.id, f.group.config?.label ?? f.group.label] as const] : [])));
    const elements = new Map(Object.values(facts).flatMap((f) => (f.store ? [[f.store.id, f.store.config.label] as const] : [])));
    const instances = new Map([...running.map((i) => [i.id, i.label] as const), ...plan.changes.filter((c) => c.kind === 'server_instance').map((c) => [Number(c.id), c.label] as const)]);
    const devices = new Map((plan.impact.devices ?? []).map((d) => [d.id, d.name]));
    return {
      network: (id) => networks.get(id) ?? `network ${id}`,
      instance: (id) => instances.get(id) ?? `instance ${id}`,
      device: (id) => devices.get(id) ?? `switch ${id}`,
      server: (id) => {
        const s = servers.data?.get(id);
        return s ? [s.serial, s.model].filter(Boolean).join(' · ') : `server ${id}`;
      },
      pool: (id) => pools.data?.get(id) ?? `pool ${id}`,
      type: (id) => typeName(catalogue, id),
      os: (id) => osName(catalogue, id),
      group: (id) => groups.get(id) ?? `group ${id}`,
      storage: (id) => catalogue.storages.find((s) => s.id === id)?.name ?? `storage ${id}`,
      element: (id) => elements.get(id) ?? `element ${id}`,
    };
  }, [catalogue, client, infrastructure.id, facts, plan, servers.data, pools.data]);
}

export function PlanDetails({ plan }: { plan: Plan }) {
  const names = useNames(plan);
  const taken = useMemo(() => listings(plan.allocations, names), [plan, names]);
  const given = useMemo(() => listings(plan.releases ?? [], names), [plan, names]);
  const titles = useMemo(() => new Map(plan.jobs.map((j) => [j.key, j.title])), [plan]);
  const instances = plan.changes.filter((c) => c.kind === 'server_instance');
  const others = plan.changes.filter((c) => c.kind !== 'server_instance');
  return (
    <Tabs defaultValue="changes" keepMounted={false}>
      <Tabs.List>
        <Tabs.Tab value="changes">Changes ({plan.changes.length})</Tabs.Tab>
        <Tabs.Tab value="taken">Allocations ({plan.allocations.length})</Tabs.Tab>
        {given.length > 0 && <Tabs.Tab value="given">Given back ({plan.releases?.length})</Tabs.Tab>}
        <Tabs.Tab value="jobs">Steps ({plan.jobs.length})</Tabs.Tab>
      </Tabs.List>
      <ScrollArea.Autosize mah={300} viewportProps={{ tabIndex: 0, role: 'region', 'aria-label': 'Details of the plan' }}>
        <Tabs.Panel value="changes">
          <Table aria-label="Changes">
            <Table.Tbody>
              {[...others, ...instances].map((c) => (
                <Change key={`${c.kind}/${c.id}`} change={c} names={names} />
              ))}
            </Table.Tbody>
          </Table>
        </Tabs.Panel>
        <Tabs.Panel value="taken">
          {taken.length ? <Listings of={taken} /> : <Text size="sm" c="dimmed" p="sm">Nothing new is taken.</Text>}
        </Tabs.Panel>
        <Tabs.Panel value="given">
          <Listings of={given} />
        </Tabs.Panel>
        <Tabs.Panel value="jobs">
          <Table aria-label="Steps">
            <Table.Tbody>
              {plan.jobs.map((j) => (
                <Table.Tr key={j.key} title={j.function}>
                  <Table.Td>{j.title}</Table.Td>
                  <Table.Td>
                    <Text size="sm" c="dimmed">
                      {waitsFor(j.dependsOn, titles)}
                    </Text>
                  </Table.Td>
                </Table.Tr>
              ))}
            </Table.Tbody>
          </Table>
        </Tabs.Panel>
      </ScrollArea.Autosize>
    </Tabs>
  );
}

function Change({ change: c, names }: { change: PlanChange; names: Names }) {
  const [sign, cls] = SIGNS[c.op] ?? [`~ ${words(c.op)}`, 'mark-changed'];
  const said = c.fields.filter((f) => worthSaying(c.label, f)).sort(inOrder);
  const lines = said.filter((f) => f.field !== 'networkConfig').map((f) => ({ field: f.field, before: describe(f.field, f.before, names), after: describe(f.field, f.after, names), was: f.before !== null && f.before !== undefined }));
  const config = said.find((f) => f.field === 'networkConfig');
  return (
    <Table.Tr style={{ verticalAlign: 'top' }}>
      <Table.Td w={100} className={`sy-mark ${cls}`}>
        {sign}
      </Table.Td>
      <Table.Td w={210}>
        <b>{c.label}</b>
        <Text size="xs" c="dimmed">
          {words(c.kind)}
        </Text>
      </Table.Td>
      <Table.Td>
        <dl className="sy-plan-fields">
          {lines.map((l) => (
            <div key={l.field}>
              <dt>{fieldTitle(l.field)}</dt>
              <dd>
                {l.was && l.before.length > 0 && <span className="sy-dim">{l.before.join('; ')} → </span>}
                {l.after.length > 1 ? l.after.map((text) => <div key={text}>{text}</div>) : (l.after[0] ?? 'none')}
              </dd>
            </div>
          ))}
          {config && <NetworkConfig value={config.after ?? config.before} />}
        </dl>
      </Table.Td>
    </Table.Tr>
  );
}

function NetworkConfig({ value }: { value: unknown }) {
  const [shown, show] = useState(false);
  return (
    <div>
      <dt>{fieldTitle('networkConfig')}</dt>
      <dd>
        <Button size="compact-xs" variant="subtle" aria-expanded={shown} onClick={() => show(!shown)}>
          {shown ? 'Hide' : 'Show'}
        </Button>
        {shown && (
          <Suspense fallback={null}>
            <Yaml value={value} />
          </Suspense>
        )}
      </dd>
    </div>
  );
}

function Listings({ of }: { of: ReturnType<typeof listings> }) {
  return of.map((l) => (
    <section key={l.title}>
      <Title order={3} mt="sm" mb={4}>
        {l.title} ({l.rows.length})
      </Title>
      <Table aria-label={l.title} layout="fixed">
        <Table.Thead>
          <Table.Tr>
            {l.columns.map((c) => (
              <Table.Th key={c}>{c}</Table.Th>
            ))}
          </Table.Tr>
        </Table.Thead>
        <Table.Tbody>
          {l.rows.map((cells, i) => (
            <Table.Tr key={i}>
              {cells.map((text, n) => (
                <Table.Td key={n} className="num">
                  {text}
                </Table.Td>
              ))}
            </Table.Tr>
          ))}
        </Table.Tbody>
      </Table>
    </section>
  ));
}
