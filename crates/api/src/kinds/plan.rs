//! Plans of infrastructures: what a deploy would do, and what is wrong with a design.

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
    QueryOrder, QuerySelect,
};
use serde_json::json;
use store::entity::{deploy_plan, site_controller};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::infrastructure,
    planning::{self, Stored, answer, load},
    routes,
};

routes! {
    "planInfrastructure" => plan,
    "getInfrastructurePlan" => one,
    "validateInfrastructure" => validate,
}

/// Plans of one design that are kept besides the newest.
const KEPT: u64 = 7;

/// A plan of an infrastructure that the caller may see.
pub async fn find<C: ConnectionTrait>(db: &C, infrastructure_id: Id, id: Id) -> Result<deploy_plan::Model, ApiError> {
    deploy_plan::Entity::find_by_id(id)
        .filter(deploy_plan::Column::InfrastructureId.eq(infrastructure_id))
        .one(db)
        .await?
        .ok_or_else(|| ApiError::not_found("plan", id))
}

/// Plans and keeps the plan, so that what was shown can be what is deployed. Problems are an answer too, not an error.
async fn plan(ctx: Ctx) -> Result<Reply, ApiError> {
    let options = planning::options(&ctx)?;
    let of = infrastructure::find_editable(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let loaded = load::load(&ctx.app.db().read, &of, 0, options).await?;
    let outcome = planning::make(loaded.input.clone()).await?;
    let mut stored = Stored::new(outcome, &loaded.input);
    let connected = site_controller::Entity::find()
        .filter(site_controller::Column::SiteId.eq(of.site_id))
        .filter(site_controller::Column::Connected.eq(true))
        .count(&ctx.app.db().read)
        .await?;
    stored.silent_site = (connected == 0).then_some(of.site_id);
    let txn = ctx.app.db().begin().await?;
    // Plans of older designs are of no use to anybody, and of one design the newest are enough.
    let old: Vec<Id> = deploy_plan::Entity::find()
        .select_only()
        .column(deploy_plan::Column::Id)
        .filter(deploy_plan::Column::InfrastructureId.eq(of.id))
        .filter(deploy_plan::Column::Status.eq("proposed"))
        .order_by_desc(deploy_plan::Column::Id)
        .offset(KEPT)
        .limit(100)
        .into_tuple()
        .all(&txn)
        .await?;
    deploy_plan::Entity::delete_many().filter(deploy_plan::Column::Id.is_in(old)).exec(&txn).await?;
    deploy_plan::Entity::delete_many()
        .filter(deploy_plan::Column::InfrastructureId.eq(of.id))
        .filter(deploy_plan::Column::Status.eq("proposed"))
        .filter(deploy_plan::Column::InfrastructureRevision.lt(of.revision))
        .exec(&txn)
        .await?;
    let mut row = deploy_plan::new();
    row.infrastructure_id = Set(of.id);
    row.infrastructure_revision = Set(of.revision);
    row.status = Set("proposed".into());
    row.plan = Set(json!(stored));
    row.deploy_id = Set(None);
    let made = row.insert(&txn).await?;
    txn.commit().await?;
    Ok(Reply::Json(answer::plan(&made, &stored)))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = infrastructure::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let found = find(&ctx.app.db().read, of.id, ctx.id("planId")?).await?;
    let stored = Stored::read(&found)?;
    Ok(Reply::Json(answer::plan(&found, &stored)))
}

/// Problems that the design alone shows, and how it differs from what is deployed.
async fn validate(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = infrastructure::find(&ctx, &ctx.app.db().read, ctx.id("infrastructureId")?).await?;
    let loaded = load::load_design(&ctx.app.db().read, &of, planning::options(&ctx)?).await?;
    Ok(Reply::Json(json!({
        "revision": of.revision,
        "problems": answer::problems(&planner::validate(&loaded.input)),
        "changes": answer::changes(&planner::diff(&loaded.input)),
    })))
}
