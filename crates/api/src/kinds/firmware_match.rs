//! Which image fits which part: catalogs, baselines and policies held against what servers have. Pure, but for the reading of rows.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, HashMap, HashSet},
};

use model::{Id, firmware::compare_versions};
use sea_orm::{ColumnTrait, ConnectionTrait, EntityTrait, QueryFilter};
use serde_json::{Value, json};
use store::entity::{
    firmware_baseline, firmware_binary, firmware_catalog, firmware_policy, firmware_policy_group, server,
    server_component, server_instance,
};

use crate::error::ApiError;

/// The contract's word for the maker of a server, where catalogs know it.
pub fn catalog_vendor(vendor: &str) -> Option<&'static str> {
    let vendor = vendor.trim().to_lowercase();
    [
        ("dell", "dell"),
        ("lenovo", "lenovo"),
        ("hewlett", "hp"),
        ("hp", "hp"),
        ("supermicro", "supermicro"),
        ("super micro", "supermicro"),
    ]
    .iter()
    .find(|(begin, _)| vendor.starts_with(begin))
    .map(|(_, word)| *word)
}

/// All texts in a document, whatever its shape: vendors describe devices and systems each in their own way.
fn texts<'a>(v: &'a Value, into: &mut Vec<&'a str>) {
    match v {
        Value::String(text) if !text.trim().is_empty() => into.push(text.trim()),
        Value::Array(list) => list.iter().for_each(|item| texts(item, into)),
        Value::Object(map) => map.values().for_each(|item| texts(item, into)),
        _ => {}
    }
}

fn all_texts(v: &Value) -> Vec<&str> {
    let mut all = Vec::new();
    texts(v, &mut all);
    all
}

/// Images on offer, with the catalogs that they are of.
#[derive(Default)]
pub struct Offer {
    catalogs: HashMap<Id, firmware_catalog::Model>,
    binaries: Vec<firmware_binary::Model>,
}

impl Offer {
    /// Those of all catalogs, or of some.
    pub async fn load<C: ConnectionTrait>(db: &C, catalogs: Option<&HashSet<Id>>) -> Result<Self, ApiError> {
        let (mut c, mut b) = (firmware_catalog::Entity::find(), firmware_binary::Entity::find());
        if let Some(ids) = catalogs {
            c = c.filter(firmware_catalog::Column::Id.is_in(ids.iter().copied()));
            b = b.filter(firmware_binary::Column::CatalogId.is_in(ids.iter().copied()));
        }
        let catalogs = c.all(db).await?.into_iter().map(|c| (c.id, c)).collect();
        Ok(Self { catalogs, binaries: b.all(db).await? })
    }

    /// Images for a part of a server, the newest first.
    pub fn fitting(&self, of: &server::Model, part: &server_component::Model) -> Vec<&firmware_binary::Model> {
        let Some(vendor) = of.vendor.as_deref().and_then(catalog_vendor) else { return Vec::new() };
        let mut found: Vec<&firmware_binary::Model> = self
            .binaries
            .iter()
            .filter(|b| {
                let catalog = self.catalogs.get(&b.catalog_id);
                catalog.is_some_and(|c| c.vendor == vendor && for_system(&c.vendor_server_types, of))
                    && for_system(&b.supported_systems, of)
                    && for_part(b, part)
            })
            .collect();
        found.sort_by(|a, b| by_version(b, a).then(b.id.cmp(&a.id)));
        found
    }

    /// Versions of a part that are newer than what runs, as they are kept with it.
    pub fn newer(&self, of: &server::Model, part: &server_component::Model) -> BTreeMap<String, Value> {
        let newer = |b: &&firmware_binary::Model| {
            b.package_version.as_deref().is_some_and(|v| is_newer(v, part.firmware_version.as_deref()))
        };
        let one = |b: &firmware_binary::Model| {
            let about = json!({
                "binaryId": b.id, "name": b.name, "updateSeverity": b.update_severity, "rebootRequired": b.reboot_required,
                "catalogId": b.catalog_id,
            });
            Some((b.package_version.clone()?, about))
        };
        // The newest of several of one version comes first and stays.
        let mut all = BTreeMap::new();
        for (version, about) in self.fitting(of, part).into_iter().filter(newer).filter_map(one) {
            all.entry(version).or_insert(about);
        }
        all
    }

    /// The newest image of a part that is newer than what runs and not older than `least`.
    pub fn best(
        &self,
        of: &server::Model,
        part: &server_component::Model,
        least: Option<&str>,
    ) -> Option<&firmware_binary::Model> {
        self.fitting(of, part).into_iter().find(|b| {
            b.package_version.as_deref().is_some_and(|v| {
                is_newer(v, part.firmware_version.as_deref())
                    && least.is_none_or(|l| compare_versions(v, l) != Ordering::Less)
            })
        })
    }

