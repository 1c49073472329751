import { Text, UnstyledButton } from '@mantine/core';
import { IconArrowDown, IconArrowUp } from '@tabler/icons-react';
import { useVirtualizer } from '@tanstack/react-virtual';
import { type ReactNode, useEffect, useRef } from 'react';
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

/** A table of any length: only visible rows are in the page, further ones are asked for as they come into view. */
export function DataTable<T>({ label, columns: all, source, keyOf, sort, onSort, empty, tools, height = 'calc(100vh - 206px)' }: { label: string; columns: Column<T>[]; source: Source<T>; keyOf: (row: T) => string | number; sort?: string; onSort?: (sort: string) => void; empty: ReactNode; /** Above the table, at its right. */ tools?: ReactNode; height?: string }) {
  const box = useRef<HTMLDivElement>(null);
  const { rows, hasNextPage, isFetchingNextPage, fetchNextPage } = source;
  const columns = all.filter((c) => !c.has || rows.some(c.has));
  const virtual = useVirtualizer({ count: rows.length, getScrollElement: () => box.current, estimateSize: () => ROW, overscan: 8 });
  const items = virtual.getVirtualItems();
  const last = items.at(-1)?.index ?? 0;
  useEffect(() => {
    if (hasNextPage && !isFetchingNextPage && last >= rows.length - 20) void fetchNextPage();
  }, [last, rows.length, hasNextPage, isFetchingNextPage, fetchNextPage]);
  const template = columns.map((c) => c.width).join(' ');
  // Rows are laid out one by one: a common least width keeps their columns in line when the table scrolls sideways.
  const least = columns.reduce((sum, c) => sum + Number(/(\d+)px/.exec(c.width)?.[1] ?? 80), 32 + 12 * (columns.length - 1));
  const [field, direction] = (sort ?? '').split(':');

  if (source.error) return <ErrorCard error={source.error} retry={() => void source.refetch()} what={`${label} could not be loaded`} />;
  if (source.isPending) return <div className="panel" style={{ padding: 16 }}><Loading rows={8} /></div>;
  const bar = tools && <div className="dt-tools">{tools}</div>;
  if (!rows.length) return <>{bar}<div className="panel">{empty}</div></>;
  return (
    <>
    {bar}
    <div className="panel">
      <div ref={box} className="dt" role="table" aria-label={label} aria-rowcount={source.total + 1} tabIndex={0} style={{ maxHeight: height }}>
        <div role="rowgroup" className="dt-head" style={{ minWidth: least }}>
          <div role="row" className="dt-row" style={{ gridTemplateColumns: template }} aria-rowindex={1}>
            {columns.map((c) => (
              <div role="columnheader" key={c.id} aria-sort={c.sort && c.sort === field ? (direction === 'DESC' ? 'descending' : 'ascending') : undefined}>
                {c.sort && onSort ? (
                  <UnstyledButton className="dt-sort" onClick={() => onSort(`${c.sort}:${field === c.sort && direction !== 'DESC' ? 'DESC' : 'ASC'}`)}>
                    {c.title} {field === c.sort && (direction === 'DESC' ? <IconArrowDown size={13} /> : <IconArrowUp size={13} />)}
                  </UnstyledButton>
                ) : (
                  c.title
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
