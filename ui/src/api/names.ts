import { useQuery } from '@tanstack/react-query';
import { api } from './client';
import type { Infrastructure, Page, Server, Site } from './types';

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

/** All sites; they are few and change seldom. */
export const sitesQuery = { queryKey: ['sites'], staleTime: 30_000, queryFn: () => api.get<Page<Site>>('/sites', { limit: 100 }) };
export function useSiteNames(): (id: number | null | undefined) => string {
  const sites = useQuery(sitesQuery);
  return (id) => sites.data?.data.find((s) => s.id === id)?.name ?? (id ? `site ${id}` : '–');
}

/** Labels of infrastructures by id, in one question; what the person may not see is missing. */
export function useInfrastructureNames(ids: readonly number[]) {
  const wanted = [...new Set(ids)].sort((a, b) => a - b).slice(0, MOST);
  return useQuery({
    queryKey: ['names', 'infrastructures', wanted],
    enabled: wanted.length > 0,
    staleTime: 60_000,
    retry: false,
    queryFn: async () => new Map((await api.get<Page<Infrastructure>>('/infrastructures', { 'filter.id': `$in:${wanted.join(',')}`, limit: MOST })).data.map((i) => [i.id, i.label])),
  });
}
