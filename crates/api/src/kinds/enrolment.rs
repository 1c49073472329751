//! One-time tokens with which a Site Controller enrols.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, EntityTrait};
use serde_json::json;
use store::{
    entity::{enrolment_token, site},
    time,
};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::record,
    routes,
};

routes! {
    "createSiteEnrolmentToken" => create,
}

/// Seconds for which a token can be used.
const LIFE_SECONDS: i64 = 3600;

/// Only a hash of the token is kept: it is shown this once.
pub(crate) async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("siteId")?;
    let link = ctx.app.link().ok_or_else(|| {
        ApiError::conflict(
            "this Global Controller serves no sites: give it an address for them in its configuration, then try again",
        )
    })?;
    let txn = ctx.app.db().begin().await?;
    let of = site::Entity::find_by_id(id)
        .one(&txn)
        .await?
        .filter(|s| !s.decommissioned)
        .ok_or_else(|| ApiError::not_found("site", id))?;
    let token = crypto::token::random();
    let expires_at = time::in_seconds(LIFE_SECONDS);
    let mut row = enrolment_token::new();
    row.site_id = Set(of.id);
    row.token_hash = Set(crypto::token::hash(&token));
    row.expires_at = Set(expires_at.clone());
    row.used_at = Set(None);
    row.insert(&txn).await?;
    let title = format!("Enrolment token for site {} made", of.slug);
    record(&ctx, &txn, "site.enrolment_token", title, ("site", of.id), json!({"expiresAt": expires_at})).await?;
    txn.commit().await?;
    // One word for people to paste: the token, and by what the other end is known.
    let token = format!("{token}.{}", link.authority);
    let command = format!("steelyard site --global {} --token {token}", link.url);
    Ok(Reply::Json(json!({"token": token, "command": command, "expiresAt": expires_at})))
}
