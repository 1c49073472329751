//! Users, and what a user does for themselves: API keys.

use model::{
    Id,
    secret::{Clear, Sealed},
};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{account, api_key, session, user};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{edit, list, record},
    routes, seed,
};

routes! {
    "getUsers" => users,
    "getUser" => one,
    "getAccountUsers" => of_account,
    "createUserAuthorized" => create,
    "updateUserConfig" => update,
    "getUserConfiguration" => configuration,
    "changeUserAccount" => change_account,
    "updateUserPassword" => change_password,
    "regenerateUserJwtSalt" => end_sessions,
    "archiveUser" => archive,
    "unarchiveUser" => unarchive,
    "getUserApiKey" => get_key,
    "regenerateUserApiKey" => regenerate_key,
    "createUserApiKey" => create_key,
    "getPermissionsOfCaller" => permissions,
}

/// The wire form.
pub fn wire(u: &user::Model) -> Value {
    let config = json!({
        "revision": u.revision, "displayName": u.display_name, "emailStatus": "verified", "language": "en", "brand": "steelyard", "isBrandManager": false,
        "lastLoginTimestamp": u.last_login_at, "lastLoginType": "smtp", "isBlocked": u.is_blocked, "passwordChangeRequired": false, "accessLevel": u.access_level,
        "isBillable": true, "isTestingMode": false, "authenticatorMustChange": false, "excludeFromReports": false, "isTestAccount": false, "isArchived": u.is_archived,
        "isDatastorePublisher": false, "accountId": u.account_id, "provider": "mysql", "authenticatorCreatedTimestamp": "0000-00-00T00:00:00Z",
        "passwordLastChangedTimestamp": u.created_at,
    });
    let mut all = config.clone();
    all["id"] = u.id.into();
    all["email"] = u.email.clone().into();
    all["franchise"] = "steelyard".into();
    all["createdTimestamp"] = u.created_at.clone().into();
    all["planType"] = "vanilla".into();
    all["isSuspended"] = u.is_suspended.into();
    all["authenticatorEnabled"] = u.totp_enabled.into();
    all["role"] = u.role.clone().into();
    all["limits"] = u.extra.get("limits").cloned().unwrap_or_else(|| json!({}));
    all["meta"] = u.extra.get("meta").cloned().unwrap_or_else(|| json!({}));
    all["links"] = json!([]);
    all["config"] = config;
    all
}

/// A user that the caller may see: everybody for administrators, the own account for others.
pub async fn find(ctx: &Ctx, id: Id) -> Result<user::Model, ApiError> {
    let found = user::Entity::find_by_id(id).one(&ctx.app.db().read).await?;
    found
        .filter(|u| ctx.caller.is_admin || u.account_id == ctx.caller.account_id)
        .ok_or_else(|| ApiError::not_found("user", id))
}

async fn users(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut select = user::Entity::find();
    if !ctx.caller.is_admin {
        select = select.filter(user::Column::AccountId.eq(ctx.caller.account_id));
    }
    Ok(Reply::Json(
        list(&ctx, select, &[], &[user::Column::Email, user::Column::DisplayName], user::Column::Id, wire).await?,
    ))
}

async fn of_account(ctx: Ctx) -> Result<Reply, ApiError> {
    let id = ctx.id("accountId")?;
    if !ctx.caller.is_admin && id != ctx.caller.account_id {
        return Err(ApiError::not_found("account", id));
    }
    let select = user::Entity::find().filter(user::Column::AccountId.eq(id));
    Ok(Reply::Json(list(&ctx, select, &[], &[user::Column::Email], user::Column::Id, wire).await?))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.id("userId")?).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn configuration(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.id("userId")?).await?;
    Ok(Reply::Tagged(wire(&found)["config"].clone(), found.revision))
}

