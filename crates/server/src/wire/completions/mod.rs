//! OpenAI's `/v1/completions`: raw prompts, one text for each.

mod fold;
mod request;
#[cfg(test)]
mod tests;
mod writer;

pub use fold::Fold;
pub use request::{Parsed, parse};
pub use writer::Writer;
