//! Service root, sessions, accounts.

use hyper::{Method, StatusCode, header};
use rand::Rng;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::{Account, Answer, Bmc, SESSIONS, Session, body, collection, error::Fault, healthy, ok, read_only};
use crate::{
    config::Password,
    hardware::Vendor,
    httpd::{Incomer, Reply},
    topology::mac_text,
};

const SESSIONS_PATH: &str = "/redfish/v1/SessionService/Sessions";
const ACCOUNTS_PATH: &str = "/redfish/v1/AccountService/Accounts";
const ROLES_PATH: &str = "/redfish/v1/AccountService/Roles";

/// Roles of the specification with their privileges (DSP0266, "Roles").
const ROLES: [(&str, &[&str]); 3] = [
    ("Administrator", &["Login", "ConfigureManager", "ConfigureUsers", "ConfigureComponents", "ConfigureSelf"]),
    ("Operator", &["Login", "ConfigureComponents", "ConfigureSelf"]),
    ("ReadOnly", &["Login", "ConfigureSelf"]),
];

/// `GET /redfish/v1`, without authentication.
pub fn root(bmc: &Bmc) -> Answer {
    let spec = &bmc.server.spec;
    let vendor = spec.model.vendor;
    let name = match vendor {
        Vendor::Dell => "Dell",
        Vendor::Hpe => "HPE",
        Vendor::Supermicro => "Supermicro",
        Vendor::Nvidia => "NVIDIA",
    };
    let mut root = json!({
        "@odata.id": "/redfish/v1", "@odata.type": "#ServiceRoot.v1_11_0.ServiceRoot", "Id": "RootService",
        "Name": "Root Service", "RedfishVersion": "1.17.0", "UUID": spec.uuid.to_string(), "Vendor": name,
        "Product": if vendor == Vendor::Dell { "Integrated Dell Remote Access Controller" } else { spec.model.name },
        "Systems": {"@odata.id": "/redfish/v1/Systems"}, "Chassis": {"@odata.id": "/redfish/v1/Chassis"},
        "Managers": {"@odata.id": "/redfish/v1/Managers"},
        "AccountService": {"@odata.id": "/redfish/v1/AccountService"},
        "SessionService": {"@odata.id": "/redfish/v1/SessionService"},
        "UpdateService": {"@odata.id": "/redfish/v1/UpdateService"},
        "EventService": {"@odata.id": "/redfish/v1/EventService"}, "Tasks": {"@odata.id": "/redfish/v1/TaskService"},
        "Links": {"Sessions": {"@odata.id": SESSIONS_PATH}},
        "ProtocolFeaturesSupported": {"FilterQuery": false, "SelectQuery": false, "OnlyMemberQuery": false,
            "ExpandQuery": {"ExpandAll": false, "Levels": false, "Links": false, "NoLinks": false}},
    });
    let oem = match vendor {
        Vendor::Dell => Some(json!({"Dell": {"@odata.type": "#DellServiceRoot.v1_0_0.DellServiceRoot", "IsBranded": 0,
            "ManagerMACAddress": mac_text(&spec.bmc_mac), "ServiceTag": spec.serial}})),
        Vendor::Hpe => Some(json!({"Hpe": {"@odata.type": "#HpeiLOServiceExt.v2_5_0.HpeiLOServiceExt",
            "Manager": [{"ManagerType": "iLO 6", "ManagerFirmwareVersion": "1.58"}]}})),
        Vendor::Supermicro => {
            Some(json!({"Supermicro": {"DumpService": {"@odata.id": "/redfish/v1/Oem/Supermicro/DumpService"}}}))
        }
        Vendor::Nvidia => None,
    };
    if let (Value::Object(root), Some(oem)) = (&mut root, oem) {
        root.insert("Oem".into(), oem);
    }
    ok(&root)
}

