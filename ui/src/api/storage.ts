/** Wire forms of storage: what a site has, and what a design puts on it. */
import type { DeployStatus, DeployType, ServiceStatus } from './types';

export type Technology = 'block' | 'file' | 'object';
export interface Storage {
  id: number;
  revision: number;
  siteId: number;
  name: string;
  driver: string;
  technologies: Technology[];
  status: string;
  managementHost: string;
  username?: string | null;
  inMaintenance?: number | null;
  tags?: string[] | null;
  options?: Record<string, unknown> | null;
  managementPort?: number | null;
  networkFabricId?: number | null;
  overcommitPercent?: number | null;
  capacityBytes?: number | null;
  usedBytes?: number | null;
  statusReason?: string | null;
  serialNumber?: string | null;
  vendor?: string | null;
  model?: string | null;
  version?: string | null;
  tlsFingerprint?: string | null;
  tlsFingerprintShown?: string | null;
  pools?: Record<string, unknown>[] | null;
}
export interface StorageStatistics {
  totalSpaceGB: number;
  usedSpaceGB: number;
  freeSpaceGB: number;
  promisedSpaceGB?: number;
  overcommitPercent?: number;
}
export interface StoreHosts {
  instanceGroup: { willBeConnected: number[]; connected: number[]; willBeDisconnected: number[]; disconnected: number[] };
}
interface Common {
  id: number;
  revision: number;
  label: string;
  storagePoolId?: number | null;
  serviceStatus: ServiceStatus;
  sizeMb?: number;
  sizeGB?: number;
  driveSizeMbDefault?: number;
  boot?: boolean;
  config: { revision: number; label: string; storagePoolId?: number | null; sizeMb?: number; sizeGB?: number; driveSizeMbDefault?: number; boot?: boolean; serverInstanceGroupId?: number; deployType: DeployType; deployStatus: DeployStatus };
}
/** A shared drive, the drives of a group's servers, a file share or a bucket of a design, with what its kind adds. */
export interface StorageElement extends Common {
  kind: 'drive' | 'own' | 'share' | 'bucket';
  hosts?: StoreHosts | null;
  wwn?: string | null;
  targets?: { target?: string | null; portals?: { address: string; port?: number }[] | null }[] | null;
  discoverInformation?: unknown;
  accessKeyId?: string | null;
}
const gb = (of: { sizeMb?: number; sizeGB?: number; driveSizeMbDefault?: number }) => of.sizeGB ?? Math.round((of.sizeMb ?? of.driveSizeMbDefault ?? 0) / 1024);
/** What runs. */
export const sizeOf = (e: StorageElement) => gb(e);
/** What is designed. */
export const designedSize = (e: StorageElement) => gb(e.config);

export const PATHS = { drive: 'drives', own: 'drive-groups', share: 'file-shares', bucket: 'buckets' } as const;
/** The whole size of an element as its kind says it on the wire. */
export const sizeBody = (kind: StorageElement['kind'], sizeGb: number) => (kind === 'drive' ? { sizeMb: sizeGb * 1024 } : kind === 'own' ? { driveSizeMbDefault: sizeGb * 1024 } : { sizeGB: sizeGb });

/** A state of a drive or share that was kept. */
export interface Snapshot {
  name: string;
  createdTimestamp: string;
  status?: string;
  error?: string;
}
