//! Toy folders, inspected.

use serde_json::json;

use super::{Stored, inspect};
use crate::artifact::{Checkpoint, HeadSource};
use crate::testing::{Fill, TinyCheckpoint};

#[test]
fn parts_are_told_by_name_and_packing_by_shape() {
    let config = json!({"model_type": "toy", "num_hidden_layers": 1, "max_position_embeddings": 5000});
    let mut tiny = TinyCheckpoint::new(config, 0);
    for (name, shape) in [
        ("model.embed_tokens.weight", &[10, 4][..]),
        ("model.layers.0.self_attn.q_proj.weight", &[4, 4]),
        ("model.layers.0.self_attn.q_norm.weight", &[4]),
        ("model.layers.0.mlp.gate.weight", &[2, 4]),
        ("model.layers.0.mlp.gate_proj.weight", &[8, 4]),
        ("model.layers.0.mlp.experts.0.up_proj.weight", &[8, 4]),
        ("model.layers.1.eh_proj.weight", &[4, 8]),
        ("lm_head.weight", &[10, 4]),
        ("model.visual.patch.weight", &[3, 3]),
    ] {
        tiny.tensor(name, shape, Fill::Normal(1.0));
    }
    let dir = tiny.write();
    let found = inspect(&Checkpoint::open(dir.path()).unwrap(), None);
    let groups: Vec<_> = found.groups.iter().map(|group| (group.part, group.head, group.parameters)).collect();
    assert_eq!(
        groups,
        [
            ("norms", false, 4),
            ("embeddings", false, 40),
            ("attention", false, 16),
            ("experts", false, 32),
            ("router", false, 8),
            ("mlp", false, 32),
            ("output", false, 40),
            ("projection", true, 32),
        ]
    );
    assert!(found.groups.iter().all(|group| matches!(group.stored, Stored::Dense(safetensors::Dtype::F32))));
    assert_eq!((found.parameters, found.tensors), (204, 8));
    assert_eq!((found.head.tensors, &found.head.source, found.head.prequantized), (1, &HeadSource::Shards, false));
    assert_eq!((found.vision.tensors, found.vision.bytes), (1, 36));
    // Nobody says what a sequence of it holds.
    assert_eq!((found.memory, found.context, found.architecture), (None, Some(5000), None));
}
