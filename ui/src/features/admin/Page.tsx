import { Group, Text, Title } from '@mantine/core';
import type { ReactNode } from 'react';

export function Page({ title, sub, tools, children }: { title: ReactNode; sub?: ReactNode; tools?: ReactNode; children: ReactNode }) {
  return (
    <main className="page wide">
      <Group justify="space-between" align="flex-end" mb="md">
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
