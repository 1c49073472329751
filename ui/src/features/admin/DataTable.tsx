import { ActionIcon, Checkbox, Popover, Stack, Text, Tooltip, UnstyledButton } from '@mantine/core';
import { IconArrowDown, IconArrowUp, IconColumns3 } from '@tabler/icons-react';
import { useVirtualizer } from '@tanstack/react-virtual';
import { type ReactNode, useEffect, useLayoutEffect, useRef, useState } from 'react';
import { count } from '../../components/format';
import { Empty, ErrorCard, Loading } from '../../components/states';

export interface Column<T> {
  id: string;
  title: string;
  /** Width as a grid track. */
  width: string;
  /** The field of the wire that the server sorts by. */
  sort?: string;
  cell: (row: T) => ReactNode;
  /** Whether a row has something to say here; a column in which none has is left out. */
  has?: (row: T) => boolean;
}
interface Source<T> {
  rows: T[];
  total: number;
  error: unknown;
  isPending: boolean;
  hasNextPage: boolean;
  isFetchingNextPage: boolean;
  fetchNextPage: () => unknown;
  refetch: () => unknown;
}
const ROW = 44;
/** The line below a table and the page's padding. */
const BELOW = 62;

/** Rows that are ticked, for what is done with many at once. */
export interface Picking<T> {
  picked: ReadonlyMap<string | number, T>;
  pick: (rows: ReadonlyMap<string | number, T>) => void;
  name: (row: T) => string;
}

/** Which columns a person wants to see, kept in this browser. */
export function useColumns<T>(key: string, all: Column<T>[], always: readonly string[]) {
  const name = `steelyard.columns.${key}`;
  const [hidden, setHidden] = useState<readonly string[]>(() => {
    try {
      const kept: unknown = JSON.parse(localStorage.getItem(name) ?? '[]');
      return Array.isArray(kept) ? kept.map(String) : [];
    } catch {
      return [];
    }
  });
  const change = (next: readonly string[]) => {
    setHidden(next);
    try {
      localStorage.setItem(name, JSON.stringify(next));
    } catch {
      // Without storage the choice lasts as long as the page.
    }
  };
  const menu = (
    <Popover position="bottom-end" shadow="md" trapFocus>
      <Popover.Target>
        <Tooltip label="Columns"><ActionIcon variant="default" size={36} aria-label="Columns"><IconColumns3 size={18} /></ActionIcon></Tooltip>
      </Popover.Target>
      <Popover.Dropdown aria-label="Columns">
        <Stack gap={8}>
          {all.filter((c) => !always.includes(c.id)).map((c) => (
            <Checkbox key={c.id} size="xs" label={c.title} checked={!hidden.includes(c.id)} onChange={() => change(hidden.includes(c.id) ? hidden.filter((h) => h !== c.id) : [...hidden, c.id])} />
          ))}
        </Stack>
      </Popover.Dropdown>
    </Popover>
  );
  return { shown: all.filter((c) => always.includes(c.id) || !hidden.includes(c.id)), menu };
}

