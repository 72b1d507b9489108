//! The self-check of a kernel: it runs only where it agreed with its twin.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};

use mlx_rs::Dtype;

use crate::mlx::{cuda_default, host_available, values};
use crate::{Array, Result};

/// Name and fault of a kernel that was checked; `None` for one that passed.
pub type Outcome = (&'static str, Option<String>);

static OUTCOMES: Mutex<Vec<Outcome>> = Mutex::new(Vec::new());

fn lock() -> MutexGuard<'static, Vec<Outcome>> {
    OUTCOMES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The self-checks that were made in this process.
pub fn outcomes() -> Vec<Outcome> {
    lock().clone()
}

/// The condition for a kernel to run: its device is the default one, and a comparison with its twin passed.
pub struct SelfCheck {
    name: &'static str,
    available: fn() -> bool,
    passed: OnceLock<bool>,
}

impl SelfCheck {
    /// The check of a CUDA kernel, closed until the kernel is first asked for.
    pub const fn new(name: &'static str) -> Self {
        Self { name, available: cuda_default, passed: OnceLock::new() }
    }

    /// The check of a kernel for the processor ([`crate::mlx::host`]).
    pub const fn on_processor(name: &'static str) -> Self {
        Self { name, available: host_available, passed: OnceLock::new() }
    }

    /// Runs `check` at the first call: the largest relative difference between kernel and twin, and what it may be.
    pub fn open(&self, check: impl FnOnce() -> Result<(f32, f32)>) -> bool {
        *self.passed.get_or_init(|| (self.available)() && self.passes(check()))
    }

    fn passes(&self, checked: Result<(f32, f32)>) -> bool {
        let fault = match checked {
            Ok((found, allowed)) if found <= allowed => None,
            Ok((found, allowed)) => {
                Some(format!("differs by {found:e} from MLX's own operations, {allowed:e} allowed"))
            }
            Err(error) => Some(error.to_string()),
        };
        if let Some(fault) = &fault {
            tracing::warn!("the kernel {} is left out: {fault}", self.name);
        }
        let passed = fault.is_none();
        lock().push((self.name, fault));
        passed
    }
}

/// The largest absolute difference over the largest absolute value of `twin`; infinite where either side is not finite, so that
/// no maximum swallows it.
///
/// # Errors
/// When MLX fails.
pub fn relative_difference(ours: &Array, twin: &Array) -> Result<f32> {
    let (ours, twin) = (ours.as_dtype(Dtype::Float32)?, twin.as_dtype(Dtype::Float32)?);
    let differences = ours.subtract(&twin)?.abs()?;
    let number = |a: Array| -> Result<f32> { Ok(values::<f32>(&a)?.iter().sum()) };
    // A sum keeps what is not finite, whatever a backend's maximum does with it.
    if !number(differences.sum(None)?)?.is_finite() {
        return Ok(f32::INFINITY);
    }
    Ok(number(differences.max(None)?)? / number(twin.abs()?.max(None)?)?.max(f32::MIN_POSITIVE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn differences_are_relative_and_never_swallow_a_nan() {
        let array = |values: [f32; 3]| Array::from_slice(&values, &[3]);
        let found = |ours, twin| relative_difference(&array(ours), &array(twin)).unwrap();
        assert_eq!(found([1.0, 2.0, -4.0], [1.0, 2.5, -4.0]), 0.125);
        assert_eq!(found([0.0; 3], [0.0; 3]), 0.0);
        for broken in [f32::NAN, f32::INFINITY] {
            assert_eq!(0f32.max(found([1.0, broken, 2.0], [1.0, 2.0, 2.0])), f32::INFINITY);
            assert_eq!(0f32.max(found([1.0, 2.0, 2.0], [1.0, broken, 2.0])), f32::INFINITY);
        }
    }

    #[test]
    fn a_gate_opens_for_what_was_checked_alone() {
        let gate = SelfCheck::new("test");
        assert!(gate.passes(Ok((0.01, 0.01))));
        assert!(!gate.passes(Ok((0.02, 0.01))));
        assert!(!gate.passes(Ok((f32::NAN, 0.01))));
        assert!(!gate.passes(Err(crate::Error::unsupported("no compiler"))));
        let made: Vec<bool> =
            outcomes().into_iter().filter(|(name, _)| *name == "test").map(|(_, fault)| fault.is_none()).collect();
        assert_eq!(made, [true, false, false, false]);
        let mut asked = 0;
        for _ in 0..2 {
            gate.open(|| {
                asked += 1;
                Ok((1.0, 0.0))
            });
        }
        assert_eq!(asked, i32::from(cuda_default()), "checked once, and on CUDA only");
        assert!(!gate.open(|| Ok((0.0, 0.0))), "closed for good");
    }
}
