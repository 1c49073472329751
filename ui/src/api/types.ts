/**
 * The part of the wire form that these interfaces read, taken from the schema of the interface (`npm run gen-api`, checked by `npm run check-api`).
 * That schema lets almost every field be null, as clients of old expect; here it is said which ones this server always fills.
 */
import type { components } from './schema';

type Wire = components['schemas'];
type Sure<N extends keyof Wire, K extends keyof Wire[N]> = { [P in K]-?: NonNullable<Wire[N][P]> };
type May<N extends keyof Wire, K extends keyof Wire[N]> = { [P in K]?: Wire[N][P] | null };

export interface Page<T> {
  data: T[];
  meta: { itemsPerPage: number; totalItems: number; totalPages: number; currentPage: number };
}
export type ServiceStatus = Wire['ServerInstanceGroup']['serviceStatus'];
export type DeployType = Wire['ServerInstanceGroupConfiguration']['deployType'];
export type DeployStatus = Wire['ServerInstanceGroupConfiguration']['deployStatus'];

export type User = Sure<'User', 'id' | 'displayName' | 'email'> & May<'User', 'accountId'> & { accessLevel: string };
export interface JobCounts {
  groupCreatedTimestamp: string;
  groupCompletedTimestamp: string;
  jobsThrownError: number;
  jobsCompleted: number;
  jobsTotal: number;
}
export type Infrastructure = Sure<'Infrastructure', 'id' | 'revision' | 'label' | 'siteId' | 'datacenterName' | 'designIsLocked' | 'createdTimestamp' | 'updatedTimestamp'> & May<'Infrastructure', 'instancesCountActive'> & {
  serviceStatus: ServiceStatus;
  config: { revision?: number; label?: string; deployType?: DeployType; deployStatus?: DeployStatus; infrastructureDeployId?: number | null };
  statistics?: JobCounts | null;
};
export type GroupConfig = Sure<'ServerInstanceGroupConfiguration', 'revision' | 'label' | 'instanceCount' | 'defaultServerTypeId' | 'deployType' | 'deployStatus'> & May<'ServerInstanceGroupConfiguration', 'osTemplateId' | 'hostname' | 'customVariables'>;
export type ServerInstanceGroup = Sure<'ServerInstanceGroup', 'id' | 'revision' | 'label' | 'infrastructureId' | 'instanceCount' | 'defaultServerTypeId' | 'serviceStatus'> & May<'ServerInstanceGroup', 'osTemplateId' | 'hostname'> & { config?: GroupConfig };
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
  vlan?: { vlans: NetworkAllocation[]; vlanAllocationStrategies?: { kind: string; vlanId?: number | null }[] } | null;
  /** Of a network of InfiniBand: its partition key. */
  pkey?: { pkeys: { pkey: number }[] } | null;
  ipv4?: { subnets: NetworkAllocation[]; subnetAllocationStrategies?: { kind: string; prefixLength?: number | null; subnetPoolIds?: number[] }[] } | null;
}
export interface GroupConnection {
  id: string;
  /** Where the connections of a whole design are told. */
  serverInstanceGroupId?: number;
  tagged: boolean;
  accessMode: 'l2';
  mtu?: number | null;
  providesDefaultRoute?: boolean;
  redundancy?: { mode: 'active-backup' | 'active-active'; implementation?: unknown } | null;
}
export type ServerInstance = Sure<'ServerInstance', 'id' | 'label' | 'groupId' | 'infrastructureId' | 'serviceStatus'> & May<'ServerInstance', 'serverId' | 'hostname' | 'osInstallError' | 'osTemplateId'> & {
  config: { deployType: DeployType; deployStatus: DeployStatus; serverId?: number | null };
  allocatedServerInfo?: { id: number; vendor: string; model?: string } | null;
  allocatedNetworkConfig?: Record<string, unknown> | null;
  addresses?: { logicalNetworkId: number; address: string; prefixLength?: number; gateway?: string | null }[] | null;
  osReinstallRequired?: number | null;
};
export type InstanceCredentials = May<'ServerInstanceCredentials', 'username' | 'initialPassword' | 'publicSshKey'>;
export type ServerType = Sure<'ServerType', 'id' | 'name' | 'ramGbytes' | 'processorCount' | 'processorCoreCount' | 'networkInterfaceCount' | 'networkInterfaceSpeeds' | 'processorNames' | 'diskCount' | 'serverClass'> & May<'ServerType', 'label' | 'gpuCount'>;
export type OsTemplate = Sure<'OSTemplate', 'id' | 'name' | 'status' | 'os'> & May<'OSTemplate', 'label' | 'tags'>;
export type NetworkProfile = Sure<'LogicalNetworkProfile', 'id' | 'label' | 'name' | 'fabricId'> & { kind: string };
export type Fabric = Sure<'NetworkFabric', 'id' | 'name'> & May<'NetworkFabric', 'siteId' | 'status'>;
export type Site = Sure<'Site', 'id' | 'slug' | 'name' | 'revision'> & May<'Site', 'isInMaintenance'>;
export interface Agent {
  siteName: string;
  agentType: string;
  agentVersion: string;
  agentSeenIpAddress: string;
  agentSeenTimestamp: string;
  agentConnectedInfo?: { agentId: string; hostname: string } | null;
  connected?: boolean;
  capabilities?: string[];
  clockSkewMilliseconds?: number | null;
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
  description?: string | null;
  networkDevice?: { id: string; identifierString: string } | null;
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
export type Server = Sure<'Server', 'serverId' | 'revision' | 'siteId' | 'datacenterName' | 'serverStatus' | 'powerStatus' | 'administrationState'> & May<'Server', 'serverTypeId' | 'serialNumber' | 'serverUUID' | 'managementAddress' | 'bmcMacAddress' | 'vendor' | 'model' | 'ramGbytes' | 'processorCount' | 'processorCoreCount' | 'processorName' | 'gpuCount' | 'rackName' | 'rackPositionLowerUnit' | 'tags' | 'serverComments' | 'serverCleanupPolicyId' | 'registrationProfileId'> & {
  tlsFingerprint?: string | null;
  /** Another certificate than the known one that the BMC shows since. */
  tlsFingerprintShown?: string | null;
  bmcError?: { message: string; since?: string | null } | null;
  /** How the hardware is, since when that is known, and the parts that are not well. */
  health?: 'unknown' | 'ok' | 'warning' | 'critical' | null;
  healthTimestamp?: string | null;
  healthProblems?: { part: string; health: string }[] | null;
  maintenance?: boolean | null;
  maintenanceReason?: string | null;
  inventoryDifferences?: { part: string; outOfBand?: string | null; inBand?: string | null }[] | null;
  gpuInfo?: { model?: string | null; vendor?: string | null }[] | null;
  /** Why it is in this state, where that needs a word. */
  serverStatusReason?: string | null;
  interfaces?: ServerInterface[] | null;
  disks?: ServerDisk[] | null;
  allocationInfo?: { instanceId: number; instanceLabel: string; instanceGroupLabel: string; infrastructure: { id?: number; label?: string } } | null;
};
export type NetworkDevice = Sure<'NetworkDevice', 'id' | 'revision' | 'status' | 'siteId' | 'identifierString' | 'managementAddress' | 'managementPort' | 'serialNumber' | 'asn' | 'datacenterRack' | 'tags'> & May<'NetworkDevice', 'loopbackAddressIpv4'> & { driver: string; position: string };
export type SwitchPort = Sure<'NetworkDeviceInterface', 'interfaceId' | 'interfaceName' | 'dirtyBit'> & May<'NetworkDeviceInterface', 'interfaceIndex' | 'macAddress' | 'serverId' | 'serverInterfaceId' | 'lldpInformation'> & { driverDumpCachedJson?: { operStatus?: string; adminStatus?: string; speedMbps?: number; untaggedVlan?: number | null; taggedVlans?: number[] } | null };
export type Subnet = Sure<'Subnet', 'id' | 'revision' | 'label' | 'name' | 'networkAddress' | 'prefixLength' | 'isPool'> & May<'Subnet', 'parentSubnetId' | 'defaultGatewayAddress'> & { ipVersion: string };
export type Job = Sure<'Job', 'jobId' | 'status' | 'type' | 'functionName' | 'callCount' | 'retryMax' | 'retryCount' | 'createdTimestamp' | 'updatedTimestamp' | 'options'> & May<'Job', 'jobGroupId' | 'siteId' | 'instanceId' | 'serverId' | 'networkDeviceId' | 'infrastructureId' | 'durationMilliseconds' | 'startTimestamp'> & {
  /** What our engine says beside the wire's job. */
  markForDeath?: string | null;
  title?: string | null;
  key?: string | null;
  dependsOn?: (number | string)[] | null;
  percent?: number | null;
  message?: string | null;
  error?: string | null;
};
export type JobGroup = Sure<'JobGroup', 'id' | 'type' | 'description' | 'createdTimestamp'> & May<'JobGroup', 'finishedTimestamp' | 'infrastructureId' | 'serverId' | 'cancelReason'>;
export type JobGroupStatistics = Sure<'JobGroupStatistics', 'jobsThrownError' | 'jobsCompleted' | 'jobsTotal'>;
export type SystemEvent = Sure<'Event', 'id' | 'severity' | 'title' | 'message' | 'occurredTimestamp'> & May<'Event', 'infrastructureId' | 'serverId' | 'siteId' | 'jobId' | 'userEmailAuthenticated'> & { type: number };
export interface Problem {
  severity: 'error' | 'warning' | 'info';
  object?: { kind: string; id: number | string } | null;
  field?: string | null;
  code: string;
  message: string;
  fix?: string | null;
  /** A change of the object that would mend it. */
  patch?: { field: string; value: unknown } | null;
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
    storage?: { made: number; grown: number; deleted: number; deletedGib: number; hostsGained: number; hostsLost: number } | null;
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
  status: Job['status'];
  percent?: number | null;
  message?: string | null;
  error?: string | null;
}
