//! Which machine this is, and whether there is anything to set up on it.

use std::env::consts::{ARCH, OS};

use crate::failure::{Failure, Result};

/// What set-up means here.
#[derive(Debug, PartialEq, Eq)]
pub enum Platform {
    /// MLX comes from a wheel; the Rust target triple.
    Linux(&'static str),
    /// mlx-rs builds as published.
    MacOs,
}

impl Platform {
    /// The machine that this runs on.
    pub fn current() -> Result<Self> {
        Platform::of(OS, ARCH)
    }

    fn of(os: &str, arch: &str) -> Result<Self> {
        match (os, arch) {
            ("macos", _) => Ok(Platform::MacOs),
            // The wheels are built against glibc; a musl xtask means a musl system.
            ("linux", _) if cfg!(target_env = "musl") => Err(Failure::new("MLX has no build for musl Linux")
                .hint("use a distribution with glibc 2.35 or newer (Debian 12, Ubuntu 22.04, Fedora 36 …)")),
            ("linux", "x86_64") => Ok(Platform::Linux("x86_64-unknown-linux-gnu")),
            ("linux", "aarch64") => Ok(Platform::Linux("aarch64-unknown-linux-gnu")),
            _ => Err(Failure::new(format!("MLX has no build for {arch} {os}"))
                .hint("mtplx runs on macOS (Apple silicon) and on Linux (x86_64, aarch64; WSL 2 counts)")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_linuxes_and_macos_are_known() {
        assert_eq!(Platform::of("linux", "x86_64").unwrap(), Platform::Linux("x86_64-unknown-linux-gnu"));
        assert_eq!(Platform::of("linux", "aarch64").unwrap(), Platform::Linux("aarch64-unknown-linux-gnu"));
        assert_eq!(Platform::of("macos", "aarch64").unwrap(), Platform::MacOs);
    }

    #[test]
    fn others_are_refused_by_name() {
        for (os, arch) in [("windows", "x86_64"), ("linux", "riscv64"), ("freebsd", "x86_64")] {
            let failure = Platform::of(os, arch).unwrap_err().to_string();
            assert!(failure.contains(os) && failure.contains(arch), "{failure}");
        }
    }
}