/// `POST .../Sessions`, without authentication.
pub fn log_in(bmc: &Bmc, request: &Incomer) -> Answer {
    let body = body(request)?;
    let text = |name: &str| body.get(name).and_then(Value::as_str).ok_or_else(|| Fault::required(name));
    let (user, password) = (text("UserName")?, text("Password")?);
    if !bmc.check_password(user, password) {
        return Err(Fault::unauthorized());
    }
    let token = hex::encode(rand::rng().random::<[u8; 16]>());
    let id = hex::encode(rand::rng().random::<[u8; 4]>());
    bmc.server.with(|state| {
        let now = Instant::now();
        state.sessions.retain(|_, session| now.duration_since(session.used) < super::SESSION_IDLE);
        if state.sessions.len() >= SESSIONS {
            return Err(Fault::sessions());
        }
        state.sessions.insert(token.clone(), Session { id: id.clone(), user: user.to_owned(), used: now });
        Ok(())
    })?;
    Ok(Reply::json(StatusCode::CREATED, &session(&id, user))
        .with(header::HeaderName::from_static("x-auth-token"), token)
        .with(header::LOCATION, format!("{SESSIONS_PATH}/{id}")))
}

fn session(id: &str, user: &str) -> Value {
    json!({"@odata.id": format!("{SESSIONS_PATH}/{id}"), "@odata.type": "#Session.v1_5_0.Session", "Id": id,
        "Name": "User Session", "UserName": user, "SessionType": "Redfish"})
}

/// Routes of both services.
pub fn route(bmc: &Bmc, request: &Incomer, rest: &[&str], user: &str) -> Answer {
    match rest {
        ["SessionService", "Sessions", id] => return one_session(bmc, request, id),
        ["AccountService", "Accounts"] if request.method == Method::POST => return create_account(bmc, request),
        ["AccountService", "Accounts", id] => return account(bmc, request, id, user),
        _ => read_only(request)?,
    }
    match rest {
        ["SessionService"] => ok(&json!({
            "@odata.id": "/redfish/v1/SessionService", "@odata.type": "#SessionService.v1_1_8.SessionService",
            "Id": "SessionService", "Name": "Session Service", "ServiceEnabled": true, "SessionTimeout": 600,
            "Status": healthy(), "Sessions": {"@odata.id": SESSIONS_PATH}})),
        ["SessionService", "Sessions"] => {
            let ids: Vec<String> = bmc.server.with(|state| state.sessions.values().map(|s| s.id.clone()).collect());
            collection(SESSIONS_PATH, "SessionCollection", "Session Collection", &ids)
        }
        ["AccountService"] => ok(&json!({
            "@odata.id": "/redfish/v1/AccountService", "@odata.type": "#AccountService.v1_11_0.AccountService",
            "Id": "AccountService", "Name": "Account Service", "ServiceEnabled": true, "MinPasswordLength": 8,
            "MaxPasswordLength": 40, "Status": healthy(), "Accounts": {"@odata.id": ACCOUNTS_PATH},
            "Roles": {"@odata.id": ROLES_PATH}})),
        ["AccountService", "Roles"] => {
            let ids = ROLES.map(|(id, _)| id.to_owned());
            collection(ROLES_PATH, "RoleCollection", "Roles Collection", &ids)
        }
        ["AccountService", "Roles", id] => {
            let (id, privileges) =
                ROLES.iter().find(|(known, _)| known == id).ok_or_else(|| Fault::missing(&request.path))?;
            ok(
                &json!({"@odata.id": format!("{ROLES_PATH}/{id}"), "@odata.type": "#Role.v1_3_1.Role", "Id": id, "Name": "User Role",
                "RoleId": id, "IsPredefined": true, "AssignedPrivileges": privileges}),
            )
        }
        ["AccountService", "Accounts"] => {
            let ids: Vec<String> =
                bmc.server.with(|state| state.kept.bmc.accounts.iter().map(|account| account.id.clone()).collect());
            collection(ACCOUNTS_PATH, "ManagerAccountCollection", "Accounts Collection", &ids)
        }
        _ => Err(Fault::missing(&request.path)),
    }
}

fn one_session(bmc: &Bmc, request: &Incomer, id: &str) -> Answer {
    let found = bmc.server.with(|state| {
        let found = state.sessions.iter().find(|(_, s)| s.id == id).map(|(t, s)| (t.clone(), s.user.clone()));
        if let (Some((token, _)), &Method::DELETE) = (&found, &request.method) {
            state.sessions.remove(token);
        }
        found
    });
    match (&request.method, found) {
        (_, None) => Err(Fault::missing(&request.path)),
        (&Method::GET, Some((_, user))) => ok(&session(id, &user)),
        (&Method::DELETE, Some(_)) => Ok(Reply::empty(StatusCode::NO_CONTENT)),
        (method, _) => Err(Fault::method(method)),
    }
}

