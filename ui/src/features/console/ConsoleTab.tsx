import { Text } from '@mantine/core';
import { useQuery } from '@tanstack/react-query';
import { lazy, Suspense } from 'react';
import { api } from '../../api/client';
import type { components } from '../../api/schema';
import { ErrorCard, Loading } from '../../components/states';

type Consoles = components['schemas']['Consoles'];
// The terminal is large: it comes when somebody opens a console.
const ConsolePanel = lazy(() => import('./ConsolePanel'));

/** Consoles of a server, for administrators. */
export function ServerConsole({ id }: { id: number }) {
  const q = useQuery({ queryKey: ['server', String(id), 'consoles'], queryFn: () => api.get<Consoles>(`/servers/${id}/consoles`), staleTime: 30_000 });
  if (q.error) return <ErrorCard error={q.error} retry={() => void q.refetch()} />;
  if (!q.data) return <Loading rows={6} />;
  return (
    <>
      <Suspense fallback={<Loading rows={6} />}><ConsolePanel server={id} admin screens={Boolean(q.data.screen) || !q.data.serial} /></Suspense>
      <Text size="sm" c="dimmed" mt="xs">Who opens a console is on record, and its tenant sees it; what is typed and shown is not kept. {q.data.bmcConsole?.message && `Also: ${q.data.bmcConsole.message}.`}</Text>
    </>
  );
}

/** Consoles of a server instance, for its owner. */
export function InstanceConsole({ id }: { id: number }) {
  const q = useQuery({ queryKey: ['server-instance', id, 'consoles'], queryFn: () => api.get<Consoles>(`/server-instances/${id}/consoles`), staleTime: 30_000 });
  if (q.error) return <ErrorCard error={q.error} retry={() => void q.refetch()} />;
  if (!q.data) return <Loading rows={6} />;
  return <Suspense fallback={<Loading rows={6} />}><ConsolePanel instance={id} admin={false} screens={Boolean(q.data.screen)} /></Suspense>;
}
