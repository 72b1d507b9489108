//! The program as its users meet it: arguments in; output, errors and exit codes out.
//!
//! One binary, because each integration-test binary links MLX again.

mod bench;
#[cfg(unix)]
mod bench_serve;
#[cfg(unix)]
mod chat;
mod command;
mod damage;
mod doctor;
mod engine;
mod forge;
mod gates;
mod generate;
mod help;
#[cfg(unix)]
mod hub;
mod inspect;
mod numbers;
mod parity;
#[cfg(unix)]
mod paths;
mod policies;
mod prompts;
mod server;
mod start;
mod tune;
mod verify;
