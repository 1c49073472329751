/** Wire forms of how servers come in, are cleaned and leave. */

export interface RegistrationProfile {
  id: number;
  revision: string;
  name: string;
  isDefault: boolean;
  settings: Record<string, unknown> & { registerCredentials?: string; minimumNumberOfConnectedInterfaces?: number; alwaysDiscoverInterfacesWithBDK?: boolean; enableSyslogMonitoring?: boolean; serverCleanupPolicyId?: number | null };
}
export interface DefaultLogin {
  id: number;
  revision?: number;
  siteId: number;
  serverSerialNumber: string;
  serverMacAddress: string;
  serverVendor?: string | null;
  serverModel?: string | null;
  defaultUsername: string;
  defaultRackName?: string | null;
  defaultRegistrationProfileId?: number | null;
}
export interface CleanupPolicy {
  id: number;
  revision?: number;
  label: string;
  cleanupDrivesForOobEnabledServer: number;
  recreateRaid?: number;
  resetRaidControllers?: number;
  disableEmbeddedNics?: number;
  eraseMethod?: string;
  eraseFallbackMethods?: string[];
  clearTpm?: boolean;
  resetBios?: boolean;
  resetSecureBootKeys?: boolean;
  resetBmcSettings?: boolean;
  keepDiskSerialNumbers?: string[];
  keepDiskTypes?: string[];
  updatedTimestamp: string;
}
export interface CleanedDisk {
  name: string;
  serialNumber?: string | null;
  model?: string | null;
  sizeBytes?: number | null;
  erased: boolean;
  method: string;
  verification?: string | null;
  error?: string | null;
  /** `purge` or `clear` (IEEE 2883). */
  standard?: string | null;
  tried?: string[] | null;
  seconds?: number | null;
}
export interface CleaningCertificate {
  id: number;
  serverId: number;
  siteId: number;
  serialNumber: string;
  jobId: number;
  finishedTimestamp: string;
  succeeded: boolean;
  cleanupPolicyLabel?: string | null;
  eraseMethod: string;
  reason?: string | null;
  disks: CleanedDisk[];
  /** What was done beside the disks. */
  steps?: { what: string; done: boolean; words: string }[];
  signed?: { statement: string; publicKey: string; signature: string } | null;
}
export interface UnknownMachine {
  id: number;
  siteId: number;
  macAddress: string;
  address?: string | null;
  circuitId?: string | null;
  vendorClass?: string | null;
  kind: 'host' | 'bmc';
  status: 'quarantined' | 'registered';
  serverId?: number | null;
  firstSeenTimestamp: string;
  lastSeenTimestamp: string;
}
export interface Registered {
  line?: number;
  managementAddress?: string;
  serverId?: number;
  error?: string;
}
export interface RegisteredMany {
  registered: number;
  refused: number;
  results: Registered[];
}
export interface Scan {
  jobId: number;
  status: string;
  error?: string | null;
  askedCount: number;
  cutShort: boolean;
  found: { managementAddress: string; vendor?: string | null; product?: string | null; serverUUID?: string | null; tlsFingerprint?: string | null; serverId?: number | null }[];
}
