import { api } from '../../api/client';
import type { Infrastructure, NetworkDevice, Page, Server, Subnet } from '../../api/types';
import type { Command, Finder } from '../../components/commands';

type Go = (to: string) => void;

/** Servers, switches, subnets and infrastructures by whatever the server searches them by; one that fails is left out. */
export const findIn =
  (go: Go): Finder =>
  async (text, signal) => {
    const ask = async <T>(path: string, make: (row: T) => Command): Promise<Command[]> => {
      try {
        return (await api.get<Page<T>>(path, { search: text, limit: 5 }, signal)).data.map(make);
      } catch {
        return [];
      }
    };
    const all = await Promise.all([
      ask<Server>('/servers', (s) => ({ id: `server ${s.serverId}`, label: s.serialNumber || `Server ${s.serverId}`, hint: ['Server', s.model, s.managementAddress].filter(Boolean).join(' · '), run: () => go(`/servers/${s.serverId}`) })),
      ask<NetworkDevice>('/network-devices', (d) => ({ id: `switch ${d.id}`, label: d.identifierString, hint: `Switch · ${d.managementAddress}`, run: () => go(`/switches/${d.id}`) })),
      ask<Infrastructure>('/infrastructures', (i) => ({ id: `infrastructure ${i.id}`, label: i.label, hint: 'Infrastructure, in the portal', run: () => window.location.assign(`/portal/infrastructures/${i.id}`) })),
      ask<Subnet>('/subnets', (s) => ({ id: `subnet ${s.id}`, label: s.label || s.name, hint: `Subnet · ${s.networkAddress}/${s.prefixLength}`, run: () => go('/subnets') })),
    ]);
    return all.flat();
  };
