//! What every Redfish service says of itself besides its resources: the OData documents and the headers of the
//! specification (DSP0266, "OData service document", "OData $metadata", "Response headers").

use hyper::{Method, StatusCode};
use serde_json::{Value, json};

use crate::httpd::Reply;

const SCHEMAS: &str = "http://redfish.dmtf.org/schemas/v1";
/// Children of the service root.
const CHILDREN: [&str; 8] = [
    "AccountService",
    "Chassis",
    "EventService",
    "Managers",
    "SessionService",
    "Systems",
    "TaskService",
    "UpdateService",
];
/// Namespaces of the resources here, with the version of each.
const NAMESPACES: [(&str, &str); 30] = [
    ("AccountService", "v1_11_0"),
    ("Bios", "v1_2_0"),
    ("Chassis", "v1_21_0"),
    ("ChassisCollection", ""),
    ("ComputerSystem", "v1_20_0"),
    ("ComputerSystemCollection", ""),
    ("Drive", "v1_16_0"),
    ("EthernetInterface", "v1_9_0"),
    ("EthernetInterfaceCollection", ""),
    ("EventDestination", "v1_13_0"),
    ("EventDestinationCollection", ""),
    ("EventService", "v1_9_0"),
    ("LogEntry", "v1_14_0"),
    ("LogService", "v1_4_0"),
    ("Manager", "v1_17_0"),
    ("ManagerAccount", "v1_8_0"),
    ("ManagerAccountCollection", ""),
    ("ManagerCollection", ""),
    ("Memory", "v1_16_0"),
    ("Processor", "v1_16_0"),
    ("Role", "v1_3_1"),
    ("RoleCollection", ""),
    ("ServiceRoot", "v1_11_0"),
    ("Session", "v1_5_0"),
    ("SessionCollection", ""),
    ("SessionService", "v1_1_8"),
    ("SoftwareInventory", "v1_8_0"),
    ("Storage", "v1_14_0"),
    ("TaskService", "v1_2_0"),
    ("UpdateService", "v1_11_0"),
];

/// `GET /redfish/v1/odata`: the service document.
pub fn service_document() -> Value {
    let root = [json!({"name": "Service", "kind": "Singleton", "url": "/redfish/v1/"})];
    let children =
        CHILDREN.iter().map(|name| json!({"name": name, "kind": "Singleton", "url": format!("/redfish/v1/{name}")}));
    let value: Vec<Value> = root.into_iter().chain(children).collect();
    json!({"@odata.context": "/redfish/v1/$metadata", "value": value})
}

/// `GET /redfish/v1/$metadata`: where the schemas are, and the entity container.
pub fn metadata() -> Reply {
    let mut text = String::from(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<edmx:Edmx xmlns:edmx=\"http://docs.oasis-open.org/odata/ns/edmx\" Version=\"4.0\">\n",
    );
    for (name, version) in NAMESPACES {
        text +=
            &format!("  <edmx:Reference Uri=\"{SCHEMAS}/{name}_v1.xml\">\n    <edmx:Include Namespace=\"{name}\"/>\n");
        if !version.is_empty() {
            text += &format!("    <edmx:Include Namespace=\"{name}.{version}\"/>\n");
        }
        text += "  </edmx:Reference>\n";
    }
    text += "  <edmx:DataServices>\n    <Schema xmlns=\"http://docs.oasis-open.org/odata/ns/edm\" Namespace=\"Service\">\n      \
             <EntityContainer Name=\"Service\" Extends=\"ServiceRoot.v1_11_0.ServiceContainer\"/>\n    </Schema>\n  </edmx:DataServices>\n</edmx:Edmx>\n";
    let mut reply = Reply::empty(StatusCode::OK);
    reply.body = text.into();
    reply.content_type = "application/xml;charset=utf-8";
    reply
}

/// `Allow` of a resource.
pub fn allowed(path: &str) -> &'static str {
    let parts: Vec<&str> = path.trim_start_matches("/redfish/v1").split('/').filter(|p| !p.is_empty()).collect();
    match parts.as_slice() {
        [.., "Actions", _] => "POST",
        ["SessionService", "Sessions"] | ["AccountService", "Accounts"] | ["EventService", "Subscriptions"] => {
            "GET, HEAD, POST"
        }
        ["SessionService", "Sessions", _] | ["EventService", "Subscriptions", _] => "GET, HEAD, DELETE",
        ["AccountService", "Accounts", _] => "GET, HEAD, PATCH, DELETE",
        ["Systems" | "Managers" | "Chassis", _] | [.., "Bios", "Settings"] | [.., "NetworkProtocol"] => {
            "GET, HEAD, PATCH"
        }
        _ => "GET, HEAD",
    }
}

/// Value of `Link` for a resource: where its JSON schema is.
pub fn described_by(resource: &Value) -> Option<String> {
    let kind = resource.get("@odata.type")?.as_str()?.strip_prefix('#')?;
    let (namespace, _) = kind.rsplit_once('.')?;
    Some(format!("<{SCHEMAS}/{namespace}.json>; rel=describedby"))
}

/// Whether the client's `OData-Version` is one that is spoken here.
pub fn speaks(version: Option<&str>) -> bool {
    version.is_none_or(|v| v == "4.0")
}

/// Whether a method is a read.
pub fn reads(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}
