//! What a sequence leaves behind, compared: lengths, keys and values, recurrent states.

use crate::cache::Cache;
use crate::model::MtpModel;
use crate::verify::host::{self, token_array};
use crate::verify::{Difference, difference};
use crate::{Array, Result};

/// Largest difference of two ways to compute the same state, per unit of its largest value: products of other widths round
/// differently, in f32.
pub const TOLERANCE: f64 = 1e-4;

/// A trunk's cache and its hidden rows after a forward pass of `tokens` from nothing, at once.
///
/// # Errors
/// When MLX fails.
pub fn fresh(model: &MtpModel, tokens: &[u32]) -> Result<(Cache, Array)> {
    let mut cache = model.trunk.new_cache();
    let hidden = model.trunk.append(&token_array(tokens), &mut cache)?;
    Ok((cache, hidden))
}

/// The head's history after every pair of `tokens`, at once: row t with token t + 1.
///
/// # Errors
/// When MLX fails, or the model has no draft head.
pub fn fresh_history(model: &MtpModel, tokens: &[u32]) -> Result<Cache> {
    let (_, hidden) = fresh(model, tokens)?;
    let pairs = tokens.len() as i32 - 1;
    let head = model.drafter.as_ref().ok_or_else(|| crate::Error::unsupported("no draft head"))?;
    let mut state = head.new_state();
    if pairs > 0 {
        head.feed(&mut state, &host::rows(&hidden, 0, pairs)?, &token_array(&tokens[1..]))?;
    }
    Ok(state.history)
}

/// Asserts that two arrays are equal within `tolerance` for each unit of the largest value.
#[track_caller]
pub fn assert_close(what: &str, found: &Array, expected: &Array, tolerance: f64) {
    assert_eq!(found.shape(), expected.shape(), "{what}: shapes");
    let (found, expected) = (host::values(found).expect("values"), host::values(expected).expect("values"));
    let scale = expected.iter().fold(1.0, |scale: f64, &value| scale.max(f64::from(value).abs()));
    for (place, (&found, &expected)) in found.iter().zip(&expected).enumerate() {
        let difference = (f64::from(found) - f64::from(expected)).abs();
        // Written so that a NaN fails.
        assert!(
            difference <= tolerance * scale,
            "{what}: {found} at {place}, expected {expected}: off by {difference:e}, allowed {:e}",
            tolerance * scale
        );
    }
}

/// Asserts that two caches hold the same rows: [`difference`] within [`TOLERANCE`].
#[track_caller]
pub fn assert_same_state(what: &str, found: &Cache, expected: &Cache) {
    match difference(found, expected).expect("values") {
        // What is no number is infinitely far off.
        Ok(Difference { relative, at }) if relative > TOLERANCE => {
            panic!("{what}: {at}: off by {relative:e} of the largest value, allowed {TOLERANCE:e}")
        }
        Ok(_) => {}
        Err(mismatch) => panic!("{what}: {mismatch}"),
    }
}
