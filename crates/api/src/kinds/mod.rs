//! One file a kind: its handlers and its wire form.

pub mod account;
pub mod authentication;
pub mod bucket;
pub mod configuration;
pub mod connect_rules;
pub mod cron_job;
pub mod custom_iso;
pub mod deploy;
pub mod dns_record_set;
pub mod dns_zone;
pub mod drive;
pub mod drive_group;
pub mod endpoint;
pub mod endpoint_interface;
pub mod enrolment;
pub mod event;
pub mod fabric_device;
pub mod file_share;
pub mod firmware_baseline;
pub mod firmware_binary;
pub mod firmware_campaign;
pub mod firmware_campaign_run;
pub mod firmware_catalog;
pub mod firmware_catalog_fetch;
pub mod firmware_confirmation;
pub mod firmware_match;
pub mod firmware_policy;
pub mod firmware_record;
pub mod firmware_schedule;
pub mod firmware_upgrade;
pub mod infrastructure;
pub mod instance_action;
pub mod job;
pub mod logical_network;
pub mod logical_network_profile;
pub mod logical_network_strategy;
pub mod meta;
pub mod network_acl;
pub mod network_connection;
pub mod network_device;
pub mod network_device_default;
pub mod network_device_job;
pub mod network_device_port;
pub mod network_device_registration;
pub mod network_device_secret;
pub mod network_device_template;
pub mod network_device_upkeep;
pub mod network_fabric;
pub mod network_fabric_deploy;
pub mod os_template;
pub mod os_template_preview;
pub mod overview;
pub mod permission;
pub mod plan;
pub mod resource_pool;
pub mod role;
pub mod second_factor;
pub mod secret;
pub mod server;
pub mod server_bios;
pub mod server_bmc;
pub mod server_bulk;
pub mod server_certificate;
pub mod server_cleaning;
pub mod server_cleanup_policy;
pub mod server_console;
pub mod server_default_credentials;
pub mod server_entry;
pub mod server_firmware;
pub mod server_health;
pub mod server_instance;
pub mod server_instance_context;
pub mod server_instance_group;
pub mod server_instance_group_action;
pub mod server_instance_interface;
pub mod server_interface_action;
pub mod server_maintenance;
pub mod server_power;
pub mod server_production;
pub mod server_raid;
pub mod server_registration;
pub mod server_registration_profile;
pub mod server_replace;
pub mod server_rotation;
pub mod server_sensors;
pub mod server_suggestion;
pub mod server_type;
pub mod server_unknown;
pub mod server_wire;
pub mod site;
pub mod site_controller;
pub mod storage;
pub mod storage_discovery;
pub mod storage_element;
pub mod storage_snapshot;
pub mod storage_usage;
pub mod stream;
pub mod subnet;
pub mod system;
pub mod template_asset;
pub mod user;
pub mod user_delegate;
pub mod user_limits;
pub mod user_ssh_key;
pub mod user_suspension;
pub mod utilization;
pub mod variable;

use sea_orm::{
    ActiveModelBehavior, ActiveModelTrait, ColumnTrait, ConnectionTrait, EntityTrait, FromQueryResult, IntoActiveModel,
    PaginatorTrait, QueryFilter, Select,
};
use serde_json::{Value, json};
use store::{
    StoreError,
    event::NewEvent,
    list::{ListQuery, Page, Revisioned, cas},
};

use crate::{context::Ctx, error::ApiError, router::Route};

