import { ActionIcon, Button, Menu } from '@mantine/core';
import { IconDots, IconPlus } from '@tabler/icons-react';
import { useQueryClient } from '@tanstack/react-query';
import { type ReactNode, useState } from 'react';
import { api, type Query } from '../../api/client';
import { type Field, FormDialog, type Values } from '../../components/Form';
import { toast, toastError } from '../../components/toast';
import { type Column, DataTable, NoRows } from './DataTable';
import { useList } from './list';

/** An action of one row, in the row's menu. */
export interface RowAction<T> {
  label: string;
  run: (row: T) => void;
  off?: (row: T) => boolean;
}
interface Props<T> {
  /** What one of them is called. */
  noun: string;
  table: string;
  path: string;
  query?: Query;
  kind?: RegExp;
  columns: Column<T>[];
  keyOf: (row: T) => number;
  name: (row: T) => string;
  revision?: (row: T) => number | string | undefined;
  fields: (row: T | null) => Field[];
  /** What the form of a row begins with. */
  values?: (row: T | null) => Values;
  /** From the form to the wire. */
  body?: (values: Values, row: T | null) => unknown;
  intro?: ReactNode;
  canEdit?: boolean | ((row: T) => boolean);
  method?: 'patch' | 'put';
  removeText?: string;
  actions?: RowAction<T>[];
  empty: ReactNode;
  height?: string;
  /** Beside the button that adds one. */
  tools?: ReactNode;
  /** Width of the form's dialog. */
  size?: string | number;
  /** For rows whose list has not all that the form shows. */
  load?: (row: T) => Promise<T>;
}

/** A list of one kind with add, edit and delete; what is in a form is said by its fields. */
export function Crud<T>(p: Props<T>) {
  const list = useList<T>(p.path, p.query ?? { sortBy: 'id:ASC' }, { kind: p.kind });
  const [open, setOpen] = useState<{ row: T | null } | null>(null);
  const [doomed, setDoomed] = useState<T | null>(null);
  const client = useQueryClient();
  const done = (text: string, label: string) => {
    void client.invalidateQueries({ queryKey: ['list', p.path] });
    toast(text, label);
  };
  const begin = async (row: T) => {
    try {
      setOpen({ row: p.load ? await p.load(row) : row });
    } catch (e) {
      toastError('Not opened', e);
    }
  };
  const title = p.noun.charAt(0).toUpperCase() + p.noun.slice(1);
  const menu: Column<T> = {
    id: 'actions',
    title: '',
    width: '48px',
    cell: (row) => {
      const editable = typeof p.canEdit === 'function' ? p.canEdit(row) : p.canEdit !== false;
      return (
        <Menu position="bottom-end" shadow="md">
          <Menu.Target>
            <ActionIcon variant="subtle" color="gray" aria-label={`Actions for ${p.name(row)}`}><IconDots size={17} /></ActionIcon>
          </Menu.Target>
          <Menu.Dropdown>
            {p.actions?.map((a) => <Menu.Item key={a.label} disabled={a.off?.(row)} onClick={() => a.run(row)}>{a.label}</Menu.Item>)}
            {editable && <Menu.Item onClick={() => void begin(row)}>Edit…</Menu.Item>}
            <Menu.Item color="red" onClick={() => setDoomed(row)}>Delete…</Menu.Item>
          </Menu.Dropdown>
        </Menu>
      );
    },
  };
  const one = open?.row;
  return (
    <>
      <DataTable
        label={p.table}
        columns={[...p.columns, menu]}
        source={list}
        keyOf={p.keyOf}
        height={p.height}
        tools={<>{p.tools}<Button leftSection={<IconPlus size={17} />} onClick={() => setOpen({ row: null })}>{`Add ${p.noun}`}</Button></>}
        empty={<NoRows title={`No ${p.noun}`}>{p.empty}</NoRows>}
      />
      {open && (
        <FormDialog
          title={one ? `Edit ${p.name(one)}` : `Add ${p.noun}`}
          intro={p.intro}
          fields={p.fields(one ?? null)}
          initial={p.values?.(one ?? null)}
          submit={one ? 'Save' : 'Add'}
          size={p.size}
          close={() => setOpen(null)}
          save={async (values) => {
            const body = p.body ? p.body(values, one ?? null) : values;
            if (!one) await api.post(p.path, body);
            else if (p.method === 'put') await api.put(`${p.path}/${p.keyOf(one)}`, body);
            else await api.patch(`${p.path}/${p.keyOf(one)}`, body, p.revision?.(one));
            done(one ? `${title} changed` : `${title} added`, one ? p.name(one) : '');
          }}
        />
      )}
      {doomed && (
        <FormDialog
          danger
          title={`Delete ${p.name(doomed)}?`}
          intro={p.removeText ?? 'This cannot be undone.'}
          fields={[]}
          submit="Delete"
          close={() => setDoomed(null)}
          save={async () => {
            await api.delete(`${p.path}/${p.keyOf(doomed)}`, p.revision?.(doomed));
            done(`${title} deleted`, p.name(doomed));
          }}
        />
      )}
    </>
  );
}
