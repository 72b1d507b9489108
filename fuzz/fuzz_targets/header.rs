//! The JSON of a safetensors header: the body is `mtplx_artifact::testing::fuzz::header`.
#![no_main]

libfuzzer_sys::fuzz_target!(|json: &[u8]| mtplx_artifact::testing::fuzz::header(json));
