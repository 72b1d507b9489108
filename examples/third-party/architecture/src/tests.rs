//! The conformance suite.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::Acme;

mtplx_runtime::conformance!(Acme, tiny: tiny, made: [small], fixtures: "fixtures", [acme_tiny]);

/// A small configuration with every kind of layer that the family has.
fn config(vocab: usize) -> Value {
    json!({
        "model_type": "acme",
        "hidden_size": 32, "vocab_size": vocab, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 32, "num_nextn_predict_layers": 1,
    })
}

/// Four tokens: few enough to enumerate every text.
fn tiny(seed: u64) -> MtpModel {
    TinyCheckpoint::planned(&Acme, config(4), seed).load(&Acme)
}

/// A checkpoint of random weights.
fn small() -> TempDir {
    TinyCheckpoint::planned(&Acme, config(64), 1).write()
}
