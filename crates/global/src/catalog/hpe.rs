//! HPE's firmware repository: `fwrepo.json`, an object of components by file name.

use serde_json::Value;

use super::{Catalog, Image, digest, list, said, severity, yes};

pub(super) fn read(value: &Value) -> Result<Catalog, String> {
    let Some(all) = value.as_object() else {
        return Err("the catalog is not an object of components by file name, as fwrepo.json is".into());
    };
    let mut catalog = Catalog::default();
    for (file, about) in all {
        if !about.is_object() {
            catalog.pass_over(format!("{file}: is not a description of a component"));
            continue;
        }
        let version = said(about["version"].as_str());
        if version.is_none() {
            catalog.pass_over(format!("{file}: names no version"));
            continue;
        }
        let mut devices = list(&about["target"]);
        devices.extend(list(&about["targets"]));
        devices.extend(list(&about["deviceclass"]));
        catalog.images.push(Image {
            external_id: file.clone(),
            name: said(about["description"].as_str()).unwrap_or_else(|| file.clone()),
            package_id: said(about["product_id"].as_str()),
            version,
            reboot: yes(&about["reboot"]) || yes(&about["reboot_required"]),
            severity: about["criticality"].as_str().map_or("unknown", severity),
            info_url: said(about["info_url"].as_str()),
            url: file.clone(),
            released: said(about["date"].as_str()),
            devices,
            systems: list(&about["systems"]),
            sha256: ["sha256", "sha256sum"].iter().find_map(|k| about[*k].as_str().and_then(|t| digest(t, 64))),
            md5: None,
            size: about["size"].as_u64(),
        });
    }
    if catalog.images.is_empty() && catalog.odd > 0 {
        return Err(format!("nothing in the catalog is a component: {}", catalog.passed_over.join("; ")));
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use crate::catalog::{Format, read};

    #[test]
    fn components_are_read() {
        let text = r#"{
            "U54_2.10_02_20_2026.fwpkg": {"date": "2026-02-20", "description": "System ROM - HPE ProLiant Gen11 (U54)", "deviceclass": "a6b1a447-382a-5a4f-9d3d-000000000001",
                "minimum_active_version": "", "reboot": "yes", "target": ["00000000-0000-0000-0000-000000000107"], "version": "2.10_02-20-2026"},
            "ilo6_170.fwpkg": {"date": "2026-01-01", "description": "iLO 6", "reboot_required": false, "target": "0-1", "version": "1.70"},
            "note": "read me"
        }"#;
        let catalog = read(text.as_bytes(), Format::Hpe).unwrap();
        assert_eq!((catalog.images.len(), catalog.odd), (2, 1));
        let rom = catalog.images.iter().find(|i| i.external_id.starts_with("U54")).unwrap();
        assert_eq!((rom.version.as_deref(), rom.reboot, rom.devices.len()), (Some("2.10_02-20-2026"), true, 2));
        assert!(read(b"[1]", Format::Hpe).is_err());
        assert!(read(br#"{"a": 1}"#, Format::Hpe).unwrap_err().contains("a: is not a description"));
    }
}
