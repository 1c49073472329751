import { useQuery } from '@tanstack/react-query';
import { api } from '../../api/client';
import type { Storage } from '../../api/storage';
import type { Availability, Fabric, LogicalNetwork, NetworkProfile, OsTemplate, ServerType, Site } from '../../api/types';
import { listAll } from './model/persist';

/** What a site offers to a design. */
export interface Catalogue {
  types: ServerType[];
  templates: OsTemplate[];
  profiles: NetworkProfile[];
  fabrics: Fabric[];
  shared: LogicalNetwork[];
  site: Site | null;
  /** Storages of the site that this person may see; a design may leave the choice to the deploy. */
  storages: Storage[];
}
const NONE: Catalogue = { types: [], templates: [], profiles: [], fabrics: [], shared: [], site: null, storages: [] };

export function useCatalogue(siteId: number | undefined) {
  const query = useQuery({
    queryKey: ['catalogue', siteId],
    enabled: siteId !== undefined,
    staleTime: 60_000,
    queryFn: async (): Promise<Catalogue> => {
      const [site, storages, types, templates, fabrics] = await Promise.all([
        api.get<Site>(`/sites/${siteId}`).catch(() => null),
        listAll<Storage>('/storages', { 'filter.siteId': siteId ?? 0 }).catch(() => []),
        listAll<ServerType>('/server-types'),
        listAll<OsTemplate>('/os-templates'),
        listAll<Fabric>('/network-fabrics', { 'filter.siteId': siteId ?? 0 }),
      ]);
      const here = new Set(fabrics.map((f) => Number(f.id)));
      const [profiles, shared] = await Promise.all([
        listAll<NetworkProfile>('/logical-network-profiles').catch(() => []),
        listAll<LogicalNetwork>('/logical-networks', { 'filter.infrastructureId': '$null' }).catch(() => []),
      ]);
      return { site, storages, types, templates, fabrics, profiles: profiles.filter((p) => here.has(p.fabricId)), shared: shared.filter((n) => here.has(n.fabricId) && n.serviceStatus !== 'deleted') };
    },
  });
  const catalogue = query.data ?? NONE;
  return { ...query, catalogue };
}
export const typeName = (c: Catalogue, id: number) => c.types.find((t) => t.id === id)?.name ?? `type ${id}`;
export const osName = (c: Catalogue, id: number | null) => (id === null ? 'No operating system' : (c.templates.find((t) => t.id === id)?.name ?? `template ${id}`));
/** What a new network is made from: the site's first profile, else a plain VLAN on its fabric. */
export function defaultNetwork(c: Catalogue): { fabricId: number; profileId: number | null; label: string } | undefined {
  const profile = c.profiles.find((p) => p.kind === 'vlan') ?? c.profiles[0];
  if (profile) return { fabricId: profile.fabricId, profileId: profile.id, label: 'lan' };
  return c.fabrics[0] ? { fabricId: Number(c.fabrics[0].id), profileId: null, label: 'lan' } : undefined;
}

export function useAvailability(siteId: number | undefined, serverTypeId: number) {
  return useQuery(availabilityQuery(siteId, serverTypeId));
}
export const availabilityQuery = (siteId: number | undefined, serverTypeId: number) => ({
  queryKey: ['availability', siteId, serverTypeId],
  enabled: siteId !== undefined && serverTypeId > 0,
  staleTime: 15_000,
  queryFn: () => api.get<Availability>(`/sites/${siteId}/availability`, { serverTypeId }),
});
