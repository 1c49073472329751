//! Many servers at once: from a table as text, or from what answers in a range of addresses.

use std::{collections::HashMap, net::Ipv4Addr};

use engine::{NewGroup, entity::job};
use model::{
    Id,
    job::{JobSpec, RetryPolicy, Target},
    order::{Order, ScanResult, ScannedBmc, ServerScan},
    secret::Clear,
    validate,
};
use sea_orm::{ColumnTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{server, site};

use crate::{
    context::{Ctx, Reply, parse_id},
    error::ApiError,
    kinds::{
        record,
        server::brief,
        server_entry::{Entry, bmc_address, enter},
        server_registration::login_of,
        server_wire::vendor_word,
    },
    routes,
};

routes! {
    "registerServersFromCsv" => from_csv,
    "scanServers" => scan,
    "getServerScan" => scanned,
    "registerScannedServers" => register_scanned,
}

/// Rows of one table at most.
const MAX_LINES: usize = 2000;
/// Addresses of one scan at most.
const MAX_ADDRESSES: u32 = 4096;
/// Longest scan.
const MAX_SECONDS: i64 = 1800;

/// Columns that a table may have.
const COLUMNS: &[&str] = &[
    "managementAddress",
    "username",
    "password",
    "serialNumber",
    "bmcMacAddress",
    "vendor",
    "model",
    "registrationProfileId",
    "rackName",
];

/// The records of a table (RFC 4180: quotes around a field, doubled within), each with the line at which it begins.
fn records(text: &str) -> Result<Vec<(usize, Vec<String>)>, String> {
    let mut rows = Vec::new();
    let (mut row, mut field, mut quoted, mut was_quoted) = (Vec::new(), String::new(), false, false);
    let (mut line, mut begins) = (1, 1);
    let mut chars = text.trim_start_matches('\u{feff}').chars().peekable();
    loop {
        match chars.next() {
            Some('"') if quoted && chars.peek() == Some(&'"') => {
                chars.next();
                field.push('"');
            }
            Some('"') if quoted => quoted = false,
            Some('"') if field.is_empty() && !was_quoted => (quoted, was_quoted) = (true, true),
            Some(c) if quoted => {
                if c == '\n' {
                    line += 1;
                }
                field.push(c);
            }
            Some(',') => {
                row.push(std::mem::take(&mut field));
                was_quoted = false;
            }
            Some('\r') if matches!(chars.peek(), Some('\n') | None) => {}
            end @ (Some('\n') | None) => {
                if quoted {
                    return Err(format!("line {begins}: a quoted field has no end"));
                }
                row.push(std::mem::take(&mut field));
                was_quoted = false;
                if row.iter().any(|f| !f.trim().is_empty()) {
                    rows.push((begins, std::mem::take(&mut row)));
                }
                row.clear();
                line += 1;
                begins = line;
                if end.is_none() {
                    return Ok(rows);
                }
            }
            Some(c) => field.push(c),
        }
    }
}

/// The header as fields of a server, by place.
fn header(given: &[String]) -> Result<Vec<&'static str>, ApiError> {
    let mut found = Vec::new();
    for name in given {
        let name = name.trim();
        let column = COLUMNS.iter().copied().find(|c| c.eq_ignore_ascii_case(name)).ok_or_else(|| {
            ApiError::field("csv", format!("line 1: {name:?} is none of the columns {}", COLUMNS.join(", ")))
        })?;
        if found.contains(&column) {
            return Err(ApiError::field("csv", format!("line 1: the column {column} is there twice")));
        }
        found.push(column);
    }
    if found.contains(&"managementAddress") {
        Ok(found)
    } else {
        Err(ApiError::field("csv", "line 1: the column managementAddress is missing; the first line names the columns"))
    }
}

