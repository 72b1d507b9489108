//! mtplx with the acme family.

// The linker drops an architecture that nobody names, and its registration with it; this lint notices.
#![warn(unused_crate_dependencies)]

use std::process::ExitCode;

use acme_architecture as _;

fn main() -> ExitCode {
    mtplx::main()
}
