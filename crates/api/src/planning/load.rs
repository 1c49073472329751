//! The input of a plan, from the store: a fixed number of queries, whatever the size of the design.

use std::collections::{BTreeSet, HashMap};

use engine::entity::job;
use ipnet::Ipv4Net;
use model::{
    Id,
    deploy::{DeployType, ServiceStatus},
    network::NetworkConnection,
    order::{Order, ServerClean, ServerInstall},
};
use planner::{
    Group, Infrastructure, Instance, InstanceState, LogicalNetwork, NetworkAllocation, Options, PlanInput, SubnetPool,
};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect, QueryTrait,
};
use serde_json::Value;
use store::entity::{
    infrastructure, ip_allocation, logical_network, network_connection, server_instance, server_instance_group, site,
    ssh_key, storage_element, subnet,
};

use super::{design, equipment, estimate, resource_pools, storage, template};
use crate::context::whole;

/// The input, and the rows that it was made from: accepting a plan changes these.
pub struct Loaded {
    /// For the planner.
    pub input: PlanInput,
    /// Groups.
    pub groups: Vec<server_instance_group::Model>,
    /// Instances.
    pub instances: Vec<server_instance::Model>,
    /// Connections of the groups.
    pub connections: Vec<network_connection::Model>,
    /// Own networks, and others that are connected.
    pub networks: Vec<logical_network::Model>,
    /// All IPv4 subnets.
    pub subnets: Vec<subnet::Model>,
    /// Drives, drive groups, file shares and buckets.
    pub storage: Vec<storage_element::Model>,
}

/// Loads the input for a plan of an infrastructure.
pub async fn load<C: ConnectionTrait>(
    db: &C,
    of: &infrastructure::Model,
    generation: i64,
    mut options: Options,
) -> Result<Loaded, DbErr> {
    options.usual_seconds = estimate::usual_seconds(db).await?;
    let mut loaded = load_design(db, of, options).await?;
    loaded.input.infrastructure.generation = generation;
    let switches = equipment::switches(db, of.site_id).await?;
    let held = held(&loaded.instances);
    let (servers, occupied_ports) = equipment::servers(db, of.site_id, &loaded.groups, &held, &switches).await?;
    let begun = begun(db, of.id, &loaded.instances).await?;
    for instance in loaded.input.instances.iter_mut().filter(|i| begun.contains(&i.id)) {
        instance.reinstall = true;
    }
    let broken = replaced(&mut loaded, &begun);
    loaded.input.switches = switches;
    loaded.input.servers = servers;
    for server in loaded.input.servers.iter_mut().filter(|s| broken.contains(&s.id)) {
        // Of no type that anybody asks for: it suits nobody.
        server.type_id = 0;
        server.available = false;
    }
    loaded.input.occupied_ports = occupied_ports;
    resource_pools::apply(db, of.owner_id, &mut loaded.input).await?;
    Ok(loaded)
}

/// Instances whose server is broken are made anew on another one, and that one is given up. What is on its disks is lost, which the person
/// who deploys must have allowed: until then it counts as an installation anew, which the plan refuses in words. A system on a volume goes
/// along as it is. Answers the servers.
fn replaced(loaded: &mut Loaded, begun: &BTreeSet<Id>) -> BTreeSet<Id> {
    let wanted: HashMap<Id, Id> =
        loaded.instances.iter().filter_map(|i| Some((i.id, i.extra["replace"]["serverId"].as_i64()?))).collect();
    let mut broken = BTreeSet::new();
    for instance in &mut loaded.input.instances {
        let Some(server_id) = wanted.get(&instance.id) else { continue };
        let Some(state) = instance.deployed.clone().filter(|d| d.server_id == *server_id) else { continue };
        if instance.deleted {
            continue;
        }
        let boots = |e: &&planner::StorageElement| {
            let there = state.boot.as_ref().is_some_and(|b| e.state.iter().any(|s| s.objects.contains_key(&b.key)));
            there && e.design.boot && e.design.groups.contains(&instance.group_id)
        };
        let kept = loaded.input.storage.elements.iter().any(|e| boots(&e)) && !begun.contains(&instance.id);
        if !kept && !loaded.input.options.allow_data_loss {
            instance.reinstall = true;
            continue;
        }
        if kept {
            loaded.input.storage.moving.insert(instance.id);
        }
        broken.insert(*server_id);
        instance.deployed = None;
        // A deploy that did not end may have chosen the new one already.
        if instance.reserved_server_id.is_none() {
            instance.reserved_server_id = Some(*server_id);
        }
        instance.unfinished.insert(0, state);
    }
    broken
}