fn show(account: &Account) -> Value {
    json!({"@odata.id": format!("{ACCOUNTS_PATH}/{}", account.id), "@odata.type": "#ManagerAccount.v1_8_0.ManagerAccount",
        "Id": account.id, "Name": "User Account", "UserName": account.user, "Password": null, "RoleId": account.role,
        "Enabled": account.enabled, "Locked": false, "AccountTypes": ["Redfish"],
        "Links": {"Role": {"@odata.id": format!("{ROLES_PATH}/{}", account.role)}}})
}

fn checked(name: &str, value: &Value) -> Result<String, Fault> {
    let text = value.as_str().ok_or_else(|| Fault::kind(name))?;
    let (low, high) = if name == "Password" { (8, 40) } else { (1, 39) };
    // The value of a password never appears in an answer.
    if (low..=high).contains(&text.len()) { Ok(text.to_owned()) } else { Err(Fault::value(name, "******")) }
}

fn role(value: &Value) -> Result<String, Fault> {
    match value.as_str() {
        Some(role @ ("Administrator" | "Operator" | "ReadOnly")) => Ok(role.to_owned()),
        Some(other) => Err(Fault::value("RoleId", other)),
        None => Err(Fault::kind("RoleId")),
    }
}

fn create_account(bmc: &Bmc, request: &Incomer) -> Answer {
    let body: Map<String, Value> = body(request)?;
    let field = |name: &'static str| body.get(name).ok_or_else(|| Fault::required(name));
    let user = checked("UserName", field("UserName")?)?;
    let password = checked("Password", field("Password")?)?;
    let role = body.get("RoleId").map_or_else(|| Ok("ReadOnly".to_owned()), role)?;
    let account = bmc.change(|state| {
        let accounts = &mut state.kept.bmc.accounts;
        if accounts.len() >= 15 || accounts.iter().any(|account| account.user == user) {
            return None;
        }
        let id = (2..64).map(|n: u32| n.to_string()).find(|id| accounts.iter().all(|account| account.id != *id))?;
        accounts.push(Account { id, user, password: Password(password), role, enabled: true });
        accounts.last().cloned()
    });
    let Some(account) = account else {
        return Err(Fault::general(StatusCode::CONFLICT, "The account exists, or there is no room for another."));
    };
    Ok(Reply::json(StatusCode::CREATED, &show(&account))
        .with(header::LOCATION, format!("{ACCOUNTS_PATH}/{}", account.id)))
}

fn account(bmc: &Bmc, request: &Incomer, id: &str, user: &str) -> Answer {
    let found = bmc.server.with(|state| state.kept.bmc.accounts.iter().find(|account| account.id == id).cloned());
    let Some(mut account) = found else { return Err(Fault::missing(&request.path)) };
    match request.method {
        Method::GET => ok(&show(&account)),
        Method::DELETE if account.user == user => {
            Err(Fault::general(StatusCode::BAD_REQUEST, "An account cannot delete itself."))
        }
        Method::DELETE => {
            bmc.change(|state| state.kept.bmc.accounts.retain(|account| account.id != id));
            Ok(Reply::empty(StatusCode::NO_CONTENT))
        }
        Method::PATCH => {
            for (name, value) in body(request)? {
                match name.as_str() {
                    "Password" => account.password = Password(checked("Password", &value)?),
                    "UserName" => account.user = checked("UserName", &value)?,
                    "RoleId" => account.role = role(&value)?,
                    "Enabled" => account.enabled = value.as_bool().ok_or_else(|| Fault::kind("Enabled"))?,
                    other => return Err(Fault::unknown(other)),
                }
            }
            bmc.change(|state| {
                state.sel("OK", format!("Account {} was changed", account.user));
                for known in &mut state.kept.bmc.accounts {
                    if known.id == id {
                        *known = account.clone();
                    }
                }
            });
            bmc.done()
        }
        ref method => Err(Fault::method(method)),
    }
}
