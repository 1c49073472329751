import { Button, Checkbox, Group, Modal, NumberInput, Select, Stack, TextInput } from '@mantine/core';
import { IconPlus } from '@tabler/icons-react';
import { useMutation, useQueryClient } from '@tanstack/react-query';
import { type FormEvent, useState } from 'react';
import { api } from '../../api/client';
import type { Subnet } from '../../api/types';
import { fieldErrors } from '../../components/fields';
import { ErrorCard } from '../../components/states';
import { toast } from '../../components/toast';
import { type Column, DataTable, NoRows } from './DataTable';
import { useList } from './list';
import { Page } from './Page';

const KIND = /^subnet$/;

/** Pools first, each followed by what was taken of it. */
export function ordered(rows: Subnet[]): { subnet: Subnet; depth: number }[] {
  const children = new Map<number | null, Subnet[]>();
  const known = new Set(rows.map((r) => r.id));
  for (const r of rows) {
    const parent = r.parentSubnetId && known.has(r.parentSubnetId) && r.parentSubnetId !== r.id ? r.parentSubnetId : null;
    children.set(parent, [...(children.get(parent) ?? []), r]);
  }
  const out: { subnet: Subnet; depth: number }[] = [];
  const walk = (parent: number | null, depth: number) => {
    for (const subnet of children.get(parent) ?? []) {
      out.push({ subnet, depth });
      walk(subnet.id, depth + 1);
    }
  };
  walk(null, 0);
  return out;
}

export function Subnets() {
  const [adding, setAdding] = useState(false);
  const list = useList<Subnet>('/subnets', { sortBy: 'id:ASC' }, { kind: KIND });
  const columns: Column<{ subnet: Subnet; depth: number }>[] = [
    { id: 'label', title: 'Label', width: 'minmax(180px, 1.2fr)', cell: ({ subnet, depth }) => <span style={{ paddingLeft: depth * 20 }}>{depth ? '↳ ' : ''}<b>{subnet.label || subnet.name}</b></span> },
    { id: 'cidr', title: 'Network', width: 'minmax(180px, 1fr)', cell: ({ subnet }) => <span className="mono">{subnet.networkAddress}/{subnet.prefixLength}</span> },
    { id: 'kind', title: 'Use', width: '160px', cell: ({ subnet }) => (subnet.isPool ? 'Pool to take from' : 'Subnet') },
    { id: 'gateway', title: 'Gateway', width: '160px', cell: ({ subnet }) => <span className="mono">{subnet.defaultGatewayAddress || '–'}</span> },
    { id: 'version', title: 'Version', width: '100px', cell: ({ subnet }) => subnet.ipVersion.replace('ipv', 'IPv') },
  ];
  return (
    <Page title="Subnets" sub="Pools of addresses, and what networks have taken of them." tools={<Button leftSection={<IconPlus size={17} />} onClick={() => setAdding(true)}>Add subnet</Button>}>
      <DataTable label="Subnets" columns={columns} source={{ ...list, rows: ordered(list.rows) }} keyOf={(r) => r.subnet.id} empty={<NoRows title="No subnet">Add a pool: networks take their subnets from it at deploy.</NoRows>} />
      {adding && <AddDialog pools={list.rows.filter((s) => s.isPool)} close={() => setAdding(false)} />}
    </Page>
  );
}

function AddDialog({ pools, close }: { pools: Subnet[]; close: () => void }) {
  const [label, setLabel] = useState('');
  const [address, setAddress] = useState('');
  const [prefix, setPrefix] = useState<number | string>(24);
  const [gateway, setGateway] = useState('');
  const [isPool, setPool] = useState(true);
  const [parent, setParent] = useState<string | null>(null);
  const client = useQueryClient();
  const add = useMutation({
    mutationFn: () => api.post('/subnets', { label, name: label, networkAddress: address.trim(), prefixLength: Number(prefix), defaultGatewayAddress: gateway.trim() || undefined, isPool, parentSubnetId: parent ? Number(parent) : undefined }),
    onSuccess: () => {
      void client.invalidateQueries({ queryKey: ['list', '/subnets'] });
      toast('Subnet added', `${address}/${prefix}`);
      close();
    },
  });
  const { of, rest } = fieldErrors(add.error, ['label', 'networkAddress', 'prefixLength', 'defaultGatewayAddress', 'parentSubnetId']);
  return (
    <Modal opened onClose={close} title={<b>Add subnet</b>}>
      <form onSubmit={(e: FormEvent) => { e.preventDefault(); add.mutate(); }}>
        <Stack>
          <TextInput data-autofocus label="Label" required maxLength={63} value={label} error={of('label')} onChange={(e) => setLabel(e.currentTarget.value)} />
          <Group grow align="flex-start">
            <TextInput label="Network address" placeholder="10.30.0.0" required value={address} error={of('networkAddress')} onChange={(e) => setAddress(e.currentTarget.value)} />
            <NumberInput label="Prefix length" min={1} max={128} required value={prefix} error={of('prefixLength')} onChange={setPrefix} />
          </Group>
          <TextInput label="Gateway" error={of('defaultGatewayAddress')} value={gateway} onChange={(e) => setGateway(e.currentTarget.value)} />
          <Select label="Part of" clearable clearButtonProps={{ 'aria-label': 'Part of nothing' }} placeholder="Nothing" data={pools.map((p) => ({ value: String(p.id), label: `${p.label} ${p.networkAddress}/${p.prefixLength}` }))} value={parent} error={of('parentSubnetId')} onChange={setParent} />
          <Checkbox label="Pool: networks take their subnets from it" checked={isPool} onChange={(e) => setPool(e.currentTarget.checked)} />
          {Boolean(rest) && <ErrorCard error={rest} what="Not added" />}
          <Group justify="flex-end"><Button variant="default" onClick={close}>Cancel</Button><Button type="submit" loading={add.isPending}>Add</Button></Group>
        </Stack>
      </form>
    </Modal>
  );
}
