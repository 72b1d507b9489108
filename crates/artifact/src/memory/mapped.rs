//! Files mapped read-only into memory: the safe face of `mmap`.
//!
//! Knows nothing of what the bytes mean; `artifact` parses and bounds-checks them.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// A whole file, mapped read-only. Pages are read when they are first touched.
#[derive(Debug)]
pub struct Mapped(memmap2::Mmap);

impl Deref for Mapped {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.0
    }
}

/// Maps `file` read-only. The file may be closed afterwards.
///
/// # Errors
/// What the operating system says.
pub fn map_file(file: &File) -> io::Result<Mapped> {
    // SAFETY: the mapping is read-only and private to this value, which owns it and hands out slices no longer than its
    // own life. What Rust cannot rule out is another process that writes to the file or cuts it short meanwhile: changed
    // bytes are weights, numbers without invalid values, and every offset was checked against a header copied out of the
    // mapping before; a shortened file ends this process with SIGBUS, as it does every program that maps its weights.
    unsafe { memmap2::Mmap::map(file) }.map(Mapped)
}
