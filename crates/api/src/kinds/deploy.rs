//! Deploy, revert, cancel.

use engine::EngineError;
use model::{deploy::DeployStatus, job::JobCommand};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait, QuerySelect};
use serde_json::json;
use store::{
    entity::{infrastructure, site},
    list::Revisioned,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{infrastructure as infrastructures, plan, record},
    planning::{self, Stored, accept, revert},
    routes,
};

routes! {
    "deployInfrastructure" => deploy,
    "cancelDeployInfrastructure" => cancel,
    "revertInfrastructure" => revert,
}

/// Carries a plan out: the one that was shown (`planId`), or one made now.
async fn deploy(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut options = planning::options(&ctx)?;
    let id = ctx.id("infrastructureId")?;
    let site_id = infrastructures::find(&ctx, &ctx.app.db().read, id).await?.site_id;
    let txn = ctx.app.db().begin().await?;
    // One plan at a time is accepted at a site: what one takes, the next one sees.
    site::Entity::find_by_id(site_id).lock_exclusive().one(&txn).await?;
    let of = infrastructures::find_editable(&ctx, &txn, id).await?;
    let moved = |found: i64| {
        ApiError::conflict(format!(
            "revision: the design was changed since the plan was made, found {found}; plan again"
        ))
    };
    if ctx.int("revision").is_some_and(|r| r != of.revision) {
        return Err(moved(of.revision));
    }
    let shown = match ctx.int("planId") {
        Some(plan_id) => Some(plan::find(&txn, of.id, plan_id).await?),
        None => None,
    };
    if let Some(shown) = &shown {
        if shown.status != "proposed" {
            return Err(ApiError::conflict("planId: this plan was deployed already; plan again"));
        }
        if shown.infrastructure_revision != of.revision {
            return Err(moved(of.revision));
        }
        if !ctx.has("serverTypeIdToPreferredServerIds") {
            options.preferred_servers = Stored::read(shown)?.options.preferred_servers;
        }
    }
    let after = accept::accept(&ctx, &txn, &of, options, shown.as_ref()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(Reply::Json(infrastructures::wire_one(&ctx, &after).await?))
}

/// Stops a deploy. What it did stays done; servers that it took stay reserved for the next plan.
async fn cancel(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("infrastructureId")?;
    let of = infrastructures::find(&ctx, &ctx.app.db().read, id).await?;
    if !of.locked {
        return Err(ApiError::conflict(format!(
            "infrastructure {} is not being deployed: there is nothing to cancel",
            of.label
        )));
    }
    let reason = format!("cancelled by {}", ctx.caller.email);
    if let Some(group_id) = of.job_group_id {
        match ctx.app.engine().command(JobCommand::CancelGroup { group_id, reason: reason.clone() }).await {
            // Ended on its own, or was cancelled in the job queue: only the design is left to unlock.
            Ok(()) | Err(EngineError::Refused(_)) => {}
            Err(e) => return Err(e.into()),
        }
    }
    let txn = ctx.app.db().begin().await?;
    let Some(of) = infrastructure::Entity::find_by_id(id).lock_exclusive().one(&txn).await?.filter(|of| of.locked)
    else {
        return Err(ApiError::conflict("the deploy ended before it could be cancelled"));
    };
    let mut row = of.edit();
    row.locked = Set(false);
    row.deploy_status = Set(DeployStatus::NotStarted.as_str().into());
    row.last_error = Set(Some(format!("the deploy was {reason}; plan again to go on, or revert the design")));
    let after = row.update(&txn).await?;
    revert::unlock(&txn, ctx.app.sealer(), &after).await?;
    record(
        &ctx,
        &txn,
        "infrastructure.cancel_deploy",
        format!("Deploy of {} cancelled", of.label),
        ("infrastructure", of.id),
        json!({"deployId": of.deploy_id, "jobGroupId": of.job_group_id}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Json(infrastructures::wire_one(&ctx, &after).await?))
}

/// The design becomes what is deployed.
async fn revert(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let of = infrastructures::find_editable(&ctx, &txn, ctx.id("infrastructureId")?).await?;
    ctx.check_revision(of.revision)?;
    revert::revert(&txn, &of).await?;
    record(
        &ctx,
        &txn,
        "infrastructure.revert",
        format!("Changes of {} discarded", of.label),
        ("infrastructure", of.id),
        json!({"before": of.design, "after": of.deployed}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}
