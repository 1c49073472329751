/** Wire forms of firmware: what servers have, what they should have, and how they get there. */

export interface Component {
  id: number;
  revision?: number;
  externalId?: string | null;
  name?: string | null;
  type?: string | null;
  firmwareVersion?: string | null;
  firmwareTargetVersion?: string | null;
  firmwareUpdateable: number;
  firmwareUpdateAvailableVersions?: unknown;
  firmwareStatus: string;
  firmwareFailure?: string | null;
  firmwareUpdateTimestamp?: string | null;
  firmwareScheduledTimestamp?: string | null;
  firmwareUpgradeNeedsConfirmation?: number;
}
export interface Baseline {
  id: number;
  revision?: number;
  name: string;
  description?: string | null;
  catalog?: string[] | null;
  minimumVersions?: { componentName: string; minimumVersion: string }[] | null;
}
export interface Catalog {
  id: number;
  name: string;
  description?: string | null;
  vendor: string;
  updateType: string;
  vendorUrl?: string | null;
  createdTimestamp: string;
}
export interface Binary {
  id: number;
  catalogId: number;
  name: string;
  packageVersion?: string | null;
  vendorDownloadUrl: string;
  rebootRequired: boolean;
  updateSeverity: string;
  vendorSupportedDevices?: unknown[] | null;
  vendorSupportedSystems?: unknown[] | null;
}
export type Action = 'accept' | 'deny' | 'accept_with_confirmation';
export interface Policy {
  id: number;
  label: string;
  status: string;
  action: Action;
  rules?: { property: string; operation: string; value: string }[] | null;
  serverInstanceGroupIds?: number[] | null;
  updatedTimestamp: string;
}
export type Compliance = 'compliant' | 'outdated' | 'newer_available' | 'unknown';
export interface Matrix {
  baseline: Baseline;
  componentTypes: Record<string, string>;
  summary: Record<Compliance, number>;
  servers: { serverId: number; serverName: string; serverStatus: string; siteId: number; vendor?: string | null; model?: string | null; state: Compliance; components: { componentId: number; name: string; type: string; version?: string | null; minimumVersion?: string | null; newestVersion?: string | null; state: Compliance }[] }[];
}
export interface Campaign {
  id: number;
  revision: number;
  label: string;
  baselineId?: number | null;
  policyId?: number | null;
  status: string;
  reason?: string | null;
  wave: number;
  waves: number;
  toleratedFailures: number;
  serverCounts: Record<string, number>;
  createdTimestamp: string;
  updatedTimestamp: string;
  servers?: { serverId: number; serverName?: string | null; wave: number; status: string; reason?: string | null; jobGroupId?: number | null; updatedTimestamp: string }[];
}
export interface Confirmation {
  id: number;
  revision: number;
  serverId: number;
  serverInstanceId?: number | null;
  infrastructureId?: number | null;
  status: string;
  message?: string | null;
  updates: { componentId: number; name: string; type: string; from?: string | null; to?: string | null; restart?: boolean }[];
  dueTimestamp?: string | null;
  startTimestamp?: string | null;
}
