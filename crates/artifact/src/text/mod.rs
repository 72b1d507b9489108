//! Between text and tokens: tokenizer, chat template, incremental detokenizer, stop strings.
//!
//! Nothing here touches MLX or a device. What it leaves to others: reading files (the artifact's business) and deciding
//! whether a prompt is raw text or a chat (the application's).

mod assets;
mod bytes;
mod detokenize;
mod error;
mod files;
mod guard;
mod jinja;
mod limits;
mod stop;
mod stream;
mod template;
mod tokenizer;

pub use assets::TextAssets;
pub use detokenize::Detokenizer;
pub use error::TextError;
pub use files::TextFiles;
pub use guard::panic_is_expected;
pub use stop::{StopMatcher, StopOutput};
pub use stream::{Ending, TextStream};
pub use template::{ChatTemplate, Message, RenderInput};
pub use tokenizer::Tokenizer;