/// A row as a server.
fn entry(site_id: Id, profile_id: Option<Id>, cells: &HashMap<&str, &str>) -> Result<Entry, ApiError> {
    let cell = |name: &str| cells.get(name).copied().map(str::trim).filter(|c| !c.is_empty());
    let address = cell("managementAddress").ok_or_else(|| ApiError::field("managementAddress", "is required"))?;
    // A password may begin or end with a space.
    let password = cells.get("password").copied().filter(|p| !p.is_empty());
    let login = match (cell("username"), password) {
        (Some(name), Some(password)) => Some((name.to_owned(), Clear(password.to_owned()))),
        (None, None) => None,
        (None, Some(_)) => return Err(ApiError::field("username", "is required with a password")),
        (Some(_), None) => return Err(ApiError::field("password", "is required with a user name")),
    };
    let own_profile = match cell("registrationProfileId") {
        Some(text) => Some(
            parse_id(text).ok_or_else(|| ApiError::field("registrationProfileId", format!("{text:?} is not an id")))?,
        ),
        None => None,
    };
    Ok(Entry {
        site_id,
        address: Some(bmc_address(address)?),
        mac: cell("bmcMacAddress").map(|m| validate::mac("bmcMacAddress", m)).transpose()?,
        serial: cell("serialNumber").map(str::to_owned),
        vendor: cell("vendor").and_then(vendor_word).map(str::to_owned),
        model: cell("model").map(str::to_owned),
        login,
        profile_id: own_profile.or(profile_id),
        rack: cell("rackName").map(str::to_owned),
        ..Entry::default()
    })
}

/// One server, in a transaction of its own: what is wrong with one keeps no other from coming in.
async fn one(ctx: &Ctx, entry: Result<Entry, ApiError>) -> Result<(server::Model, Value), ApiError> {
    let entry = entry?;
    let address = entry.address.clone().unwrap_or_default();
    let txn = ctx.app.db().begin().await?;
    let (made, info) = enter(&ctx.app, &txn, entry).await?;
    let title = format!("Server {address} is being registered");
    record(ctx, &txn, "server.register", title, ("server", made.id), brief(&made)).await?;
    txn.commit().await?;
    Ok((made, info))
}

/// All of them, with what became of each. `line` is 0 where there is no table.
async fn all(ctx: &Ctx, entries: Vec<(usize, String, Result<Entry, ApiError>)>) -> Result<Reply, ApiError> {
    let mut results = Vec::new();
    let mut registered = 0;
    for (line, address, entry) in entries {
        let mut told = json!({"managementAddress": address});
        if line > 0 {
            told["line"] = line.into();
        }
        match one(ctx, entry).await {
            Ok((made, info)) => {
                registered += 1;
                told["serverId"] = made.id.into();
                if !info.is_null() {
                    told["jobInfo"] = info;
                }
            }
            // What is wrong with the row. A failure of our own ends it all.
            Err(e) if e.status.is_client_error() => {
                let place = if line > 0 { format!("line {line}: ") } else { String::new() };
                told["error"] = format!("{place}{}", e.message).into();
            }
            Err(e) => return Err(e),
        }
        results.push(told);
    }
    ctx.app.engine().wake();
    ctx.app.wrote();
    let refused = results.len() - registered;
    Ok(Reply::Json(json!({"registered": registered, "refused": refused, "results": results})))
}

async fn from_csv(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let rows = records(ctx.need_text("csv")?).map_err(|words| ApiError::field("csv", words))?;
    let mut rows = rows.into_iter();
    let (_, names) = rows.next().ok_or_else(|| ApiError::field("csv", "is empty; its first line names the columns"))?;
    let columns = header(&names)?;
    if rows.len() > MAX_LINES {
        return Err(ApiError::field("csv", format!("has {} servers; at most {MAX_LINES} come in at once", rows.len())));
    }
    if site::Entity::find_by_id(site_id).one(&ctx.app.db().read).await?.is_none_or(|s| s.decommissioned) {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    }
    let profile_id = ctx.int("registrationProfileId").filter(|id| *id != 0);
    let entries = rows
        .map(|(line, cells)| {
            let named: HashMap<&str, &str> = columns.iter().copied().zip(cells.iter().map(String::as_str)).collect();
            let address = named.get("managementAddress").map(|a| a.trim().to_owned()).unwrap_or_default();
            let entry = if cells.len() == columns.len() {
                entry(site_id, profile_id, &named)
            } else {
                let (have, want) = (cells.len(), columns.len());
                Err(ApiError::field("csv", format!("has {have} fields, and the first line names {want}")))
            };
            (line, address, entry)
        })
        .collect();
    all(&ctx, entries).await
}

