//! Version, health, and what is licensed (everything).

use serde_json::json;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    routes,
};

routes! {
    "getVersion" => version,
    "getLicensedProducts" => licensed,
    "getHealth" => health,
}

/// The interface version that the field's clients expect.
const INTERFACE: &str = "7.4.0";

async fn version(_: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(json!({"version": INTERFACE, "versionBuild": env!("CARGO_PKG_VERSION")})))
}

async fn licensed(_: Ctx) -> Result<Reply, ApiError> {
    Ok(Reply::Json(
        json!({"serversAreLicensed": true, "switchesAreLicensed": true, "vmsAreLicensed": true, "storagesAreLicensed": true}),
    ))
}

async fn health(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.app.db().read.ping().await?;
    Ok(Reply::Json(json!({"status": "ok", "version": env!("CARGO_PKG_VERSION")})))
}
