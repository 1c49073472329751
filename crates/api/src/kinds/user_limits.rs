//! How much a user may have: limits that are kept with the user and asked wherever something is added to a design. Only limits that are asked
//! can be set: one that nobody asks would promise what is not kept.

use model::Id;
use sea_orm::{
    ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, PaginatorTrait, QueryFilter,
};
use serde_json::{Map, Value, json};
use store::entity::{infrastructure as infrastructures, server_instance_group, ssh_key, user};

use crate::{
    context::{Ctx, Reply, whole},
    error::ApiError,
    kinds::{edit, infrastructure, user as users},
    routes,
};

routes! {
    "getUserLimits" => get,
    "getDefaultUserLimits" => usual,
    "getDisabledUserLimits" => disabled,
    "updateUserLimits" => update,
    "getInfrastructureUserLimits" => of_infrastructure,
    "updateUserMeta" => meta,
    "getUserPermissions" => permissions,
    "updateUserPermissions" => update_permissions,
}

/// A limit that is asked: what it is of, and what it is until somebody sets it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    /// Infrastructures that are not deleted.
    Infrastructures,
    /// Groups of servers in one infrastructure.
    Groups,
    /// Servers of one group.
    Instances,
    /// SSH keys.
    SshKeys,
}

impl Limit {
    const ALL: [Self; 4] = [Self::Infrastructures, Self::Groups, Self::Instances, Self::SshKeys];

    /// The name of the interface.
    const fn name(self) -> &'static str {
        match self {
            Self::Infrastructures => "infrastructureActiveMaxCount",
            Self::Groups => "infrastructureInstanceArrayMaxCount",
            Self::Instances => "instanceArrayInstancesMaxCount",
            Self::SshKeys => "userSshKeysCountMax",
        }
    }

    const fn usual(self) -> i64 {
        match self {
            Self::Infrastructures => 1_000,
            Self::Groups => 500,
            Self::Instances => 10_000,
            Self::SshKeys => 100,
        }
    }

    const fn words(self) -> &'static str {
        match self {
            Self::Infrastructures => "infrastructures",
            Self::Groups => "groups in one infrastructure",
            Self::Instances => "servers in one group",
            Self::SshKeys => "SSH keys",
        }
    }

    fn of(self, found: Option<&user::Model>) -> i64 {
        found.and_then(|u| whole(&u.extra["limits"][self.name()])).unwrap_or_else(|| self.usual())
    }
}

fn wire(found: Option<&user::Model>) -> Value {
    let mut all = Map::new();
    for limit in Limit::ALL {
        all.insert(limit.name().to_owned(), limit.of(found).into());
    }
    Value::Object(all)
}

/// Refuses more of something than its owner may have. `wanted` counts all that there would be.
pub async fn refuse_more<C: ConnectionTrait>(db: &C, owner_id: Id, limit: Limit, wanted: i64) -> Result<(), ApiError> {
    let found = user::Entity::find_by_id(owner_id).one(db).await?;
    let most = limit.of(found.as_ref());
    if wanted <= most {
        return Ok(());
    }
    let who = found.map_or_else(|| "the owner".to_owned(), |u| u.email);
    Err(ApiError::conflict(format!(
        "{who} may have {most} {}, and would have {wanted}; ask an administrator for another limit ({})",
        limit.words(),
        limit.name()
    )))
}

/// Counted with one more.
pub async fn refuse_infrastructure<C: ConnectionTrait>(db: &C, owner_id: Id) -> Result<(), ApiError> {
    let count = infrastructures::Entity::find()
        .filter(infrastructures::Column::OwnerId.eq(owner_id))
        .filter(infrastructures::Column::ServiceStatus.ne(model::deploy::ServiceStatus::Deleted.as_str()))
        .count(db)
        .await?;
    refuse_more(db, owner_id, Limit::Infrastructures, i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1)).await
}

/// Counted with one more.
pub async fn refuse_group<C: ConnectionTrait>(db: &C, of: &infrastructures::Model) -> Result<(), ApiError> {
    let count = server_instance_group::Entity::find()
        .filter(server_instance_group::Column::InfrastructureId.eq(of.id))
        .filter(server_instance_group::Column::ServiceStatus.ne(model::deploy::ServiceStatus::Deleted.as_str()))
        .count(db)
        .await?;
    refuse_more(db, of.owner_id, Limit::Groups, i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1)).await
}

/// Counted with one more.
pub async fn refuse_ssh_key<C: ConnectionTrait>(db: &C, user_id: Id) -> Result<(), ApiError> {
    let count = ssh_key::Entity::find()
        .filter(ssh_key::Column::UserId.eq(user_id))
        .filter(ssh_key::Column::Status.ne("deleted"))
        .count(db)
        .await?;
    refuse_more(db, user_id, Limit::SshKeys, i64::try_from(count).unwrap_or(i64::MAX).saturating_add(1)).await
}

async fn get(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    Ok(Reply::Tagged(wire(Some(&found)), found.revision))
}

async fn usual(ctx: Ctx) -> Result<Reply, ApiError> {
    users::find(&ctx, ctx.id("userId")?).await?;
    Ok(Reply::Json(wire(None)))
}

