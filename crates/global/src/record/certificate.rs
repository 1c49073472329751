//! Certificates and host keys that a site met: the first one is pinned, another one is told of and waits for a person.

use api::facts;
use crypto::Sealer;
use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, DatabaseTransaction, EntityTrait, FromQueryResult,
    IntoActiveModel, QueryFilter, QuerySelect, sea_query::Expr,
};
use serde_json::{Value, json};
use store::{
    Database,
    entity::{network_device, server, storage},
    list::{Revisioned, cas},
};

use super::{RecordError, server_event, site_event};

const CHANGED: &str = "Nothing is sent there until a person has looked. If the certificate was renewed, trust it with the action trust-certificate; else find out who answers at that address.";

/// What a certificate is to an object.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Met {
    /// The one that is pinned, or one that was told of already.
    Known,
    /// Another one than the one that is pinned.
    Other,
    /// The first.
    First,
}

/// Pins the first certificate of an object, or notes another one with it. `pinned` and `extra` are the object's.
async fn met<M>(
    txn: &DatabaseTransaction,
    found: &M,
    (pinned, extra): (Option<&str>, &Value),
    column: impl ColumnTrait,
    sha256: &str,
    pin: impl FnOnce(&mut M::Active, String),
) -> Result<Met, RecordError>
where
    M: Revisioned + FromQueryResult + IntoActiveModel<M::Active>,
    M::Entity: EntityTrait<Model = M, ActiveModel = M::Active>,
    M::Active: ActiveModelTrait<Entity = M::Entity> + Send,
{
    let Some(pinned) = pinned else {
        let mut row = found.edit();
        pin(&mut row, sha256.to_owned());
        cas(txn, found, row).await?.ok_or_else(|| RecordError::Busy(format!("object {}", found.id())))?;
        return Ok(Met::First);
    };
    if pinned.eq_ignore_ascii_case(sha256) || extra["shownFingerprint"] == sha256 {
        return Ok(Met::Known);
    }
    let mut noted = extra.as_object().cloned().unwrap_or_default();
    noted.insert("shownFingerprint".into(), json!(sha256));
    // A note: the revision stays, so that nobody who edits it is disturbed.
    M::Entity::update_many()
        .col_expr(column, Expr::val(Value::Object(noted)))
        .filter(M::id_column().eq(found.id()))
        .exec(txn)
        .await?;
    Ok(Met::Other)
}

/// Records what a site met at one of its objects.
pub(super) async fn record(
    db: &Database,
    sealer: &Sealer,
    site_id: Id,
    (object, id): (&str, Id),
    sha256: &str,
) -> Result<(), RecordError> {
    let sha256 = sha256.to_ascii_lowercase();
    let txn = db.begin().await?;
    match object {
        "server" => of_server(&txn, sealer, site_id, id, &sha256).await?,
        "network_device" => of_switch(&txn, sealer, site_id, id, &sha256).await?,
        "storage" => of_storage(&txn, sealer, site_id, id, &sha256).await?,
        _ => return Ok(()),
    }
    txn.commit().await?;
    Ok(())
}

async fn of_server(
    txn: &DatabaseTransaction,
    sealer: &Sealer,
    site_id: Id,
    id: Id,
    sha256: &str,
) -> Result<(), RecordError> {
    let found = server::Entity::find_by_id(id).lock_exclusive().one(txn).await?;
    let Some(found) = found.filter(|s| s.site_id == site_id) else { return Ok(()) };
    let known = (found.tls_fingerprint.as_deref(), &found.extra);
    match met(txn, &found, known, server::Column::Extra, sha256, |row, pin| row.tls_fingerprint = Set(Some(pin)))
        .await?
    {
        Met::Known => {}
        Met::First => facts::server(txn, sealer, id).await?,
        Met::Other => {
            let title = format!("The BMC of server {} shows another certificate", facts::server_name(&found));
            server_event(txn, &found, "server.certificate", "security", title, CHANGED.into(), false).await?;
        }
    }
    Ok(())
}

async fn of_switch(
    txn: &DatabaseTransaction,
    sealer: &Sealer,
    site_id: Id,
    id: Id,
    sha256: &str,
) -> Result<(), RecordError> {
    use network_device::{Column, Entity};
    let found = Entity::find_by_id(id).lock_exclusive().one(txn).await?;
    let Some(found) = found.filter(|d| d.site_id == site_id) else { return Ok(()) };
    let known = (found.tls_fingerprint.as_deref(), &found.extra);
    match met(txn, &found, known, Column::Extra, sha256, |row, pin| row.tls_fingerprint = Set(Some(pin))).await? {
        Met::Known => {}
        Met::First => facts::network_device(txn, sealer, id).await?,
        Met::Other => {
            let title = format!("Switch {} shows another certificate", found.name);
            let object = Some(("network_device", id));
            site_event(txn, site_id, object, "network_device.certificate", "security", title, CHANGED.into()).await?;
        }
    }
    Ok(())
}

async fn of_storage(
    txn: &DatabaseTransaction,
    sealer: &Sealer,
    site_id: Id,
    id: Id,
    sha256: &str,
) -> Result<(), RecordError> {
    use storage::{Column, Entity};
    let found = Entity::find_by_id(id).lock_exclusive().one(txn).await?;
    let Some(found) = found.filter(|s| s.site_id == site_id) else { return Ok(()) };
    let known = (found.tls_fingerprint.as_deref(), &found.extra);
    match met(txn, &found, known, Column::Extra, sha256, |row, pin| row.tls_fingerprint = Set(Some(pin))).await? {
        Met::Known => {}
        Met::First => facts::storage(txn, sealer, id).await?,
        Met::Other => {
            let title = format!("Storage {} shows another certificate", found.name);
            let object = Some(("storage", id));
            site_event(txn, site_id, object, "storage.certificate", "security", title, CHANGED.into()).await?;
        }
    }
    Ok(())
}