/// Every operation with a handler.
pub fn all() -> impl Iterator<Item = Route> {
    [
        account::ROUTES,
        authentication::ROUTES,
        bucket::ROUTES,
        configuration::ROUTES,
        connect_rules::ROUTES,
        cron_job::ROUTES,
        custom_iso::ROUTES,
        deploy::ROUTES,
        dns_record_set::ROUTES,
        dns_zone::ROUTES,
        drive::ROUTES,
        drive_group::ROUTES,
        endpoint::ROUTES,
        endpoint_interface::ROUTES,
        enrolment::ROUTES,
        event::ROUTES,
        fabric_device::ROUTES,
        file_share::ROUTES,
        firmware_baseline::ROUTES,
        firmware_binary::ROUTES,
        firmware_campaign::ROUTES,
        firmware_catalog::ROUTES,
        firmware_catalog_fetch::ROUTES,
        firmware_confirmation::ROUTES,
        firmware_policy::ROUTES,
        infrastructure::ROUTES,
        instance_action::ROUTES,
        job::ROUTES,
        logical_network::ROUTES,
        logical_network_profile::ROUTES,
        logical_network_strategy::ROUTES,
        meta::ROUTES,
        network_acl::ROUTES,
        network_connection::ROUTES,
        network_device::ROUTES,
        network_device_default::ROUTES,
        network_device_port::ROUTES,
        network_device_registration::ROUTES,
        network_device_secret::ROUTES,
        network_device_template::ROUTES,
        network_device_upkeep::ROUTES,
        network_fabric::ROUTES,
        network_fabric_deploy::ROUTES,
        os_template::ROUTES,
        os_template_preview::ROUTES,
        overview::ROUTES,
        permission::ROUTES,
        plan::ROUTES,
        resource_pool::ROUTES,
        role::ROUTES,
        second_factor::ROUTES,
        secret::ROUTES,
        server::ROUTES,
        server_bios::ROUTES,
        server_bmc::ROUTES,
        server_bulk::ROUTES,
        server_certificate::ROUTES,
        server_cleaning::ROUTES,
        server_cleanup_policy::ROUTES,
        server_console::ROUTES,
        server_default_credentials::ROUTES,
        server_firmware::ROUTES,
        server_instance::ROUTES,
        server_instance_context::ROUTES,
        server_instance_group::ROUTES,
        server_instance_group_action::ROUTES,
        server_instance_interface::ROUTES,
        server_interface_action::ROUTES,
        server_maintenance::ROUTES,
        server_power::ROUTES,
        server_production::ROUTES,
        server_raid::ROUTES,
        server_registration::ROUTES,
        server_registration_profile::ROUTES,
        server_replace::ROUTES,
        server_rotation::ROUTES,
        server_sensors::ROUTES,
        server_suggestion::ROUTES,
        server_type::ROUTES,
        server_unknown::ROUTES,
        site::ROUTES,
        site_controller::ROUTES,
        storage::ROUTES,
        storage_discovery::ROUTES,
        storage_snapshot::ROUTES,
        storage_usage::ROUTES,
        stream::ROUTES,
        subnet::ROUTES,
        system::ROUTES,
        template_asset::ROUTES,
        user::ROUTES,
        user_delegate::ROUTES,
        user_limits::ROUTES,
        user_ssh_key::ROUTES,
        user_suspension::ROUTES,
        utilization::ROUTES,
        variable::ROUTES,
    ]
    .into_iter()
    .flatten()
    .copied()
}

/// Rows a page at most; the limit that the field's clients expect.
pub(crate) const MAX_ROWS: u64 = 100;

impl From<StoreError> for ApiError {
    fn from(e: StoreError) -> Self {
        match e {
            StoreError::Query { field, message } => Self::field(field, message),
            StoreError::Db(e) => e.into(),
            other => Self::internal(other),
        }
    }
}

/// A page of a selection, as the body of a list answer.
pub(crate) async fn list<E>(
    ctx: &Ctx,
    select: Select<E>,
    alias: &[(&str, &str)],
    search: &[E::Column],
    id: E::Column,
    wire: impl Fn(&E::Model) -> Value,
) -> Result<Value, ApiError>
where
    E: EntityTrait,
    E::Column: std::str::FromStr,
    E::Model: Send + Sync,
{
    let query = ListQuery::parse(&ctx.query, MAX_ROWS)?;
    let Page { rows, total } = query.run(&ctx.app.db().read, select, alias, search, id).await?;
    Ok(query.body(ctx.operation.path, total, rows.iter().map(wire).collect()))
}

/// Appends an event of this request in its transaction.
pub(crate) async fn record<C: ConnectionTrait>(
    ctx: &Ctx,
    txn: &C,
    kind: &str,
    title: String,
    object: (&str, i64),
    context: Value,
) -> Result<(), ApiError> {
    store::event::append(
        txn,
        NewEvent {
            kind: kind.into(),
            title,
            object: Some((object.0.into(), object.1)),
            actor: (ctx.caller.user_id > 0).then(|| (ctx.caller.user_id, ctx.caller.email.clone())),
            request_id: Some(ctx.request_id.clone()),
            account_id: (ctx.caller.account_id > 0).then_some(ctx.caller.account_id),
            context,
            ..Default::default()
        },
    )
    .await?;
    Ok(())
}

/// A change of one object: at the revision that the caller named, with an event that has it before and after, in one transaction.
/// `object` is its kind and its name for people.
pub(crate) async fn edit<M>(
    ctx: &Ctx,
    found: &M,
    object: (&str, &str),
    verb: &str,
    wire: impl Fn(&M) -> Value,
    change: impl FnOnce(&mut M::Active),
) -> Result<M, ApiError>
where
    M: Revisioned + FromQueryResult + IntoActiveModel<M::Active>,
    M::Entity: EntityTrait<Model = M, ActiveModel = M::Active>,
    M::Active: ActiveModelTrait<Entity = M::Entity> + Send,
{
    let txn = ctx.app.db().begin().await?;
    let (kind, name) = object;
    let subject = format!("{} {name}", kind.replace('_', " "));
    let after = edit_in(ctx, &txn, found, (kind, &subject), verb, wire, change).await?;
    txn.commit().await?;
    Ok(after)
}

