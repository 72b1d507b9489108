//! `model.safetensors.index.json`: the body is `mtplx_artifact::testing::fuzz::shards`.
#![no_main]

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mtplx_artifact::testing::fuzz::shards(bytes));
