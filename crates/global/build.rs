//! Tells the crate where the built web applications are; an empty folder where they are not, so that Rust builds without Node.

use std::path::PathBuf;

fn main() {
    let manifest = PathBuf::from(std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_default());
    let dist = manifest.join("../../ui/dist");
    println!("cargo:rerun-if-changed={}", dist.display());
    let folder = if dist.join("portal/index.html").exists() {
        dist
    } else {
        let empty = PathBuf::from(std::env::var_os("OUT_DIR").unwrap_or_default()).join("no-ui");
        let _ = std::fs::create_dir_all(&empty);
        empty
    };
    println!("cargo:rustc-env=STEELYARD_UI_DIST={}", folder.display());
}
