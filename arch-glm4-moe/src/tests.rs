//! The conformance suite.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::json;

use crate::Glm4Moe;

mtplx_runtime::conformance!(
    Glm4Moe,
    tiny: tiny,
    fixtures: "../tests/fixtures",
    [glm4_moe, glm4_moe_air_bf16]
);

/// Four tokens, a dense layer and a sparse one, and a head of three layers, which none of the fixtures has.
fn tiny(seed: u64) -> MtpModel {
    let config = json!({
        "model_type": "glm4_moe",
        "hidden_size": 32, "vocab_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "num_key_value_heads": 1, "head_dim": 16, "attention_bias": true, "use_qk_norm": true, "intermediate_size": 32,
        "n_routed_experts": 4, "num_experts_per_tok": 2, "n_shared_experts": 1, "moe_intermediate_size": 16,
        "first_k_dense_replace": 1, "num_nextn_predict_layers": 3,
    });
    TinyCheckpoint::planned::<Glm4Moe>(config, seed).load(&Glm4Moe)
}
