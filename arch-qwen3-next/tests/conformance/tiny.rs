//! A tiny random Qwen3.5: every kind of layer, four tokens.

use mtplx_runtime::model::MtpModel;
use mtplx_runtime::testing::{Fill, TinyCheckpoint};
use serde_json::json;

use mtplx_arch_qwen3_next::Qwen3Next;

pub const VOCAB: usize = 4;
const HIDDEN: usize = 32;
const INTERMEDIATE: usize = 32;
const HEADS: usize = 2;
const HEAD_DIM: usize = 16;
const KEY_DIM: usize = 16;
const VALUE_HEADS: usize = 2;
const TAPS: usize = 4;

/// The model of `seed`, in f32. Gains are above a trained model's, so that what a layer remembers matters to the next
/// token: a stale state must show.
pub fn model(seed: u64) -> MtpModel {
    let config = json!({
        "model_type": "qwen3_5",
        "tie_word_embeddings": false,
        "dtype": "float32",
        "text_config": {
            "model_type": "qwen3_5_text",
            "hidden_size": HIDDEN,
            "intermediate_size": INTERMEDIATE,
            "num_hidden_layers": 2,
            "layer_types": ["linear_attention", "full_attention"],
            "num_attention_heads": HEADS,
            "num_key_value_heads": 1,
            "head_dim": HEAD_DIM,
            "vocab_size": VOCAB,
            "rms_norm_eps": 1e-6,
            "max_position_embeddings": 4096,
            "linear_conv_kernel_dim": TAPS,
            "linear_key_head_dim": KEY_DIM,
            "linear_value_head_dim": KEY_DIM,
            "linear_num_key_heads": 1,
            "linear_num_value_heads": VALUE_HEADS,
            "mtp_num_hidden_layers": 1,
            "attn_output_gate": true,
            "rope_parameters": {"rope_type": "default", "rope_theta": 10000.0, "partial_rotary_factor": 0.5},
        },
    });
    let mut checkpoint = TinyCheckpoint::new(config, seed);
    let trunk = "model.language_model.";
    checkpoint.tensor("lm_head.weight", &[VOCAB, HIDDEN], Fill::Linear(1.2)).tensor(
        format!("{trunk}embed_tokens.weight"),
        &[VOCAB, HIDDEN],
        Fill::Normal(1.0),
    );
    delta(&mut checkpoint, &format!("{trunk}layers.0."));
    attention(&mut checkpoint, &format!("{trunk}layers.1."));
    norm(&mut checkpoint, &format!("{trunk}norm"), HIDDEN);
    checkpoint.tensor("mtp.fc.weight", &[HIDDEN, 2 * HIDDEN], Fill::Linear(1.4));
    for name in ["pre_fc_norm_embedding", "pre_fc_norm_hidden", "norm"] {
        norm(&mut checkpoint, &format!("mtp.{name}"), HIDDEN);
    }
    attention(&mut checkpoint, "mtp.layers.0.");
    checkpoint.load(&Qwen3Next)
}

fn norm(checkpoint: &mut TinyCheckpoint, name: &str, width: usize) {
    checkpoint.tensor(format!("{name}.weight"), &[width], Fill::Normal(0.1));
}

fn linear(checkpoint: &mut TinyCheckpoint, name: &str, out: usize, input: usize, gain: f64) {
    checkpoint.tensor(format!("{name}.weight"), &[out, input], Fill::Linear(gain));
}

fn around(checkpoint: &mut TinyCheckpoint, prefix: &str) {
    norm(checkpoint, &format!("{prefix}input_layernorm"), HIDDEN);
    norm(checkpoint, &format!("{prefix}post_attention_layernorm"), HIDDEN);
    linear(checkpoint, &format!("{prefix}mlp.gate_proj"), INTERMEDIATE, HIDDEN, 1.0);
    linear(checkpoint, &format!("{prefix}mlp.up_proj"), INTERMEDIATE, HIDDEN, 1.0);
    linear(checkpoint, &format!("{prefix}mlp.down_proj"), HIDDEN, INTERMEDIATE, 1.0);
}

fn attention(checkpoint: &mut TinyCheckpoint, prefix: &str) {
    around(checkpoint, prefix);
    let module = format!("{prefix}self_attn.");
    linear(checkpoint, &format!("{module}q_proj"), 2 * HEADS * HEAD_DIM, HIDDEN, 1.5);
    linear(checkpoint, &format!("{module}k_proj"), HEAD_DIM, HIDDEN, 1.5);
    linear(checkpoint, &format!("{module}v_proj"), HEAD_DIM, HIDDEN, 2.0);
    linear(checkpoint, &format!("{module}o_proj"), HIDDEN, HEADS * HEAD_DIM, 3.0);
    norm(checkpoint, &format!("{module}q_norm"), HEAD_DIM);
    norm(checkpoint, &format!("{module}k_norm"), HEAD_DIM);
}

fn delta(checkpoint: &mut TinyCheckpoint, prefix: &str) {
    around(checkpoint, prefix);
    let module = format!("{prefix}linear_attn.");
    let values = VALUE_HEADS * KEY_DIM;
    let channels = 2 * KEY_DIM + values;
    linear(checkpoint, &format!("{module}in_proj_qkv"), channels, HIDDEN, 1.5);
    linear(checkpoint, &format!("{module}in_proj_z"), values, HIDDEN, 1.0);
    linear(checkpoint, &format!("{module}in_proj_b"), VALUE_HEADS, HIDDEN, 1.0);
    linear(checkpoint, &format!("{module}in_proj_a"), VALUE_HEADS, HIDDEN, 1.0);
    linear(checkpoint, &format!("{module}out_proj"), HIDDEN, values, 3.0);
    checkpoint
        .tensor(format!("{module}conv1d.weight"), &[channels, 1, TAPS], Fill::Linear(1.5))
        .tensor(format!("{module}A_log"), &[VALUE_HEADS], Fill::Between(-2.0, 0.0))
        .tensor(format!("{module}dt_bias"), &[VALUE_HEADS], Fill::Between(-2.0, 0.0))
        .tensor(format!("{module}norm.weight"), &[KEY_DIM], Fill::Between(0.8, 1.2));
}
