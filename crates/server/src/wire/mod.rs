//! Wire dialects: requests become one internal type, and one type of events becomes frames.

pub mod chat;
pub mod completions;
pub mod errors;
pub mod frame;
pub mod internal;
pub mod messages;
pub mod models;
pub mod ollama;
pub mod responses;

mod chat_history;
mod chunk;
mod field;
mod history;
mod options;
mod parts;
mod raw_input;
#[cfg(test)]
mod testing;
mod tools;