/// Live systems whose disk a deploy that did not end has begun to write or erase, also where its site went on for a while after the
/// cancel because it could not be reached.
async fn begun<C: ConnectionTrait>(
    db: &C,
    infrastructure_id: Id,
    instances: &[server_instance::Model],
) -> Result<BTreeSet<Id>, DbErr> {
    let since: HashMap<Id, i64> = instances
        .iter()
        .filter(|i| deployed(i).is_some())
        .filter_map(|i| Some((i.id, i.extra.get("since")?.as_i64()?)))
        .collect();
    let Some(first) = since.values().min() else { return Ok(BTreeSet::new()) };
    let rows = job::Entity::find()
        .select_only()
        .columns([job::Column::Id, job::Column::InstanceId, job::Column::Payload])
        .filter(job::Column::InfrastructureId.eq(infrastructure_id))
        .filter(job::Column::Id.gt(*first))
        .filter(job::Column::Function.is_in([ServerInstall::NAME, ServerClean::NAME]))
        .filter(job::Column::StartedAt.is_not_null())
        .into_tuple::<(i64, Option<i64>, Value)>()
        .all(db)
        .await?;
    Ok(rows
        .into_iter()
        // A move to another server writes a seed, and leaves the system as it is.
        .filter(|(_, _, payload)| payload.pointer("/spec/storage/keep_system") != Some(&Value::Bool(true)))
        .filter_map(|(job, instance, _)| Some((job, instance?)))
        .filter(|(job, instance)| since.get(instance).is_some_and(|since| job > since))
        .map(|(_, instance)| instance)
        .collect())
}

/// Loads the design alone: enough for [`planner::validate`] and [`planner::diff`], which are asked for at every stroke.
pub async fn load_design<C: ConnectionTrait>(
    db: &C,
    of: &infrastructure::Model,
    options: Options,
) -> Result<Loaded, DbErr> {
    let gone = ServiceStatus::Deleted.as_str();
    let groups = server_instance_group::Entity::find()
        .filter(server_instance_group::Column::InfrastructureId.eq(of.id))
        .filter(server_instance_group::Column::ServiceStatus.ne(gone))
        .all(db)
        .await?;
    let instances = server_instance::Entity::find()
        .filter(server_instance::Column::InfrastructureId.eq(of.id))
        .filter(server_instance::Column::ServiceStatus.ne(gone))
        .all(db)
        .await?;
    let own_groups = server_instance_group::Entity::find()
        .select_only()
        .column(server_instance_group::Column::Id)
        .filter(server_instance_group::Column::InfrastructureId.eq(of.id));
    let connections = network_connection::Entity::find()
        .filter(network_connection::Column::GroupId.in_subquery(own_groups.into_query()))
        .all(db)
        .await?;
    let named: BTreeSet<Id> = connections.iter().map(|c| c.logical_network_id).collect();
    let networks = logical_network::Entity::find()
        .filter(logical_network::Column::ServiceStatus.ne(gone))
        .filter(
            Condition::any()
                .add(logical_network::Column::InfrastructureId.eq(of.id))
                .add(logical_network::Column::Id.is_in(named)),
        )
        .all(db)
        .await?;
    let subnets = subnet::Entity::find().filter(subnet::Column::IpVersion.eq("ipv4")).all(db).await?;
    let fabrics = equipment::fabrics(db, of.site_id).await?;
    let owner_keys = ssh_key::Entity::find()
        .filter(ssh_key::Column::UserId.eq(of.owner_id))
        .order_by_asc(ssh_key::Column::Id)
        .all(db)
        .await?;
    let site = site::Entity::find_by_id(of.site_id).one(db).await?;
    let wanted: BTreeSet<Id> = groups
        .iter()
        .flat_map(|g| [&g.design, &g.deployed])
        .filter_map(|d| d.get("osTemplateId").and_then(whole))
        .collect();
    let (on_storages, storage) = storage::load(db, of.id, of.site_id).await?;
    let templates = template::load(db, &wanted.into_iter().collect::<Vec<_>>()).await?;

    let mut by_group: HashMap<Id, Vec<&network_connection::Model>> = HashMap::new();
    for c in &connections {
        by_group.entry(c.group_id).or_default().push(c);
    }
    let side = |group: Id, body: fn(&network_connection::Model) -> &Value| -> Vec<NetworkConnection> {
        let rows = by_group.get(&group).map_or(&[][..], Vec::as_slice);
        rows.iter().filter_map(|c| design::connection(c, body(c))).collect()
    };
    let input = PlanInput {
        infrastructure: Infrastructure {
            id: of.id,
            label: of.design["label"].as_str().unwrap_or(&of.label).to_owned(),
            deployed_label: of.deployed["label"].as_str().map(str::to_owned),
            site_id: of.site_id,
            generation: 0,
            deleted: of.deploy_type == DeployType::Delete.as_str(),
        },
        groups: groups
            .iter()
            .map(|g| Group {
                id: g.id,
                design: design::group(&g.design, &of.design["customVariables"], &templates, side(g.id, |c| &c.design)),
                deployed: g.deployed.get("label").map(|_| {
                    design::group(&g.deployed, &of.deployed["customVariables"], &templates, side(g.id, |c| &c.deployed))
                }),
                deploy_type: DeployType::parse(&g.deploy_type).unwrap_or(DeployType::Edit),
                service_status: ServiceStatus::parse(&g.service_status).unwrap_or(ServiceStatus::Ordered),
            })
            .collect(),
        instances: instances.iter().map(instance).collect(),
        next_instance_id: None,
        networks: self::networks(db, of, &networks, &instances, &subnets).await?,
        servers: Vec::new(),
        switches: Vec::new(),
        fabrics,
        subnet_pools: pools(&subnets, &networks),
        occupied_ports: BTreeSet::new(),
        ssh_keys: owner_keys.into_iter().filter(|k| k.status != "deleted").map(|k| k.public_key).collect(),
        dns_servers: site
            .iter()
            .filter_map(|s| s.config.get("DNSServers").and_then(Value::as_array))
            .flatten()
            .filter_map(|a| a.as_str().and_then(|a| a.parse().ok()))
            .collect(),
        options,
        storage: on_storages,
    };
    Ok(Loaded { input, groups, instances, connections, networks, subnets, storage })
}

