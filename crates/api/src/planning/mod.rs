//! From the store to a plan, and from an accepted plan to jobs and allocations.
//!
//! [`load::load`] reads the planner's input; [`make`] plans; [`accept::accept`] takes what a plan needs and orders its jobs in one
//! transaction; [`finish::record`] notes at the end of the jobs what is deployed now.

pub mod accept;
mod allocations;
pub mod answer;
pub mod cleaning;
pub mod design;
mod equipment;
mod estimate;
pub mod finish;
pub mod load;
pub mod reserve;
pub mod resource_pools;
pub mod revert;
pub mod storage;
mod storage_record;
pub mod template;
pub mod values;

use std::collections::{BTreeMap, BTreeSet};

use model::Id;
use planner::{Options, Plan, PlanInput, PlanProblem, Shutdown};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::{
    context::{Ctx, parse_id, whole},
    error::ApiError,
};

/// Makes a plan, away from the threads that answer requests: large sites take a while.
pub async fn make(input: PlanInput) -> Result<Result<Plan, Vec<PlanProblem>>, ApiError> {
    tokio::task::spawn_blocking(move || planner::plan(&input)).await.map_err(ApiError::internal)
}

/// What a row of `deploy_plan` holds.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Stored {
    /// The plan, without the payloads of its jobs; `None` when none could be made.
    pub plan: Option<Plan>,
    /// What differs, also where no plan could be made.
    pub changes: Vec<planner::Change>,
    /// What stands in the way.
    pub problems: Vec<PlanProblem>,
    /// Choices that it was made with.
    pub options: Options,
    /// For an accepted plan: what was designed at that moment.
    pub designs: Option<Designs>,
    /// The site, when no Site Controller of it was connected: the jobs will wait for one.
    #[serde(default)]
    pub silent_site: Option<Id>,
    /// Shared networks that it takes off switches.
    #[serde(default)]
    pub removes: BTreeSet<Id>,
}

/// The design that a deploy carries out, whatever is drawn meanwhile.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Designs {
    /// Of the infrastructure.
    pub infrastructure: Value,
    /// Of groups, by id.
    pub groups: BTreeMap<Id, Element>,
    /// Of networks, by id.
    pub networks: BTreeMap<Id, Element>,
    /// Of connections, by row.
    pub connections: BTreeMap<Id, Value>,
    /// Of storage elements, by id.
    #[serde(default)]
    pub storage: BTreeMap<Id, Element>,
}

/// Design of a group or network.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Element {
    /// Label.
    pub label: String,
    /// Design.
    pub design: Value,
    /// What the deploy does with it.
    pub deploy_type: String,
}

impl Stored {
    /// A plan, or what stood in its way, as it is kept. Payloads hold whole templates and are made anew when the plan is accepted.
    pub fn new(outcome: Result<Plan, Vec<PlanProblem>>, input: &PlanInput) -> Self {
        let mut options = input.options.clone();
        options.usual_seconds.clear();
        match outcome {
            Ok(mut plan) => {
                for job in &mut plan.jobs {
                    job.payload = Value::Null;
                }
                Self { changes: plan.changes.clone(), plan: Some(plan), options, ..Self::default() }
            }
            Err(problems) => Self { changes: planner::diff(input), problems, options, ..Self::default() },
        }
    }

    /// From its row.
    pub fn read(row: &store::entity::deploy_plan::Model) -> Result<Self, serde_json::Error> {
        serde_json::from_value(row.plan.clone())
    }
}

/// The options of a request to plan or deploy.
pub fn options(ctx: &Ctx) -> Result<Options, ApiError> {
    let shutdown = ctx.body.get("shutdownOptions").cloned().unwrap_or(Value::Null);
    let flag = |name: &str| shutdown[name].as_bool().unwrap_or(false);
    let mut preferred: BTreeMap<Id, Vec<Id>> = BTreeMap::new();
    if let Some(map) = ctx.body.get("serverTypeIdToPreferredServerIds").and_then(Value::as_object) {
        for (server_type, servers) in map {
            let field = format!("serverTypeIdToPreferredServerIds.{server_type}");
            let id = parse_id(server_type).ok_or_else(|| ApiError::field(&field, "the key is not a server type id"))?;
            let list = servers.as_array().and_then(|l| l.iter().map(whole).collect::<Option<Vec<Id>>>());
            preferred.insert(id, list.ok_or_else(|| ApiError::field(&field, "must be a list of server ids"))?);
        }
    }
    Ok(Options {
        allow_data_loss: ctx.flag("allowDataLoss").unwrap_or(false),
        shutdown: Shutdown {
            attempt_soft: flag("attemptSoftShutdown"),
            soft_timeout: shutdown
                .get("softShutdownTimeout")
                .and_then(whole)
                .and_then(|s| u32::try_from(s).ok())
                .unwrap_or(0),
            attempt_hard: flag("attemptHardShutdown"),
            force: flag("forceShutdown"),
        },
        preferred_servers: preferred,
        ..Options::default()
    })
}

/// Gives back all that a network holds, when no equipment has anything of it.
pub async fn release_network<C: sea_orm::ConnectionTrait>(txn: &C, network: Id) -> Result<(), sea_orm::DbErr> {
    allocations::release(txn, network, None).await
}
