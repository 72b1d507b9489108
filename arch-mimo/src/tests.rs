//! The conformance suite.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::json;

use crate::Mimo;

mtplx_runtime::conformance!(
    Mimo,
    tiny: tiny,
    samples: mtplx_runtime::testing::conformance::FEWER_SAMPLES,
    fixtures: "../tests/fixtures",
    [mimo_bf16]
);

/// Four tokens, two layers and one of the head.
fn tiny(seed: u64) -> MtpModel {
    let config = json!({
        "model_type": "mimo",
        "hidden_size": 32, "vocab_size": 4, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "num_key_value_heads": 1, "intermediate_size": 32, "num_nextn_predict_layers": 1,
    });
    TinyCheckpoint::planned(&Mimo, config, seed).load(&Mimo)
}
