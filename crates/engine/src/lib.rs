//! Engine of mtplx: judges a model's files, loads the model, and serves requests on it.
//!
//! [`Engine::load`] takes a [`LoadSpec`], [`Engine::submit`] a [`Request`], and the [`Stream`] that it returns gives [`Event`]s. One thread
//! owns the model; requests take rounds in turn on it. `examples/generate.rs` is the whole way from a folder to text.
//!
//! Nothing here prints, reads the command line or the environment, or uses the network.

mod admission;
pub mod assess;
mod batch;
pub mod chat;
mod drawn;
mod engine;
mod error;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
mod memory;
mod model;
pub mod output;
mod prefix_store;
mod request;
mod running;
pub mod scheduler;
pub mod settings;
mod source;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
mod worker;

pub use chat::{ChatFormat, ChatPrompt};
pub use engine::{Engine, EngineInfo, Limits, LoadSpec, Progress};
pub use error::{EngineError, Refusal, RequestError};
pub use memory::{Fit, Room, Shortage};
pub use model::{Admission, AssessedModel, DraftVocab, LoadedModel, ModelText, read_text};
pub use prefix_store::Miss;
pub use request::{CancelFlag, DraftSettings, End, Event, Piece, Request, Stream, TokenInfo};
