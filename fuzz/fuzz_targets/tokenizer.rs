//! `tokenizer.json`: the body is `mtplx_artifact::testing::fuzz::tokenizer`.
#![no_main]

use mtplx_artifact::text::panic_is_expected;

/// As the program has it: what exceeds its budget is given up, not the process.
#[global_allocator]
static ALLOCATOR: mtplx_artifact::memory::BudgetAllocator = mtplx_artifact::memory::BudgetAllocator;

/// The fuzzer's own hook ends the process at any panic; those of the tokenizer library become errors.
fn spare_expected_panics() {
    let fatal = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if !panic_is_expected() {
            fatal(info);
        }
    }));
}

libfuzzer_sys::fuzz_target!(init: spare_expected_panics(), |bytes: &[u8]| {
    mtplx_artifact::testing::fuzz::tokenizer(bytes);
});
