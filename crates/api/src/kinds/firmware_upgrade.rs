//! Updates of firmware: what is to be written, who is asked, and the orders.
//!
//! A server that nobody uses is updated at once. One in use is never touched without its owner's word: a question is put, good for a day,
//! and only the answer makes orders.

use std::collections::HashMap;

use engine::NewGroup;
use model::{
    Id,
    firmware::{Image, ServerFirmwareInventory, ServerFirmwareUpdate},
    job::{JobRefs, JobSpec, RetryPolicy, Target},
    order::Order,
    server::{By, ServerStatus},
};
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, DatabaseTransaction, EntityTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use store::{
    entity::{firmware_baseline, firmware_confirmation, infrastructure, server, server_component, server_instance},
    event::{self, NewEvent},
    list::{Revisioned, cas},
    time,
};

use super::{
    firmware_binary, firmware_confirmation as confirmations,
    firmware_match::{Offer, Policy, catalogs_of, hold, minimum, policies, verdict},
    server_bmc::refuse_outside,
};
use crate::{App, context::Ctx, error::ApiError, facts};

/// Type of the job group of an update.
pub const GROUP: &str = "server_firmware_upgrade";
/// Note with a server: its status before the update.
pub const FROM: &str = "firmwareFrom";
/// Seconds that an owner has to answer, and for which the answer is good.
pub const TERM_SECONDS: i64 = 24 * 3600;
/// Seconds of one attempt for one part.
const ATTEMPT_SECONDS: u32 = 4 * 3600;

/// One part that is to be updated.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// Row of the part.
    pub component_id: Id,
    /// Its id at the BMC.
    pub part: String,
    /// Its name.
    pub name: String,
    /// `bios`, `bmc`, …
    pub kind: String,
    /// What runs.
    pub from: Option<String>,
    /// What shall run; unknown for an image that a person named alone.
    pub to: Option<String>,
    /// The image.
    pub image: Image,
    /// Whether the server may be restarted for it.
    pub restart: bool,
}

impl Step {
    /// For people.
    pub fn words(&self) -> String {
        let version = |v: &Option<String>| v.clone().unwrap_or_else(|| "unknown".into());
        format!("{} from {} to {}", self.name, version(&self.from), version(&self.to))
    }
}

/// Who asks.
#[derive(Clone, Debug, Default)]
pub struct Asker {
    /// A person; `None`: the system, as planned.
    pub person: Option<(Id, String)>,
    /// The request.
    pub request_id: Option<String>,
    /// The campaign that it is for.
    pub campaign_id: Option<Id>,
    /// Somebody has to agree, whoever uses the server.
    pub confirm: bool,
}

impl Asker {
    /// The caller of a request.
    pub fn of(ctx: &Ctx) -> Self {
        Self {
            person: (ctx.caller.user_id > 0).then(|| (ctx.caller.user_id, ctx.caller.email.clone())),
            request_id: Some(ctx.request_id.clone()),
            ..Self::default()
        }
    }
}

/// What came of asking for an update.
#[derive(Clone, Debug)]
pub enum Begun {
    /// Jobs are ordered.
    Ordered {
        /// The group.
        group_id: Id,
        /// Its first job.
        job_id: Id,
    },
    /// Somebody has to agree first.
    Asked(Id),
    /// All is as it should be.
    Nothing,
}

impl Begun {
    /// As clients see it.
    pub fn wire(&self) -> Value {
        match self {
            Self::Ordered { group_id, job_id } => json!({"jobGroupId": group_id, "jobId": job_id}),
            Self::Asked(id) => json!({"jobGroupId": null, "jobId": null, "confirmationId": id,
                "message": "the owner of the server is asked first; the update begins with the answer"}),
            Self::Nothing => json!({"jobGroupId": null, "jobId": null, "message": "nothing is to be updated"}),
        }
    }
}

