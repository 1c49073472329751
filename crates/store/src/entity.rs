//! The Global Controller's tables. Every kind has `id`, `revision` (compare-and-set), `created_at` and `updated_at` (wire form).
//!
//! Deployable kinds carry the design (`design`, what their owner wants now) beside what is deployed (`deployed`), with the words of
//! [`model::deploy`]. Uniqueness that keeps two owners apart (a server, a VLAN of a fabric, an address of a subnet) is the database's.

use sea_orm::{DbBackend, Statement};

use crate::migration::{create_index, create_table};

macro_rules! entities {
    ($($(#[$doc:meta])* $module:ident = $table:literal { $($(#[$fm:meta])* $field:ident: $ty:ty),* $(,)? } $(unique($($($uc:ident)+),+))? $(index($($($ic:ident)+),+))?;)*) => {
        $(
            $(#[$doc])*
            #[allow(missing_docs)]
            pub mod $module {
                use sea_orm::entity::prelude::*;

                #[derive(Clone, Debug, PartialEq, DeriveEntityModel, serde::Serialize, serde::Deserialize)]
                #[sea_orm(table_name = $table)]
                pub struct Model {
                    #[sea_orm(primary_key)]
                    pub id: i64,
                    pub revision: i64,
                    pub created_at: String,
                    pub updated_at: String,
                    $($(#[$fm])* pub $field: $ty,)*
                }
                #[derive(Copy, Clone, Debug, EnumIter, DeriveRelation)]
                pub enum Relation {}
                impl ActiveModelBehavior for ActiveModel {}

                /// A new row at revision 1, stamped now; the rest is for the caller to set.
                pub fn new() -> ActiveModel {
                    use sea_orm::{ActiveValue::Set};
                    let now = crate::time::now();
                    let mut row = <ActiveModel as ActiveModelTrait>::default();
                    row.revision = Set(1);
                    row.created_at = Set(now.clone());
                    row.updated_at = Set(now);
                    row
                }

                impl crate::list::Revisioned for Model {
                    type Active = ActiveModel;
                    fn revision(&self) -> i64 { self.revision }
                    fn id(&self) -> i64 { self.id }
                    fn edit(&self) -> ActiveModel {
                        use sea_orm::ActiveValue::Set;
                        let mut row: ActiveModel = self.clone().into();
                        row.revision = Set(self.revision + 1);
                        row.updated_at = Set(crate::time::now());
                        row
                    }
                    fn id_column() -> Column { Column::Id }
                    fn revision_column() -> Column { Column::Revision }
                }
            }
        )*

        /// Statements that make all tables and indexes of the first version.
        pub fn first_tables(backend: DbBackend) -> Vec<Statement> {
            let mut all = vec![$(create_table(backend, $module::Entity)),*];
            $(
                $($( all.push(create_index(backend, $module::Entity, true, &[$($module::Column::$uc),+])); )+)?
                $($( all.push(create_index(backend, $module::Entity, false, &[$($module::Column::$ic),+])); )+)?
            )*
            all
        }
    };
}

entities! {
    /// Accounts: a tree of tenants.
    account = "account" { name: String, parent_account_id: Option<i64>, archived: bool, extra: Json } unique(Name);
    /// Users.
    user = "app_user" {
        email: String, display_name: String, password_hash: String, account_id: i64, role: String, access_level: String,
        is_blocked: bool, is_suspended: bool, is_archived: bool, totp_secret: Option<String>, totp_enabled: bool, last_login_at: Option<String>, extra: Json,
    } unique(Email) index(AccountId);
    /// Browser sessions; only a hash of the token is kept. A `pending` one still owes its second factor.
    session = "session" { token_hash: String, user_id: i64, csrf: String, expires_at: String, pending: bool, attempts: i64 } unique(TokenHash) index(UserId);
    /// API keys; a hash to find them, and the key sealed for its owner.
    api_key = "api_key" { key_hash: String, user_id: i64, name: String, sealed: String } unique(KeyHash) index(UserId);
    /// Roles.
    role = "role" { name: String, label: String, description: String, kind: String, permissions: Json } unique(Name);
    /// Custom permissions.
    permission = "permission" { name: String, body: Json } unique(Name);
    /// Public SSH keys of users.
    ssh_key = "ssh_key" { user_id: i64, public_key: String, status: String } index(UserId);
    /// Sites.
    site = "site" { slug: String, name: String, is_hidden: bool, is_in_maintenance: bool, decommissioned: bool, config: Json, location: Json } unique(Slug);
    /// Site Controllers that have enrolled.
    site_controller = "site_controller" {
        site_id: i64, hostname: String, version: String, address: String, capabilities: Json, certificate_serial: String, enrolled_at: String,
        connected: bool, last_seen_at: Option<String>, clock_skew_ms: Option<i64>,
    } index(SiteId);
    /// One-time tokens with which a Site Controller enrols.
    enrolment_token = "enrolment_token" { site_id: i64, token_hash: String, expires_at: String, used_at: Option<String> } unique(TokenHash);
    /// How far the snapshot of a site has grown.
    site_snapshot = "site_snapshot" { site_id: i64, generation: i64 } unique(SiteId);
    /// The newest value of each fact that a site knows; JSON `null` once it is removed.
    site_snapshot_item = "site_snapshot_item" { site_id: i64, item_key: String, generation: i64, value: Json } unique(SiteId ItemKey) index(SiteId Generation);
    /// Servers.
    server = "server" {
        site_id: i64, serial: Option<String>, uuid: Option<String>, vendor: Option<String>, model: Option<String>,
        bmc_address: Option<String>, bmc_username: Option<String>, bmc_password: Option<String>, bmc_mac: Option<String>, tls_fingerprint: Option<String>,
        server_type_id: Option<i64>, status: String, status_reason: Option<String>, power: String, power_at: String, registration_profile_id: Option<i64>,
        ram_gb: i64, processor_count: i64, core_count: i64, disk_count: i64, gpu_count: i64, inventory: Json, tags: Json, comments: Option<String>,
        administration_state: String, dhcp_status: String, registered_at: Option<String>, allocated_at: Option<String>, rack: Option<String>, extra: Json,
        cleanup_policy_id: Option<i64>, maintenance: Option<String>, bmc_next_password: Option<String>, health: Option<String>, health_at: Option<String>, health_parts: Option<Json>,
    } unique(BmcAddress) index(SiteId Status, ServerTypeId, Serial);
    /// Network interfaces of servers, and the switch port behind each.
    server_interface = "server_interface" {
        server_id: i64, position: i64, name: String, mac: String, speed_mbps: i64, link_up: Option<bool>, network_device_id: Option<i64>, network_device_port: Option<String>,
        default_fabric_id: Option<i64>, redundancy_group: Option<i64>, guid: Option<String>,
    } unique(Mac) index(ServerId, NetworkDeviceId);
    /// Server types: hardware classes.
    server_type = "server_type" {
        name: String, label: String, description: Option<String>, ram_gb: i64, processor_count: i64, core_count: i64, core_mhz: i64, processor_names: Json,
        disk_count: i64, nic_count: i64, nic_speeds: Json, gpu_count: i64, gpu_info: Json, signature: String, extra: Json,
    } unique(Name, Signature);
    /// Which disks of servers are erased when they are given back, and how.
    server_cleanup_policy = "server_cleanup_policy" { label: String, settings: Json } unique(Label);
    /// What was erased from a server, how, when, and how that was checked. It outlives its server.
    cleaning_certificate = "cleaning_certificate" {
        server_id: i64, site_id: i64, server_name: String, job_id: i64, finished_at: String, succeeded: bool, policy: Option<String>, method: String, reason: Option<String>, disks: Json,
        steps: Option<Json>, signed: Option<Json>,
    } unique(JobId FinishedAt) index(ServerId);
    /// Machines that ask for an address or boot, and that nobody has registered.
    unknown_machine = "unknown_machine" {
        site_id: i64, mac: String, address: Option<String>, circuit_id: Option<String>, vendor_class: Option<String>, kind: String, last_seen_at: String, server_id: Option<i64>,
    } unique(SiteId Mac) index(LastSeenAt);
    /// Registration profiles.
    server_registration_profile = "server_registration_profile" { name: String, settings: Json } unique(Name);
    /// Credentials tried for BMCs of a site that nobody named.
    server_default_credentials = "server_default_credentials" {
        site_id: i64, serial: Option<String>, mac: Option<String>, vendor: Option<String>, model: Option<String>, username: String, password: String, extra: Json,
    } index(SiteId);
    /// Switches.
    network_device = "network_device" {
        site_id: i64, name: String, driver: String, position: String, status: String, address: String, port: Option<i64>, username: String, password: String,
        tls_fingerprint: Option<String>, serial: Option<String>, mac: Option<String>, quarantine_vlan: Option<i64>, rack: Option<String>, tags: Json, facts: Json, extra: Json,
    } unique(SiteId Name) index(Status);
    /// Ports of switches, as last seen.
    network_device_port = "network_device_port" {
        network_device_id: i64, name: String, admin_up: Option<bool>, oper_up: Option<bool>, speed_mbps: Option<i64>, mtu: Option<i64>, mac: Option<String>,
        untagged: Option<i64>, tagged: Json, lldp: Json, description: Option<String>, observed_at: String,
    } unique(NetworkDeviceId Name);
    /// What new switches of a site are given.
    network_device_defaults = "network_device_defaults" { site_id: i64, body: Json, password: Option<String> } index(SiteId);
    /// Fabrics.
    network_fabric = "network_fabric" { name: String, description: Option<String>, site_id: i64, status: String, configuration: Json, deploy_id: Option<i64>, extra: Json } unique(Name);
    /// Switches of a fabric.
    fabric_device = "fabric_device" { fabric_id: i64, network_device_id: i64 } unique(NetworkDeviceId) index(FabricId);
    /// Links between switches of a fabric.
    fabric_link = "fabric_link" { fabric_id: i64, device_a: i64, port_a: String, device_b: i64, port_b: String, extra: Json } unique(DeviceA PortA, DeviceB PortB) index(FabricId);
    /// Subnets: a tree whose pools subnets are taken from.
    subnet = "subnet" {
        label: String, name: String, parent_id: Option<i64>, ip_version: String, network_address: String, prefix_length: i64, gateway: Option<String>, is_pool: bool,
        logical_network_id: Option<i64>, fabric_id: Option<i64>, annotations: Json, tags: Json, denylist: Json, overlap_rules: Json,
    } index(ParentId, LogicalNetworkId);
    /// Addresses in use.
    ip_allocation = "ip_allocation" { subnet_id: i64, address: String, server_instance_id: Option<i64>, logical_network_id: Option<i64>, purpose: String } unique(SubnetId Address) index(ServerInstanceId);
    /// VLANs in use.
    vlan_allocation = "vlan_allocation" { fabric_id: i64, vlan: i64, logical_network_id: i64 } unique(FabricId Vlan) index(LogicalNetworkId);
    /// InfiniBand partition keys in use.
    pkey_allocation = "pkey_allocation" { fabric_id: i64, pkey: i64, logical_network_id: i64 } unique(FabricId Pkey) index(LogicalNetworkId);
    /// Logical networks.
    logical_network = "logical_network" {
        label: String, name: String, kind: String, fabric_id: i64, infrastructure_id: Option<i64>, service_status: String, deploy_type: String, deploy_status: String,
        profile_id: Option<i64>, profile_applied_at: Option<String>, design: Json, deployed: Json, allocation: Json, mtu: Option<i64>, annotations: Json,
    } index(InfrastructureId, FabricId);
    /// Templates of logical networks.
    logical_network_profile = "logical_network_profile" { label: String, name: String, kind: String, fabric_id: i64, blocks: Json, annotations: Json } unique(Label FabricId);
    /// Operating system templates.
    os_template = "os_template" { name: String, label: String, description: Option<String>, status: String, visibility: String, body: Json, credential: Option<String>, created_by: i64, tags: Json } unique(Label);
    /// Files of OS templates.
    template_asset = "template_asset" {
        os_template_id: i64, usage: String, name: String, mime_type: String, path: Option<String>, url: Option<String>, sha256: Option<String>, size: i64, format: String,
        is_template: bool, content: Option<Vec<u8>>, tags: Json,
    } index(OsTemplateId, Sha256);
    /// Infrastructures.
    infrastructure = "infrastructure" {
        label: String, site_id: i64, owner_id: i64, account_id: i64, service_status: String, deploy_type: String, deploy_status: String, deploy_id: Option<i64>,
        generation: i64, locked: bool, design: Json, deployed: Json, layout: Json, last_error: Option<String>, job_group_id: Option<i64>, meta: Option<Json>,
    } index(AccountId, SiteId, Label);
    /// Users who may see an infrastructure beside its owner.
    infrastructure_user = "infrastructure_user" { infrastructure_id: i64, user_id: i64 } unique(InfrastructureId UserId) index(UserId);
    /// Groups of servers.
    server_instance_group = "server_instance_group" {
        infrastructure_id: i64, label: String, service_status: String, deploy_type: String, deploy_status: String, deploy_id: Option<i64>, design: Json, deployed: Json, meta: Option<Json>,
    } index(InfrastructureId);
    /// Servers of a group, logical.
    server_instance = "server_instance" {
        infrastructure_id: i64, group_id: i64, label: String, position: i64, service_status: String, deploy_type: String, deploy_status: String, deploy_id: Option<i64>,
        #[sea_orm(unique)] server_id: Option<i64>, hostname: Option<String>, os_template_id: Option<i64>, server_type_id: Option<i64>, username: Option<String>, password: Option<String>,
        addresses: Json, network_config: Json, deployed: Json, extra: Json,
    } index(InfrastructureId, GroupId);
    /// Connections of groups to logical networks.
    network_connection = "network_connection" { group_id: i64, logical_network_id: i64, design: Json, deployed: Json } unique(GroupId LogicalNetworkId) index(LogicalNetworkId);
    /// Rules about what passes between a group and a network; `body` has what they match.
    network_acl = "network_acl" { group_id: i64, logical_network_id: i64, rule_type: String, direction: String, sequence: i64, body: Json } unique(GroupId LogicalNetworkId RuleType Direction Sequence);
    /// Storages: arrays and storage nodes.
    storage = "storage" {
        site_id: i64, name: String, driver: String, technologies: Json, protocol: Option<String>, status: String, operation_mode: String, address: String, port: Option<i64>,
        username: String, password: Option<String>, private_key: Option<String>, tls_fingerprint: Option<String>, fabric_id: Option<i64>, user_id: Option<i64>,
        in_maintenance: bool, is_experimental: bool, options: Json, facts: Json, tags: Json, extra: Json,
    } unique(SiteId Name) index(Status, FabricId);
    /// Ports of storages, as last seen, and the switch port behind each.
    storage_interface = "storage_interface" {
        storage_id: i64, name: String, node_ids: Json, protocols: Json, address: String, port: i64, is_uplink: bool, use_for_deploys: bool, network_device_port_id: Option<i64>,
    } unique(StorageId Name);
    /// Drives, drive groups, file shares and buckets of infrastructures, told apart by `kind`.
    storage_element = "storage_element" {
        infrastructure_id: i64, kind: String, label: String, service_status: String, deploy_type: String, deploy_status: String, deploy_id: Option<i64>, storage_id: Option<i64>,
        bytes: i64, design: Json, deployed: Json, state: Json, secret: Option<String>, meta: Json, extra: Json,
    } index(InfrastructureId Kind, StorageId Kind);
    /// Snapshots of storage elements.
    storage_snapshot = "storage_snapshot" { element_id: i64, name: String, status: String, taken_at: Option<String>, extra: Json } unique(ElementId Name);
    /// Resource pools: who may use which servers and subnet pools.
    resource_pool = "resource_pool" { label: String, description: String } unique(Label);
    /// Users of a resource pool.
    resource_pool_user = "resource_pool_user" { pool_id: i64, user_id: i64 } unique(PoolId UserId) index(UserId);
    /// Servers of a resource pool.
    resource_pool_server = "resource_pool_server" { pool_id: i64, server_id: i64 } unique(PoolId ServerId) index(ServerId);
    /// Subnet pools of a resource pool.
    resource_pool_subnet = "resource_pool_subnet" { pool_id: i64, subnet_id: i64 } unique(PoolId SubnetId) index(SubnetId);
    /// Stored plans.
    deploy_plan = "deploy_plan" { infrastructure_id: i64, infrastructure_revision: i64, status: String, plan: Json, deploy_id: Option<i64> } index(InfrastructureId);
    /// What happened.
    event = "event" {
        kind: String, severity: String, visibility: String, title: String, message: String, object_kind: Option<String>, object_id: Option<i64>,
        infrastructure_id: Option<i64>, user_id: Option<i64>, server_id: Option<i64>, job_id: Option<i64>, site_id: Option<i64>, account_id: Option<i64>,
        actor_id: Option<i64>, actor_email: Option<String>, request_id: Option<String>, context: Json,
    } index(InfrastructureId, SiteId, ServerId);
    /// Why and since when a user is suspended; `ended_at` closes one.
    user_suspension = "user_suspension" { user_id: i64, kind: String, public_comment: String, private_comment: Option<String>, ended_at: Option<String> } index(UserId);
    /// Users who may act on all infrastructures of another one.
    user_delegate = "user_delegate" { user_id: i64, delegate_id: i64 } unique(UserId DelegateId) index(DelegateId);
    /// Settings of the whole installation, by section.
    setting = "setting" { section: String, value: Json } unique(Section);
    /// Secrets for templates; the value is sealed.
    secret = "secret" { name: String, user_id_owner: i64, usage: Option<String>, value: String } unique(UserIdOwner Name);
    /// Variables for templates.
    variable = "variable" { name: String, user_id_owner: i64, usage: Option<String>, value: Json } unique(UserIdOwner Name);
    /// DNS zones.
    dns_zone = "dns_zone" {
        label: String, description: Option<String>, zone_name: String, zone_type: String, soa_email: String, soa_serial: i64, ttl: i64, name_servers: Json, is_default: bool,
        status: String, tags: Json, created_by: i64, updated_by: Option<i64>,
    } unique(ZoneName);
    /// Names in DNS zones.
    dns_record_set = "dns_record_set" {
        zone_id: i64, zone_name: String, site_id: Option<i64>, infrastructure_id: Option<i64>, name: String, kind: String, ttl: i64, records: Json, status: String, tags: Json,
        created_by: i64, updated_by: Option<i64>,
    } unique(ZoneId Name Kind) index(InfrastructureId);
    /// Endpoints: things on switch ports that nobody here manages.
    endpoint = "endpoint" { site_id: i64, name: String, label: String, external_id: Option<String> } unique(SiteId Label);
    /// Switch ports that endpoints are on.
    endpoint_interface = "endpoint_interface" { endpoint_id: i64, network_device_id: i64, port: String, mac_address: Option<String> } unique(NetworkDeviceId Port) index(EndpointId);
    /// Secrets that new switches are given, by serial number or MAC address; the value is sealed.
    network_device_secret = "network_device_secret" { site_id: i64, mac_address_or_serial_number: String, secret_name: String, value: String } unique(SiteId MacAddressOrSerialNumber SecretName);
    /// Texts that configure switches, by family (`bgp`, `link_aggregation`); `selector` is all that they are chosen by.
    network_device_template = "network_device_template" {
        family: String, action: String, network_device_driver: String, execution_type: String, library_label: String, preparation: Option<String>, configuration: String,
        network_type: Option<String>, network_device_position: Option<String>, remote_network_device_position: Option<String>, bgp_numbering: Option<String>,
        bgp_link_configuration: Option<String>, aggregation_type: Option<String>, selector: String,
    } unique(Selector) index(Family);
    /// Firmware catalogs: what a vendor offers.
    firmware_catalog = "firmware_catalog" {
        name: String, description: Option<String>, vendor: String, vendor_id: Option<String>, vendor_url: Option<String>, vendor_release_timestamp: Option<String>,
        update_type: String, vendor_server_types: Json, vendor_configuration: Json, sync: Option<Json>,
    } unique(Name);
    /// Firmware images of catalogs.
    firmware_binary = "firmware_binary" {
        catalog_id: i64, external_id: Option<String>, name: String, package_id: Option<String>, package_version: Option<String>, reboot_required: bool, update_severity: String,
        vendor_info_url: Option<String>, vendor_download_url: String, cache_download_url: Option<String>, vendor_release_timestamp: Option<String>,
        supported_devices: Json, supported_systems: Json, vendor: Json, sha256: Option<String>, size: Option<i64>,
    } index(CatalogId);
    /// Firmware baselines: versions that servers should have.
    firmware_baseline = "firmware_baseline" { name: String, description: Option<String>, catalog: Json, minimum_versions: Json } unique(Name);
    /// Firmware policies: which updates are made, and who is asked.
    firmware_policy = "firmware_policy" { label: String, user_id_owner: i64, status: String, action: String, rules: Json } unique(Label);
    /// Groups of servers that a firmware policy is about; none: servers that nobody uses.
    firmware_policy_group = "firmware_policy_group" { policy_id: i64, server_instance_group_id: i64 } unique(PolicyId ServerInstanceGroupId) index(ServerInstanceGroupId);
    /// When firmware updates may begin by themselves; one row.
    firmware_configuration = "firmware_configuration" { name: String, activated: bool, start_time: Option<String>, end_time: Option<String> } unique(Name);
    /// Parts of servers with firmware, as their BMC told.
    server_component = "server_component" {
        server_id: i64, external_id: String, name: String, kind: String, firmware_version: Option<String>, firmware_updateable: bool, firmware_target_version: Option<String>,
        available_versions: Json, info: Json, needs_confirmation: bool, firmware_update_timestamp: Option<String>, firmware_scheduled_timestamp: Option<String>,
        firmware_status: String, failure: Option<String>,
    } unique(ServerId ExternalId) index(FirmwareScheduledTimestamp);
    /// Questions to owners of servers in use: may their firmware be updated?
    firmware_confirmation = "firmware_confirmation" {
        server_id: i64, server_instance_id: Option<i64>, infrastructure_id: Option<i64>, account_id: Option<i64>, status: String, reason: String, updates: Json, due_at: String,
        start_at: Option<String>, answered_by: Option<i64>, campaign_id: Option<i64>, job_group_id: Option<i64>,
    } index(ServerId, AccountId, Status);
    /// Firmware campaigns: many servers in waves.
    firmware_campaign = "firmware_campaign" {
        label: String, baseline_id: Option<i64>, policy_id: Option<i64>, status: String, reason: Option<String>, wave: i64, waves: i64, tolerated_failures: i64, user_id_owner: i64,
    } index(Status);
    /// Servers of firmware campaigns.
    firmware_campaign_server = "firmware_campaign_server" { campaign_id: i64, server_id: i64, wave: i64, status: String, reason: Option<String>, job_group_id: Option<i64> } unique(CampaignId ServerId) index(JobGroupId, ServerId);
    /// Bootable images that people bring.
    custom_iso = "custom_iso" {
        label: String, name: String, kind: String, access_url: String, username: Option<String>, is_public: bool, user_id_owner: i64, account_id: i64, modified_by: Option<i64>,
    } unique(AccountId Label);
    /// Jobs on a schedule.
    cron_job = "cron_job" { label: String, function: String, params: Json, schedule: String, disabled: bool, wait_for_completion: bool, extra: Json };
}
