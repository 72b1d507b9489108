//! The model that is compiled in, if one is: `models/builtin`, listed by the build script.

/// The name by which `--model` asks for it.
pub const LABEL: &str = "builtin";

const FILES: &[(&str, &[u8])] = include!(concat!(env!("OUT_DIR"), "/builtin.rs"));

/// Its files, by name; `None` in a binary built without it.
pub fn files() -> Option<&'static [(&'static str, &'static [u8])]> {
    (!FILES.is_empty()).then_some(FILES)
}
