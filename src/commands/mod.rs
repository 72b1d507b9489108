//! The subcommands: each turns settings into calls and results into output, and holds no logic of its own.

mod archs;
mod forge;
mod models;
mod parity;
mod pull;
mod remove;
mod run;
mod shell;

pub use archs::archs;
pub use forge::forge;
pub use models::models;
pub use parity::parity;
pub use pull::pull;
pub use remove::remove;
pub use run::run;
pub use shell::{completions, man, version};