/// Moves a user to another account. What they own stays with the account that it was made in.
async fn change_account(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only administrators move users between accounts"));
    }
    let id = ctx.need_int("newAccountId")?;
    let found = find(&ctx, ctx.id("userId")?).await?;
    let account = account::Entity::find_by_id(id).one(&ctx.app.db().read).await?.filter(|a| !a.archived);
    let account = account.ok_or_else(|| ApiError::field("newAccountId", format!("there is no account {id}")))?;
    if account.id == found.account_id {
        return Err(ApiError::conflict(format!("{} is in account {} already", found.email, account.name)));
    }
    let object = ("user", found.email.as_str());
    let after = edit(&ctx, &found, object, "change_account", wire, |row| row.account_id = Set(account.id)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// Shortest password.
const SHORTEST: usize = 8;

/// One's own password. All other sessions end.
async fn change_password(ctx: Ctx) -> Result<Reply, ApiError> {
    let new = ctx.need_text("newPassword")?.to_owned();
    if new.chars().count() < SHORTEST {
        return Err(ApiError::field("newPassword", format!("must have at least {SHORTEST} characters")));
    }
    let old = ctx.need_text("oldPassword")?.to_owned();
    let found = find(&ctx, ctx.caller.user_id).await?;
    let before = found.password_hash.clone();
    // Hashing takes its time by design: not on the threads that serve requests.
    let hash = tokio::task::spawn_blocking(move || {
        crypto::password::verify(&old, &before).then(|| crypto::password::hash(&new)).transpose()
    })
    .await
    .map_err(ApiError::internal)?
    .map_err(ApiError::internal)?
    .ok_or_else(|| ApiError::field("oldPassword", "is not your password"))?;
    let object = ("user", found.email.as_str());
    let after = edit(&ctx, &found, object, "change_password", wire, |row| row.password_hash = Set(hash)).await?;
    let others = session::Entity::delete_many()
        .filter(session::Column::UserId.eq(found.id))
        .filter(session::Column::TokenHash.ne(ctx.caller.session.clone().unwrap_or_default()));
    others.exec(&ctx.app.db().write).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

/// Logs the caller out everywhere; API keys stay.
async fn end_sessions(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.caller.user_id).await?;
    let all = session::Entity::delete_many().filter(session::Column::UserId.eq(found.id));
    all.exec(&ctx.app.db().write).await?;
    Ok(Reply::Tagged(wire(&found), found.revision))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let email = ctx.need_text("email")?.trim().to_lowercase();
    if email.len() > 254
        || !email
            .split_once('@')
            .is_some_and(|(a, b)| !a.is_empty() && b.contains('.') && !email.contains(char::is_whitespace))
    {
        return Err(ApiError::field("email", format!("{email:?} is not an e-mail address")));
    }
    let name = model::validate::name("displayName", ctx.need_text("displayName")?)?;
    let level = ctx.need_text("accessLevel")?;
    if !matches!(level, "root" | "admin" | "full_admin" | "user") {
        return Err(ApiError::field("accessLevel", format!("{level:?} is not one of: user, admin, full_admin, root")));
    }
    let role = if crate::auth::is_admin(level) { "administrator" } else { "user" };
    if role == "administrator" && !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only administrators make administrators"));
    }
    let password = ctx.text("password").map_or_else(crypto::password::generate, str::to_owned);
    if password.chars().count() < SHORTEST {
        return Err(ApiError::field("password", format!("must have at least {SHORTEST} characters")));
    }
    let txn = ctx.app.db().begin().await?;
    let account_id = match ctx.int("accountId") {
        Some(id) if ctx.caller.is_admin || id == ctx.caller.account_id => {
            account::Entity::find_by_id(id)
                .one(&txn)
                .await?
                .ok_or_else(|| ApiError::field("accountId", format!("there is no account {id}")))?
                .id
        }
        Some(id) => return Err(ApiError::field("accountId", format!("there is no account {id}"))),
        None if ctx.flag("createWithAccount") == Some(true) => {
            let mut row = account::new();
            row.name = Set(email.clone());
            row.archived = Set(false);
            row.extra = Set(json!({}));
            row.insert(&txn).await?.id
        }
        None => ctx.caller.account_id,
    };
    let made = seed::create_user(&txn, &email, &name, &password, account_id, role, level).await?;
    record(
        &ctx,
        &txn,
        "user.create",
        format!("User {email} created"),
        ("user", made.id),
        json!({"accessLevel": level}),
    )
    .await?;
    txn.commit().await?;
    Ok(Reply::Tagged(wire(&made), made.revision))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    ctx.refuse_others(&["displayName", "isBlocked"])?;
    let found = find(&ctx, ctx.id("userId")?).await?;
    let name = ctx.text("displayName").map(|n| model::validate::name("displayName", n)).transpose()?;
    if ctx.flag("isBlocked") == Some(true) && found.id == ctx.caller.user_id {
        return Err(ApiError::conflict("you cannot block yourself; ask another administrator"));
    }
    let after = edit(&ctx, &found, ("user", &found.email), "update", wire, |row| {
        if let Some(name) = name {
            row.display_name = Set(name);
        }
        if let Some(blocked) = ctx.flag("isBlocked") {
            row.is_blocked = Set(blocked);
        }
    })
    .await?;
    Ok(Reply::Tagged(wire(&after)["config"].clone(), after.revision))
}

