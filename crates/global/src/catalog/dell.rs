//! Dell's `Catalog.xml`: a `Manifest` of `SoftwareComponent`s, each with the parts and the systems that it is for.

use roxmltree::{Document, Node};

use super::{Catalog, Image, digest, said, severity};

/// The first child of that name, whatever its namespace.
fn child<'a>(node: Node<'a, 'a>, name: &str) -> Option<Node<'a, 'a>> {
    node.children().find(|n| n.has_tag_name(name) || n.is_element() && n.tag_name().name() == name)
}

/// The English text of a child that has a `Display` for each language.
fn display(node: Node<'_, '_>) -> Option<String> {
    let displays = || node.children().filter(|n| n.is_element() && n.tag_name().name() == "Display");
    let english = displays().find(|d| d.attribute("lang") == Some("en")).or_else(|| displays().next());
    said(english.and_then(|d| d.text()))
}

pub(super) fn read(document: &Document<'_>) -> Catalog {
    let root = document.root_element();
    let mut catalog = Catalog {
        // `downloads.dell.com`, without a scheme.
        base: said(root.attribute("baseLocation"))
            .map(|host| if host.contains("://") { host } else { format!("https://{host}") })
            .map(|base| if base.ends_with('/') { base } else { format!("{base}/") }),
        released: said(root.attribute("dateTime")),
        ..Catalog::default()
    };
    for node in root.children().filter(|n| n.is_element() && n.tag_name().name() == "SoftwareComponent") {
        match image(node) {
            Ok(Some(image)) => catalog.images.push(image),
            // Packages for operating systems that BMCs cannot take.
            Ok(None) => {}
            Err(why) => catalog.pass_over(why),
        }
    }
    catalog
}

