//! RAID controllers of a server: read, and their volumes changed.

use model::{
    order::Order,
    raid::{NewVolume, RaidLevel, RaidWork, ServerRaid},
    server::ServerStatus,
};
use serde_json::{Value, json};

use super::server_bmc::{ask, ask_and_wait, refuse_outside, silent};
use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    facts,
    kinds::server::{DIRTY, find, refuse_used},
    routes,
};

routes! {
    "getServerRaid" => get,
    "changeServerRaid" => change,
}

/// Most volumes in one change.
const MANY: usize = 64;

/// As the interface names it.
fn wire(answer: &Value) -> Value {
    let list = |v: &Value, name: &str| v[name].as_array().cloned().unwrap_or_default();
    let drive = |d: &Value| json!({"id": d["id"], "serialNumber": d["serial"], "model": d["model"], "sizeBytes": d["bytes"], "media": d["media"], "healthy": d["healthy"], "spare": d["spare"]});
    let volume = |v: &Value| json!({"id": v["id"], "name": v["name"], "raidType": v["level"], "sizeBytes": v["bytes"], "driveIds": v["drives"]});
    let controller = |c: &Value| {
        json!({"id": c["id"], "name": c["name"], "raidTypesSupported": c["levels"],
            "drives": list(c, "drives").iter().map(drive).collect::<Vec<_>>(), "volumes": list(c, "volumes").iter().map(volume).collect::<Vec<_>>()})
    };
    json!({"controllers": list(answer, "controllers").iter().map(controller).collect::<Vec<_>>()})
}

async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = find(&ctx, &ctx.app.db().read).await?;
    let payload = serde_json::to_value(ServerRaid { server_id: of.id, work: None })?;
    let title = format!("Read the RAID controllers of {}", facts::server_name(&of));
    let answer = ask_and_wait(&ctx, &of, ServerRaid::NAME, title, payload, 300).await?;
    answer.map(|a| Reply::Json(wire(&a))).ok_or_else(|| silent(&of))
}

fn words(value: Option<&Value>) -> Vec<String> {
    value.and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect()
}

fn volume(controller: &str, n: usize, body: &Value) -> Result<NewVolume, ApiError> {
    let field = |name: &str| format!("createVolumes[{n}].{name}");
    let level = body["raidType"].as_str().and_then(RaidLevel::parse).ok_or_else(|| {
        let all: Vec<&str> = RaidLevel::ALL.iter().map(|l| l.as_str()).collect();
        ApiError::field(field("raidType"), format!("must be one of {}", all.join(", ")))
    })?;
    let drives = words(body.get("driveIds"));
    let mut once = drives.clone();
    once.sort_unstable();
    once.dedup();
    if once.len() != drives.len() || !level.takes(drives.len()) {
        return Err(ApiError::field(
            field("driveIds"),
            format!("{} different drives do not make a {}", once.len(), level.as_str()),
        ));
    }
    let name = body["name"].as_str().unwrap_or_default().trim();
    // The shortest that a controller takes.
    if name.is_empty() || name.len() > 15 || !name.chars().all(|c| c.is_ascii_alphanumeric() || "-_".contains(c)) {
        return Err(ApiError::field(field("name"), "must have 1 to 15 letters, digits, - or _"));
    }
    let bytes = whole(&body["sizeBytes"]).filter(|b| *b > 0).and_then(|b| u64::try_from(b).ok());
    Ok(NewVolume { controller: controller.to_owned(), name: name.to_owned(), level, drives, bytes })
}

/// For servers that nobody has and that hold nobody's data: what a volume loses is gone.
async fn change(ctx: Ctx) -> Result<Reply, ApiError> {
    let controller = ctx.need_text("controllerId")?.to_owned();
    let wanted = ctx.body.get("createVolumes").and_then(Value::as_array).cloned().unwrap_or_default();
    let create = wanted.iter().enumerate().map(|(n, v)| volume(&controller, n, v)).collect::<Result<Vec<_>, _>>()?;
    let (delete, initialize) = (words(ctx.body.get("deleteVolumeIds")), words(ctx.body.get("initializeVolumeIds")));
    let count = create.len() + delete.len() + initialize.len();
    if count == 0 || count > MANY {
        return Err(ApiError::field(
            "createVolumes",
            format!("name 1 to {MANY} volumes to make, delete or initialize"),
        ));
    }
    if create.iter().enumerate().any(|(n, v)| create.iter().skip(n + 1).any(|o| o.name == v.name)) {
        return Err(ApiError::field("createVolumes", "two volumes have the same name"));
    }
    let of = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(of.revision)?;
    refuse_used(&ctx.app.db().read, &of, "given other volumes").await?;
    refuse_outside(&of, "given other volumes")?;
    let dirty = ServerStatus::parse(&of.status);
    let dirty =
        of.extra[DIRTY] == true || matches!(dirty, Some(ServerStatus::Cleaning | ServerStatus::CleaningRequired));
    if dirty {
        return Err(ApiError::conflict(format!(
            "server {} is {}: somebody's data are on its volumes; have it cleaned first",
            facts::server_name(&of),
            of.status
        )));
    }
    let title = format!("Change the RAID volumes of {}", facts::server_name(&of));
    let work = RaidWork { controller, delete, create, initialize };
    let payload = serde_json::to_value(ServerRaid { server_id: of.id, work: Some(work) })?;
    let (group_id, job_id) = ask(&ctx, &of, ServerRaid::NAME, title, payload, 1800).await?;
    Ok(Reply::Json(json!({"jobGroupId": group_id, "jobId": job_id})))
}