/** A table of any length: only visible rows are in the page, further ones are asked for as they come into view. */
export function DataTable<T>({ label, columns: own, source, keyOf, sort, onSort, empty, tools, picking, height }: { label: string; columns: Column<T>[]; source: Source<T>; keyOf: (row: T) => string | number; sort?: string; onSort?: (sort: string) => void; empty: ReactNode; /** Above the table, at its right. */ tools?: ReactNode; picking?: Picking<T>; height?: string }) {
  const box = useRef<HTMLDivElement>(null);
  const { rows, hasNextPage, isFetchingNextPage, fetchNextPage } = source;
  const columns = own.filter((c) => !c.has || rows.some(c.has));
  const toggle = (chosen: T[], on: boolean) => {
    if (!picking) return;
    const next = new Map(picking.picked);
    for (const row of chosen) if (on) next.set(keyOf(row), row); else next.delete(keyOf(row));
    picking.pick(next);
  };
  const ticked = picking ? rows.filter((r) => picking.picked.has(keyOf(r))).length : 0;
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => box.current, estimateSize: () => ROW, overscan: 8 });
  // As high as what is left of the window, so that the page itself does not scroll; what stands above differs from page to page.
  const [room, setRoom] = useState(0);
  const present = rows.length > 0;
  useLayoutEffect(() => {
    const measure = () => box.current && setRoom(Math.round(box.current.getBoundingClientRect().top + window.scrollY) + BELOW);
    measure();
    window.addEventListener('resize', measure);
    return () => window.removeEventListener('resize', measure);
  }, [present]);
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage && last >= rows.length - 20) void fetchNextPage();
  }, [last, rows.length, hasNextPage, isFetchingNextPage, fetchNextPage]);
  const template = (picking ? '22px ' : '') + columns.map((c) => c.width).join(' ');
  // Rows are laid out one by one: a common least width keeps their columns in line when the table scrolls sideways.
  const least = columns.reduce((sum, c) => sum + Number(/(\d+)px/.exec(c.width)?.[1] ?? 80), 32 + (picking ? 34 : 0) + 12 * (columns.length - 1));
  const [field, direction] = (sort ?? '').split(':');

  if (source.error) return <ErrorCard error={source.error} retry={() => void source.refetch()} what={`${label} could not be loaded`} />;
  if (source.isPending) return <div className="panel" style={{ padding: 16 }}><Loading rows={8} /></div>;
  const bar = tools && <div className="dt-tools">{tools}</div>;
  if (!rows.length) return <>{bar}<div className="panel">{empty}</div></>;
  return (
    <>
    {bar}
    <div className="panel">
      <div ref={box} className="dt" role="table" aria-label={label} aria-rowcount={source.total + 1} tabIndex={0} style={{ maxHeight: height ?? `max(260px, calc(100vh - ${room || 206}px))` }}>
        <div role="rowgroup" className="dt-head" style={{ minWidth: least }}>
          <div role="row" className="dt-row" style={{ gridTemplateColumns: template }} aria-rowindex={1}>
            {picking && <div role="columnheader"><Checkbox size="xs" aria-label={`Choose all ${rows.length} loaded`} checked={ticked > 0 && ticked === rows.length} indeterminate={ticked > 0 && ticked < rows.length} onChange={(e) => toggle(rows, e.currentTarget.checked)} /></div>}
            {columns.map((c) => (
              <div role="columnheader" key={c.id} aria-sort={c.sort && c.sort === field ? (direction === 'DESC' ? 'descending' : 'ascending') : undefined}>
                {c.sort && onSort ? (
                  <UnstyledButton className="dt-sort" onClick={() => onSort(`${c.sort}:${field === c.sort && direction !== 'DESC' ? 'DESC' : 'ASC'}`)}>
                    {c.title} {field === c.sort && (direction === 'DESC' ? <IconArrowDown size={13} /> : <IconArrowUp size={13} />)}
                  </UnstyledButton>
                ) : (
                  c.title || <span className="sr-only">Actions</span>
                )}
              </div>
            ))}
          </div>
        </div>
        <div role="rowgroup" style={{ height: virtual.getTotalSize(), position: 'relative', minWidth: least }}>
          {items.map((item) => {
            const row = rows[item.index];
            return (
              <div role="row" key={keyOf(row)} aria-rowindex={item.index + 2} className="dt-row" style={{ gridTemplateColumns: template, position: 'absolute', top: 0, left: 0, right: 0, height: ROW, transform: `translateY(${item.start}px)` }}>
                {picking && <div role="cell"><Checkbox size="xs" aria-label={`Choose ${picking.name(row)}`} checked={picking.picked.has(keyOf(row))} onChange={(e) => toggle([row], e.currentTarget.checked)} /></div>}
                {columns.map((c) => (
                  <div role="cell" key={c.id}>
                    {c.cell(row)}
                  </div>
                ))}
              </div>
            );
          })}
        </div>
      </div>
      <Text size="xs" c="dimmed" p="xs" className="num" role="status">
        {count(rows.length)} of {count(source.total)} loaded{isFetchingNextPage ? ', loading more…' : ''}
      </Text>
    </div>
    </>
  );
}
export const NoRows = ({ title, children }: { title: string; children?: ReactNode }) => <Empty title={title}>{children}</Empty>;
