//! The crate's unsafe code: mapped files, and an allocator that holds a thread to a budget.

mod budget;
mod mapped;

pub use budget::{Budget, BudgetAllocator, Exceeded, within};
pub use mapped::{Mapped, map_file};
