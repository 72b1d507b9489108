//! What a model's files are worth: the verdict, the evidence that it believes, and what a passed verification writes.

mod coverage;
mod doubts;
pub mod evidence;
pub mod stamp;
mod verdict;

#[cfg(test)]
mod tests;

pub use verdict::{AssessOptions, Assessment, Verdict, assess, assess_with};
