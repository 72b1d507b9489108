//! The conformance suite.

use std::path::Path;

use mtplx_runtime::Array;
use mtplx_runtime::architecture::MtpArchitecture as _;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::host::{token_array, values as values_of};
use mtplx_runtime::testing::mutate::{Tensor, rewritten};
use mtplx_runtime::testing::tiny::load;
use mtplx_runtime::testing::{Fill, TinyCheckpoint};
use serde_json::json;

use crate::Glm4Moe;

mtplx_runtime::conformance!(
    Glm4Moe,
    tiny: tiny,
    samples: mtplx_runtime::testing::conformance::FEWER_SAMPLES,
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
    TinyCheckpoint::planned(&Glm4Moe, config, seed).load(&Glm4Moe)
}

/// An MTP layer may bring its own embedding and head: the draft head is that of a model that has these for its trunk.
#[test]
fn an_own_embedding_and_head_are_the_draft_heads() {
    let (vocab, hidden) = (20, 32);
    let config = json!({
        "model_type": "glm4_moe",
        "hidden_size": hidden, "vocab_size": vocab, "num_hidden_layers": 1, "num_attention_heads": 2, "dtype": "float32",
        "num_key_value_heads": 1, "head_dim": 16, "intermediate_size": 32, "n_routed_experts": 4,
        "num_experts_per_tok": 2, "moe_intermediate_size": 16, "first_k_dense_replace": 1, "num_nextn_predict_layers": 1,
    });
    let own = [
        ("model.embed_tokens.weight", "model.layers.1.embed_tokens.weight"),
        ("lm_head.weight", "model.layers.1.shared_head.head.weight"),
    ];
    let mut checkpoint = TinyCheckpoint::planned(&Glm4Moe, config, 3);
    for (_, name) in own {
        checkpoint.tensor(name, &[vocab, hidden], Fill::Linear(1.0));
    }
    let dir = checkpoint.write();
    let original = Checkpoint::open(dir.path()).expect("a checkpoint");
    // One whose trunk has them, and one whose layer brings copies of its trunk's: both have nothing of its own.
    let moved = rewritten(
        &original,
        |_| {},
        |name, tensor| match own.iter().find(|(trunk, _)| *trunk == name) {
            Some((_, head)) => Some(Tensor { bytes: original.bytes(head).expect("bytes").to_vec(), ..tensor }),
            None => Some(tensor).filter(|_| own.iter().all(|(_, head)| *head != name)),
        },
    );
    let copied = rewritten(
        &original,
        |_| {},
        |name, tensor| match own.iter().find(|(_, head)| *head == name) {
            Some((trunk, _)) => Some(Tensor { bytes: original.bytes(trunk).expect("bytes").to_vec(), ..tensor }),
            None => Some(tensor),
        },
    );
    let logits = |dir: &Path| {
        let head = load(&Glm4Moe, dir).drafter.expect("a draft head");
        let values: Vec<f32> = (0..4 * hidden).map(|i| ((i * i) as f32 * 0.1).sin()).collect();
        let rows = Array::from_slice(&values, &[4, hidden as i32]);
        let mut state = head.new_state();
        head.feed(&mut state, &rows, &token_array(&[1, 5, 9, 2])).expect("rows");
        values_of(&head.logits(&state.round().expect("a round").rows[0]).expect("logits")).expect("values")
    };
    assert_eq!(logits(dir.path()), logits(moved.path()));
    assert_ne!(logits(dir.path()), logits(copied.path()));
    let forged = |dir: &Path| {
        let checkpoint = Checkpoint::open(dir).expect("a checkpoint");
        let rules = Glm4Moe.plan(&checkpoint).expect("a plan").conversion(&checkpoint).expect("rules");
        rules.iter().filter(|rule| rule.shape == [vocab, hidden]).map(|rule| rule.output.clone()).collect::<Vec<_>>()
    };
    let trunk = own.map(|(trunk, _)| trunk.to_owned());
    let sidecar = ["mtp.layers.0.embed_tokens.weight", "mtp.layers.0.shared_head_head.weight"].map(str::to_owned);
    assert_eq!(forged(dir.path()), [trunk.clone(), sidecar].concat(), "an artifact has them too");
    assert_eq!(forged(copied.path()), trunk);
    let [with, without] = [copied.path(), moved.path()].map(|dir| load(&Glm4Moe, dir).info.weight_bytes);
    assert_eq!(with, without, "copies are not kept twice");
}
