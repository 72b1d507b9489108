//! Why evidence does not count.

/// Faults that are named.
const MAX_NAMED: usize = 16;

/// Why evidence does not count.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Doubts {
    /// Contradictions of what would run: a gate that failed, figures that do not hold, another depth or convention.
    pub against: Vec<String>,
    /// Gaps: fields and figures that are not there.
    pub lacking: Vec<String>,
}

impl Doubts {
    /// True for a baseline with neither.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.against.is_empty() && self.lacking.is_empty()
    }

    /// All of them, what weighs more first.
    pub fn all(self) -> impl Iterator<Item = String> {
        self.against.into_iter().chain(self.lacking)
    }

    /// Adds others.
    pub fn extend(&mut self, other: Self) {
        self.against.extend(other.against);
        self.lacking.extend(other.lacking);
    }

    /// The same with the first few of each.
    pub(super) fn shortened(mut self) -> Self {
        for list in [&mut self.against, &mut self.lacking] {
            if let Some(more) = list.len().checked_sub(MAX_NAMED).filter(|&more| more > 0) {
                list.truncate(MAX_NAMED);
                list.push(format!("exactness_baseline: {more} faults more"));
            }
        }
        self
    }
}
