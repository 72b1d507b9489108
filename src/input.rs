//! Text that users name: files and standard input, as UTF-8 and no longer than any context.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use crate::error::{Exit, Failure};

/// More text than any context holds.
const LIMIT: u64 = 64 << 20;

/// A text file's contents.
///
/// # Errors
/// It cannot be read, is too long, or is no UTF-8.
pub fn from_file(path: &Path) -> Result<String, Failure> {
    let name = path.display().to_string();
    let file = File::open(path).map_err(|error| unreadable(&name, &error))?;
    limited(file, &name)
}

/// All that `source` holds.
///
/// # Errors
/// It cannot be read, is too long, or is no UTF-8.
pub fn limited(source: impl Read, name: &str) -> Result<String, Failure> {
    let mut bytes = Vec::new();
    source.take(LIMIT + 1).read_to_end(&mut bytes).map_err(|error| unreadable(name, &error))?;
    if bytes.len() as u64 > LIMIT {
        return Err(Failure::usage(format!("{name}: more than {} MiB", LIMIT >> 20), "shorten the prompt"));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        Failure::new(Exit::File, format!("{name}: not UTF-8 text (byte {at})")).hint("convert it to UTF-8")
    })
}

fn unreadable(name: &str, error: &io::Error) -> Failure {
    Failure::new(Exit::File, format!("{name}: {error}")).hint("the text is read from there")
}
