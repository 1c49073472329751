import { Button } from '@mantine/core';
import { IconEraser } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { useState } from 'react';
import { api } from '../../api/client';
import { sitesQuery } from '../../api/names';
import type { ServerType } from '../../api/types';
import { type Field, FormDialog } from '../../components/Form';
import { count, plural, speed } from '../../components/format';
import { toast } from '../../components/toast';
import { Crud } from './Crud';
import { Page } from './Page';
import { SERVER_TABS } from './Servers';

type Type = ServerType & { revision?: number; description?: string | null; processorCoreMhz?: number | null };
/** `2 × 25G, 1G`. */
const ports = (speeds: readonly number[] | null | undefined) => {
  const by = new Map<number, number>();
  for (const s of speeds ?? []) by.set(s, (by.get(s) ?? 0) + 1);
  return [...by].map(([s, n]) => (n > 1 ? `${n} × ${speed(s)}` : speed(s))).join(', ');
};
const speedsOf = (text: unknown) => String(text ?? '').split(/[,;\s]+/).filter(Boolean).map(Number);

const NAMES: Field[] = [
  { name: 'name', label: 'Name', required: true },
  { name: 'label', label: 'Label', required: true, mono: true, help: 'Small letters, digits and hyphens.' },
  { name: 'description', label: 'Description' },
];
const HARDWARE: Field[] = [
  { name: 'processorCount', label: 'Processors', kind: 'number', required: true, min: 0, max: 16 },
  { name: 'processorCoreCount', label: 'Cores of each', kind: 'number', required: true, min: 0, max: 1024 },
  { name: 'processorCoreMhz', label: 'Clock', kind: 'number', required: true, min: 0, max: 20_000, suffix: ' MHz' },
  { name: 'ramGbytes', label: 'Memory', kind: 'number', required: true, min: 0, max: 65_536, suffix: ' GB' },
  { name: 'diskCount', label: 'Disks', kind: 'number', required: true, min: 0, max: 256 },
  { name: 'speeds', label: 'Speeds of its interfaces', mono: true, placeholder: '25000 25000', help: 'In Mbit/s, one for each.' },
  { name: 'gpuCount', label: 'GPUs', kind: 'number', min: 0, max: 64 },
];

/** Hardware classes that designs order by; most are found at registration. */
export function ServerTypes() {
  const sites = useQuery(sitesQuery);
  const client = useQueryClient();
  const [tidying, tidy] = useState(false);
  const ids = sites.data?.data.map((s) => s.id) ?? [];
  const free = useQuery({
    queryKey: ['server-types', 'free', ids],
    enabled: ids.length > 0,
    retry: false,
    queryFn: async () => {
      const all = await Promise.all(ids.map((siteId) => api.post<{ serverTypeIdToServerCount: Record<string, number> }>('/server-types/statistics', { siteId, serverTypeIds: [], maximumResultsPerServerType: 1 })));
      const sum = new Map<number, number>();
      for (const one of all) for (const [id, n] of Object.entries(one.serverTypeIdToServerCount)) sum.set(Number(id), (sum.get(Number(id)) ?? 0) + n);
      return sum;
    },
  });
  return (
    <Page
      title="Servers"
      sub="A server is put into the type that its hardware makes, when it is registered; a new kind of hardware makes a new type."
      tabs={SERVER_TABS}
    >
      <Crud<Type>
        noun="server type"
        table="Server types"
        tools={<Button variant="default" leftSection={<IconEraser size={16} />} onClick={() => tidy(true)}>Delete unused types</Button>}
        path="/server-types"
        kind={/^server/}
        keyOf={(t) => t.id}
        name={(t) => t.name}
        revision={(t) => t.revision}
        columns={[
          { id: 'name', title: 'Name', width: 'minmax(190px, 1.4fr)', cell: (t) => <Link className="link" to="/servers" search={{ type: t.id } as never}>{t.name}</Link> },
          { id: 'cpu', title: 'Processors', width: 'minmax(230px, 2fr)', cell: (t) => <span title={t.processorNames?.join(', ')}>{`${count(t.processorCount)} × ${count(t.processorCoreCount)} cores${t.processorNames?.[0] ? `, ${t.processorNames[0].replace(/\((R|TM)\)/g, '').replace(/\s+CPU.*$/, '')}` : ''}`}</span> },
          { id: 'ram', title: 'Memory', width: '100px', cell: (t) => <span className="num">{count(t.ramGbytes)} GB</span> },
          { id: 'disks', title: 'Disks', width: '70px', cell: (t) => <span className="num">{count(t.diskCount)}</span> },
          { id: 'nics', title: 'Interfaces', width: 'minmax(120px, 1fr)', cell: (t) => ports(t.networkInterfaceSpeeds) || count(t.networkInterfaceCount) },
          { id: 'gpus', title: 'GPUs', width: '70px', has: (t) => Boolean(t.gpuCount), cell: (t) => (t.gpuCount ? <span className="num">{count(t.gpuCount)}</span> : '–') },
          { id: 'free', title: 'Free', width: '70px', cell: (t) => <b className="num">{free.data ? count(free.data.get(t.id) ?? 0) : '–'}</b> },
        ]}
        fields={(t) => (t ? NAMES : [...NAMES, ...HARDWARE])}
        values={(t) => (t ? { name: t.name, label: t.label, description: t.description } : { processorCount: 2, gpuCount: 0 })}
        body={(values, row) => {
          if (row) return values;
          const { speeds, ...rest } = values;
          return { ...rest, networkInterfaceSpeeds: speedsOf(speeds) };
        }}
        intro="What a type is made of does not change; its name does."
        removeText="Only a type that no server is of, and no design orders, can be deleted."
        empty="Types appear when servers are registered."
      />
      {tidying && (
        <FormDialog
          title="Delete unused types?"
          intro="Types that no server is of and no design orders are deleted. A server of that kind that comes later makes its type again."
          fields={[]}
          submit="Delete"
          danger
          close={() => tidy(false)}
          save={async () => {
            const before = (await api.get<{ meta: { totalItems: number } }>('/server-types', { limit: 1 })).meta.totalItems;
            await api.post('/server-types/actions/clean-unused');
            const after = (await api.get<{ meta: { totalItems: number } }>('/server-types', { limit: 1 })).meta.totalItems;
            void client.invalidateQueries({ queryKey: ['list', '/server-types'] });
            toast('Unused types deleted', before === after ? 'All are used.' : plural(before - after, 'type'));
          }}
        />
      )}
    </Page>
  );
}
