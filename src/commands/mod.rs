//! The subcommands: each turns settings into calls and results into output, and holds no logic of its own.

mod archs;
mod bench;
mod forge;
mod inspect;
mod parity;
mod run;
mod shell;
mod tune;
mod verify;

pub use archs::archs;
pub use bench::bench;
pub use forge::forge;
pub use inspect::inspect;
pub use parity::parity;
pub use run::{read_text, run};
pub use shell::{completions, man, version};
pub use tune::tune;
pub use verify::verify;
