//! The conformance suite, and checkpoints as they are published: without the modules that they announce.

use mtplx_runtime::architecture::{Detection, HeadStatus, LoadOptions, MtpArchitecture as _};
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use mtplx_runtime::testing::host::token_array;
use serde_json::json;

use crate::MiniMaxM2;

mtplx_runtime::conformance!(
    MiniMaxM2,
    tiny: tiny,
    samples: mtplx_runtime::testing::conformance::FEWER_SAMPLES,
    fixtures: "../tests/fixtures",
    [minimax_m2_bf16]
);

/// Four tokens, two layers and one of the head.
fn tiny(seed: u64) -> MtpModel {
    let config = json!({
        "model_type": "minimax_m2",
        "hidden_size": 32, "vocab_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "num_key_value_heads": 1, "head_dim": 16, "rotary_dim": 8, "intermediate_size": 16, "num_local_experts": 4,
        "num_experts_per_tok": 2, "use_mtp": true, "num_mtp_modules": 1, "mtp_transformer_layers": 1,
    });
    TinyCheckpoint::planned(&MiniMaxM2, config, seed).load(&MiniMaxM2)
}

#[test]
fn published_checkpoints_announce_modules_that_they_lack() {
    let config = json!({
        "model_type": "minimax_m2", "hidden_size": 16, "vocab_size": 8, "num_hidden_layers": 2,
        "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 8, "rotary_dim": 4, "intermediate_size": 16,
        "num_local_experts": 4, "num_experts_per_tok": 2, "use_mtp": true, "num_mtp_modules": 3,
        "mtp_transformer_layers": 1, "dtype": "float32",
    });
    let dir = TinyCheckpoint::planned_trunk(&MiniMaxM2, config, 1).write();
    let checkpoint = Checkpoint::open(dir.path()).expect("a checkpoint");

    let Detection::Claimed { head: HeadStatus::Incomplete { missing, misshapen } } = MiniMaxM2.detect(&checkpoint)
    else {
        panic!("the head is not incomplete");
    };
    assert_eq!((missing.len(), misshapen.len()), (1, 0));
    assert_eq!(
        missing[0],
        "model.layers.2.* (config.json announces 3 MTP modules, the checkpoint carries none; MiniMax has published none)"
    );
    let plan = MiniMaxM2.plan(&checkpoint).expect("a plan");
    let error = plan.load(&checkpoint, &LoadOptions::default()).err().expect("an error").to_string();
    assert!(error.contains("model.layers.2."), "{error}");

    let options = LoadOptions { trunk_only: true, ..LoadOptions::default() };
    let model = plan.load(&checkpoint, &options).expect("the trunk");
    assert!(model.drafter.is_none());
    let mut cache = model.trunk.new_cache();
    let hidden = model.trunk.append(&token_array(&[1, 2, 3]), &mut cache).expect("a forward pass");
    assert_eq!(model.trunk.logits(&hidden).expect("logits").shape(), [3, 8]);
}