/// The same in the caller's transaction. `object` is its kind, and how the event's title begins.
pub(crate) async fn edit_in<M, C>(
    ctx: &Ctx,
    txn: &C,
    found: &M,
    object: (&str, &str),
    verb: &str,
    wire: impl Fn(&M) -> Value,
    change: impl FnOnce(&mut M::Active),
) -> Result<M, ApiError>
where
    M: Revisioned + FromQueryResult + IntoActiveModel<M::Active>,
    M::Entity: EntityTrait<Model = M, ActiveModel = M::Active>,
    M::Active: ActiveModelTrait<Entity = M::Entity> + Send,
    C: ConnectionTrait,
{
    ctx.check_revision(found.revision())?;
    let mut row = found.edit();
    change(&mut row);
    let after = cas(txn, found, row).await?.ok_or_else(|| ApiError::stale(found.revision() + 1))?;
    let (kind, subject) = object;
    let title = format!("{subject}: {}", verb.replace('_', " "));
    let context = json!({"before": wire(found), "after": wire(&after)});
    record(ctx, txn, &format!("{kind}.{verb}"), title, (kind, after.id()), context).await?;
    Ok(after)
}

/// A new row with its event, in one transaction. `name` is what people call it.
pub(crate) async fn insert<M>(
    ctx: &Ctx,
    row: M::Active,
    kind: &str,
    name: &str,
    wire: impl Fn(&M) -> Value,
) -> Result<M, ApiError>
where
    M: Revisioned + FromQueryResult + IntoActiveModel<M::Active>,
    M::Entity: EntityTrait<Model = M, ActiveModel = M::Active>,
    M::Active: ActiveModelTrait<Entity = M::Entity> + ActiveModelBehavior + Send,
{
    let txn = ctx.app.db().begin().await?;
    let made = insert_in(ctx, &txn, row, kind, name, wire).await?;
    txn.commit().await?;
    Ok(made)
}

/// The same in the caller's transaction.
pub(crate) async fn insert_in<M, C>(
    ctx: &Ctx,
    txn: &C,
    row: M::Active,
    kind: &str,
    name: &str,
    wire: impl Fn(&M) -> Value,
) -> Result<M, ApiError>
where
    M: Revisioned + FromQueryResult + IntoActiveModel<M::Active>,
    M::Entity: EntityTrait<Model = M, ActiveModel = M::Active>,
    M::Active: ActiveModelTrait<Entity = M::Entity> + ActiveModelBehavior + Send,
    C: ConnectionTrait,
{
    let made = row.insert(txn).await?;
    let title = format!("{} {name} created", capital(kind));
    record(ctx, txn, &format!("{kind}.create"), title, (kind, made.id()), json!({"after": wire(&made)})).await?;
    Ok(made)
}

/// A name is given once within a kind. `but`: the id of the object that may have it already.
pub(crate) async fn refuse_twin<M, C>(
    db: &C,
    column: impl ColumnTrait,
    (field, value): (&str, &str),
    kind: &str,
    but: i64,
) -> Result<(), ApiError>
where
    M: Revisioned + FromQueryResult + Send + Sync,
    M::Entity: EntityTrait<Model = M>,
    C: ConnectionTrait,
{
    let twins = M::Entity::find().filter(column.eq(value.trim())).filter(M::id_column().ne(but)).count(db).await?;
    if twins == 0 {
        return Ok(());
    }
    Err(ApiError::conflict(format!("{field}: there is a {kind} {value:?} already")))
}

/// Takes a row away at the revision that was read, with an event that has it as it was.
pub(crate) async fn remove<M, C>(
    ctx: &Ctx,
    txn: &C,
    found: &M,
    object: (&str, &str),
    wire: impl Fn(&M) -> Value,
) -> Result<(), ApiError>
where
    M: Revisioned,
    C: ConnectionTrait,
{
    ctx.check_revision(found.revision())?;
    let gone = M::Entity::delete_many()
        .filter(M::id_column().eq(found.id()))
        .filter(M::revision_column().eq(found.revision()))
        .exec(txn)
        .await?;
    if gone.rows_affected == 0 {
        return Err(ApiError::stale(found.revision() + 1));
    }
    let (kind, name) = object;
    let title = format!("{} {name} deleted", capital(kind));
    record(ctx, txn, &format!("{kind}.delete"), title, (kind, found.id()), json!({"before": wire(found)})).await
}

/// `dns_zone` → `Dns zone`.
fn capital(kind: &str) -> String {
    let words = kind.replace('_', " ");
    let mut letters = words.chars();
    letters.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + letters.as_str())
}
