//! Ollama's `/api/chat`, `/api/tags` and `/api/version`.

mod fold;
mod request;
mod tags;
#[cfg(test)]
mod tests;
mod writer;

pub use fold::Fold;
pub use request::{Parsed, parse};
pub use tags::{Tag, tags, version};
pub use writer::Writer;