    /// Images by the words of a vendor instead of a part that is known here, the newest first.
    pub fn described(&self, vendor: &str, model: Option<&str>, devices: &[String]) -> Vec<&firmware_binary::Model> {
        let fits = |list: &Value, model: Option<&str>| {
            let named = all_texts(list);
            model.is_none_or(|m| named.is_empty() || named.iter().any(|t| m.contains(&t.to_lowercase())))
        };
        let mut found: Vec<&firmware_binary::Model> = self
            .binaries
            .iter()
            .filter(|b| self.catalogs.get(&b.catalog_id).is_some_and(|c| c.vendor == vendor))
            .filter(|b| fits(&b.supported_systems, model))
            .filter(|b| {
                let named = all_texts(&b.supported_devices);
                let names = named.iter().map(|t| t.to_lowercase()).chain([b.name.to_lowercase()]);
                devices.is_empty() || names.into_iter().any(|n| devices.contains(&n))
            })
            .collect();
        found.sort_by(|a, b| by_version(b, a).then(b.id.cmp(&a.id)));
        found
    }

    /// The image of that very version.
    pub fn of_version(
        &self,
        of: &server::Model,
        part: &server_component::Model,
        version: &str,
    ) -> Option<&firmware_binary::Model> {
        self.fitting(of, part)
            .into_iter()
            .find(|b| b.package_version.as_deref().is_some_and(|v| compare_versions(v, version) == Ordering::Equal))
    }
}

fn by_version(a: &firmware_binary::Model, b: &firmware_binary::Model) -> Ordering {
    compare_versions(a.package_version.as_deref().unwrap_or_default(), b.package_version.as_deref().unwrap_or_default())
}

/// Whether a version is newer than what runs. What runs unknown, anything is.
pub fn is_newer(version: &str, runs: Option<&str>) -> bool {
    runs.is_none_or(|r| compare_versions(version, r) == Ordering::Greater)
}

fn for_system(list: &Value, of: &server::Model) -> bool {
    let named = all_texts(list);
    if named.is_empty() {
        return true;
    }
    let model = of.model.as_deref().unwrap_or_default().to_lowercase();
    named
        .iter()
        .map(|t| t.to_lowercase())
        .any(|t| !model.is_empty() && (t == model || (t.len() >= 4 && model.contains(&t))))
}

fn for_part(b: &firmware_binary::Model, part: &server_component::Model) -> bool {
    let software = part.info["softwareId"].as_str();
    let known: Vec<String> =
        [Some(part.external_id.as_str()), software, Some(part.name.as_str()), Some(part.kind.as_str())]
            .into_iter()
            .flatten()
            .map(str::to_lowercase)
            .collect();
    let mut named = all_texts(&b.supported_devices);
    if named.is_empty() {
        named = vec![b.name.as_str()];
        named.extend(b.external_id.as_deref());
    }
    named.iter().any(|t| known.contains(&t.to_lowercase()))
}

/// What a baseline says of a part.
#[derive(Debug, PartialEq, Eq)]
pub struct Held<'a> {
    /// Least version, where it names one.
    pub minimum: Option<&'a str>,
    /// `compliant`, `outdated`, `newer_available` or `unknown`.
    pub state: &'static str,
}

/// Catalogs that a baseline names, by id or by name.
pub async fn catalogs_of<C: ConnectionTrait>(
    db: &C,
    baseline: &firmware_baseline::Model,
) -> Result<HashSet<Id>, ApiError> {
    let named: Vec<&str> = all_texts(&baseline.catalog);
    let all = firmware_catalog::Entity::find().all(db).await?;
    let wanted = |c: &firmware_catalog::Model| named.iter().any(|n| *n == c.name || *n == c.id.to_string());
    Ok(all.into_iter().filter(|c| wanted(c)).map(|c| c.id).collect())
}

/// The least version that a baseline wants of a part.
pub fn minimum<'a>(baseline: &'a firmware_baseline::Model, part: &server_component::Model) -> Option<&'a str> {
    let list = baseline.minimum_versions.as_array().into_iter().flatten();
    let (name, kind, id) = (part.name.to_lowercase(), part.kind.to_lowercase(), part.external_id.to_lowercase());
    list.filter_map(|m| Some((m["componentName"].as_str()?.trim().to_lowercase(), m["minimumVersion"].as_str()?)))
        .find(|(wanted, _)| *wanted == kind || *wanted == id || (!wanted.is_empty() && name.contains(wanted.as_str())))
        .map(|(_, version)| version)
}

/// Holds a part against a baseline.
pub fn hold<'a>(
    baseline: &'a firmware_baseline::Model,
    offer: &Offer,
    of: &server::Model,
    part: &server_component::Model,
) -> Held<'a> {
    let minimum = minimum(baseline, part);
    let newest = offer.best(of, part, None);
    let state = match (part.firmware_version.as_deref(), minimum) {
        (None, _) => "unknown",
        (Some(v), Some(m)) if compare_versions(v, m) == Ordering::Less => "outdated",
        _ if newest.is_some() => "newer_available",
        _ => "compliant",
    };
    Held { minimum, state }
}

