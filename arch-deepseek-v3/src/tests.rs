//! The conformance suite.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::json;

use crate::DeepSeekV3;

mtplx_runtime::conformance!(
    DeepSeekV3,
    tiny: tiny,
    samples: mtplx_runtime::testing::conformance::FEWER_SAMPLES,
    fixtures: "../tests/fixtures",
    [deepseek_v3, deepseek_v3_bf16]
);

/// Four tokens, a dense layer and a sparse one; queries that are not compressed, which no fixture has.
fn tiny(seed: u64) -> MtpModel {
    let config = json!({
        "model_type": "deepseek_v3",
        "hidden_size": 32, "vocab_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "q_lora_rank": null, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 16,
        "intermediate_size": 32, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 4, "topk_group": 2,
        "n_shared_experts": 1, "moe_intermediate_size": 16, "routed_scaling_factor": 2.5, "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
        "rope_scaling": {"type": "yarn", "factor": 40, "original_max_position_embeddings": 64, "mscale": 1.0,
            "mscale_all_dim": 0.5},
    });
    TinyCheckpoint::planned(&DeepSeekV3, config, seed).load(&DeepSeekV3)
}
