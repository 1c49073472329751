import { Button, Code, Group, Skeleton, Stack, Text, Title } from '@mantine/core';
import { IconAlertTriangle } from '@tabler/icons-react';
import { type ReactNode, useEffect, useState } from 'react';
import { ApiError } from '../api/client';

/** Appears only when the wait is felt, so that quick answers do not flicker. */
export function Loading({ rows = 4 }: { rows?: number }) {
  const [shown, show] = useState(false);
  useEffect(() => {
    const timer = setTimeout(() => show(true), 150);
    return () => clearTimeout(timer);
  }, []);
  if (!shown) return null;
  return (
    <Stack gap="sm" role="status" aria-label="Loading">
      {Array.from({ length: rows }, (_, i) => (
        <Skeleton key={i} height={28} radius="sm" />
      ))}
    </Stack>
  );
}

export function ErrorCard({ error, retry, what = 'This could not be loaded' }: { error: unknown; retry?: () => void; what?: string }) {
  const requestId = error instanceof ApiError ? error.requestId : null;
  return (
    <div className="panel" role="alert" style={{ padding: 16, borderColor: 'var(--sy-del)' }}>
      <Group align="flex-start" wrap="nowrap">
        <IconAlertTriangle color="var(--sy-del)" aria-hidden />
        <div>
          <Text fw={600}>{what}</Text>
          <Text size="sm">{error instanceof Error ? error.message : String(error)}</Text>
          {requestId && (
            <Text size="xs" c="dimmed">
              Request <Code>{requestId}</Code>
            </Text>
          )}
          {retry && (
            <Button mt="xs" size="xs" variant="light" onClick={retry}>
              Try again
            </Button>
          )}
        </div>
      </Group>
    </div>
  );
}

export function Empty({ icon, title, children, action }: { icon?: ReactNode; title: string; children?: ReactNode; action?: ReactNode }) {
  return (
    <Stack align="center" gap="xs" py={56} px="md" ta="center">
      {icon && <div style={{ color: 'var(--mantine-color-dimmed)' }}>{icon}</div>}
      <Title order={2}>{title}</Title>
      <Text c="dimmed" maw={460}>
        {children}
      </Text>
      {action}
    </Stack>
  );
}