fn address(ctx: &Ctx, field: &str) -> Result<Ipv4Addr, ApiError> {
    let text = ctx.need_text(field)?.trim();
    text.parse().map_err(|_| ApiError::field(field, format!("{text:?} is not an IPv4 address")))
}

/// The site asks each address of a range for a Redfish service. Nothing is registered by that.
async fn scan(ctx: Ctx) -> Result<Reply, ApiError> {
    let site_id = ctx.need_int("siteId")?;
    let (first, last) = (address(&ctx, "firstAddress")?, address(&ctx, "lastAddress")?);
    let count = u32::from(last).checked_sub(u32::from(first)).map(|n| n.saturating_add(1));
    let Some(count) = count else {
        return Err(ApiError::field("lastAddress", format!("{last} comes before the first one, {first}")));
    };
    if count > MAX_ADDRESSES {
        return Err(ApiError::field(
            "lastAddress",
            format!("the range has {count} addresses; at most {MAX_ADDRESSES}"),
        ));
    }
    let port = match ctx.int("port") {
        Some(n) => Some(
            u16::try_from(n)
                .ok()
                .filter(|p| *p > 0)
                .ok_or_else(|| ApiError::field("port", format!("{n} is not a port")))?,
        ),
        None => None,
    };
    let seconds = ctx.int("deadlineSeconds").unwrap_or_else(|| i64::from(count / 8 + 30).min(MAX_SECONDS));
    if !(1..=MAX_SECONDS).contains(&seconds) {
        return Err(ApiError::field("deadlineSeconds", format!("{seconds} is not between 1 and {MAX_SECONDS}")));
    }
    let txn = ctx.app.db().begin().await?;
    let Some(at) = site::Entity::find_by_id(site_id).one(&txn).await?.filter(|s| !s.decommissioned) else {
        return Err(ApiError::field("siteId", format!("there is no site {site_id}")));
    };
    let seconds = u32::try_from(seconds).unwrap_or(60);
    let title = format!("Look for BMCs from {first} to {last} at {}", at.slug);
    let spec = JobSpec {
        key: "scan".into(),
        function: ServerScan::NAME.into(),
        title: title.clone(),
        site_id: Some(site_id),
        target: Target { kind: "site".into(), id: site_id, generation: 0 },
        payload: serde_json::to_value(ServerScan { first, last, port, deadline_seconds: seconds })?,
        depends_on: Vec::new(),
        retry: RetryPolicy { max: 1, ..RetryPolicy::default() },
        timeout_seconds: seconds + 60,
        refs: model::job::JobRefs::default(),
        can_be_skipped: true,
        requires_confirmation: false,
    };
    let group = NewGroup {
        kind: "server_scan".into(),
        description: title.clone(),
        params: json!({"siteId": site_id, "firstAddress": first, "lastAddress": last}),
        site_id: Some(site_id),
        ..NewGroup::default()
    };
    let made = ctx.app.engine().create_group(&txn, group, vec![spec]).await?;
    let info = json!({"jobGroupId": made.group_id, "jobId": made.job_ids.get("scan")});
    record(&ctx, &txn, "server.scan", title, ("site", site_id), info.clone()).await?;
    txn.commit().await?;
    ctx.app.engine().wake();
    ctx.app.wrote();
    Ok(Reply::Json(info))
}

/// The scan of the path, and what it has found.
async fn find_scan(ctx: &Ctx) -> Result<(job::Model, ScanResult), ApiError> {
    let id = ctx.id("jobId")?;
    let found = job::Entity::find_by_id(id).one(&ctx.app.db().read).await?;
    let found = found.filter(|j| j.function == ServerScan::NAME);
    let found = found.ok_or_else(|| ApiError::not_found("scan", id))?;
    let result = serde_json::from_value(found.response.clone()).unwrap_or_default();
    Ok((found, result))
}