/// What is to be written.
pub enum Want<'a> {
    /// Parts with a target version; where none has one, all of which something newer is on offer.
    Targets,
    /// What a baseline asks for.
    Baseline(&'a firmware_baseline::Model),
    /// What a policy is about and something newer is on offer for.
    Policy(&'a Policy),
}

/// All that decides over updates, read once for many servers.
pub struct Desk {
    /// Images.
    pub offer: Offer,
    /// Policies in force.
    pub policies: Vec<Policy>,
}

impl Desk {
    /// Reads it.
    pub async fn open<C: ConnectionTrait>(
        db: &C,
        baseline: Option<&firmware_baseline::Model>,
    ) -> Result<Self, ApiError> {
        let catalogs = match baseline {
            Some(b) => Some(catalogs_of(db, b).await?).filter(|c| !c.is_empty()),
            None => None,
        };
        Ok(Self { offer: Offer::load(db, catalogs.as_ref()).await?, policies: policies(db, true).await? })
    }

    /// What has to be written on a server.
    pub fn steps(
        &self,
        want: &Want<'_>,
        of: &server::Model,
        holder: Option<&server_instance::Model>,
        parts: &[server_component::Model],
    ) -> Vec<Step> {
        let usable = parts.iter().filter(|p| p.firmware_updateable && p.firmware_status != "updating");
        let targeted = parts.iter().any(has_target);
        usable
            .filter_map(|part| {
                let binary = match want {
                    Want::Targets if targeted => {
                        let target = part.firmware_target_version.as_deref().filter(|_| has_target(part))?;
                        self.offer.of_version(of, part, target)?
                    }
                    Want::Targets => self.offer.best(of, part, None)?,
                    Want::Baseline(b) => {
                        if hold(b, &self.offer, of, part).state != "outdated" && minimum(b, part).is_some() {
                            return None;
                        }
                        self.offer.best(of, part, minimum(b, part))?
                    }
                    Want::Policy(policy) => {
                        let best = self.offer.best(of, part, None)?;
                        if !policy.is_about(of, holder, part, best.package_version.as_deref()) {
                            return None;
                        }
                        best
                    }
                };
                Some(step(part, firmware_binary::image(binary), binary.package_version.clone()))
            })
            .collect()
    }
}

fn has_target(part: &server_component::Model) -> bool {
    part.firmware_target_version
        .as_deref()
        .is_some_and(|t| !t.is_empty() && Some(t) != part.firmware_version.as_deref())
}

/// A part and an image for it.
pub fn step(part: &server_component::Model, image: Image, to: Option<String>) -> Step {
    Step {
        component_id: part.id,
        part: part.external_id.clone(),
        name: part.name.clone(),
        kind: part.kind.clone(),
        from: part.firmware_version.clone(),
        to,
        image,
        restart: true,
    }
}

/// Parts of servers.
pub async fn parts_of<C: ConnectionTrait>(
    db: &C,
    servers: &[Id],
) -> Result<HashMap<Id, Vec<server_component::Model>>, ApiError> {
    let rows = server_component::Entity::find()
        .filter(server_component::Column::ServerId.is_in(servers.to_vec()))
        .order_by_asc(server_component::Column::Id)
        .all(db)
        .await?;
    let mut all: HashMap<Id, Vec<server_component::Model>> = HashMap::new();
    for row in rows {
        all.entry(row.server_id).or_default().push(row);
    }
    Ok(all)
}

/// Who holds servers.
pub async fn holders_of<C: ConnectionTrait>(
    db: &C,
    servers: &[Id],
) -> Result<HashMap<Id, server_instance::Model>, ApiError> {
    let rows = server_instance::Entity::find()
        .filter(server_instance::Column::ServerId.is_in(servers.to_vec()))
        .all(db)
        .await?;
    Ok(rows.into_iter().filter_map(|i| Some((i.server_id?, i))).collect())
}

/// The server, kept from changing until the transaction ends, and who holds it.
pub async fn locked(
    txn: &DatabaseTransaction,
    server_id: Id,
) -> Result<(server::Model, Option<server_instance::Model>), ApiError> {
    let found = server::Entity::find_by_id(server_id).lock_exclusive().one(txn).await?;
    let found = found.ok_or_else(|| ApiError::not_found("server", server_id))?;
    let holder = holders_of(txn, &[server_id]).await?.remove(&server_id);
    Ok((found, holder))
}

/// Whether firmware of that server may be written at all, in words if not. Answers whether somebody's system is on it.
pub(super) fn may(found: &server::Model, holder: Option<&server_instance::Model>) -> Result<bool, ApiError> {
    refuse_outside(found, "given other firmware")?;
    let name = facts::server_name(found);
    if found.bmc_username.is_none() || found.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the login of the BMC of {name} is not known")));
    }
    match (ServerStatus::parse(&found.status), holder) {
        (Some(ServerStatus::UpdatingFirmware), _) => {
            Err(ApiError::conflict(format!("the firmware of server {name} is being updated already; wait for the end")))
        }
        (Some(s), Some(_)) if s.holds_tenant_data() => Ok(true),
        (Some(ServerStatus::Available | ServerStatus::Unavailable), None) => Ok(false),
        (_, Some(_)) => Err(ApiError::conflict(format!(
            "server {name} is {} and being deployed; ask again afterwards",
            found.status
        ))),
        _ => Err(ApiError::conflict(format!(
            "server {name} is {}; firmware is updated of servers that are available, unavailable, or used by an instance",
            found.status
        ))),
    }
}

