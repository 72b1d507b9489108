//! OpenAI's `/v1/chat/completions`.

mod fold;
mod request;
#[cfg(test)]
mod tests;
mod writer;

pub use fold::Fold;
pub use request::{Parsed, parse};
pub use writer::Writer;
