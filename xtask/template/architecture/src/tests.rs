//! The conformance suite.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::TinyCheckpoint;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::NewArch;

mtplx_runtime::conformance!(NewArch, tiny: tiny, made: [small]);

/// FILL IN: a small configuration with every kind of layer that the family has.
fn config(vocab: usize) -> Value {
    json!({
        "model_type": "new_arch",
        "hidden_size": 32, "vocab_size": vocab, "num_hidden_layers": 2, "num_attention_heads": 2, "dtype": "float32",
        "num_key_value_heads": 1, "intermediate_size": 32, "num_nextn_predict_layers": 1,
    })
}

/// Four tokens: few enough to enumerate every text.
fn tiny(seed: u64) -> MtpModel {
    TinyCheckpoint::planned(&NewArch, config(4), seed).load(&NewArch)
}

/// A checkpoint of random weights.
fn small() -> TempDir {
    TinyCheckpoint::planned(&NewArch, config(64), 1).write()
}

/// FILL IN: everything else here compares the crate with itself.
#[test]
fn agrees_with_an_independent_reference() {
    panic!(
        "add a checkpoint with expected values as fixtures/NAME, add `fixtures: \"fixtures\", [NAME]` to `conformance!` \
         above, and delete this test: docs/author-guide.md, step 5"
    );
}
