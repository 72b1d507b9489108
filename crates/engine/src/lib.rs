//! Judges a model's files and loads the model: the verdict, the evidence behind it, and what `verify` stamps.

pub mod assess;
#[cfg(any(test, feature = "testing"))]
pub mod fuzz;
#[cfg(any(test, feature = "testing"))]
pub mod testing;
