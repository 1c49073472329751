import { Badge, Button, Group, Select, Text, TextInput } from '@mantine/core';
import { useDebouncedValue } from '@mantine/hooks';
import { IconPlayerPause, IconPlayerPlay, IconSearch } from '@tabler/icons-react';
import { useQuery, useQueryClient } from '@tanstack/react-query';
import { useEffect, useState } from 'react';
import { api } from '../../api/client';
import type { Page as Answer, SystemEvent } from '../../api/types';
import { words } from '../../components/format';
import { Empty, ErrorCard, Loading } from '../../components/states';
import { Ago } from '../../components/status';
import { subscribe } from '../../live/stream';
import { Page } from './Page';

const SEVERITIES: SystemEvent['severity'][] = ['info', 'success', 'important', 'warning', 'security'];
const COLOUR: Record<string, string> = { success: 'green', important: 'red', security: 'red', warning: 'amber' };

export function EventList({ limit, search, severity, paused }: { limit: number; search?: string; severity?: string | null; paused?: boolean }) {
  const client = useQueryClient();
  const q = useQuery({
    queryKey: ['events', limit, search, severity],
    queryFn: () => api.get<Answer<SystemEvent>>('/events', { limit, sortBy: 'id:DESC', search, 'filter.severity': severity }),
    refetchInterval: paused ? false : 20_000,
    refetchOnWindowFocus: !paused,
    placeholderData: (before) => before,
  });
  useEffect(() => {
    if (paused) return;
    let timer: ReturnType<typeof setTimeout> | undefined;
    const stop = subscribe(({ topic }) => {
      if (topic !== 'event' && topic !== 'reset') return;
      timer ??= setTimeout(() => {
        timer = undefined;
        void client.invalidateQueries({ queryKey: ['events'] });
      }, 500);
    });
    return () => {
      stop();
      clearTimeout(timer);
    };
  }, [client, paused]);
  if (q.error) return <ErrorCard error={q.error} retry={() => void q.refetch()} what="Events could not be loaded" />;
  if (!q.data) return <Loading rows={6} />;
  if (!q.data.data.length) return <Empty title="No event">{search || severity ? 'Nothing matches these filters.' : 'What happens is written here as it happens.'}</Empty>;
  return (
    <ol className="events">
      {q.data.data.map((e) => (
        <li key={e.id}>
          <Text size="sm" c="dimmed" className="num">
            <Ago at={e.occurredTimestamp} />
          </Text>
          <Badge variant="light" color={COLOUR[e.severity] ?? 'gray'}>
            {words(e.severity)}
          </Badge>
          <div style={{ minWidth: 0 }}>
            <Text size="sm" fw={600}>
              {e.title}
            </Text>
            <Text size="sm" c="dimmed" style={{ overflowWrap: 'anywhere' }}>
              {e.message === e.title ? '' : e.message}
              {e.userEmailAuthenticated ? `${e.message === e.title ? 'by' : ' ·'} ${e.userEmailAuthenticated}` : ''}
            </Text>
          </div>
        </li>
      ))}
    </ol>
  );
}

export function Events() {
  const [paused, pause] = useState(false);
  const [search, setSearch] = useState('');
  const [severity, setSeverity] = useState<string | null>(null);
  const [asked] = useDebouncedValue(search, 250);
  return (
    <Page
      title="Events"
      sub={paused ? 'Paused: new events are not shown' : 'Live: newest first'}
      tools={
        <Group gap="xs">
          <TextInput aria-label="Search events" placeholder="Search" leftSection={<IconSearch size={16} />} value={search} onChange={(e) => setSearch(e.currentTarget.value)} />
          <Select aria-label="Severity" placeholder="Any severity" clearable clearButtonProps={{ 'aria-label': 'Any severity' }} w={160} data={SEVERITIES.map((v) => ({ value: v, label: words(v) }))} value={severity} onChange={setSeverity} />
          <Button variant="default" leftSection={paused ? <IconPlayerPlay size={16} /> : <IconPlayerPause size={16} />} onClick={() => pause(!paused)}>
            {paused ? 'Go on' : 'Pause'}
          </Button>
        </Group>
      }
    >
      <section className="panel pad">
        <EventList limit={100} search={asked} severity={severity} paused={paused} />
      </section>
    </Page>
  );
}
