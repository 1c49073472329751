/** The part of the wire form that these interfaces read. `npm run gen-api` writes the full schema next to it. */

export interface Page<T> {
  data: T[];
  meta: { itemsPerPage: number; totalItems: number; totalPages: number; currentPage: number };
}
export type ServiceStatus = 'ordered' | 'active' | 'deleted' | 'stopped' | 'suspended';
export type DeployType = 'create' | 'edit' | 'delete' | 'start' | 'stop' | 'suspend';
export type DeployStatus = 'not_started' | 'ongoing' | 'finished';

export interface User {
  id: number;
  displayName: string;
  email: string;
  accessLevel: string;
  accountId?: number | null;
}
export interface JobCounts {
  groupCreatedTimestamp: string;
  groupCompletedTimestamp: string;
  jobsThrownError: number;
  jobsCompleted: number;
  jobsTotal: number;
}
export interface Infrastructure {
  id: number;
  revision: number;
  label: string;
  siteId: number;
  datacenterName: string;
  serviceStatus: ServiceStatus;
  designIsLocked: number;
  createdTimestamp: string;
  updatedTimestamp: string;
  instancesCountActive?: number | null;
  config: { revision?: number; label?: string; deployType?: DeployType; deployStatus?: DeployStatus; infrastructureDeployId?: number | null };
  statistics?: JobCounts | null;
}
export interface GroupConfig {
  revision: number;
  label: string;
  instanceCount: number;
  defaultServerTypeId: number;
  osTemplateId?: number | null;
  hostname?: string | null;
  deployType: DeployType;
  deployStatus: DeployStatus;
}
export interface ServerInstanceGroup {
  id: number;
  revision: number;
  label: string;
  infrastructureId: number;
  instanceCount: number;
  defaultServerTypeId: number;
  osTemplateId?: number | null;
  hostname?: string | null;
  serviceStatus: ServiceStatus;
  config?: GroupConfig;
}
export interface NetworkAllocation {
  vlanId?: number | null;
  allocationStatus?: string | null;
  networkAddress?: string | null;
  prefixLength?: number | null;
}
export interface LogicalNetwork {
  id: number;
  revision: number;
  label: string;
  name: string;
  kind: string;
  fabricId: number;
  infrastructureId: number | null;
  serviceStatus: ServiceStatus;
  mtu?: number | null;
  annotations?: Record<string, string>;
  lastAppliedLogicalNetworkProfileId?: number | null;
  config: { revision: number; deployType: DeployType; deployStatus: DeployStatus; mtu?: number | null };
  vlan?: { vlans: NetworkAllocation[] } | null;
  ipv4?: { subnets: NetworkAllocation[]; subnetAllocationStrategies?: { kind: string; prefixLength?: number | null; subnetPoolIds?: number[] }[] } | null;
}
export interface GroupConnection {
  id: string;
  tagged: boolean;
  accessMode: 'l2';
  mtu?: number | null;
  providesDefaultRoute?: boolean;
  redundancy?: { mode: 'active-backup' | 'active-active'; implementation?: unknown } | null;
}
export interface ServerInstance {
  id: number;
  label: string;
  groupId: number;
  infrastructureId: number;
  serverId?: number | null;
  hostname?: string | null;
  serviceStatus: ServiceStatus;
  osInstallError?: string | null;
  config: { deployType: DeployType; deployStatus: DeployStatus; serverId?: number | null };
  allocatedServerInfo?: { id: number; vendor: string; model?: string } | null;
  allocatedNetworkConfig?: Record<string, unknown> | null;
}
export interface InstanceCredentials {
  username?: string | null;
  initialPassword?: string | null;
  publicSshKey?: string | null;
}
export interface Named {
  id: number;
  name: string;
  label?: string | null;
}
export interface ServerType extends Named {
  ramGbytes: number;
  processorCount: number;
  processorCoreCount: number;
  networkInterfaceCount: number;
  networkInterfaceSpeeds: number[];
  processorNames: string[];
  diskCount: number;
  gpuCount?: number | null;
  serverClass: string;
}
export interface OsTemplate extends Named {
  os: { name: string; version: string };
  status: string;
}
export interface NetworkProfile {
  id: number;
  label: string;
  name: string;
  kind: string;
  fabricId: number;
}
export interface Fabric {
  id: string;
  name: string;
  siteId?: number | null;
  status?: string;
}
export interface Site {
  id: number;
  slug: string;
  name: string;
  revision: number;
  isInMaintenance?: boolean;
}
export interface Agent {
  siteName: string;
  agentType: string;
  agentVersion: string;
  agentSeenIpAddress: string;
  agentSeenTimestamp: string;
  agentConnectedInfo?: { agentId: string; hostname: string } | null;
}
export interface ServerInterface {
  serverInterfaceId: number;
  index: number;
  macAddress: string;
  capacityMbps?: number | null;
  switchHostname?: string | null;
  switchPortId?: string | null;
  vlanId?: number | null;
  ipv4Addresses?: string[] | null;
  lldpInfo?: string | null;
  pxeEnabled?: number | null;
}
export interface ServerDisk {
  id: number;
  model: string;
  vendor: string;
  serial: string;
  diskSizeGb: number;
  type: string;
  status: string;
}
export interface Server {
  serverId: number;
  revision: number;
  siteId: number;
  datacenterName: string;
  serverTypeId?: number | null;
  serialNumber?: string | null;
  serverUUID?: string | null;
  managementAddress?: string | null;
  bmcMacAddress?: string | null;
  vendor?: string | null;
  model?: string | null;
  serverStatus: string;
  powerStatus: string;
  administrationState: string;
  ramGbytes?: number | null;
  processorCount?: number | null;
  processorCoreCount?: number | null;
  processorName?: string | null;
  gpuCount?: number | null;
  rackName?: string | null;
  rackPositionLowerUnit?: string | null;
  tags?: string[] | null;
  interfaces?: ServerInterface[] | null;
  disks?: ServerDisk[] | null;
  allocationInfo?: { instanceId: number; instanceLabel: string; instanceGroupLabel: string; infrastructure: { id?: number; label?: string } } | null;
}
export interface NetworkDevice {
  id: string;
  revision: number;
  status: string;
  siteId: number;
  identifierString: string;
  managementAddress: string;
  managementPort: number;
  serialNumber: string;
  driver: string;
  position: string;
  loopbackAddressIpv4?: string | null;
  asn: number;
  datacenterRack: string;
  tags: string[];
}
export interface SwitchPort {
  interfaceId: number;
  interfaceName: string;
  interfaceIndex?: number | null;
  macAddress?: string | null;
  serverId?: number | null;
  serverInterfaceId?: number | null;
  dirtyBit: number;
  lldpInformation?: string | null;
  driverDumpCachedJson?: { operStatus?: string; adminStatus?: string; speedMbps?: number; untaggedVlan?: number | null; taggedVlans?: number[] } | null;
}
export interface Subnet {
  id: number;
  revision: number;
  label: string;
  name: string;
  ipVersion: string;
  networkAddress: string;
  prefixLength: number;
  defaultGatewayAddress: string | null;
  isPool: boolean;
  parentSubnetId: number | null;
}
export interface Job {
  jobId: number;
  jobGroupId?: number | null;
  siteId?: number | null;
  instanceId?: number | null;
  serverId?: number | null;
  networkDeviceId?: number | null;
  infrastructureId?: number | null;
  type: string;
  status: string;
  functionName: string;
  callCount: number;
  retryMax: number;
  retryCount: number;
  durationMilliseconds?: number | null;
  options: { canBeRetriedIfSuccessful?: boolean; canBeSkipped?: boolean };
  createdTimestamp: string;
  updatedTimestamp: string;
  startTimestamp?: string | null;
  markForDeath?: string | null;
  title?: string | null;
  key?: string | null;
  dependsOn?: (number | string)[] | null;
  percent?: number | null;
  message?: string | null;
  error?: string | null;
}
export interface JobGroup {
  id: number;
  type: string;
  description: string;
  createdTimestamp: string;
  finishedTimestamp?: string | null;
  infrastructureId?: number | null;
  serverId?: number | null;
  cancelReason?: string | null;
}
export interface JobGroupStatistics {
  jobsThrownError: number;
  jobsCompleted: number;
  jobsTotal: number;
}
export interface SystemEvent {
  id: number;
  type: number;
  severity: string;
  title: string;
  message: string;
  occurredTimestamp: string;
  infrastructureId?: number | null;
  serverId?: number | null;
  siteId?: number | null;
  jobId?: string | null;
  userEmailAuthenticated?: string | null;
}
export interface Problem {
  severity: 'error' | 'warning' | 'info';
  object?: { kind: string; id: number | string } | null;
  field?: string | null;
  code: string;
  message: string;
  fix?: string | null;
}
export interface PlanChange {
  kind: string;
  id: number | string | null;
  label: string;
  op: string;
  fields: { field: string; before: unknown; after: unknown }[];
}
export interface Plan {
  planId: string | number;
  revision: number;
  changes: PlanChange[];
  allocations: Record<string, unknown>[];
  releases?: Record<string, unknown>[];
  impact: {
    serversPoweredOn: number;
    serversPoweredOff: number;
    serversWiped: number;
    disksErased: number;
    switchPorts: number;
    switchDevices: number;
    devices?: { id: number; name: string; ports: string[] }[];
    addressesReleased: number;
    otherTenantsAffected: number;
    estimateSeconds: number | null;
  };
  jobs: { key: string; title: string; function: string; dependsOn: string[] }[];
  warnings: (string | Problem)[];
  problems: Problem[];
}
export interface Availability {
  free: number;
  total: number;
}
export interface Overview {
  servers: { total: number; byStatus: Record<string, number> };
  switches: Record<string, unknown>;
  sites: { id: number; name: string; connected: boolean; lastSeen: string | null; version: string | null }[];
  jobs: { running: number; failed: number };
}
export interface JobReport {
  jobId: number;
  groupId: number;
  infrastructureId?: number | null;
  status: string;
  percent?: number | null;
  message?: string | null;
  error?: string | null;
}
export interface ConnectRule {
  from: string;
  to: string;
  allowed: boolean;
  reason?: string | null;
}
