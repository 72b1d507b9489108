//! The subcommands: each turns settings into calls and results into output, and holds no logic of its own.

mod archs;
mod bench;
mod chat;
mod doctor;
mod forge;
mod inspect;
mod models;
mod parity;
mod pull;
mod remove;
mod run;
pub(crate) mod serve;
mod shell;
mod start;
mod tune;
mod verify;

pub use archs::archs;
pub use bench::bench;
pub use chat::chat;
pub use doctor::doctor;
pub use forge::forge;
pub use inspect::inspect;
pub use models::models;
pub use parity::parity;
pub use pull::pull;
pub use remove::remove;
pub use run::run;
pub use serve::serve;
pub use shell::{completions, man, version};
pub use start::start;
pub use tune::tune;
pub use verify::verify;
