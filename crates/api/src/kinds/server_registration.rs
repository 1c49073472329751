//! How a server comes in: registered with its BMC, registered again, given another login.

use model::{
    Id,
    secret::Clear,
    server::{By, ServerStatus},
};
use sea_orm::{ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    facts,
    kinds::{
        record,
        server::{self as servers, change, find, find_locked, opened},
        server_entry::{Entry, Traits, begin, enter, extent},
        server_wire::vendor_word,
    },
    routes,
};

pub use super::server_entry::{
    FINISH, WAITS_FOR_LOGIN, bmc_address, default_login, profile, refuse_taken, resume_waiting, waits,
};

routes! {
    "registerServer" => register,
    "reRegisterServer" => again,
    "updateServerIpmiCredentials" => login,
}

/// User name and password of a body: both or none.
pub(crate) fn login_of(ctx: &Ctx, user: &str, secret: &str) -> Result<Option<(String, Clear)>, ApiError> {
    match (ctx.text(user), ctx.text(secret)) {
        (Some(name), Some(password)) if !name.is_empty() && !password.is_empty() => {
            Ok(Some((name.to_owned(), Clear(password.to_owned()))))
        }
        (None | Some(""), None | Some("")) => Ok(None),
        (None | Some(""), Some(_)) => Err(ApiError::field(user, "is required with a password")),
        (Some(_), _) => Err(ApiError::field(secret, "is required with a user name")),
    }
}

/// The server that a body describes, in the fields that all ways of registering share.
pub(crate) fn entry(ctx: &Ctx) -> Result<Entry, ApiError> {
    Ok(Entry {
        site_id: ctx.need_int("siteId")?,
        address: ctx.text("managementAddress").map(bmc_address).transpose()?,
        mac: ctx.text("bmcMacAddress").map(|m| model::validate::mac("bmcMacAddress", m)).transpose()?,
        serial: ctx.text("serialNumber").map(str::trim).filter(|s| !s.is_empty()).map(str::to_owned),
        uuid: ctx.text("serverUUID").map(str::to_lowercase),
        vendor: ctx.text("vendor").and_then(vendor_word).map(str::to_owned),
        model: ctx.text("model").map(str::to_owned),
        login: login_of(ctx, "username", "password")?,
        profile_id: ctx.int("registrationProfileId"),
        ..Entry::default()
    })
}

async fn register(ctx: Ctx) -> Result<Reply, ApiError> {
    let entry = entry(&ctx)?;
    let Some(address) = entry.address.clone() else {
        return Err(ApiError::field(
            "managementAddress",
            "is required: the address of the BMC; without it the site cannot reach the server",
        ));
    };
    let txn = ctx.app.db().begin().await?;
    let (made, info) = enter(&ctx.app, &txn, entry).await?;
    let title = format!("Server {address} is being registered");
    record(&ctx, &txn, "server.register", title, ("server", made.id), servers::brief(&made)).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(registered(&made, &info), made.revision))
}

/// The answer to a registration.
pub(crate) fn registered(made: &store::entity::server::Model, info: &Value) -> Value {
    let mut body = json!({
        "serverId": made.id, "revision": made.revision, "serverUUID": made.uuid, "serialNumber": made.serial, "links": [],
    });
    if !info.is_null() {
        body["jobInfo"] = info.clone();
    }
    body
}

