//! Lenovo's UpdateXpress documents: CIM instances with named properties, an instance a package.

use std::collections::HashMap;

use roxmltree::{Document, Node};

use super::{Catalog, Image, digest, said, severity};

/// Properties of an instance by name in lower case; those of arrays have several values.
fn properties(instance: Node<'_, '_>) -> HashMap<String, Vec<String>> {
    let mut all: HashMap<String, Vec<String>> = HashMap::new();
    for p in instance.children().filter(|n| n.is_element() && n.tag_name().name().starts_with("PROPERTY")) {
        let Some(name) = p.attribute("NAME") else { continue };
        let values = p.descendants().filter(|n| n.is_element() && n.tag_name().name() == "VALUE");
        all.entry(name.to_lowercase()).or_default().extend(values.filter_map(|v| said(v.text())));
    }
    all
}

pub(super) fn read(document: &Document<'_>) -> Catalog {
    let mut catalog = Catalog::default();
    let instances = document.descendants().filter(|n| n.is_element() && n.tag_name().name() == "INSTANCE");
    for node in instances {
        // An instance within another describes a part of it.
        if node.ancestors().skip(1).any(|a| a.is_element() && a.tag_name().name() == "INSTANCE") {
            continue;
        }
        let all = properties(node);
        let first = |names: &[&str]| names.iter().find_map(|n| all.get(*n).and_then(|v| v.first()).cloned());
        let every =
            |names: &[&str]| -> Vec<String> { names.iter().filter_map(|n| all.get(*n)).flatten().cloned().collect() };
        let Some(name) = first(&["name", "packageid", "identifyingnumber"]) else { continue };
        let Some(version) = first(&["version", "softwareversion"]) else {
            // The bundle's own instance has none of what packages have.
            continue;
        };
        let payload = first(&["payload", "payloads", "payloadfile", "filename", "location"]);
        let Some(url) = payload else {
            catalog.pass_over(format!("{name}: names no file"));
            continue;
        };
        let kind = first(&["category", "classification", "componenttype"]).unwrap_or_default().to_lowercase();
        if kind.contains("driver") || kind.contains("application") {
            continue;
        }
        let mut devices = every(&["components", "component", "componentname", "softwareids", "softwareid"]);
        // Lenovo names parts by what they are; so do its BMCs.
        for (word, part) in [("uefi", "uefi"), ("xcc", "bmc"), ("imm", "bmc"), ("lxpm", "lxpm")] {
            if name.to_lowercase().split('_').any(|w| w.starts_with(word)) {
                devices.push(part.to_owned());
            }
        }
        catalog.images.push(Image {
            external_id: name.clone(),
            name: first(&["caption", "description", "elementname"]).unwrap_or_else(|| name.clone()),
            package_id: Some(name),
            version: Some(version),
            reboot: first(&["rebootrequired", "reboot"])
                .is_some_and(|r| !matches!(r.to_lowercase().as_str(), "0" | "no" | "none" | "false")),
            severity: first(&["severity", "releaseseverity"]).map_or("unknown", |s| severity(&s)),
            info_url: first(&["releasenotes", "readme"]),
            url,
            released: first(&["releasedate"]),
            devices,
            systems: every(&["applicablemachinetypes", "machinetypes", "supportedsystems", "systems"]),
            sha256: first(&["sha256", "payloadsha256"]).and_then(|t| digest(&t, 64)),
            md5: first(&["md5", "payloadmd5"]).and_then(|t| digest(&t, 32)),
            size: first(&["payloadsize", "size"]).and_then(|s| s.parse().ok()),
        });
    }
    catalog
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use crate::catalog::{Format, read};

    #[test]
    fn packages_are_read() {
        let property = |name: &str, value: &str| {
            format!("<PROPERTY NAME=\"{name}\" TYPE=\"string\"><VALUE>{value}</VALUE></PROPERTY>")
        };
        let sha = "ab".repeat(32);
        let package = [
            property("Name", "lnvgy_fw_uefi_esx3x4_anyos"),
            property("Caption", "UEFI Flash Update"),
            property("Version", "3.40"),
            property("Category", "UEFI"),
            property("Severity", "Critical"),
            property("RebootRequired", "1"),
            property("Payload", "lnvgy_fw_uefi_esx3x4_anyos.zip"),
            property("SHA256", &sha),
            "<PROPERTY.ARRAY NAME=\"ApplicableMachineTypes\" TYPE=\"string\"><VALUE.ARRAY><VALUE>7D9C</VALUE><VALUE>ThinkSystem SR650 V3</VALUE></VALUE.ARRAY></PROPERTY.ARRAY>".to_owned(),
        ]
        .concat();
        let odd = [property("Name", "lnvgy_fw_x"), property("Version", "1")].concat();
        let driver = [
            property("Name", "d"),
            property("Version", "1"),
            property("Payload", "d.zip"),
            property("Category", "Device Driver"),
        ]
        .concat();
        let text = format!(
            "<CIM CIMVERSION=\"2.0\"><DECLARATION><INSTANCE CLASSNAME=\"UXSP\">{}</INSTANCE><INSTANCE>{package}</INSTANCE><INSTANCE>{odd}</INSTANCE><INSTANCE>{driver}</INSTANCE></DECLARATION></CIM>",
            property("Name", "bundle")
        );
        let catalog = read(text.as_bytes(), Format::Lenovo).unwrap();
        assert_eq!((catalog.images.len(), catalog.odd), (1, 1), "{catalog:?}");
        let uefi = &catalog.images[0];
        assert_eq!((uefi.devices.as_slice(), uefi.severity, uefi.reboot), (&["uefi".to_owned()][..], "critical", true));
        assert_eq!(uefi.systems, ["7D9C", "ThinkSystem SR650 V3"]);
        assert_eq!(uefi.sha256.as_deref(), Some(sha.as_str()));
        assert!(read(b"<Manifest/>", Format::Lenovo).is_err());
    }
}
