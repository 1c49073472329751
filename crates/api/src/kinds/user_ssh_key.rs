//! Public SSH keys of users: they open the servers that their owner installs.

use base64::{Engine as _, engine::general_purpose::STANDARD};
use sea_orm::{ActiveModelTrait, ActiveValue::Set, ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter, QueryOrder};
use serde_json::{Value, json};
use store::entity::{ssh_key, user};

use crate::{
    context::{Ctx, Reply},
    error::ApiError,
    kinds::{record, user::find, user_limits},
    routes,
};

routes! {
    "getUserSshKeys" => of_user,
    "getUserSshKey" => one,
    "addUserSshKey" => add,
    "deleteUserSshKey" => delete,
}

fn wire(k: &ssh_key::Model) -> Value {
    json!({"id": k.id, "userId": k.user_id, "sshKey": k.public_key, "createdTimestamp": k.created_at, "status": k.status})
}

/// The user of the path: everybody has their own keys, those of others take the permission for users.
async fn owner(ctx: &Ctx) -> Result<user::Model, ApiError> {
    let id = ctx.id("userId")?;
    let needed = if ctx.operation.method == "GET" { "users_read" } else { "users_write" };
    if id != ctx.caller.user_id && !ctx.caller.may(needed) {
        return Err(ApiError::not_found("user", id));
    }
    find(ctx, id).await
}

/// A line of `authorized_keys`: type, key and comment. Options before the type are refused: they would bind the key to things on the server.
pub(crate) fn check(text: &str) -> Result<String, ApiError> {
    let bad = |words: &str| ApiError::field("sshKey", words);
    let text = text.trim();
    if text.contains(char::is_control) {
        return Err(bad("must be one line"));
    }
    if text.contains("PRIVATE KEY") {
        return Err(bad("is a private key; give the public one (the file that ends in .pub), and make a new pair"));
    }
    let mut parts = text.split_whitespace();
    let (kind, body) = (parts.next().unwrap_or_default(), parts.next().unwrap_or_default());
    let known = [
        "ssh-ed25519",
        "ssh-rsa",
        "ecdsa-sha2-nistp256",
        "ecdsa-sha2-nistp384",
        "ecdsa-sha2-nistp521",
        "sk-ssh-ed25519@openssh.com",
        "sk-ecdsa-sha2-nistp256@openssh.com",
    ];
    if !known.contains(&kind) {
        return Err(bad(&format!("must begin with the type of key, one of: {}", known.join(", "))));
    }
    let bytes = STANDARD.decode(body).map_err(|_| bad("is cut off or damaged: its second word is not base64"))?;
    // RFC 4253: the key names its type itself.
    let length = bytes.get(..4).and_then(|b| <[u8; 4]>::try_from(b).ok()).map(|b| u32::from_be_bytes(b) as usize);
    let named = length.and_then(|l| bytes.get(4..4usize.saturating_add(l)));
    if named != Some(kind.as_bytes()) || bytes.len() < 4 + kind.len() + 32 {
        return Err(bad("is cut off or damaged: the key is not of the type that it says"));
    }
    let comment = parts.collect::<Vec<_>>().join(" ");
    Ok(format!("{kind} {body} {comment}").trim_end().to_owned())
}

async fn of_user(ctx: Ctx) -> Result<Reply, ApiError> {
    let user = owner(&ctx).await?;
    let keys = ssh_key::Entity::find()
        .filter(ssh_key::Column::UserId.eq(user.id))
        .order_by_asc(ssh_key::Column::Id)
        .all(&ctx.app.db().read)
        .await?;
    Ok(Reply::Json(json!({"data": keys.iter().map(wire).collect::<Vec<_>>(), "links": []})))
}

async fn key<C: ConnectionTrait>(ctx: &Ctx, db: &C, user: &user::Model) -> Result<ssh_key::Model, ApiError> {
    let id = ctx.id("keyId")?;
    let found = ssh_key::Entity::find_by_id(id).one(db).await?.filter(|k| k.user_id == user.id);
    found.ok_or_else(|| ApiError::not_found("SSH key of this user", id))
}

async fn one(ctx: Ctx) -> Result<Reply, ApiError> {
    let user = owner(&ctx).await?;
    Ok(Reply::Json(wire(&key(&ctx, &ctx.app.db().read, &user).await?)))
}

async fn add(ctx: Ctx) -> Result<Reply, ApiError> {
    let text = check(ctx.need_text("sshKey")?)?;
    let user = owner(&ctx).await?;
    let txn = ctx.app.db().begin().await?;
    let known = ssh_key::Entity::find().filter(ssh_key::Column::UserId.eq(user.id)).all(&txn).await?;
    let body = |line: &str| line.split_whitespace().nth(1).map(str::to_owned);
    if let Some(same) = known.iter().find(|k| body(&k.public_key) == body(&text)) {
        return Err(ApiError::conflict(format!("sshKey: {} has this key already, with id {}", user.email, same.id)));
    }
    user_limits::refuse_ssh_key(&txn, user.id).await?;
    let mut row = ssh_key::new();
    row.user_id = Set(user.id);
    row.public_key = Set(text);
    row.status = Set("active".into());
    let made = row.insert(&txn).await?;
    let title = format!("SSH key added for {}", user.email);
    record(&ctx, &txn, "user.add_ssh_key", title, ("user", user.id), wire(&made)).await?;
    txn.commit().await?;
    Ok(Reply::Json(wire(&made)))
}

async fn delete(ctx: Ctx) -> Result<Reply, ApiError> {
    let user = owner(&ctx).await?;
    let txn = ctx.app.db().begin().await?;
    let found = key(&ctx, &txn, &user).await?;
    ssh_key::Entity::delete_by_id(found.id).exec(&txn).await?;
    let title = format!("SSH key of {} deleted", user.email);
    record(&ctx, &txn, "user.delete_ssh_key", title, ("user", user.id), wire(&found)).await?;
    txn.commit().await?;
    Ok(Reply::Empty)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_are_whole_and_public() {
        let good = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQmbk0bGqUYp6j8jAqU3ySOtWmPjNqkd3iJb ann@example.com";
        assert_eq!(check(&format!(" {good} \n")).unwrap(), good);
        for bad in [
            "",
            "hello",
            "ssh-ed25519",
            "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQ",
            "ssh-rsa AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQmbk0bGqUYp6j8jAqU3ySOtWmPjNqkd3iJb",
            "command=\"rm\" ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIGPGuWOpdQmbk0bGqUYp6j8jAqU3ySOtWmPjNqkd3iJb",
            "-----BEGIN OPENSSH PRIVATE KEY-----",
        ] {
            assert!(check(bad).is_err(), "{bad}");
        }
    }
}