/// A policy with the groups that it is about.
pub struct Policy {
    /// The row.
    pub row: firmware_policy::Model,
    /// Groups; none: all servers.
    pub groups: HashSet<Id>,
}

/// All policies in force, or all there are.
pub async fn policies<C: ConnectionTrait>(db: &C, active: bool) -> Result<Vec<Policy>, ApiError> {
    let mut select = firmware_policy::Entity::find();
    if active {
        select = select.filter(firmware_policy::Column::Status.eq("active"));
    }
    let rows = select.all(db).await?;
    let mut groups: HashMap<Id, HashSet<Id>> = HashMap::new();
    for link in firmware_policy_group::Entity::find().all(db).await? {
        groups.entry(link.policy_id).or_default().insert(link.server_instance_group_id);
    }
    Ok(rows.into_iter().map(|row| Policy { groups: groups.remove(&row.id).unwrap_or_default(), row }).collect())
}

impl Policy {
    /// Whether it is about that part, to be brought to that version: all its rules hold.
    pub fn is_about(
        &self,
        of: &server::Model,
        holder: Option<&server_instance::Model>,
        part: &server_component::Model,
        target: Option<&str>,
    ) -> bool {
        if !self.groups.is_empty() && !holder.is_some_and(|h| self.groups.contains(&h.group_id)) {
            return false;
        }
        let text = |v: Option<&str>| v.unwrap_or_default().to_lowercase();
        let rules = self.row.rules.as_array().map(Vec::as_slice).unwrap_or_default();
        rules.iter().all(|rule| {
            let value = text(rule["value"].as_str());
            let found = match rule["property"].as_str().unwrap_or_default() {
                "server_component_name" => text(Some(&part.name)),
                "server_component_type" => text(Some(&part.kind)),
                "server_component_firmware_version" => text(part.firmware_version.as_deref()),
                "server_component_target_version" => text(target.or(part.firmware_target_version.as_deref())),
                "site_id" => of.site_id.to_string(),
                "server_vendor" => text(of.vendor.as_deref()),
                "server_id" => of.id.to_string(),
                "server_type_id" => of.server_type_id.map(|id| id.to_string()).unwrap_or_default(),
                "server_tags_json" => text(Some(&of.tags.to_string())),
                _ => return false,
            };
            match rule["operation"].as_str() {
                Some("string_contains") => found.contains(&value),
                _ => found == value,
            }
        })
    }
}

/// What all policies together say: the strictest word wins. `None`: nobody has said anything.
pub fn verdict(
    policies: &[Policy],
    of: &server::Model,
    holder: Option<&server_instance::Model>,
    part: &server_component::Model,
    target: Option<&str>,
) -> Option<(&'static str, String)> {
    let strictness = |action: &str| match action {
        "deny" => 2,
        "accept_with_confirmation" => 1,
        _ => 0,
    };
    let found =
        policies.iter().filter(|p| p.is_about(of, holder, part, target)).max_by_key(|p| strictness(&p.row.action))?;
    let word = match found.row.action.as_str() {
        "deny" => "deny",
        "accept_with_confirmation" => "accept_with_confirmation",
        _ => "accept",
    };
    Some((word, found.row.label.clone()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test may stop")]
mod tests {
    use super::*;

    fn part(kind: &str, name: &str, version: &str) -> server_component::Model {
        let row = json!({
            "id": 1, "revision": 1, "created_at": "", "updated_at": "", "server_id": 1, "external_id": format!("{kind}-1"), "name": name, "kind": kind,
            "firmware_version": version, "firmware_updateable": true, "firmware_target_version": null, "available_versions": {}, "info": {"softwareId": "159"},
            "needs_confirmation": false, "firmware_update_timestamp": null, "firmware_scheduled_timestamp": null, "firmware_status": "available", "failure": null,
        });
        serde_json::from_value(row).unwrap()
    }

    fn baseline(least: &Value) -> firmware_baseline::Model {
        let row = json!({"id": 1, "revision": 1, "created_at": "", "updated_at": "", "name": "b", "description": null, "catalog": [], "minimum_versions": least});
        serde_json::from_value(row).unwrap()
    }

    #[test]
    fn makers_have_one_word() {
        for (text, word) in [
            ("Dell Inc.", Some("dell")),
            ("HPE", Some("hp")),
            ("Hewlett Packard Enterprise", Some("hp")),
            ("NVIDIA", None),
        ] {
            assert_eq!(catalog_vendor(text), word, "{text}");
        }
    }

    #[test]
    fn a_least_version_is_found_by_name_kind_or_id() {
        let b = baseline(
            &json!([{"componentName": "BIOS", "minimumVersion": "2.0"}, {"componentName": "connectx", "minimumVersion": "22.1"}]),
        );
        assert_eq!(minimum(&b, &part("bios", "System BIOS", "1.0")), Some("2.0"));
        assert_eq!(minimum(&b, &part("nic", "Mellanox ConnectX-6", "22.0")), Some("22.1"));
        assert_eq!(minimum(&b, &part("bmc", "iDRAC", "7")), None);
    }
}
