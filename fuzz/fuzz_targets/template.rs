//! `chat_template.jinja`: the body is `mtplx_runtime::testing::fuzz::template`.
#![no_main]

/// As the program has it: what exceeds its budget is given up, not the process.
#[global_allocator]
static ALLOCATOR: mtplx_runtime::mlx::BudgetAllocator = mtplx_runtime::mlx::BudgetAllocator;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mtplx_runtime::testing::fuzz::template(bytes));