/// Limits that cannot be asked for, and why.
async fn disabled(ctx: Ctx) -> Result<Reply, ApiError> {
    users::find(&ctx, ctx.id("userId")?).await?;
    let why = "storage is limited by what storages and resource pools have";
    Ok(Reply::Json(json!({
        "infrastructureDriveArrayMaxCount": why, "infrastructureSharedDriveMaxCount": why, "infrastructureSanMaxCount": why,
    })))
}

async fn of_infrastructure(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let of = infrastructure::find(&ctx, db, ctx.id("infrastructureId")?).await?;
    let owner = user::Entity::find_by_id(of.owner_id).one(db).await?;
    Ok(Reply::Json(wire(owner.as_ref())))
}

async fn update(ctx: Ctx) -> Result<Reply, ApiError> {
    if !ctx.caller.is_admin {
        return Err(ApiError::forbidden("only administrators change limits"));
    }
    let known: Vec<&str> = Limit::ALL.iter().map(|l| l.name()).collect();
    let mut wanted = Map::new();
    for (name, value) in &ctx.body {
        if value.is_null() {
            continue;
        }
        if !known.contains(&name.as_str()) {
            let words = format!("is not a limit that this version keeps to; there are {}", known.join(", "));
            return Err(ApiError::field(name, words));
        }
        let number = whole(value).filter(|n| (0..=1_000_000).contains(n));
        let number = number.ok_or_else(|| ApiError::field(name, "must be a whole number from 0 to 1000000"))?;
        wanted.insert(name.clone(), number.into());
    }
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    let mut extra = found.extra.as_object().cloned().unwrap_or_default();
    let mut limits = found.extra["limits"].as_object().cloned().unwrap_or_default();
    limits.extend(wanted);
    extra.insert("limits".into(), Value::Object(limits));
    let subject = found.email.clone();
    let after = edit(
        &ctx,
        &found,
        ("user", &subject),
        "change_limits",
        |u| wire(Some(u)),
        |row| {
            row.extra = Set(Value::Object(extra));
        },
    )
    .await?;
    Ok(Reply::Tagged(wire(Some(&after)), after.revision))
}

/// What a web application notes for its user. It is nothing of ours: no event, and the revision stays.
async fn meta(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    if found.id != ctx.caller.user_id && !ctx.caller.is_admin {
        return Err(ApiError::forbidden("these are the notes of another user"));
    }
    let mut extra = found.extra.as_object().cloned().unwrap_or_default();
    let mut meta = found.extra["meta"].as_object().cloned().unwrap_or_default();
    for (name, value) in &ctx.body {
        meta.insert(name.clone(), value.clone());
    }
    let meta = Value::Object(meta);
    if meta.to_string().len() > 16 << 10 {
        return Err(ApiError::bad_request("the notes are larger than 16 KiB"));
    }
    extra.insert("meta".into(), meta.clone());
    let row = user::ActiveModel { id: Set(found.id), extra: Set(Value::Object(extra)), ..Default::default() };
    row.update(&ctx.app.db().write).await?;
    Ok(Reply::Json(meta))
}

/// What a user may do: the permissions of their role. The two other blocks are older clients' way to ask the same.
async fn wire_permissions<C: ConnectionTrait>(db: &C, found: &user::Model) -> Result<Value, ApiError> {
    use store::entity::role;
    let role = role::Entity::find().filter(role::Column::Name.eq(&found.role)).one(db).await?;
    let permissions: Vec<String> =
        role.and_then(|r| serde_json::from_value::<Vec<String>>(r.permissions).ok()).unwrap_or_default();
    let may = |p: &str| permissions.iter().any(|own| own == p);
    Ok(json!({
        "adminPasswordRevealPermissions": {
            "server": may("servers_write"), "switch": may("switches_write"), "storage_pool": may("storage_write"), "instance": may("server_instances_read"),
        },
        "specialPermissions": {"create_verified_user": may("users_write")},
        "rolePermissions": permissions,
    }))
}

async fn permissions(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    Ok(Reply::Tagged(wire_permissions(&ctx.app.db().read, &found).await?, found.revision))
}

/// Permissions are a role's, so that who may do what can be told from few places: here only what is so already is taken.
async fn update_permissions(ctx: Ctx) -> Result<Reply, ApiError> {
    let found = users::find(&ctx, ctx.id("userId")?).await?;
    ctx.check_revision(found.revision)?;
    let now = wire_permissions(&ctx.app.db().read, &found).await?;
    for block in ["adminPasswordRevealPermissions", "specialPermissions"] {
        for (name, value) in ctx.body.get(block).and_then(Value::as_object).into_iter().flatten() {
            let is = now[block][name].as_bool().unwrap_or(false);
            if value.as_bool().is_some_and(|wanted| wanted != is) {
                return Err(ApiError::conflict(format!(
                    "{block}.{name}: follows from the role {}; change the role, or give the user another one",
                    found.role
                )));
            }
        }
    }
    Ok(Reply::Tagged(now, found.revision))
}