/// Asks for an update: orders it, or puts the question to the owner.
pub async fn begin(
    app: &App,
    txn: &DatabaseTransaction,
    asker: &Asker,
    found: &server::Model,
    holder: Option<&server_instance::Model>,
    desk: &Desk,
    steps: Vec<Step>,
) -> Result<Begun, ApiError> {
    if steps.is_empty() {
        return Ok(Begun::Nothing);
    }
    let held = may(found, holder)?;
    let name = facts::server_name(found);
    let parts = parts_of(txn, &[found.id]).await?.remove(&found.id).unwrap_or_default();
    let (mut allowed, mut denied, mut confirm) = (Vec::new(), Vec::new(), held || asker.confirm);
    for step in steps {
        let Some(part) = parts.iter().find(|p| p.id == step.component_id) else { continue };
        match verdict(&desk.policies, found, holder, part, step.to.as_deref()) {
            Some(("deny", policy)) => denied.push((step.name, policy)),
            said => {
                confirm |= part.needs_confirmation || said.is_some_and(|(word, _)| word == "accept_with_confirmation");
                allowed.push(step);
            }
        }
    }
    if allowed.is_empty() {
        let words: Vec<String> = denied.iter().map(|(part, policy)| format!("{part} (policy {policy})")).collect();
        return Err(ApiError::conflict(format!(
            "server {name}: policies deny the update of {}; change the policy, or leave it",
            words.join(", ")
        )));
    }
    if confirm {
        return confirmations::ask(txn, asker, found, holder, &allowed).await.map(Begun::Asked);
    }
    let (group_id, job_id) = order(app, txn, asker, found, None, &allowed, None).await?;
    Ok(Begun::Ordered { group_id, job_id })
}