fn image(node: Node<'_, '_>) -> Result<Option<Image>, String> {
    let package = said(node.attribute("packageID"));
    let path = said(node.attribute("path"))
        .ok_or_else(|| format!("the component {} names no path", package.as_deref().unwrap_or("without packageID")))?;
    // iDRACs take Windows packages (LWXP) and plain images (LW64); packages for Linux and drivers are for operating systems.
    let kind = node.attribute("packageType").unwrap_or("LW64");
    if !matches!(kind, "LWXP" | "LW64" | "LWEFI") {
        return Ok(None);
    }
    let category = child(node, "ComponentType").and_then(|t| said(t.attribute("value")));
    if category.as_deref().is_some_and(|c| !matches!(c, "BIOS" | "FRMW")) {
        return Ok(None);
    }
    let (mut devices, mut systems) = (Vec::new(), Vec::new());
    if let Some(list) = child(node, "SupportedDevices") {
        for device in list.children().filter(|n| n.is_element() && n.tag_name().name() == "Device") {
            devices.extend(said(device.attribute("componentID")));
            devices.extend(display(device));
        }
    }
    if let Some(list) = child(node, "SupportedSystems") {
        for brand in list.children().filter(|n| n.is_element() && n.tag_name().name() == "Brand") {
            let family = display(brand).unwrap_or_default();
            for model in brand.children().filter(|n| n.is_element() && n.tag_name().name() == "Model") {
                let Some(name) = display(model) else { continue };
                // `PowerEdge` and `R760`: BMCs say both in one.
                let whole = format!("{} {name}", family.trim());
                systems.push(if family.trim().is_empty() || name.starts_with(family.trim()) { name } else { whole });
            }
        }
    }
    let hashes = child(node, "Cryptography");
    let sha256 = hashes.into_iter().flat_map(|c| c.children()).find_map(|h| {
        let sha = h.attribute("algorithm").is_some_and(|a| a.eq_ignore_ascii_case("SHA256"));
        h.text().filter(|_| sha).and_then(|t| digest(t, 64))
    });
    let criticality = child(node, "Criticality");
    Ok(Some(Image {
        external_id: package.clone().unwrap_or_else(|| path.clone()),
        name: child(node, "Name").and_then(display).unwrap_or_else(|| path.clone()),
        package_id: package,
        version: said(node.attribute("vendorVersion")).or_else(|| said(node.attribute("dellVersion"))),
        reboot: node.attribute("rebootRequired").is_some_and(|r| r.eq_ignore_ascii_case("true")),
        severity: criticality
            .and_then(|c| {
                c.attribute("value")
                    .map(severity)
                    .filter(|s| *s != "unknown")
                    .or_else(|| display(c).map(|d| severity(d.split('-').next().unwrap_or_default())))
            })
            .unwrap_or("unknown"),
        info_url: child(node, "ImportantInfo").and_then(|i| said(i.attribute("URL"))),
        url: path,
        released: said(node.attribute("dateTime")),
        devices,
        systems,
        sha256,
        md5: node.attribute("hashMD5").and_then(|h| digest(h, 32)),
        size: node.attribute("size").and_then(|s| s.parse().ok()),
    }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failing test should stop")]
    use std::io::Write;

    use crate::catalog::{Format, read};

    const CATALOG: &str = r#"<?xml version="1.0" encoding="utf-16"?>
<Manifest baseLocation="downloads.dell.com" dateTime="2026-03-01T06:00:00+00:00" version="26.03.00">
  <SoftwareBundle bundleID="x"/>
  <SoftwareComponent packageID="ABC12" path="FOLDER012/1/BIOS_ABC12_WN64_2.10.0.EXE" packageType="LW64" dellVersion="A00" vendorVersion="2.10.0"
    hashMD5="0123456789ABCDEF0123456789ABCDEF" rebootRequired="true" dateTime="2026-02-20T04:00:00-06:00" size="31457280">
    <Name><Display lang="fr">BIOS du serveur</Display><Display lang="en"><![CDATA[Server BIOS R760]]></Display></Name>
    <ComponentType value="BIOS"><Display lang="en">BIOS</Display></ComponentType>
    <Criticality value="2"><Display lang="en"><![CDATA[Urgent-Dell highly recommends applying this update as soon as possible.]]></Display></Criticality>
    <Cryptography><Hash algorithm="SHA1">00</Hash><Hash algorithm="SHA256">AABBAABBAABBAABBAABBAABBAABBAABBAABBAABBAABBAABBAABBAABBAABBAABB</Hash></Cryptography>
    <ImportantInfo URL="https://www.dell.com/support/abc12"/>
    <SupportedDevices><Device componentID="159" embedded="1"><Display lang="en">BIOS</Display></Device></SupportedDevices>
    <SupportedSystems><Brand key="3" prefix="PE"><Display lang="en">PowerEdge</Display><Model systemID="0C2A"><Display lang="en">R760</Display></Model></Brand></SupportedSystems>
  </SoftwareComponent>
  <SoftwareComponent packageID="LNX" path="x.BIN" packageType="LLXP"/>
  <SoftwareComponent packageID="DRV" path="x.EXE" packageType="LW64"><ComponentType value="DRVR"/></SoftwareComponent>
  <SoftwareComponent packageID="BAD" packageType="LW64"/>
</Manifest>"#;

    #[test]
    fn components_for_bmcs_are_read() {
        // As Dell sends it: UTF-16 with a mark, packed.
        let mut wide = vec![0xff, 0xfe];
        wide.extend(CATALOG.encode_utf16().flat_map(u16::to_le_bytes));
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::default());
        packed.write_all(&wide).unwrap();
        let catalog = read(&packed.finish().unwrap(), Format::Dell).unwrap();
        assert_eq!(catalog.base.as_deref(), Some("https://downloads.dell.com/"));
        assert_eq!((catalog.images.len(), catalog.odd), (1, 1), "{catalog:?}");
        let bios = &catalog.images[0];
        assert_eq!(
            (bios.name.as_str(), bios.version.as_deref(), bios.reboot),
            ("Server BIOS R760", Some("2.10.0"), true)
        );
        assert_eq!(bios.devices, ["159", "BIOS"]);
        assert_eq!(bios.systems, ["PowerEdge R760"]);
        assert_eq!((bios.size, bios.sha256.as_deref()), (Some(31_457_280), Some("aabb".repeat(16).as_str())));
        assert!(catalog.passed_over[0].contains("BAD"));
    }

    #[test]
    fn other_documents_are_refused_in_words() {
        for (bytes, words) in [
            (&b"<Other/>"[..], "<Other>"),
            (b"not a catalog", "neither JSON nor XML"),
            (b"{}", "this maker's is XML"),
            (b"\x1f\x8bbroken", "unpacked"),
            (b"<!DOCTYPE x [<!ENTITY a 'b'>]><Manifest/>", "cannot be read"),
            (b"\xff\xff", "neither UTF-8"),
        ] {
            let error = read(bytes, Format::Dell).unwrap_err();
            assert!(error.contains(words) || error.contains("can be read"), "{words}: {error}");
        }
    }
}
