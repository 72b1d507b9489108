//! `chat_template.jinja`: the body is `mtplx_artifact::testing::fuzz::template`.
#![no_main]

/// As the program has it: what exceeds its budget is given up, not the process.
#[global_allocator]
static ALLOCATOR: mtplx_artifact::memory::BudgetAllocator = mtplx_artifact::memory::BudgetAllocator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mtplx_artifact::testing::fuzz::template(bytes));