/// Finds out again what a server is. One that is used stays untouched: only its BMC is asked.
async fn again(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, &ctx.app.db().read).await?;
    ctx.check_revision(found.revision)?;
    make_way(&ctx, found.id).await?;
    let txn = ctx.app.db().begin().await?;
    let found = find_locked(&ctx, &txn).await?;
    // A server that has lost its login takes what its site has ready.
    let ready = match found.bmc_username {
        None => default_login(&txn, found.site_id, &Traits::of(&found)).await?,
        Some(_) => None,
    };
    if (found.bmc_username.is_none() && ready.is_none()) || found.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the server is {WAITS_FOR_LOGIN}")));
    }
    let held = !servers::held(&txn, &[found.id]).await?.is_empty();
    let used = facts::in_use(&found, held);
    let now = ServerStatus::parse(&found.status).unwrap_or(ServerStatus::Unavailable);
    // A registration that goes nowhere may be begun again.
    let next = match now {
        ServerStatus::Used => ServerStatus::UsedRegistering,
        ServerStatus::Registering | ServerStatus::UsedRegistering | ServerStatus::UsedDiagnostics if used => now,
        ServerStatus::Registering => now,
        _ if now.may_become(ServerStatus::Registering, By::Anyone) && !used => ServerStatus::Registering,
        _ => {
            return Err(ApiError::conflict(format!(
                "a server that is {} cannot be registered again now",
                now.as_str()
            )));
        }
    };
    let after = change(&ctx, &txn, &found, "re_register", |row| {
        row.status = Set(next.as_str().into());
        row.status_reason = Set(None);
        if let Some(login) = ready {
            row.bmc_username = Set(Some(login.username));
            row.bmc_password = Set(Some(login.password));
        }
    })
    .await?;
    // One that is used stays untouched: only its BMC is asked.
    let extent = extent(&txn, &after, held).await?;
    let (after, info) = begin(&ctx.app, &txn, after, &extent).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(
        json!({"serverId": after.id, "revision": after.revision, "jobInfo": info, "links": []}),
        after.revision,
    ))
}

/// A new registration takes the place of one that is stuck; one that works is left to it.
async fn make_way(ctx: &Ctx, server_id: Id) -> Result<(), ApiError> {
    use engine::entity::{job, job_group};
    use sea_orm::{PaginatorTrait, QuerySelect};
    let db = &ctx.app.db().read;
    let open: Vec<Id> = job_group::Entity::find()
        .select_only()
        .column(job_group::Column::Id)
        .filter(job_group::Column::ServerId.eq(server_id))
        .filter(job_group::Column::FinishedAt.is_null())
        .into_tuple()
        .all(db)
        .await?;
    let moving = job::Entity::find()
        .filter(job::Column::GroupId.is_in(open.clone()))
        .filter(job::Column::Status.is_in(["running", "thrown_error_retrying"]))
        .count(db)
        .await?;
    if moving > 0 {
        return Err(ApiError::conflict(format!(
            "job group {} still works on this server; wait for its end, or cancel it first",
            open.first().copied().unwrap_or_default()
        )));
    }
    for group_id in open {
        let reason = "the server is registered again".to_owned();
        ctx.app.engine().command(model::job::JobCommand::CancelGroup { group_id, reason }).await?;
    }
    Ok(())
}

/// Another login for the BMC, as we are to use it. The BMC's own accounts are left alone.
async fn login(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["username", "password", "host", "updateOnServer"])?;
    if ctx.flag("updateOnServer") == Some(true) {
        return Err(ApiError::field(
            "updateOnServer",
            "changing the account on the BMC itself is not offered yet; change it there, then send it here with false",
        ));
    }
    let address = ctx.text("host").map(bmc_address).transpose()?;
    let sealed = ctx
        .text("password")
        .map(|p| ctx.app.sealer().seal(&Clear(p.to_owned())))
        .transpose()
        .map_err(ApiError::internal)?;
    let txn = ctx.app.db().begin().await?;
    let found = find(&ctx, &txn).await?;
    if let Some(address) = &address {
        refuse_taken(&txn, address, Some(found.id)).await?;
    }
    let waited = waits(found.status_reason.as_deref());
    let mut after = change(&ctx, &txn, &found, "update_login", |row| {
        if let Some(name) = ctx.text("username") {
            row.bmc_username = Set(Some(name.to_owned()));
        }
        if let Some(sealed) = sealed {
            row.bmc_password = Set(Some(sealed.0));
        }
        if let Some(address) = address {
            if found.bmc_address.as_ref() != Some(&address) && !servers::holds_data(&found) {
                row.tls_fingerprint = Set(None);
                row.extra = Set(servers::take_shown(&found.extra).1);
            }
            row.bmc_address = Set(Some(address));
        }
        if waited {
            row.status_reason = Set(None);
            if found.status == ServerStatus::RegistrationIncomplete.as_str() {
                row.status = Set(ServerStatus::Registering.as_str().into());
            }
        }
    })
    .await?;
    if waited && after.bmc_username.is_some() && after.bmc_password.is_some() {
        let extent = extent(&txn, &after, false).await?;
        after = begin(&ctx.app, &txn, after, &extent).await?.0;
    }
    let body = opened(&ctx, &after)?;
    txn.commit().await?;
    ctx.app.engine().wake();
    Ok(Reply::Tagged(body, after.revision))
}
