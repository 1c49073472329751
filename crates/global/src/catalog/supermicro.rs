//! Images of Supermicro as JSON: a list, or an object with one, of entries by model and type.

use serde_json::Value;

use super::{Catalog, Image, digest, list, said, severity, yes};

pub(super) fn read(value: &Value) -> Result<Catalog, String> {
    let named = ["firmware", "images", "items", "data"].iter().find_map(|k| value[*k].as_array());
    let Some(all) = value.as_array().or(named) else {
        return Err(
            "the catalog is neither a list of images nor an object with one under firmware, images, items or data"
                .into(),
        );
    };
    let mut catalog = Catalog::default();
    for (n, entry) in all.iter().enumerate() {
        let text = |names: &[&str]| names.iter().find_map(|k| said(entry[*k].as_str()));
        let file = text(&["url", "file", "fileName", "path"]);
        let version = text(&["version", "revision"]);
        let (Some(url), Some(version)) = (file, version) else {
            catalog.pass_over(format!("entry {n}: names no file or no version"));
            continue;
        };
        let kind = text(&["type", "component", "category"]).unwrap_or_default();
        let systems = ["model", "models", "board", "boards"].iter().flat_map(|k| list(&entry[*k])).collect::<Vec<_>>();
        catalog.images.push(Image {
            external_id: text(&["id"]).unwrap_or_else(|| format!("{}/{kind}/{version}", systems.join(","))),
            name: text(&["name", "description"]).unwrap_or_else(|| format!("{kind} {version}").trim().to_owned()),
            package_id: text(&["id"]),
            version: Some(version),
            reboot: yes(&entry["reboot"]) || yes(&entry["rebootRequired"]),
            severity: text(&["severity"]).map_or("unknown", |s| severity(&s)),
            info_url: text(&["releaseNotes", "infoUrl"]),
            url,
            released: text(&["releaseDate", "release_date", "date"]),
            devices: said(Some(&kind)).into_iter().collect(),
            systems,
            sha256: text(&["sha256", "SHA256"]).and_then(|t| digest(&t, 64)),
            md5: text(&["md5", "MD5"]).and_then(|t| digest(&t, 32)),
            size: entry["size"].as_u64(),
        });
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use crate::catalog::{Format, read};

    #[test]
    fn entries_are_read() {
        let text = br#"{"firmware": [{"model": ["X13DEI", "SYS-121H"], "type": "BIOS", "version": "1.4b", "file": "BIOS_X13DEI_1.4b.bin", "releaseDate": "2026-01-02", "reboot": true},
            {"type": "BMC"}]}"#;
        let catalog = read(text, Format::Supermicro).unwrap();
        assert_eq!((catalog.images.len(), catalog.odd), (1, 1));
        let bios = &catalog.images[0];
        assert_eq!((bios.name.as_str(), bios.systems.len(), bios.reboot), ("BIOS 1.4b", 2, true));
        assert_eq!(bios.devices, ["BIOS"]);
        assert!(read(b"{}", Format::Supermicro).is_err());
    }
}
