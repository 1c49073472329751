//! Consoles of servers and of server instances.

use axum::http::StatusCode;
use model::{
    Id,
    console::{ConsoleKind, OpenConsole},
};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{infrastructure, server, server_instance};

use super::{
    server::{self as servers},
    server_bmc::refuse_outside,
    server_instance as instances, server_wire,
};
use crate::{
    App, auth,
    console::{self, Grant, IDLE, SCREENS, Session, TICKET},
    context::{Ctx, Reply},
    contract::{self, Permission},
    error::ApiError,
    facts, routes,
};

routes! {
    "createServerConsole" => create,
    "openServerConsole" => open,
    "getServerConsoles" => list,
    "closeServerConsole" => close,
    "createServerInstanceConsole" => create_of_instance,
    "openServerInstanceConsole" => open,
    "getServerInstanceConsoles" => list_of_instance,
    "getServerVNCInfo" => vnc,
    "getServerRemoteConsoleInfo" => remote,
}

/// Protocol of the WebSocket.
const PROTOCOL: &str = "steelyard.console.v1";
/// How a ticket begins among the protocols that a viewer names: it is in no address, and so in no log.
const TICKET_PREFIX: &str = "ticket.";

/// What makers call their own console, which has a picture where we have none.
fn own_console(vendor: &str) -> Option<&'static str> {
    Some(match server_wire::vendor_word(vendor)? {
        "Dell" => "Virtual Console",
        "HPE" | "HP" => "Remote Console & Media, HTML5 console",
        "Lenovo" => "Remote Console",
        "Supermicro" => "Remote Control, iKVM/HTML5",
        "NVIDIA" => "Remote Control, H5Viewer",
        "Cisco" => "Launch vKVM",
        _ => return None,
    })
}

/// Where the BMC's own console is, for people.
fn own_words(of: &server::Model) -> Option<(String, String)> {
    let address = of.bmc_address.as_deref()?;
    if address.starts_with("ipmi://") {
        return None;
    }
    let bare = address.split_once("://").map_or(address, |(_, rest)| rest);
    let url = format!("https://{bare}/");
    let menu = of.vendor.as_deref().and_then(own_console).unwrap_or("remote console");
    Some((url.clone(), format!("the BMC's own console is at {url} under {menu:?}, for whoever reaches its network")))
}

/// What was asked for, of a server that may be asked.
fn wanted(ctx: &Ctx, of: &server::Model, instance_id: Option<Id>) -> Result<OpenConsole, ApiError> {
    ctx.refuse_others(&["kind", "readOnly", "takeOver"])?;
    let word = ctx.text("kind").unwrap_or("serial");
    let kind = ConsoleKind::parse(word)
        .ok_or_else(|| ApiError::field("kind", format!("{word:?} is no console; it is serial or screen")))?;
    let name = facts::server_name(of);
    refuse_outside(of, "given a console")?;
    if of.bmc_username.is_none() || of.bmc_address.is_none() {
        return Err(ApiError::conflict(format!("the login of the BMC of {name} is not known; enter it first")));
    }
    let offered = server_wire::inventory(of).consoles;
    if kind == ConsoleKind::Screen && offered.screen.is_none() && offered.serial.is_some() {
        let own = own_words(of).map(|(_, words)| format!(", or: {words}")).unwrap_or_default();
        return Err(ApiError::conflict(format!(
            "the BMC of {name} has no screen that can be shown here; use the serial console{own}"
        )));
    }
    if ctx.app.consoles().site(of.site_id).is_none() {
        return Err(ApiError::conflict(format!(
            "the site of {name} is not connected at the moment; its consoles can be reached again when it is"
        )));
    }
    let take_over = ctx.flag("takeOver").unwrap_or(false);
    if take_over && !ctx.caller.is_admin {
        return Err(ApiError::forbidden(
            "only an administrator takes over a serial console that somebody else has open at the BMC",
        ));
    }
    Ok(OpenConsole { server_id: of.id, kind, read_only: ctx.flag("readOnly").unwrap_or(false), take_over, instance_id })
}

fn ticket(ctx: &Ctx, grant: Grant, path: String) -> Result<Reply, ApiError> {
    let (kind, read_only) = (grant.wanted.kind, grant.wanted.read_only);
    let ticket = ctx.app.consoles().ticket(grant)?;
    Ok(Reply::Json(json!({
        "ticket": ticket, "path": path, "protocol": PROTOCOL, "kind": kind.as_str(), "readOnly": read_only,
        "expiresInSeconds": TICKET.as_secs(),
    })))
}

