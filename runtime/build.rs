//! Exists only because Cargo asks for a build script wherever a manifest has a `links` key.
fn main() {
    println!("cargo:rerun-if-changed=build.rs");
}
