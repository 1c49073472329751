import { useQuery } from '@tanstack/react-query';
import { api } from './client';
import type { Page, Server } from './types';

const MOST = 100;

/** Serial number and model of servers by id, in one question; what the person may not see is missing. */
export function useServerNames(ids: readonly number[]) {
  const wanted = [...new Set(ids)].sort((a, b) => a - b).slice(0, MOST);
  return useQuery({
    queryKey: ['names', 'servers', wanted],
    enabled: wanted.length > 0,
    staleTime: 60_000,
    retry: false,
    queryFn: async () => new Map((await api.get<Page<Server>>('/servers', { 'filter.serverId': `$in:${wanted.join(',')}`, limit: MOST })).data.map((s) => [s.serverId, { serial: s.serialNumber || `server ${s.serverId}`, model: s.model ?? '' }])),
  });
}
