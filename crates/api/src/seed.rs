//! What a new installation has: roles, one account and its first administrator.

use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, EntityTrait, PaginatorTrait, QueryFilter};
use serde_json::json;
use store::{
    Database,
    entity::{account, role, user},
};

use crate::{contract, error::ApiError};

/// What a user without administrative rights may do: all with what is theirs, and read what they choose from.
const USER_AREAS: &[&str] = &[
    "infrastructures",
    "server_instances",
    "server_instance_groups",
    "logical_networks",
    "variables_and_secrets",
    "drives",
    "file_shares",
    "buckets",
    "custom_iso",
];
const USER_READS: &[&str] = &[
    "sites_read",
    "storage_read",
    "server_types_read",
    "templates_read",
    "network_profiles_read",
    "network_fabrics_read",
    "subnets_read",
    "events_read",
    "job_queue_read",
];

/// Makes the built-in roles what this version knows, and the first administrator where there is no user. Running it again changes nothing else.
pub async fn run(db: &Database, email: &str, password: &str) -> Result<(), ApiError> {
    let all = contract::permissions();
    let of_user: Vec<&str> = all
        .iter()
        .copied()
        .filter(|p| {
            USER_READS.contains(p)
                || USER_AREAS.iter().any(|a| p.strip_prefix(a).is_some_and(|rest| matches!(rest, "_read" | "_write")))
        })
        .collect();
    for (name, label, permissions) in [("administrator", "Administrator", &all), ("user", "User", &of_user)] {
        match role::Entity::find().filter(role::Column::Name.eq(name)).one(&db.write).await? {
            Some(found) => {
                let mut row: role::ActiveModel = found.into();
                row.permissions = Set(json!(permissions));
                row.update(&db.write).await?;
            }
            None => {
                let mut row = role::new();
                row.name = Set(name.into());
                row.label = Set(label.into());
                row.description = Set(String::new());
                row.kind = Set("built-in".into());
                row.permissions = Set(json!(permissions));
                row.insert(&db.write).await?;
            }
        }
    }
    if user::Entity::find().count(&db.write).await? > 0 {
        return Ok(());
    }
    let txn = db.begin().await?;
    let mut row = account::new();
    row.name = Set("Operations".into());
    row.archived = Set(false);
    row.extra = Set(json!({}));
    let account = row.insert(&txn).await?;
    create_user(&txn, email, "Administrator", password, account.id, "administrator", "root").await?;
    txn.commit().await?;
    Ok(())
}

/// Writes a user.
pub async fn create_user<C: sea_orm::ConnectionTrait>(
    db: &C,
    email: &str,
    name: &str,
    password: &str,
    account_id: i64,
    role: &str,
    level: &str,
) -> Result<user::Model, ApiError> {
    // Hashing takes its time by design: not on the threads that serve requests.
    let secret = password.to_owned();
    let hash = tokio::task::spawn_blocking(move || crypto::password::hash(&secret))
        .await
        .map_err(ApiError::internal)?
        .map_err(ApiError::internal)?;
    let mut row = user::new();
    row.email = Set(email.trim().to_lowercase());
    row.display_name = Set(name.into());
    row.password_hash = Set(hash);
    row.account_id = Set(account_id);
    row.role = Set(role.into());
    row.access_level = Set(level.into());
    row.is_blocked = Set(false);
    row.is_suspended = Set(false);
    row.is_archived = Set(false);
    row.totp_secret = Set(None);
    row.totp_enabled = Set(false);
    row.last_login_at = Set(None);
    row.extra = Set(json!({}));
    Ok(row.insert(db).await?)
}
