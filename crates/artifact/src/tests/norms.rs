//! The norm law: raw, stated, guessed.

use serde_json::{Value, json};

use crate::{ArtifactError, Config, NormEncoding, NormRule, norm_encoding};
use NormEncoding::{Absolute, Delta};

/// The law for a configuration's `mtplx_mtp_quantization`, with all q/k norms and all other norms at these means.
fn law(stated: Value, raw: bool, qk: f32, others: f32) -> Result<(NormEncoding, NormRule), ArtifactError> {
    let config = json!({"model_type": "toy", "mtplx_mtp_quantization": stated});
    let config = Config::parse("config.json", config.to_string().as_bytes())?;
    norm_encoding(&config, raw, |name| {
        Ok(match name {
            "layers.0.self_attn.q_norm.weight" => qk,
            "layers.0.self_attn.k_norm.weight" => qk - 0.1,
            "layers.0.input_layernorm.weight" | "layers.0.post_attention_layernorm.weight" => others,
            "pre_fc_norm_hidden.weight" | "pre_fc_norm_embedding.weight" => others + 0.1,
            _ => panic!("asked for {name}"),
        })
    })
}

#[test]
fn raw_is_always_a_delta() {
    assert_eq!(law(Value::Null, true, 9.0, 9.0).unwrap(), (Delta, NormRule::Raw));
}

#[test]
fn what_is_stated_wins_over_the_means() {
    for words in ["delta", "delta_plus_one", "mlx_delta"] {
        let (encoding, rule) = law(json!({"norm_encoding": words}), false, 9.0, 9.0).unwrap();
        assert_eq!((encoding, rule), (Delta, NormRule::Stated(words.to_owned())));
    }
    assert_eq!(law(json!({"norm_encoding": "absolute"}), false, 0.0, 0.0).unwrap().0, Absolute);
    assert_eq!(
        law(json!({"norm_encoding": "raw"}), false, 0.0, 0.0).unwrap_err().to_string(),
        "config.json: mtplx_mtp_quantization.norm_encoding: \"raw\": expected absolute, delta, delta_plus_one or mlx_delta"
    );
}

#[test]
fn unstated_goes_by_both_means() {
    for (qk, others, expected) in [
        (0.9, 0.1, Delta),      // trained deltas: q/k near 1 - they start at 0 and grow most
        (1.24, 0.49, Delta),    // just inside both bounds
        (1.25, 0.49, Absolute), // q/k too large
        (1.24, 0.5, Absolute),  // the others too large
        (1.0, 1.0, Absolute),   // an absolute file, untrained
        (1.9, 1.0, Absolute),
    ] {
        let (encoding, rule) = law(json!({"bits": 4}), false, qk, others).unwrap();
        assert_eq!((encoding, rule), (expected, NormRule::Guessed { attention: qk, least: others }), "{qk} {others}");
    }
    let rule = law(Value::Null, false, 1.0, 0.25).unwrap().1;
    assert_eq!(rule.to_string(), "unstated: guessed by means (q/k norms at most 1.000, other norms at least 0.250)");
}