/// Hash of what the caller showed.
fn credential(ctx: &Ctx) -> Result<String, ApiError> {
    let (token, _) =
        auth::credential(&ctx.headers).ok_or_else(|| ApiError::new(StatusCode::UNAUTHORIZED, "log in first"))?;
    Ok(crypto::token::hash(token))
}

/// The instance that holds a server, with its infrastructure.
async fn holder<C: ConnectionTrait>(
    db: &C,
    server_id: Id,
) -> Result<Option<(server_instance::Model, Option<infrastructure::Model>)>, ApiError> {
    let held = server_instance::Entity::find().filter(server_instance::Column::ServerId.eq(server_id)).one(db).await?;
    let Some(held) = held else { return Ok(None) };
    let of = infrastructure::Entity::find_by_id(held.infrastructure_id).one(db).await?;
    Ok(Some((held, of)))
}

async fn create(ctx: Ctx) -> Result<Reply, ApiError> {
    let db = &ctx.app.db().read;
    let of = servers::find(&ctx, db).await?;
    let held = holder(db, of.id).await?;
    let infrastructure = held.as_ref().and_then(|(_, i)| i.as_ref());
    let grant = Grant {
        operation: ctx.operation.id,
        object: ("serverId", of.id),
        site_id: of.site_id,
        server_name: facts::server_name(&of),
        wanted: wanted(&ctx, &of, held.as_ref().map(|(i, _)| i.id))?,
        infrastructure_id: infrastructure.map(|i| i.id),
        // Tenants see who looked at their server.
        account_id: infrastructure.map(|i| i.account_id),
        credential: credential(&ctx)?,
        user: (ctx.caller.user_id, ctx.caller.email.clone()),
    };
    ticket(&ctx, grant, format!("/api/v2/servers/{}/console", of.id))
}

/// The server of an instance that the caller may see.
async fn of_instance<C: ConnectionTrait>(
    ctx: &Ctx,
    db: &C,
) -> Result<(server_instance::Model, infrastructure::Model, server::Model), ApiError> {
    let (found, of) = instances::find(ctx, db).await?;
    let server = match found.server_id {
        Some(id) => server::Entity::find_by_id(id).one(db).await?,
        None => None,
    };
    let server = server.ok_or_else(|| {
        ApiError::conflict(format!("server {} is not deployed, so it has no console yet", found.label))
    })?;
    Ok((found, of, server))
}

async fn create_of_instance(ctx: Ctx) -> Result<Reply, ApiError> {
    let (found, of, server) = of_instance(&ctx, &ctx.app.db().read).await?;
    let grant = Grant {
        operation: ctx.operation.id,
        object: ("serverInstanceId", found.id),
        site_id: server.site_id,
        // The tenant's name for it, not that of the machine.
        server_name: found.hostname.clone().unwrap_or_else(|| found.label.clone()),
        wanted: wanted(&ctx, &server, Some(found.id))?,
        infrastructure_id: Some(of.id),
        account_id: Some(of.account_id),
        credential: credential(&ctx)?,
        user: (ctx.caller.user_id, ctx.caller.email.clone()),
    };
    ticket(&ctx, grant, format!("/api/v2/server-instances/{}/console", found.id))
}

/// The WebSocket itself.
async fn open(mut ctx: Ctx) -> Result<Reply, ApiError> {
    let offered = ctx.headers.get_all("sec-websocket-protocol");
    let words = offered.iter().filter_map(|h| h.to_str().ok()).flat_map(|h| h.split(',')).map(str::trim);
    let mut words = words;
    let token = words.find_map(|word| word.strip_prefix(TICKET_PREFIX)).map(str::to_owned);
    let Some(upgrade) = ctx.upgrade.take() else {
        return Err(ApiError::new(
            StatusCode::UPGRADE_REQUIRED,
            "this is a WebSocket; POST to the same path for a ticket, then connect with it",
        ));
    };
    let unknown = || {
        ApiError::new(
            StatusCode::UNAUTHORIZED,
            format!(
                "the ticket is missing, used, or older than {} s; POST to the same path for another",
                TICKET.as_secs()
            ),
        )
    };
    let grant = token.and_then(|token| ctx.app.consoles().redeem(&token)).ok_or_else(unknown)?;
    if ctx.path.get(grant.object.0).and_then(|id| id.parse().ok()) != Some(grant.object.1) {
        return Err(unknown());
    }
    // What was granted half a minute ago may be so no more.
    still(&ctx.app, &grant).await.map_err(ApiError::forbidden)?;
    let sites = ctx.app.consoles().site(grant.site_id).ok_or_else(|| {
        ApiError::conflict("the site is not connected any more; its consoles can be reached again when it is")
    })?;
    let app = ctx.app.clone();
    let limit = 2 * model::console::CHUNK;
    let response = upgrade
        .protocols([PROTOCOL])
        .max_message_size(limit)
        .max_frame_size(limit)
        .on_upgrade(move |socket| console::serve(app, grant, sites, socket));
    Ok(Reply::Raw(response))
}

