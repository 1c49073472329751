//! Buckets: object storage with a key of their own.

use model::{Id, secret::Sealed};
use planner::ElementKind;
use serde_json::{Value, json};
use store::entity::storage_element as element;

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{
        record,
        storage_element::{self as elements, Kind},
    },
    routes,
};

routes! {
    "getBucket" => one,
    "getInfrastructureBuckets" => buckets,
    "createInfrastructureBucket" => create,
    "deleteBucket" => delete,
    "getInfrastructureBucket" => one,
    "getBucketConfigInfo" => config,
    "updateBucket" => update,
    "getBucketCredentials" => credentials,
    "updateBucketMeta" => update_meta,
}

/// Buckets among elements.
pub(crate) const BUCKET: Kind = Kind { element: ElementKind::Bucket, id: "bucketId", size: "sizeGB", unit: 1 << 30 };

/// Host and port of an endpoint, `https://s3.example.org:9021`.
fn host_of(endpoint: &str) -> (String, u64) {
    let (scheme, rest) = endpoint.split_once("://").unwrap_or(("https", endpoint));
    let authority = rest.split('/').next().unwrap_or_default();
    let default = if scheme == "http" { 80 } else { 443 };
    match authority.rsplit_once(':') {
        Some((host, port)) if !port.contains(']') => (host.to_owned(), port.parse().unwrap_or(default)),
        _ => (authority.to_owned(), default),
    }
}

/// The wire form.
pub(crate) fn wire(e: &element::Model, owner_id: Id) -> Value {
    let mut all = elements::wire(&BUCKET, e, owner_id);
    let seen = elements::seen(e, &format!("bucket-{}", e.id), "bucket");
    if let (Some(endpoint), Some(name)) = (seen["endpoint"].as_str(), seen["bucket"].as_str()) {
        let (host, port) = host_of(endpoint);
        all["discoverInformation"] = json!({
            "path": name, "region": seen["region"],
            "mountingInformation": [{"fullPath": format!("{}/{name}", endpoint.trim_end_matches('/')), "host": host, "port": port}],
        });
    }
    if let Some(key) = e.extra["accessKeyId"].as_str() {
        all["accessKeyId"] = json!(key);
    }
    all
}

async fn buckets(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::of_infrastructure(&ctx, &BUCKET, wire).await
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, found) = elements::find(&ctx, &ctx.app.db().read, &BUCKET).await?;
    Ok(Reply::Tagged(wire(&found, of.owner_id), found.revision))
}

async fn config(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, found) = elements::find(&ctx, &ctx.app.db().read, &BUCKET).await?;
    Ok(Reply::Tagged(elements::config(&BUCKET, &found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, made) = elements::create(&ctx, &BUCKET, &[]).await?;
    Ok(Reply::Tagged(wire(&made, of.owner_id), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, after) = elements::update(&ctx, &BUCKET).await?;
    Ok(Reply::Tagged(elements::config(&BUCKET, &after), after.revision))
}

async fn update_meta(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, after) = elements::update_meta(&ctx, &BUCKET).await?;
    Ok(Reply::Tagged(wire(&after, of.owner_id), after.revision))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    elements::delete(&ctx, &BUCKET).await
}

/// The bucket's key, for those who may see its infrastructure; that it was looked at is on record.
async fn credentials(ctx: Ctx) -> Result<Reply, ApiError> {
    let (of, found) = elements::find(&ctx, &ctx.app.db().read, &BUCKET).await?;
    let secret = match &found.secret {
        Some(sealed) => Some(ctx.app.sealer().open(&Sealed(sealed.clone())).map_err(ApiError::internal)?.0),
        None => None,
    };
    let title = format!("Key of bucket {} of {} read", found.label, of.label);
    record(&ctx, &ctx.app.db().write, "bucket.credentials_read", title, ("bucket", found.id), json!({})).await?;
    Ok(Reply::Json(json!({"accessKeyId": found.extra["accessKeyId"], "secretKey": secret})))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_endpoint_is_taken_apart() {
        assert_eq!(host_of("https://s3.example.org:9021"), ("s3.example.org".into(), 9021));
        assert_eq!(host_of("http://10.0.0.1/x"), ("10.0.0.1".into(), 80));
        assert_eq!(host_of("https://[fd00::1]"), ("[fd00::1]".into(), 443));
    }
}
