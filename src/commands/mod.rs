//! The subcommands: each turns settings into calls and results into output, and holds no logic of its own.

mod archs;
mod forge;
mod inspect;
mod parity;
mod run;
mod shell;
mod verify;

pub use archs::archs;
pub use forge::forge;
pub use inspect::inspect;
pub use parity::parity;
pub use run::run;
pub use shell::{completions, man, version};
pub use verify::verify;
