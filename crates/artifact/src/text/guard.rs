//! Turns panics of the `tokenizers` crate into errors.
//!
//! Mutating tokenizer.json files shows that some make it panic (a bad precompiled normalizer, a subword prefix longer
//! than the token), and the file is downloaded data. A panic is caught here, but the hook that prints it belongs to the
//! application, which can ask [`panic_is_expected`].

use std::cell::Cell;
use std::panic::{AssertUnwindSafe, catch_unwind};

use super::error::TextError;

thread_local! {
    static GUARDED: Cell<bool> = const { Cell::new(false) };
}

/// Whether a panic on this thread is about to be reported as an error, so that a panic hook need not print it.
pub fn panic_is_expected() -> bool {
    GUARDED.get()
}

/// Runs a call into `tokenizers`; errors and panics alike become [`TextError::Tokenizer`].
pub(super) fn guarded<T>(call: impl FnOnce() -> tokenizers::Result<T>) -> Result<T, TextError> {
    let before = GUARDED.replace(true);
    let result = catch_unwind(AssertUnwindSafe(call));
    GUARDED.set(before);
    let what = match result {
        Ok(Ok(value)) => return Ok(value),
        Ok(Err(error)) => one_line(&error.to_string()),
        Err(_) => "the tokenizers library cannot cope with this file".to_owned(),
    };
    Err(TextError::Tokenizer { what })
}

/// Messages of the `tokenizers` crate may quote input: no line ends, no megabytes.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(300).collect()
}
