//! Catalogs that are fetched from their makers. The Global Controller fetches them, because sites may have no way to the outside; where it
//! has none either, the address is that of a mirror, or images are entered by hand. Images themselves are fetched by the sites that need them.

use engine::{NewGroup, entity::job_group};
use model::{
    Id,
    job::{JobRefs, JobSpec, RetryPolicy, Target},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::{entity::firmware_catalog as catalogs, time};

use crate::{
    App,
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{configuration, firmware_catalog::find, record},
    routes,
};

routes! {
    "refreshFirmwareCatalog" => refresh,
}

/// The job function of the Global Controller that fetches a catalog.
pub const FUNCTION: &str = "firmware.catalog_fetch";

/// Why a catalog cannot be fetched.
fn refuse(found: &catalogs::Model) -> Result<(), ApiError> {
    if found.update_type != "online" {
        return Err(ApiError::conflict(format!(
            "catalog {} is kept by hand (its updateType is {}): nothing is fetched for it",
            found.name, found.update_type
        )));
    }
    if found.vendor_url.is_none() {
        return Err(ApiError::conflict(format!("catalog {} has no vendorUrl to be fetched from", found.name)));
    }
    Ok(())
}

/// Makes the job that fetches a catalog, and notes it, which is no change of the catalog itself.
async fn start(app: &App, txn: &DatabaseTransaction, found: &catalogs::Model) -> Result<Value, ApiError> {
    let title = format!("Fetch the firmware catalog {}", found.name);
    let job = JobSpec {
        key: "fetch".into(),
        function: FUNCTION.into(),
        title: title.clone(),
        site_id: None,
        target: Target { kind: "firmware_catalog".into(), id: found.id, generation: 0 },
        payload: json!({"catalog_id": found.id}),
        depends_on: Vec::new(),
        retry: RetryPolicy { max: 3, min_seconds: 30, max_seconds: 600 },
        timeout_seconds: 1800,
        refs: JobRefs::default(),
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let group = NewGroup {
        kind: "firmware_catalog_fetch".into(),
        description: title,
        params: json!({"catalogId": found.id}),
        ..Default::default()
    };
    let created = app.engine().create_group(txn, group, vec![job]).await?;
    let info = json!({"jobGroupId": created.group_id, "jobId": created.job_ids.get("fetch")});
    note(txn, found, |sync| {
        sync["jobInfo"] = info.clone();
        sync["begunTimestamp"] = json!(time::now());
    })
    .await?;
    Ok(info)
}

/// Changes what is noted of a catalog's fetches.
pub async fn note<C: sea_orm::ConnectionTrait>(
    db: &C,
    found: &catalogs::Model,
    change: impl FnOnce(&mut Value),
) -> Result<(), sea_orm::DbErr> {
    let mut sync = found.sync.clone().filter(Value::is_object).unwrap_or_else(|| json!({}));
    change(&mut sync);
    let row = catalogs::ActiveModel { id: Set(found.id), sync: Set(Some(sync)), ..Default::default() };
    row.update(db).await?;
    Ok(())
}

/// The group that fetches a catalog now, if one does.
async fn working<C: sea_orm::ConnectionTrait>(db: &C, found: &catalogs::Model) -> Result<Option<Id>, ApiError> {
    let group = found.sync.as_ref().and_then(|s| s["jobInfo"]["jobGroupId"].as_i64());
    let Some(group) = group else { return Ok(None) };
    let open = job_group::Entity::find_by_id(group).filter(job_group::Column::FinishedAt.is_null()).one(db).await?;
    Ok(open.map(|g| g.id))
}

async fn refresh(ctx: Ctx) -> Result<Reply, ApiError> {
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    ctx.check_revision(found.revision)?;
    refuse(&found)?;
    if let Some(group) = working(&txn, &found).await? {
        return Err(ApiError::conflict(format!(
            "catalog {} is being fetched already by job group {group}; wait for its end, or retry its job",
            found.name
        )));
    }
    let info = start(&ctx.app, &txn, &found).await?;
    let title = format!("Firmware catalog {} is fetched", found.name);
    record(&ctx, &txn, "firmware_catalog.refresh", title, ("firmware_catalog", found.id), info.clone()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Json(info))
}

/// Catalogs whose last fetch began long enough ago are fetched again. How many were begun.
pub async fn tick(app: &App) -> Result<usize, ApiError> {
    let hours = configuration::value(&app.db().read, "firmware", "catalogRefreshHours").await?.as_i64().unwrap_or(24);
    if hours <= 0 {
        return Ok(0);
    }
    let since = time::in_seconds(-hours * 3600);
    let online = catalogs::Entity::find()
        .filter(catalogs::Column::UpdateType.eq("online"))
        .filter(catalogs::Column::VendorUrl.is_not_null())
        .all(&app.db().read)
        .await?;
    let mut begun = 0;
    for found in online {
        let last = found.sync.as_ref().and_then(|s| s["begunTimestamp"].as_str());
        if last.is_some_and(|at| at > since.as_str()) {
            continue;
        }
        let txn = app.db().begin().await?;
        // As it is now: somebody may have begun meanwhile.
        let Some(now) = catalogs::Entity::find_by_id(found.id).one(&txn).await? else { continue };
        if now.sync != found.sync || working(&txn, &now).await?.is_some() {
            continue;
        }
        start(app, &txn, &now).await?;
        txn.commit().await?;
        app.engine().wake();
        begun += 1;
    }
    Ok(begun)
}
