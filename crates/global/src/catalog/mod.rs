//! Firmware catalogs as makers publish them, read into one form. Pure: bytes in, images out; nothing here fetches anything.
//!
//! What is not understood is passed over and counted, so that one odd entry does not cost a catalog; a document of another kind altogether
//! is refused in words.

mod dell;
mod fetch;
mod hpe;
mod lenovo;
mod plain;
mod supermicro;

use std::io::Read;

use serde_json::Value;

pub use fetch::{Document, Fetched, MOST_BYTES, Source, fetch};

/// One image of a catalog.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Image {
    /// What the maker calls it; unique in its catalog.
    pub external_id: String,
    /// What it is for, for people.
    pub name: String,
    /// The maker's id of the package.
    pub package_id: Option<String>,
    /// Version.
    pub version: Option<String>,
    /// The server restarts for it.
    pub reboot: bool,
    /// `critical`, `recommended`, `optional` or `unknown`.
    pub severity: &'static str,
    /// Where people read about it.
    pub info_url: Option<String>,
    /// Where it lies: absolute, or relative to the catalog.
    pub url: String,
    /// When it was released, as the maker wrote it.
    pub released: Option<String>,
    /// Parts that it is for: names and ids, as BMCs tell them.
    pub devices: Vec<String>,
    /// Servers that it is for; none: all.
    pub systems: Vec<String>,
    /// SHA-256 in hexadecimal.
    pub sha256: Option<String>,
    /// MD5, where the maker gives nothing better. It is kept and shown, and proves nothing.
    pub md5: Option<String>,
    /// Bytes.
    pub size: Option<u64>,
}

/// A catalog that was read.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Catalog {
    /// Its images.
    pub images: Vec<Image>,
    /// Entries that were passed over, in words: the first few.
    pub passed_over: Vec<String>,
    /// How many were passed over.
    pub odd: usize,
    /// Where relative addresses begin, where the document says so.
    pub base: Option<String>,
    /// When the maker released it.
    pub released: Option<String>,
}

/// Entries that are told of one by one.
const TOLD: usize = 5;

impl Catalog {
    fn pass_over(&mut self, why: String) {
        self.odd += 1;
        if self.passed_over.len() < TOLD {
            self.passed_over.push(why);
        }
    }
}

/// How a catalog is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Dell: `Catalog.xml`, a `Manifest` of `SoftwareComponent`s.
    Dell,
    /// HPE: the `fwrepo.json` of a firmware repository.
    Hpe,
    /// Lenovo: the XML that goes with UpdateXpress packages, CIM instances.
    Lenovo,
    /// Supermicro: a list of images as JSON.
    Supermicro,
    /// Ours: JSON, `steelyard-firmware-catalog/1`.
    Plain,
}

impl Format {
    /// From its word.
    pub fn parse(word: &str) -> Option<Self> {
        Some(match word {
            "dell" => Self::Dell,
            "hpe" | "hp" => Self::Hpe,
            "lenovo" => Self::Lenovo,
            "supermicro" => Self::Supermicro,
            "steelyard" => Self::Plain,
            _ => return None,
        })
    }
}

/// Reads a catalog. `format` is what its owner says that it is; ours is known by its first field, whoever it is said to be of.
pub fn read(bytes: &[u8], format: Format) -> Result<Catalog, String> {
    let text = text(bytes)?;
    if text.trim_start().starts_with('{') || text.trim_start().starts_with('[') {
        let value: Value = serde_json::from_str(&text).map_err(|e| format!("the catalog is not JSON: {e}"))?;
        if value["format"] == plain::FORMAT {
            return plain::read(&value);
        }
        return match format {
            Format::Hpe => hpe::read(&value),
            Format::Supermicro => supermicro::read(&value),
            Format::Plain => Err(format!("the catalog does not say \"format\": {:?}", plain::FORMAT)),
            Format::Dell | Format::Lenovo => Err("the catalog is JSON; this maker's is XML".into()),
        };
    }
    let options = roxmltree::ParsingOptions { allow_dtd: false, nodes_limit: 20_000_000, ..Default::default() };
    let document = roxmltree::Document::parse_with_options(&text, options)
        .map_err(|e| format!("the catalog is neither JSON nor XML that can be read: {e}"))?;
    match (format, document.root_element().tag_name().name()) {
        (Format::Dell, "Manifest") => Ok(dell::read(&document)),
        (Format::Lenovo, "CIM") => Ok(lenovo::read(&document)),
        (_, root) => Err(format!("the catalog's root element is <{root}>, which is not a catalog of this maker")),
    }
}

/// The text of a document, unpacked where it is gzip, in UTF-8 or UTF-16.
fn text(bytes: &[u8]) -> Result<String, String> {
    let mut plain = Vec::new();
    let bytes = if bytes.starts_with(&[0x1f, 0x8b]) {
        let limit = MOST_BYTES + 1;
        flate2::read::GzDecoder::new(bytes)
            .take(limit)
            .read_to_end(&mut plain)
            .map_err(|e| format!("the catalog's gzip cannot be unpacked: {e}"))?;
        if plain.len() as u64 == limit {
            return Err(format!("the catalog is larger than {} MiB unpacked", MOST_BYTES >> 20));
        }
        plain.as_slice()
    } else {
        bytes
    };
    let wide = |order: fn([u8; 2]) -> u16| {
        let units = bytes.get(2..).unwrap_or_default().chunks_exact(2).map(|c| order([c[0], c[1]]));
        char::decode_utf16(units).map(|c| c.unwrap_or(char::REPLACEMENT_CHARACTER)).collect::<String>()
    };
    Ok(match bytes {
        [0xff, 0xfe, ..] => wide(u16::from_le_bytes),
        [0xfe, 0xff, ..] => wide(u16::from_be_bytes),
        _ => {
            let text = std::str::from_utf8(bytes).map_err(|_| "the catalog is neither UTF-8 nor UTF-16".to_owned())?;
            text.trim_start_matches('\u{feff}').to_owned()
        }
    })
}

/// A digest of so many hexadecimal digits, in lower case.
fn digest(text: &str, digits: usize) -> Option<String> {
    let text = text.trim().to_ascii_lowercase();
    (text.len() == digits && text.bytes().all(|b| b.is_ascii_hexdigit())).then_some(text)
}

/// A maker's word for how urgent an update is, in ours.
fn severity(word: &str) -> &'static str {
    match word.trim().to_ascii_lowercase().as_str() {
        "urgent" | "critical" | "3" => "critical",
        "recommended" | "initial release" | "1" => "recommended",
        "optional" | "2" => "optional",
        _ => "unknown",
    }
}

/// Text that says something.
fn said(text: Option<&str>) -> Option<String> {
    text.map(str::trim).filter(|t| !t.is_empty()).map(str::to_owned)
}

/// A text, or a list of texts.
fn list(value: &Value) -> Vec<String> {
    match value {
        Value::String(one) => said(Some(one)).into_iter().collect(),
        Value::Array(many) => many.iter().filter_map(|v| said(v.as_str())).collect(),
        _ => Vec::new(),
    }
}

/// Whether a word means yes.
fn yes(value: &Value) -> bool {
    match value {
        Value::Bool(b) => *b,
        Value::Number(n) => n.as_i64() == Some(1),
        Value::String(s) => matches!(s.trim().to_ascii_lowercase().as_str(), "yes" | "true" | "1" | "required"),
        _ => false,
    }
}