/// Orders the jobs: the BMC first, then the rest, which share one restart, and what runs is read at the end.
pub async fn order(
    app: &App,
    txn: &DatabaseTransaction,
    asker: &Asker,
    found: &server::Model,
    holder: Option<&server_instance::Model>,
    steps: &[Step],
    agreed_until: Option<String>,
) -> Result<(Id, Id), ApiError> {
    may(found, holder)?;
    let name = facts::server_name(found);
    let refs = || JobRefs {
        server_id: Some(found.id),
        instance_id: holder.map(|h| h.id),
        infrastructure_id: holder.map(|h| h.infrastructure_id),
        ..Default::default()
    };
    let mut steps = steps.to_vec();
    steps.sort_by_key(|s| s.kind != "bmc");
    let last = steps.iter().rposition(|s| s.kind != "bmc");
    let mut jobs: Vec<JobSpec> = Vec::new();
    let spec =
        |key: String, function: &str, title: String, payload: Value, before: Option<String>, seconds: u32| JobSpec {
            key,
            function: function.to_owned(),
            title,
            site_id: Some(found.site_id),
            target: Target { kind: "server".into(), id: found.id, generation: 0 },
            payload,
            depends_on: before.into_iter().collect(),
            retry: RetryPolicy { max: 2, min_seconds: 10, max_seconds: 120 },
            timeout_seconds: seconds,
            refs: refs(),
            can_be_skipped: true,
            requires_confirmation: false,
        };
    for (n, step) in steps.iter().enumerate() {
        let payload = ServerFirmwareUpdate {
            server_id: found.id,
            component: step.part.clone(),
            name: step.name.clone(),
            kind: step.kind.clone(),
            image: step.image.clone(),
            version: step.to.clone(),
            restart: step.restart && Some(n) == last,
            hold: !step.restart,
            agreed_until: agreed_until.clone(),
        };
        let before = jobs.last().map(|j| j.key.clone());
        let title = format!("Update firmware of {name}: {}", step.words());
        let payload = serde_json::to_value(&payload)?;
        let key = format!("firmware/{}", step.component_id);
        jobs.push(spec(key, ServerFirmwareUpdate::NAME, title, payload, before, ATTEMPT_SECONDS));
    }
    let first = jobs.first().map(|j| j.key.clone()).ok_or_else(|| ApiError::internal("an update without a step"))?;
    let before = jobs.last().map(|j| j.key.clone());
    let payload = serde_json::to_value(ServerFirmwareInventory { server_id: found.id })?;
    jobs.push(spec(
        "inventory".into(),
        ServerFirmwareInventory::NAME,
        format!("Read the firmware of {name}"),
        payload,
        before,
        900,
    ));
    let words = steps.iter().map(Step::words).collect::<Vec<_>>().join("; ");
    let group = NewGroup {
        kind: GROUP.into(),
        description: format!("Update firmware of server {name}"),
        params: json!({"serverId": found.id, "campaignId": asker.campaign_id}),
        server_id: Some(found.id),
        site_id: Some(found.site_id),
        infrastructure_id: holder.map(|h| h.infrastructure_id),
        ..Default::default()
    };
    let created = app.engine().create_group(txn, group, jobs).await?;
    let job_id =
        created.job_ids.get(&first).copied().ok_or_else(|| ApiError::internal("a job was made without its key"))?;
    for step in &steps {
        let row = server_component::ActiveModel {
            id: Set(step.component_id),
            firmware_status: Set("updating".into()),
            firmware_target_version: Set(step.to.clone()),
            firmware_scheduled_timestamp: Set(None),
            failure: Set(None),
            updated_at: Set(time::now()),
            ..Default::default()
        };
        row.update(txn).await?;
    }
    note_server(app, txn, found, holder.is_some(), &json!({"jobGroupId": created.group_id, "jobId": job_id})).await?;
    let account_id = owner_account(txn, holder).await?;
    let new = NewEvent {
        kind: "server.firmware_upgrade".into(),
        title: format!("Firmware of server {name} is being updated"),
        message: words,
        object: Some(("server".into(), found.id)),
        server_id: Some(found.id),
        site_id: Some(found.site_id),
        infrastructure_id: holder.map(|h| h.infrastructure_id),
        account_id,
        actor: asker.person.clone(),
        request_id: asker.request_id.clone(),
        context: json!({"jobGroupId": created.group_id, "campaignId": asker.campaign_id}),
        ..Default::default()
    };
    event::append(txn, new).await?;
    Ok((created.group_id, job_id))
}

/// The account whose people are told of a server.
pub async fn owner_account<C: ConnectionTrait>(
    db: &C,
    holder: Option<&server_instance::Model>,
) -> Result<Option<Id>, ApiError> {
    let Some(holder) = holder else { return Ok(None) };
    Ok(infrastructure::Entity::find_by_id(holder.infrastructure_id).one(db).await?.map(|i| i.account_id))
}

/// A server that nobody uses is `updating_firmware` meanwhile. One in use stays `used`: that word protects what is on it.
async fn note_server(
    app: &App,
    txn: &DatabaseTransaction,
    found: &server::Model,
    held: bool,
    info: &Value,
) -> Result<(), ApiError> {
    let mut extra = found.extra.as_object().cloned().unwrap_or_default();
    extra.insert("jobInfo".into(), info.clone());
    if held {
        let row = server::ActiveModel { id: Set(found.id), extra: Set(Value::Object(extra)), ..Default::default() };
        row.update(txn).await?;
        return Ok(());
    }
    let now = ServerStatus::parse(&found.status);
    if !now.is_some_and(|s| s.may_become(ServerStatus::UpdatingFirmware, By::System)) {
        return Err(ApiError::conflict(format!("a server that is {} is not given other firmware", found.status)));
    }
    extra.insert(FROM.into(), json!(found.status));
    let mut row = found.edit();
    row.status = Set(ServerStatus::UpdatingFirmware.as_str().into());
    row.status_reason = Set(None);
    row.extra = Set(Value::Object(extra));
    cas(txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    facts::server(txn, app.sealer(), found.id).await?;
    Ok(())
}

/// Whether somebody is asked about that server already.
pub async fn open_question<C: ConnectionTrait>(
    db: &C,
    server_id: Id,
) -> Result<Option<firmware_confirmation::Model>, ApiError> {
    Ok(firmware_confirmation::Entity::find()
        .filter(firmware_confirmation::Column::ServerId.eq(server_id))
        .filter(firmware_confirmation::Column::Status.is_in(["waiting", "confirmed"]))
        .one(db)
        .await?)
}
