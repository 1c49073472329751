import { Group, Text, Title } from '@mantine/core';
import { Link } from '@tanstack/react-router';
import type { ReactNode } from 'react';

export interface Tab {
  to: string;
  label: string;
}
export function Page({ title, sub, tools, tabs, children }: { title: ReactNode; sub?: ReactNode; tools?: ReactNode; tabs?: readonly Tab[]; children: ReactNode }) {
  return (
    <main className="page wide">
      <Group justify="space-between" align="flex-end" mb="md" className="page-head">
        <div>
          <Title order={1}>{title}</Title>
          {sub && (
            <Text c="dimmed" size="sm" component="div">
              {sub}
            </Text>
          )}
        </div>
        <Group gap="xs">{tools}</Group>
      </Group>
      {tabs && (
        <nav className="subnav" aria-label={`Parts of ${typeof title === 'string' ? title : 'this page'}`}>
          {tabs.map((t) => (
            <Link key={t.to} to={t.to as '/'} activeProps={{ className: 'active', 'aria-current': 'page' }} activeOptions={{ exact: true, includeSearch: false }}>
              {t.label}
            </Link>
          ))}
        </nav>
      )}
      {children}
    </main>
  );
}
/** Label and value pairs of a detail page. */
export function Facts({ of }: { of: [string, ReactNode][] }) {
  return (
    <dl className="facts">
      {of.map(([k, v]) => (
        <div key={k}>
          <dt>{k}</dt>
          <dd>{v === null || v === undefined || v === '' ? '–' : v}</dd>
        </div>
      ))}
    </dl>
  );
}
