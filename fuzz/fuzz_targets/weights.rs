//! a safetensors file: the body is `mtplx_artifact::testing::fuzz::weights`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mtplx_artifact::testing::fuzz::weights(bytes));