/// Whether what was granted is so still; an error says why not.
pub(crate) async fn still(app: &App, grant: &Grant) -> Result<(), String> {
    let (caller, _) = auth::of_hash(app, grant.credential.clone())
        .await
        .map_err(|e| format!("you are not signed in any more: {}", e.message))?;
    let operation = contract::operation(grant.operation).ok_or("the operation is gone")?;
    if let Permission::Need(permission) = operation.permission
        && !caller.may(permission)
    {
        return Err(format!("you have lost the permission {permission}"));
    }
    if caller.is_suspended {
        return Err("you are suspended".into());
    }
    let (name, id) = grant.object;
    let ctx = Ctx {
        app: app.clone(),
        operation,
        caller,
        path: [(name.to_owned(), id.to_string())].into(),
        query: Vec::new(),
        body: serde_json::Map::new(),
        raw: axum::body::Bytes::new(),
        if_match: None,
        headers: axum::http::HeaderMap::new(),
        request_id: String::new(),
        upgrade: None,
    };
    let db = &app.db().read;
    let server = match name {
        "serverInstanceId" => of_instance(&ctx, db).await.map(|(_, _, server)| server),
        _ => servers::find(&ctx, db).await,
    };
    let server = server.map_err(|e| e.message)?;
    if server.id != grant.wanted.server_id || server.site_id != grant.site_id {
        return Err("the instance runs on another server now; open its console again".into());
    }
    refuse_outside(&server, "given a console").map_err(|e| e.message)
}

fn wire(session: &Session) -> Value {
    let grant = &session.grant;
    json!({
        "id": session.id, "kind": grant.wanted.kind.as_str(), "readOnly": grant.wanted.read_only, "userId": grant.user.0,
        "userEmail": grant.user.1, "serverInstanceId": grant.wanted.instance_id, "openedTimestamp": session.since,
    })
}

fn shown(ctx: &Ctx, of: &server::Model) -> Value {
    let offered = server_wire::inventory(of).consoles;
    let open = ctx.app.consoles().of_server(of.id);
    json!({
        "serial": offered.serial, "screen": offered.screen, "siteConnected": ctx.app.consoles().site(of.site_id).is_some(),
        "sessions": open.iter().map(wire).collect::<Vec<_>>(),
    })
}

async fn list(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = servers::find(&ctx, &ctx.app.db().read).await?;
    let mut body = shown(&ctx, &of);
    let own = own_words(&of);
    body["bmcConsole"] = json!(own.map(|(url, words)| json!({"url": url, "message": words})));
    Ok(Reply::Json(body))
}

/// Without the BMC's address, which is not the tenant's business.
async fn list_of_instance(ctx: Ctx) -> Result<Reply, ApiError> {
    let (_, _, server) = of_instance(&ctx, &ctx.app.db().read).await?;
    Ok(Reply::Json(shown(&ctx, &server)))
}

async fn close(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = servers::find(&ctx, &ctx.app.db().read).await?;
    let id = ctx.id("consoleId")?;
    let open = ctx.app.consoles().of_server(of.id);
    let session = open.iter().find(|s| i64::try_from(s.id) == Ok(id));
    session.ok_or_else(|| ApiError::not_found("open console", id))?.end.cancel();
    Ok(Reply::Empty)
}

/// Screens of a server as this platform shows them.
async fn vnc(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = servers::find(&ctx, &ctx.app.db().read).await?;
    let open = ctx.app.consoles().of_server(of.id);
    let active = open.iter().filter(|s| s.grant.wanted.kind == ConsoleKind::Screen).count();
    let has = server_wire::inventory(&of).consoles.screen.is_some();
    Ok(Reply::Json(json!({
        "activeSessions": active, "maxSessions": if has { SCREENS } else { 0 }, "timeout": if has { IDLE.as_secs() } else { 0 },
        "enable": if has { "Enabled" } else { "Disabled" },
    })))
}

async fn remote(ctx: Ctx) -> Result<Reply, ApiError> {
    let of = servers::find(&ctx, &ctx.app.db().read).await?;
    let open = ctx.app.consoles().of_server(of.id).len();
    let own = own_words(&of);
    Ok(Reply::Json(json!({
        "active_connections": open, "url": own.as_ref().map(|(url, _)| url), "message": own.as_ref().map(|(_, words)| words),
    })))
}
