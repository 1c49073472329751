//! Our own form, for whoever keeps a repository: `{"format": "steelyard-firmware-catalog/1", "images": [...]}`.

use serde::Deserialize;
use serde_json::Value;

use super::{Catalog, Image, digest, severity};

/// What a document of this form says that it is.
pub(super) const FORMAT: &str = "steelyard-firmware-catalog/1";

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Entry {
    id: Option<String>,
    name: String,
    version: String,
    url: String,
    #[serde(default)]
    devices: Vec<String>,
    #[serde(default)]
    systems: Vec<String>,
    #[serde(default)]
    reboot: bool,
    #[serde(default)]
    severity: String,
    sha256: String,
    size: Option<u64>,
    released: Option<String>,
    info: Option<String>,
}

/// Strict: who writes this form is told what is wrong with it.
pub(super) fn read(value: &Value) -> Result<Catalog, String> {
    let Some(all) = value["images"].as_array() else { return Err("the catalog has no list of images".into()) };
    let mut catalog = Catalog {
        released: value["released"].as_str().map(str::to_owned),
        base: value["base"].as_str().map(str::to_owned),
        ..Catalog::default()
    };
    for (n, entry) in all.iter().enumerate() {
        let e: Entry = serde_json::from_value(entry.clone()).map_err(|e| format!("images[{n}]: {e}"))?;
        let sha256 =
            digest(&e.sha256, 64).ok_or_else(|| format!("images[{n}].sha256: is not 64 hexadecimal digits"))?;
        catalog.images.push(Image {
            external_id: e.id.clone().unwrap_or_else(|| format!("{}/{}", e.name, e.version)),
            name: e.name,
            package_id: e.id,
            version: Some(e.version),
            reboot: e.reboot,
            severity: severity(&e.severity),
            info_url: e.info,
            url: e.url,
            released: e.released,
            devices: e.devices,
            systems: e.systems,
            sha256: Some(sha256),
            md5: None,
            size: e.size,
        });
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use crate::catalog::{Format, read};

    #[test]
    fn what_is_wrong_is_said() {
        let good = format!(
            r#"{{"format": "steelyard-firmware-catalog/1", "images": [{{"name": "BIOS", "version": "2.1", "url": "bios.bin", "sha256": "{}", "severity": "critical"}}]}}"#,
            "ab".repeat(32)
        );
        let catalog = read(good.as_bytes(), Format::Dell).unwrap();
        assert_eq!((catalog.images[0].external_id.as_str(), catalog.images[0].severity), ("BIOS/2.1", "critical"));
        for (from, to, words) in [
            ("\"version\"", "\"vresion\"", "images[0]"),
            ("abab", "xxxx", "images[0].sha256"),
            ("\"images\"", "\"image\"", "no list of images"),
        ] {
            assert!(read(good.replacen(from, to, 1).as_bytes(), Format::Plain).unwrap_err().contains(words), "{words}");
        }
        assert!(read(b"{}", Format::Plain).unwrap_err().contains("steelyard-firmware-catalog/1"));
    }
}