/// Servers that have the BMCs of a scan already, by address.
async fn known(ctx: &Ctx, found: &[ScannedBmc]) -> Result<HashMap<String, Id>, ApiError> {
    let addresses: Vec<&str> = found.iter().map(|f| f.address.as_str()).collect();
    let rows =
        server::Entity::find().filter(server::Column::BmcAddress.is_in(addresses)).all(&ctx.app.db().read).await?;
    Ok(rows.into_iter().filter_map(|s| Some((s.bmc_address?, s.id))).collect())
}

async fn scanned(ctx: Ctx) -> Result<Reply, ApiError> {
    let (job, result) = find_scan(&ctx).await?;
    let known = known(&ctx, &result.found).await?;
    let found: Vec<Value> = result
        .found
        .iter()
        .map(|f| {
            json!({
                "managementAddress": f.address, "vendor": f.vendor, "product": f.product, "serverUUID": f.uuid, "tlsFingerprint": f.tls_fingerprint,
                "serverId": known.get(&f.address),
            })
        })
        .collect();
    Ok(Reply::Json(json!({
        "jobId": job.id, "status": job.status, "error": job.error, "askedCount": result.asked, "cutShort": result.cut_short, "found": found,
    })))
}

/// Registers what a scan has found: the addresses that are named, or all that are not known yet. The certificate that it showed is pinned.
async fn register_scanned(ctx: Ctx) -> Result<Reply, ApiError> {
    let login = login_of(&ctx, "username", "password")?;
    let profile_id = ctx.int("registrationProfileId").filter(|id| *id != 0);
    let (job, result) = find_scan(&ctx).await?;
    let site_id = job.site_id.ok_or_else(|| ApiError::internal("a scan without its site"))?;
    let known = known(&ctx, &result.found).await?;
    let picked: Vec<&ScannedBmc> = match ctx.body.get("managementAddresses").and_then(Value::as_array) {
        Some(list) => {
            let mut picked = Vec::new();
            for (n, given) in list.iter().enumerate() {
                let text = given.as_str().unwrap_or_default().trim();
                let found = result.found.iter().find(|f| f.address == text).ok_or_else(|| {
                    ApiError::field(
                        format!("managementAddresses[{n}]"),
                        format!("{text:?} did not answer in this scan"),
                    )
                })?;
                picked.push(found);
            }
            picked
        }
        None => result.found.iter().filter(|f| !known.contains_key(&f.address)).collect(),
    };
    let entries = picked
        .into_iter()
        .map(|f| {
            let entry = Entry {
                site_id,
                address: Some(f.address.clone()),
                vendor: f.vendor.as_deref().and_then(vendor_word).map(str::to_owned),
                login: login.clone(),
                profile_id,
                tls_fingerprint: f.tls_fingerprint.clone(),
                ..Entry::default()
            };
            (0, f.address.clone(), Ok(entry))
        })
        .collect();
    all(&ctx, entries).await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_are_read_with_their_quotes_and_lines() {
        let text = "\u{feff}a,b\r\n1,\"x,\"\"y\"\"\n z\"\r\n\r\n2,\n";
        let rows = records(text).unwrap();
        let cells = |n: usize| rows[n].1.iter().map(String::as_str).collect::<Vec<_>>();
        assert_eq!(rows.iter().map(|r| r.0).collect::<Vec<_>>(), [1, 2, 5]);
        assert_eq!((cells(0), cells(1), cells(2)), (vec!["a", "b"], vec!["1", "x,\"y\"\n z"], vec!["2", ""]));
        assert!(records("a\n\"b").unwrap_err().contains("line 2"));
        assert!(records("").unwrap().is_empty());
    }

    #[test]
    fn the_first_line_names_columns() {
        let names = |text: &str| text.split(',').map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(header(&names("ManagementAddress, username")).unwrap(), ["managementAddress", "username"]);
        for bad in ["username", "managementAddress,colour", "managementAddress,managementaddress"] {
            assert!(header(&names(bad)).is_err(), "{bad}");
        }
    }
}
