import { SimpleGrid, Text, Title } from '@mantine/core';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { Link } from '@tanstack/react-router';
import { type ReactNode, useEffect } from 'react';
import { api } from '../../api/client';
import type { Overview as Counts } from '../../api/types';
import { count, words } from '../../components/format';
import { ErrorCard, Loading } from '../../components/states';
import { Ago } from '../../components/status';
import { subscribe } from '../../live/stream';
import { EventList } from './Events';
import { Page } from './Page';

const TINT: Record<string, string> = { available: 'var(--mantine-color-green-5)', used: 'var(--mantine-color-steel-5)', cleaning: 'var(--mantine-color-amber-4)', registering: 'var(--mantine-color-gray-5)', defective: 'var(--mantine-color-red-5)', unavailable: 'var(--mantine-color-amber-5)' };

export function Overview() {
  const client = useQueryClient();
  const q = useQuery({ queryKey: ['overview'], queryFn: () => api.get<Counts>('/overview'), refetchInterval: 15_000 });
  useEffect(() => {
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = subscribe(() => {
      timer ??= setTimeout(() => {
        timer = undefined;
        void client.invalidateQueries({ queryKey: ['overview'] });
      }, 2_000);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [client]);
  if (q.error) return <Page title="Overview"><ErrorCard error={q.error} retry={() => void q.refetch()} /></Page>;
  if (!q.data) return <Page title="Overview"><Loading rows={6} /></Page>;
  const { servers, switches, sites, jobs } = q.data;
  const states = Object.entries(servers?.byStatus ?? {}).sort((a, b) => b[1] - a[1]);
  const switchTotal = typeof switches?.total === 'number' ? switches.total : Object.values((switches?.byStatus ?? {}) as Record<string, number>).reduce((a, b) => a + b, 0);
  const offline = sites.filter((s) => !s.connected);
  return (
    <Page title="Overview" sub="What runs, what is free, what needs a look.">
      <SimpleGrid cols={{ base: 1, xs: 2, md: 4 }} mb="md">
        <Tile label="Servers" value={count(servers?.total)} to="/servers" />
        <Tile label="Switches" value={count(switchTotal)} to="/switches" />
        <Tile label="Jobs running" value={count(jobs?.running)} to="/jobs" />
        <Tile label="Jobs failed" value={count(jobs?.failed)} to="/jobs" hot={jobs?.failed > 0} />
      </SimpleGrid>
      <SimpleGrid cols={{ base: 1, md: 2 }} mb="md">
        <section className="panel pad">
          <Title order={2} mb="sm">
            Servers by state
          </Title>
          <div className="stack-bar" role="img" aria-label={states.map(([s, n]) => `${n} ${s}`).join(', ')}>
            {states.map(([s, n]) => (
              <span key={s} style={{ flexGrow: n, background: TINT[s] ?? 'var(--mantine-color-gray-6)' }} />
            ))}
          </div>
          <ul className="legend">
            {states.map(([s, n]) => (
              <li key={s}>
                <span className="dot" style={{ background: TINT[s] ?? 'var(--mantine-color-gray-6)' }} />
                <Link to="/servers" search={{ status: s }} className="link">
                  {words(s)}
                </Link>
                <span className="num">{count(n)}</span>
              </li>
            ))}
          </ul>
          {!states.length && <Text c="dimmed" size="sm">No server is registered yet.</Text>}
        </section>
        <section className="panel pad">
          <Title order={2} mb="sm">
            Sites {offline.length > 0 && <Text component="span" size="sm" className="bad">· {offline.length} not connected</Text>}
          </Title>
          <ul className="legend one">
            {sites.map((s) => (
              <li key={s.id}>
                <span className="dot" style={{ background: s.connected ? 'var(--mantine-color-green-5)' : 'var(--mantine-color-red-5)' }} />
                <Link to="/sites" className="link">
                  {s.name}
                </Link>
                <Text size="sm" c="dimmed">
                  {s.connected ? 'connected' : 'not connected'}
                  {s.version ? ` · ${s.version}` : ''}
                  {!s.connected && <> · seen <Ago at={s.lastSeen} /></>}
                </Text>
              </li>
            ))}
          </ul>
          {!sites.length && <Text c="dimmed" size="sm">No site yet. <Link to="/sites" className="link">Add the first one</Link>.</Text>}
        </section>
      </SimpleGrid>
      <section className="panel pad">
        <Title order={2} mb="sm">
          Latest events
        </Title>
        <EventList limit={10} />
      </section>
    </Page>
  );
}

function Tile({ label, value, to, hot }: { label: string; value: ReactNode; to: '/servers' | '/switches' | '/jobs'; hot?: boolean }) {
  return (
    <Link to={to} className={hot ? 'tile panel hot' : 'tile panel'}>
      <span>{label}</span>
      <b className="num">{value}</b>
    </Link>
  );
}
