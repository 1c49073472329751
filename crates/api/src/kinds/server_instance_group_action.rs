//! Groups that rest: stopped or suspended by the next deploy, and started again by a later one.

use model::deploy::{DeployStatus, DeployType, ServiceStatus};
use sea_orm::ActiveValue::Set;
use serde_json::json;
use store::list::{Revisioned, cas};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        infrastructure, record,
        server_instance_group::{find, wire},
    },
    routes,
};

routes! {
    "startServerInstanceGroup" => start,
    "stopServerInstanceGroup" => stop,
    "suspendServerInstanceGroup" => suspend,
}

async fn start(ctx: Ctx) -> Result<Reply, ApiError> {
    act(ctx, DeployType::Start).await
}

async fn stop(ctx: Ctx) -> Result<Reply, ApiError> {
    act(ctx, DeployType::Stop).await
}

async fn suspend(ctx: Ctx) -> Result<Reply, ApiError> {
    act(ctx, DeployType::Suspend).await
}

/// Marks a group for the next deploy. Its servers stay its own while it rests.
async fn act(ctx: Ctx, what: DeployType) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    let of = infrastructure::find_editable(&ctx, &txn, found.infrastructure_id).await?;
    ctx.check_revision(found.revision)?;
    let now = ServiceStatus::parse(&found.service_status).unwrap_or(ServiceStatus::Ordered);
    let word = what.as_str();
    let refuse = |why: &str| Err(ApiError::conflict(format!("group {} cannot {word}: {why}", found.label)));
    if found.deploy_type == DeployType::Delete.as_str() && found.deploy_status != DeployStatus::Finished.as_str() {
        return refuse("it is marked for deletion");
    }
    let pending = (found.deploy_status != DeployStatus::Finished.as_str())
        .then(|| DeployType::parse(&found.deploy_type))
        .flatten();
    let next = match (what, now) {
        (_, ServiceStatus::Ordered) => return refuse("it is not deployed yet"),
        (_, ServiceStatus::Deleted) => return refuse("it is deleted"),
        (DeployType::Start, ServiceStatus::Stopped | ServiceStatus::Suspended) => DeployType::Start,
        // To start what is only about to be stopped is to leave it alone, and the other way round.
        (DeployType::Start, ServiceStatus::Active)
            if matches!(pending, Some(DeployType::Stop | DeployType::Suspend)) =>
        {
            DeployType::Edit
        }
        (DeployType::Start, ServiceStatus::Active) => return refuse("it runs already"),
        (_, ServiceStatus::Active) => what,
        (_, ServiceStatus::Stopped | ServiceStatus::Suspended) if pending == Some(DeployType::Start) => {
            DeployType::Edit
        }
        (_, ServiceStatus::Stopped) => return refuse("it is stopped already"),
        (_, ServiceStatus::Suspended) => return refuse("it is suspended already; start it first"),
    };
    let mut row = found.edit();
    row.deploy_type = Set(next.as_str().into());
    let same = next == DeployType::Edit && found.design == found.deployed;
    row.deploy_status = Set(if same { DeployStatus::Finished } else { DeployStatus::NotStarted }.as_str().into());
    let after = cas(&txn, &found, row).await?.ok_or_else(|| ApiError::stale(found.revision + 1))?;
    infrastructure::touch(&txn, &of).await?;
    let title = match next {
        DeployType::Edit => format!("Group {} of {} stays as it is", after.label, of.label),
        _ => format!("Group {} of {} will {word} with the next deploy", after.label, of.label),
    };
    let object = ("server_instance_group", after.id);
    record(&ctx, &txn, &format!("server_instance_group.{word}"), title, object, json!({"deployType": next})).await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&after)["config"].clone(), after.revision))
}
