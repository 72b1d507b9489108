//! `config.json`, as far as every linked architecture reads it: the body is `mtplx_engine::fuzz::config`.
#![no_main]

use std::sync::LazyLock;

use mtplx_arch_deepseek_v3 as _;
use mtplx_arch_glm4_moe as _;
use mtplx_arch_glm4_moe_lite as _;
use mtplx_arch_mimo as _;
use mtplx_arch_minimax_m2 as _;
use mtplx_arch_qwen3_next as _;
use mtplx_runtime::registry::Registry;

static REGISTRY: LazyLock<Registry> = LazyLock::new(Registry::linked);

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| mtplx_engine::fuzz::config(bytes, &REGISTRY));
