//! The conformance suite.

use mtplx_runtime::architecture::MtpArchitecture as _;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::{Value, json};

use crate::Glm4MoeLite;

mtplx_runtime::conformance!(
    Glm4MoeLite,
    tiny: tiny,
    samples: mtplx_runtime::testing::conformance::FEWER_SAMPLES,
    fixtures: "../tests/fixtures",
    [glm4_moe_lite_bf16]
);

/// Four tokens, a dense layer and a sparse one.
fn config() -> Value {
    json!({
        "model_type": "glm4_moe_lite",
        "hidden_size": 32, "vocab_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "q_lora_rank": 24, "kv_lora_rank": 16, "qk_nope_head_dim": 16, "qk_rope_head_dim": 8, "v_head_dim": 20,
        "intermediate_size": 32, "n_routed_experts": 8, "num_experts_per_tok": 2, "n_group": 1, "topk_group": 1,
        "n_shared_experts": 1, "moe_intermediate_size": 16, "routed_scaling_factor": 1.8, "first_k_dense_replace": 1,
        "num_nextn_predict_layers": 1,
    })
}

fn tiny(seed: u64) -> MtpModel {
    TinyCheckpoint::planned(&Glm4MoeLite, config(), seed).load(&Glm4MoeLite)
}

/// `mlp_layer_types` and `first_k_dense_replace` say the same; what this crate would compute otherwise is refused.
#[test]
fn layer_types_and_fields_without_code() {
    let planned = |field: &str, value: Value| {
        let mut config = config();
        config[field] = value;
        let checkpoint = Checkpoint::of_config("c", config.to_string().as_bytes()).expect("a checkpoint");
        Glm4MoeLite.plan(&checkpoint).map(drop).map_err(|error| error.to_string())
    };
    assert_eq!(planned("mlp_layer_types", json!(["dense", "sparse"])), Ok(()));
    for (field, value) in [
        ("mlp_layer_types", json!(["sparse", "dense"])),
        ("mlp_layer_types", json!(["dense"])),
        ("rope_interleave", json!(false)),
        ("partial_rotary_factor", json!(0.5)),
        ("rope_scaling", json!({"type": "linear", "factor": 4.0})),
    ] {
        let error = planned(field, value.clone()).expect_err("planned");
        assert!(error.contains(field), "{field} {value}: {error}");
    }
}