/// What an instance's row says is deployed.
pub fn deployed(row: &server_instance::Model) -> Option<InstanceState> {
    row.deployed.get("server_id")?;
    serde_json::from_value(row.deployed.clone()).ok()
}

/// What a deploy that has not ended makes of an instance.
pub fn planned(extra: &Value) -> Option<InstanceState> {
    extra.get("planned").filter(|p| p.is_object()).and_then(|p| serde_json::from_value(p.clone()).ok())
}

/// What deploys that did not end may have made of an instance, the newest last.
pub fn unfinished(extra: &Value) -> Vec<InstanceState> {
    let older = extra.get("unfinished").and_then(|u| serde_json::from_value::<Vec<InstanceState>>(u.clone()).ok());
    let mut all = older.unwrap_or_default();
    if let Some(planned) = planned(extra)
        && !all.contains(&planned)
    {
        all.push(planned);
    }
    all
}

fn instance(row: &server_instance::Model) -> Instance {
    let deployed = deployed(row);
    Instance {
        id: row.id,
        group_id: row.group_id,
        index: u32::try_from(row.position).unwrap_or(0),
        label: row.label.clone(),
        deleted: row.deploy_type == DeployType::Delete.as_str(),
        reinstall: row.extra["reinstall"] == true || row.extra["broken"] == true,
        unfinished: unfinished(&row.extra),
        reserved_server_id: row.server_id.filter(|id| deployed.as_ref().is_none_or(|d| d.server_id != *id)),
        deployed,
    }
}

/// Servers that these instances have or have reserved.
fn held(instances: &[server_instance::Model]) -> BTreeSet<Id> {
    instances.iter().flat_map(|i| i.server_id.into_iter().chain(deployed(i).map(|d| d.server_id))).collect()
}

/// Pools with all that is taken in them: other subnets, smaller pools, and what is denied.
fn pools(subnets: &[subnet::Model], networks: &[logical_network::Model]) -> Vec<SubnetPool> {
    let nets: Vec<(&subnet::Model, Ipv4Net)> = subnets.iter().filter_map(|s| Some((s, design::net(s)?))).collect();
    // A subnet that a design names is its own, unless another network has it.
    let ours: BTreeSet<Id> = networks.iter().map(|n| n.id).collect();
    let named: BTreeSet<Id> = networks.iter().flat_map(|n| design::named_subnets(&n.design)).collect();
    let own = |s: &subnet::Model| named.contains(&s.id) && s.logical_network_id.is_none_or(|n| ours.contains(&n));
    nets.iter()
        .filter(|(s, _)| s.is_pool)
        .map(|(pool, prefix)| {
            let inside = nets.iter().filter(|(s, n)| s.id != pool.id && prefix.contains(n) && !own(s)).map(|(_, n)| *n);
            SubnetPool {
                id: pool.id,
                label: pool.label.clone(),
                prefix: *prefix,
                fabric_id: pool.fabric_id,
                used: inside.chain(design::denied(&pool.denylist)).collect(),
                closed: false,
            }
        })
        .collect()
}

