//! Built again when the web applications were.

fn main() {
    println!("cargo:rerun-if-changed=../../ui/dist");
}
