//! `mtplx_runtime.json`: the body is `mtplx_engine::fuzz::contract`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mtplx_engine::fuzz::contract(bytes));