async fn archive(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.id("userId")?).await?;
    if found.id == ctx.caller.user_id {
        return Err(ApiError::conflict("you cannot archive yourself; ask another administrator"));
    }
    let after = edit(&ctx, &found, ("user", &found.email), "archive", wire, |row| row.is_archived = Set(true)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn unarchive(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = find(&ctx, ctx.id("userId")?).await?;
    let object = ("user", found.email.as_str());
    let after = edit(&ctx, &found, object, "unarchive", wire, |row| row.is_archived = Set(false)).await?;
    Ok(Reply::Tagged(wire(&after), after.revision))
}

async fn new_key(ctx: &Ctx, name: &str) -> Result<String, ApiError> {
    let key = crypto::token::random();
    let mut row = api_key::new();
    row.key_hash = Set(crypto::token::hash(&key));
    row.user_id = Set(ctx.caller.user_id);
    row.name = Set(name.to_owned());
    row.sealed = Set(ctx.app.sealer().seal(&Clear(key.clone())).map_err(ApiError::internal)?.0);
    row.insert(&ctx.app.db().write).await?;
    Ok(key)
}

async fn get_key(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = api_key::Entity::find()
        .filter(api_key::Column::UserId.eq(ctx.caller.user_id))
        .order_by_desc(api_key::Column::Id)
        .one(&ctx.app.db().read)
        .await?;
    let key = match found {
        Some(k) => ctx.app.sealer().open(&Sealed(k.sealed)).map_err(ApiError::internal)?.0,
        None => new_key(&ctx, "default").await?,
    };
    Ok(Reply::Json(json!({"apiKey": key})))
}

async fn create_key(ctx: Ctx) -> Result<Reply, ApiError> {
    let name = model::validate::name("name", ctx.text("name").unwrap_or("API key"))?;
    Ok(Reply::Json(json!({"name": name, "apiKey": new_key(&ctx, &name).await?})))
}

async fn regenerate_key(ctx: Ctx) -> Result<Reply, ApiError> {
    api_key::Entity::delete_many()
        .filter(api_key::Column::UserId.eq(ctx.caller.user_id))
        .exec(&ctx.app.db().write)
        .await?;
    new_key(&ctx, "default").await?;
    Ok(Reply::Json(wire(&find(&ctx, ctx.caller.user_id).await?)))
}

async fn permissions(ctx: Ctx) -> Result<Reply, ApiError> {
    let mut all: Vec<&String> = ctx.caller.permissions.iter().collect();
    all.sort();
    Ok(Reply::Json(json!({"permissions": all, "isAdmin": ctx.caller.is_admin})))
}