async fn networks<C: ConnectionTrait>(
    db: &C,
    of: &infrastructure::Model,
    networks: &[logical_network::Model],
    instances: &[server_instance::Model],
    subnets: &[subnet::Model],
) -> Result<Vec<LogicalNetwork>, DbErr> {
    let by_id: HashMap<Id, &subnet::Model> = subnets.iter().map(|s| (s.id, s)).collect();
    let ids: BTreeSet<Id> = networks.iter().map(|n| n.id).collect();
    let own: BTreeSet<Id> = instances.iter().map(|i| i.id).collect();
    let network_of: HashMap<Id, Id> =
        subnets.iter().filter_map(|s| Some((s.id, s.logical_network_id.filter(|n| ids.contains(n))?))).collect();
    let in_networks = subnet::Entity::find()
        .select_only()
        .column(subnet::Column::Id)
        .filter(subnet::Column::LogicalNetworkId.is_in(ids.iter().copied()));
    let addresses = ip_allocation::Entity::find()
        .filter(ip_allocation::Column::SubnetId.in_subquery(in_networks.into_query()))
        .all(db)
        .await?;
    let mut used: HashMap<Id, BTreeSet<std::net::Ipv4Addr>> = HashMap::new();
    for a in addresses.iter().filter(|a| a.server_instance_id.is_none_or(|i| !own.contains(&i))) {
        if let (Some(network), Ok(address)) = (network_of.get(&a.subnet_id), a.address.parse()) {
            used.entry(*network).or_default().insert(address);
        }
    }
    let mut others = others(db, of.id, &ids).await?;
    Ok(networks
        .iter()
        .map(|n| LogicalNetwork {
            id: n.id,
            infrastructure_id: n.infrastructure_id,
            fabric_id: n.fabric_id,
            design: design::network(&n.label, &n.design, &by_id),
            deployed: n
                .deployed
                .get("label")
                .and_then(Value::as_str)
                .map(|label| design::network(label, &n.deployed, &by_id)),
            allocated: allocated(n),
            deploy_type: DeployType::parse(&n.deploy_type).unwrap_or(DeployType::Edit),
            other_devices: others.remove(&n.id).unwrap_or_default(),
            addresses_used: used.remove(&n.id).unwrap_or_default(),
            set_aside: {
                let named = design::named_subnets(&n.design);
                let own = subnets.iter().filter(|s| s.logical_network_id == Some(n.id) || named.contains(&s.id));
                own.flat_map(design::set_aside).collect()
            },
        })
        .collect())
}

/// What was taken for a network.
pub fn allocated(network: &logical_network::Model) -> NetworkAllocation {
    serde_json::from_value(network.allocation.clone()).unwrap_or_default()
}

/// Switches on which instances of other infrastructures are, or are about to be, attached to these networks.
async fn others<C: ConnectionTrait>(
    db: &C,
    infrastructure_id: Id,
    networks: &BTreeSet<Id>,
) -> Result<HashMap<Id, BTreeSet<Id>>, DbErr> {
    let groups = network_connection::Entity::find()
        .select_only()
        .column(network_connection::Column::GroupId)
        .filter(network_connection::Column::LogicalNetworkId.is_in(networks.iter().copied()));
    let rows = server_instance::Entity::find()
        .select_only()
        .columns([server_instance::Column::Deployed, server_instance::Column::Extra])
        .filter(server_instance::Column::GroupId.in_subquery(groups.into_query()))
        .filter(server_instance::Column::InfrastructureId.ne(infrastructure_id))
        .filter(server_instance::Column::ServerId.is_not_null())
        .into_tuple::<(Value, Value)>()
        .all(db)
        .await?;
    let mut found: HashMap<Id, BTreeSet<Id>> = HashMap::new();
    for (deployed, extra) in rows {
        let deployed: Option<InstanceState> = serde_json::from_value(deployed).ok();
        for binding in deployed.into_iter().chain(unfinished(&extra)).flat_map(|s| s.ports) {
            for network in binding.networks.iter().filter(|n| networks.contains(n)) {
                found.entry(*network).or_default().insert(binding.device_id);
            }
        }
    }
    Ok(found)
}
