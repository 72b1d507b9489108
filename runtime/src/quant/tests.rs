//! Schemes, geometry, and numbers worked out by hand.

use safetensors::Dtype;
use serde_json::{Value, json};

use super::{HeadQuantization, Mode, Packed, Quantization, Scheme, SchemeError, dequantize};
use crate::artifact::{ArtifactError, Checkpoint, Config, ErrorKind, TensorInfo};

fn scheme(mode: Mode, bits: usize, group_size: usize) -> Scheme {
    Scheme::new(mode, bits, group_size).unwrap()
}

fn config(fields: Value) -> Config {
    let mut config = json!({"model_type": "toy"});
    config.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    let label = config.to_string().into_bytes().leak();
    let weights: &'static [u8] = b"\x02\0\0\0\0\0\0\0{}";
    Checkpoint::embedded("m", &[("config.json", label), ("model.safetensors", weights)]).unwrap().config().clone()
}

fn stated(fields: Value) -> Result<Quantization, ArtifactError> {
    Quantization::from_config(&config(fields))
}

fn tensor(dtype: Dtype, shape: &[usize]) -> TensorInfo {
    TensorInfo { dtype, shape: shape.to_vec(), file: "f".into(), range: 0..0 }
}

#[test]
fn the_combinations_that_mlx_has() {
    for bits in 0..=9 {
        let known = [16, 32, 64, 128, 256].map(|group| Scheme::new(Mode::Affine, bits, group).is_ok());
        let expected = matches!(bits, 2 | 3 | 4 | 5 | 6 | 8);
        assert_eq!(known, [false, expected, expected, expected, false], "{bits}");
    }
    for (mode, bits, group) in [(Mode::Mxfp4, 4, 32), (Mode::Mxfp8, 8, 32), (Mode::Nvfp4, 4, 16)] {
        assert_eq!(Scheme::new(mode, bits, group), Ok(mode.default_scheme()));
        assert!(Scheme::new(mode, bits, 64).is_err() && Scheme::new(mode, 6, group).is_err());
    }
    assert_eq!(
        Scheme::new(Mode::Nvfp4, 4, 32).unwrap_err().to_string(),
        "nvfp4 4-bit group 32: MLX has affine 2, 3, 4, 5, 6 or 8 bits by 32, 64 or 128, mxfp4 4 by 32, mxfp8 8 by 32, nvfp4 4 by 16"
    );
}

#[test]
fn entries_override_the_default() {
    let quantization = stated(json!({"quantization": {"bits": 4, "group_size": 32,
        "a": {"bits": 8, "group_size": 64}, "b": false, "c": true, "d": {"mode": "mxfp8"}, "e": {"bits": 6},
        "language_model.f": {"bits": 2, "group_size": 128, "mode": "affine"}, "note": "x"}}))
    .unwrap();
    let default = Some(scheme(Mode::Affine, 4, 32));
    assert_eq!(quantization.default_scheme(), default);
    for (module, expected) in [
        ("other", default),
        ("a", Some(scheme(Mode::Affine, 8, 64))),
        ("b", None),
        ("c", default),
        ("d", Some(scheme(Mode::Mxfp8, 8, 32))),
        ("e", Some(scheme(Mode::Affine, 6, 64))), // an entry stands alone: MLX's group size, not the file's
        ("f", Some(scheme(Mode::Affine, 2, 128))),
        ("language_model.f", Some(scheme(Mode::Affine, 2, 128))),
        ("language_model.b", None),
    ] {
        assert_eq!(quantization.scheme_for(module), expected, "{module}");
    }
    assert_eq!(stated(json!({})).unwrap().scheme_for("a"), None);
}

#[test]
fn where_it_is_stated() {
    let four = json!({"bits": 4, "group_size": 64});
    let fp8 = json!({"quant_method": "fp8", "weight_block_size": [128, 128]});
    let expected = Some(scheme(Mode::Affine, 4, 64));
    for fields in [
        json!({"quantization_config": four}),
        json!({"quantization": four, "quantization_config": fp8}),
        json!({"text_config": {"quantization": four}}),
    ] {
        assert_eq!(stated(fields.clone()).unwrap().default_scheme(), expected, "{fields}");
    }
    for method in ["fp8", "gptq", "awq"] {
        let error = stated(json!({"quantization_config": {"quant_method": method}})).unwrap_err();
        assert_eq!(
            error.to_string(),
            format!(
                "m/config.json: quantization_config.quant_method: \"{method}\": not supported: expected bf16 weights or MLX's quantization"
            )
        );
        assert_eq!(error.kind(), ErrorKind::Incompatible);
    }
}

#[test]
fn what_cannot_be_stated() {
    for (entry, what) in [
        (json!({"bits": 7}), "quantization.bits: 7: affine 7-bit group 64: MLX has"),
        (json!({"mode": "nf4"}), "quantization.mode: \"nf4\": expected affine, mxfp4, mxfp8 or nvfp4"),
        (json!({"bits": "4"}), "quantization.bits: \"4\": expected an integer from 1 to 64"),
        (json!({"x": {"group_size": 48}}), "quantization.x.group_size: 48: affine 4-bit group 48: MLX has"),
        (json!(4), "quantization: 4: expected an object"),
    ] {
        let error = stated(json!({"quantization": entry})).unwrap_err().to_string();
        assert!(error.starts_with(&format!("m/config.json: {what}")), "{error}");
    }
}

#[test]
fn what_the_head_states() {
    let head = |fields| HeadQuantization::from_config(&config(fields));
    assert_eq!(head(json!({})).unwrap(), HeadQuantization::default());
    let fields = json!({"mtplx_mtp_quantization": {"bits": 4, "group_size": 32, "mode": "affine", "policy": "all",
        "prequantized": true, "norm_encoding": "absolute"}});
    let expected = HeadQuantization {
        scheme: Some(scheme(Mode::Affine, 4, 32)),
        policy: Some("all".into()),
        prequantized: Some(true),
        norm_encoding: Some("absolute".into()),
    };
    assert_eq!(head(fields).unwrap(), expected);
    assert_eq!(head(json!({"mtplx_mtp_quantization": {"policy": "none"}})).unwrap().scheme, None);
    assert!(head(json!({"mtplx_mtp_quantization": {"prequantized": 1}})).is_err());
    // Names of the policy of published packed heads, which tools write for the mode as well.
    for name in ["cyankiwi", "prequantized-int4"] {
        let found = |fields: Value| {
            let found = head(json!({"mtplx_mtp_quantization": fields})).unwrap();
            (found.scheme, found.policy, found.prequantized)
        };
        let four = Some(scheme(Mode::Affine, 4, 32));
        assert_eq!(found(json!({"policy": name})), (None, Some(name.into()), Some(true)));
        assert_eq!(found(json!({"policy": name, "prequantized": false})).2, Some(false));
        assert_eq!(found(json!({"bits": 4, "group_size": 32, "mode": name})), (four, None, Some(true)));
        assert_eq!(found(json!({"group_size": 32, "mode": name})).0, four);
    }
}

/// A head whose one linear is packed in groups of 32, or dense, with what files say of it.
#[test]
fn what_the_files_say_of_another_head() {
    let doubts = |packed: bool, stated: Value, conventions: Value| {
        let parts: &[(&str, Dtype, [usize; 2])] = match packed {
            true => &[
                ("mtp.up.weight", Dtype::U32, [2, 8]),
                ("mtp.up.scales", Dtype::F32, [2, 2]),
                ("mtp.up.biases", Dtype::F32, [2, 2]),
            ],
            false => &[("mtp.up.weight", Dtype::F32, [2, 64])],
        };
        let bytes = [0; 512];
        let views = parts.iter().map(|(name, dtype, shape)| {
            let size = shape.iter().product::<usize>() * 4;
            (*name, safetensors::tensor::TensorView::new(*dtype, shape.to_vec(), &bytes[..size]).unwrap())
        });
        let weights = safetensors::serialize(views, None).unwrap().leak();
        let json = |value: Value| -> &'static [u8] { value.to_string().into_bytes().leak() };
        let files: [(&'static str, &'static [u8]); 3] = [
            ("config.json", json(json!({"model_type": "toy", "mtplx_mtp_quantization": stated}))),
            ("mtplx_runtime.json", json(json!({"mtp_contract": conventions}))),
            ("mtp.safetensors", weights),
        ];
        let checkpoint = Checkpoint::embedded("m", &files).unwrap();
        Quantization::doubts(&checkpoint).iter().map(ToString::to_string).collect::<Vec<_>>().join("; ")
    };
    let (four, eight) = (json!({"bits": 4, "group_size": 32}), json!({"bits": 4, "group_size": 64}));
    let contract = |group_size: usize| json!({"mtp_quant_bits": 4, "mtp_quant_group_size": group_size});
    let groups = "group_size: 64: mtp.up has groups of 32: the shapes decide";
    let policy = "is a head packed in 4 bits: none of its linears is packed";
    for (packed, stated, conventions, expected) in [
        (true, four.clone(), contract(32), String::new()),
        (true, eight, json!({}), format!("config.json: mtplx_mtp_quantization.{groups}")),
        (true, json!({}), contract(64), format!("mtplx_runtime.json: mtp_contract.mtp_quant_{groups}")),
        (true, json!({"policy": "cyankiwi"}), json!({"mtp_quant_policy": "prequantized-int4"}), String::new()),
        (false, json!({"policy": "layer-linears"}), json!({"mtp_quant_mode": "affine"}), String::new()),
        (
            false,
            json!({"policy": "cyankiwi"}),
            json!({}),
            format!("config.json: mtplx_mtp_quantization.policy: \"cyankiwi\" {policy}"),
        ),
        (
            false,
            json!({}),
            json!({"mtp_quant_mode": "prequantized-int4"}),
            format!("mtplx_runtime.json: mtp_contract.mtp_quant_policy: \"prequantized-int4\" {policy}"),
        ),
    ] {
        assert_eq!(doubts(packed, stated, conventions), expected);
    }
}

#[test]
fn geometry_is_checked_and_inferred() {
    // [out 6, in 128], and with an axis of 3 experts before it.
    for (scheme, packed, groups) in [
        (scheme(Mode::Affine, 2, 32), 8, 4),
        (scheme(Mode::Affine, 3, 64), 12, 2),
        (scheme(Mode::Affine, 5, 128), 20, 1),
        (scheme(Mode::Affine, 6, 32), 24, 4),
        (scheme(Mode::Affine, 8, 64), 32, 2),
        (scheme(Mode::Mxfp4, 4, 32), 16, 4),
        (scheme(Mode::Mxfp8, 8, 32), 32, 4),
        (scheme(Mode::Nvfp4, 4, 16), 16, 8),
    ] {
        for lead in [&[6][..], &[3, 6]] {
            let shape = |width: usize| [lead, &[width]].concat();
            let affine = scheme.mode() == Mode::Affine;
            let weight = tensor(Dtype::U32, &shape(packed));
            let scales = tensor(if affine { Dtype::BF16 } else { Dtype::U8 }, &shape(groups));
            let biases = affine.then_some(&scales);
            assert_eq!(scheme.check(&weight, &scales, biases, &shape(128)), Ok(()), "{scheme}");
            assert_eq!(Scheme::infer(&weight, &scales, affine, 128), Ok(scheme));
            assert!(scheme.check(&weight, &scales, biases, &[7, 128]).is_err(), "{scheme}: other rows");
            assert!(scheme.check(&weight, &scales, biases, &shape(256)).is_err(), "{scheme}: other width");
        }
    }
}

#[test]
fn parts_that_do_not_fit() {
    let four = scheme(Mode::Affine, 4, 32);
    let weight = tensor(Dtype::U32, &[6, 16]);
    let scales = tensor(Dtype::BF16, &[6, 4]);
    let said = |weight: &TensorInfo, scales: &TensorInfo, biases: Option<&TensorInfo>, shape: &[usize]| {
        four.check(weight, scales, biases, shape).unwrap_err().to_string()
    };
    let shape = &[6, 128];
    assert_eq!(
        said(&tensor(Dtype::U32, &[6, 12]), &scales, Some(&scales), shape),
        "weight of shape [6, 12]: expected [6, 16] for affine 4-bit group 32 of [6, 128]"
    );
    assert_eq!(
        said(&weight, &tensor(Dtype::BF16, &[6, 2]), Some(&scales), shape),
        "scales of shape [6, 2]: expected [6, 4] for affine 4-bit group 32 of [6, 128]"
    );
    assert_eq!(said(&tensor(Dtype::I32, &[6, 16]), &scales, Some(&scales), shape), "weight of type I32: expected U32");
    assert_eq!(
        said(&weight, &tensor(Dtype::U8, &[6, 4]), Some(&scales), shape),
        "scales of type U8: expected F32, F16 or BF16"
    );
    let odd = tensor(Dtype::I32, &[6, 4]);
    assert_eq!(said(&weight, &scales, Some(&odd), shape), "biases of type I32: expected F32, F16 or BF16");
    for (a, b) in [(Dtype::F32, Dtype::F16), (Dtype::F16, Dtype::BF16), (Dtype::BF16, Dtype::F32)] {
        let [scales, biases] = [a, b].map(|dtype| tensor(dtype, &[6, 4]));
        assert_eq!(four.check(&weight, &scales, Some(&biases), shape), Ok(()), "{a} {b}");
    }
    assert_eq!(said(&weight, &scales, None, shape), "no biases: affine needs them");
    assert_eq!(
        said(&weight, &scales, Some(&scales), &[6, 100]),
        "width 100: expected a multiple of the group size of affine 4-bit group 32"
    );
    let mx = scheme(Mode::Mxfp4, 4, 32);
    let bytes = tensor(Dtype::U8, &[6, 4]);
    assert_eq!(mx.check(&weight, &bytes, Some(&bytes), shape), Err(SchemeError::Biases { expected: false }));
    for (packed, groups, width) in [(16, 3, 128), (16, 4, 127), (0, 0, 128), (16, 4, 0), (usize::MAX, 4, 128)] {
        assert!(
            Scheme::infer(&tensor(Dtype::U32, &[6, packed]), &tensor(Dtype::U8, &[6, groups]), true, width).is_err()
        );
    }
}

/// Packs codes as MLX does: one stream of bits, lowest first.
fn pack(codes: &[u8], bits: usize) -> Vec<u8> {
    let mut bytes = vec![0; codes.len() * bits / 8];
    for (i, code) in codes.iter().enumerate() {
        for bit in 0..bits {
            let at = i * bits + bit;
            bytes[at / 8] |= (code >> bit & 1) << (at % 8);
        }
    }
    bytes
}

fn le(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

#[test]
fn packing_is_mlxs() {
    // extract_bits of mlx/backend/cpu/quantized.cpp, with the bytes 0xB1 0x4E 0xC7 …: first codes by hand.
    let group = |bits: usize, first: &[u8]| {
        let mut weight = vec![0; 4 * bits];
        weight[..first.len()].copy_from_slice(first);
        let (scales, biases) = (le(&[1.0]), le(&[0.0]));
        let packed =
            Packed { weight: &weight, scales: &scales, scales_dtype: Dtype::F32, biases: Some((&biases, Dtype::F32)) };
        dequantize(scheme(Mode::Affine, bits, 32), packed, 1, 32).unwrap()[..8].to_vec()
    };
    // 0xB1 = 10110001, 0x4E = 01001110, 0xC7 = 11000111
    let bytes = [0xB1, 0x4E, 0xC7, 0x00, 0x00, 0x00];
    assert_eq!(group(2, &bytes[..2]), [1.0, 0.0, 3.0, 2.0, 2.0, 3.0, 0.0, 1.0]);
    assert_eq!(group(3, &bytes[..3]), [1.0, 6.0, 2.0, 7.0, 4.0, 6.0, 1.0, 6.0]);
    assert_eq!(group(4, &bytes[..4]), [1.0, 11.0, 14.0, 4.0, 7.0, 12.0, 0.0, 0.0]);
    assert_eq!(group(5, &bytes[..5]), [17.0, 21.0, 19.0, 14.0, 12.0, 0.0, 0.0, 0.0]);
    assert_eq!(group(6, &bytes[..6]), [49.0, 58.0, 52.0, 49.0, 0.0, 0.0, 0.0, 0.0]);
    assert_eq!(group(8, &bytes[..6]), [177.0, 78.0, 199.0, 0.0, 0.0, 0.0, 0.0, 0.0]);
}

#[test]
fn affine_of_every_width() {
    for bits in [2, 3, 4, 5, 6, 8] {
        for group in [32, 64, 128] {
            let (rows, width) = (3, 256);
            let codes: Vec<u8> = (0..rows * width).map(|i| ((i * 37 + i / 7) % (1 << bits)) as u8).collect();
            let scales: Vec<f32> = (0..rows * width / group).map(|i| 0.5 + i as f32).collect();
            let biases: Vec<f32> = (0..rows * width / group).map(|i| -1.25 * i as f32).collect();
            let (weight, s, b) = (pack(&codes, bits), le(&scales), le(&biases));
            let packed =
                Packed { weight: &weight, scales: &s, scales_dtype: Dtype::F32, biases: Some((&b, Dtype::F32)) };
            let out = dequantize(scheme(Mode::Affine, bits, group), packed, rows, width).unwrap();
            let expected: Vec<f32> = codes
                .iter()
                .enumerate()
                .map(|(i, &code)| f32::from(code) * scales[i / group] + biases[i / group])
                .collect();
            assert_eq!(out, expected, "{bits} {group}");
        }
    }
}

#[test]
fn half_precision_scales() {
    let weight = pack(&[3; 32], 4);
    let of = |dtype, scale: u16, bias: u16| {
        let (s, b) = (scale.to_le_bytes(), bias.to_le_bytes());
        let packed = Packed { weight: &weight, scales: &s, scales_dtype: dtype, biases: Some((&b, dtype)) };
        dequantize(scheme(Mode::Affine, 4, 32), packed, 1, 32).unwrap()[0]
    };
    assert_eq!(of(Dtype::BF16, 0x3fc0, 0xbf80), 3.5); // 1.5, -1
    assert_eq!(of(Dtype::F16, 0x3e00, 0xbc00), 3.5);
}

/// A group of the floating-point modes: these codes, the rest zero.
fn fp(mode: Mode, codes: &[u8], scale: u8) -> Vec<f32> {
    let scheme = mode.default_scheme();
    let mut all = vec![0; scheme.group_size()];
    all[..codes.len()].copy_from_slice(codes);
    let weight = pack(&all, scheme.bits());
    let packed = Packed { weight: &weight, scales: &[scale], scales_dtype: Dtype::U8, biases: None };
    dequantize(scheme, packed, 1, scheme.group_size()).unwrap()[..codes.len()].to_vec()
}

#[test]
fn floating_point_modes() {
    let sixteen: Vec<u8> = (0..16).collect();
    let e2m1 = [0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, -0.0, -0.5, -1.0, -1.5, -2.0, -3.0, -4.0, -6.0];
    let times = |factor: f32| e2m1.map(|value| value * factor).to_vec();
    assert_eq!(fp(Mode::Mxfp4, &sixteen, 127), times(1.0));
    assert_eq!(fp(Mode::Mxfp4, &sixteen, 130), times(8.0));
    assert_eq!(fp(Mode::Mxfp4, &[2], 1), [2_f32.powi(-126)]);
    assert_eq!(fp(Mode::Mxfp4, &[2], 0), [2_f32.powi(-127)]);
    assert_eq!(fp(Mode::Mxfp4, &[2], 254), [2_f32.powi(127)]);
    // E4M3: 0x38 is 1, 0x3c is 1.5, 0x7e the largest, 0x01 the smallest, 0x08 the smallest normal.
    assert_eq!(fp(Mode::Nvfp4, &sixteen, 0x38), times(1.0));
    assert_eq!(fp(Mode::Nvfp4, &sixteen, 0x3c), times(1.5));
    assert_eq!(fp(Mode::Nvfp4, &[7], 0x7e), [6.0 * 448.0]);
    let e4m3 = [0x00, 0x01, 0x08, 0x38, 0x3c, 0x40, 0x7e, 0xb8, 0x81, 0x7f];
    let values = [0.0, 2_f32.powi(-9), 2_f32.powi(-6), 1.0, 1.5, 2.0, 448.0, -1.0, -2_f32.powi(-9), 480.0];
    assert_eq!(fp(Mode::Mxfp8, &e4m3, 127), values);
    assert_eq!(fp(Mode::Mxfp8, &e4m3, 126), values.map(|value| value / 2.0));
}

#[test]
fn parts_of_the_wrong_size() {
    let four = scheme(Mode::Affine, 4, 32);
    let (weight, plane) = ([0; 16], [0; 4]);
    let good = Packed { weight: &weight, scales: &plane, scales_dtype: Dtype::F32, biases: Some((&plane, Dtype::F32)) };
    assert_eq!(dequantize(four, good, 1, 32).unwrap(), [0.0; 32]);
    let said = |packed, rows, width| dequantize(four, packed, rows, width).unwrap_err().to_string();
    assert_eq!(said(good, 2, 32), "weight of 16 bytes: expected 32");
    assert_eq!(said(Packed { scales: &[0; 8], ..good }, 1, 32), "scales of 8 bytes: expected 4");
    assert_eq!(said(Packed { biases: Some((&[0; 3], Dtype::F32)), ..good }, 1, 32), "biases of 3 bytes: expected 4");
    assert_eq!(
        said(Packed { scales_dtype: Dtype::U32, ..good }, 1, 32),
        "scales of type U32: expected F32, F16 or BF16"
    );
    assert_eq!(said(Packed { biases: None, ..good }, 1, 32), "no biases: affine needs them");
    let mx = Packed { scales: &[127; 2], scales_dtype: Dtype::U8, biases: None, ..good };
    let said_mx = |packed| dequantize(Mode::Mxfp4.default_scheme(), packed, 1, 32).unwrap_err().to_string();
    assert_eq!(said_mx(mx), "scales of 2 bytes: expected 1");
    assert_eq!(said_mx(Packed { scales_dtype: Dtype::F8_E8M0, ..mx }), "scales of type F8_E8M0: expected U8");
    assert_eq!(said_mx(Packed { biases: good.biases, ..mx }), "biases: only affine has them");
    assert!(dequantize(four, good, 1, 33).is_err());
    assert!(dequantize(four, good, usize::MAX, usize::MAX - 31).is_err());
}

/// `fixtures/generate.py` wrote it.
const MLX: &[u8] = include_bytes!("fixtures/mlx.safetensors");

#[test]
fn mlx_reads_the_same_numbers() {
    let files: [(&'static str, &'static [u8]); 2] =
        [("config.json", br#"{"model_type":"toy"}"#), ("model.safetensors", MLX)];
    let fixture = Checkpoint::embedded("fixtures", &files).unwrap();
    let modules: Vec<&str> = fixture.tensors().filter_map(|(name, _)| name.strip_suffix(".weight")).collect();
    assert_eq!(modules.len(), 21);
    for module in modules {
        let part = |part: &str| format!("{module}.{part}");
        let info = |name: &str| fixture.tensor(&part(name));
        let (weight, scales, biases) = (info("weight").unwrap(), info("scales").unwrap(), info("biases"));
        let inferred = Scheme::infer(weight, scales, biases.is_some(), 128).unwrap();
        assert_eq!(inferred.to_string().replace("-bit group ", ".").replace(' ', "."), module);
        inferred.check(weight, scales, biases, &[1, 128]).unwrap();
        let bytes = |name: &str| fixture.bytes(&part(name)).unwrap();
        let packed = Packed {
            weight: bytes("weight"),
            scales: bytes("scales"),
            scales_dtype: scales.dtype,
            biases: biases.map(|biases| (bytes("biases"), biases.dtype)),
        };
        let out = dequantize(inferred, packed, 1, 128).unwrap();
        assert_eq!(out, fixture.floats(&part("expected")).unwrap(), "{module}");
    }
}

/// A checkpoint with a dense module, an affine 4-bit one (twice), and one whose parts disagree.
fn modules(quantization: Value) -> (Checkpoint, Quantization) {
    let parts = [
        ("dense.weight", Dtype::F32, vec![2, 64]),
        ("four.weight", Dtype::U32, vec![2, 8]),
        ("four.scales", Dtype::F32, vec![2, 2]),
        ("four.biases", Dtype::F32, vec![2, 2]),
        ("odd.weight", Dtype::U32, vec![2, 8]),
        ("odd.scales", Dtype::F32, vec![2, 3]),
        ("odd.biases", Dtype::F32, vec![2, 3]),
    ];
    let bytes: Vec<u8> = vec![0; 512];
    let views = parts.iter().map(|(name, dtype, shape)| {
        let size = shape.iter().product::<usize>() * 4;
        (*name, safetensors::tensor::TensorView::new(*dtype, shape.clone(), &bytes[..size]).unwrap())
    });
    let weights = safetensors::serialize(views, None).unwrap().leak();
    let config = json!({"model_type": "toy", "quantization": quantization}).to_string().into_bytes().leak();
    let checkpoint = Checkpoint::embedded("m", &[("config.json", config), ("model.safetensors", weights)]).unwrap();
    let quantization = Quantization::from_config(checkpoint.config()).unwrap();
    (checkpoint, quantization)
}

#[test]
fn modules_are_what_their_tensors_are() {
    let four = Some(scheme(Mode::Affine, 4, 32));
    let (checkpoint, quantization) = modules(json!({"bits": 4, "group_size": 32}));
    let resolve =
        |module, stated| quantization.resolve(&checkpoint, module, &[2, 64], stated).map_err(|error| error.to_string());
    assert_eq!(resolve("dense", true), Ok(None)); // no scales: not quantized, whatever the default
    assert_eq!(resolve("four", true), Ok(four));
    assert_eq!(
        resolve("odd", true).unwrap_err(),
        "m/model.safetensors: odd: scales of shape [2, 3]: expected [2, 2] for affine 4-bit group 32 of [2, 64]"
    );
    assert_eq!(
        resolve("odd", false).unwrap_err(),
        "m/model.safetensors: odd: weight [2, 8] with scales [2, 3]: fits no quantization of width 64"
    );
    assert_eq!(resolve("none", true).unwrap_err(), "m: none.weight: tensor not found");

    // Stated otherwise: an error for the trunk, nothing to a head's file.
    let (checkpoint, quantization) = modules(json!({"bits": 8, "group_size": 32}));
    let resolve = |stated| quantization.resolve(&checkpoint, "four", &[2, 64], stated);
    let error = resolve(true).unwrap_err();
    assert!(
        error.to_string().contains("weight of shape [2, 8]: expected [2, 16] for affine 8-bit group 32"),
        "{error}"
    );
    assert_eq!(error.hint().text(), Some("the quantization stated in config.json is not the one the weights have"));
    assert_eq!(resolve(false).unwrap(), four);
    // A group size alone is what the shapes say.
    for group_size in [32, 64, 128] {
        let (checkpoint, quantization) = modules(json!({"bits": 4, "group_size": group_size}));
        assert_eq!(quantization.resolve(&checkpoint, "four", &[2, 64], true).unwrap(), four);
        assert!(quantization.resolve(&checkpoint, "odd", &[2, 64], true).is_err());
    }
    // Rows are checked in an inferred scheme as well.
    assert!(quantization.resolve(&checkpoint, "four", &[3, 64], false).is_err());
    // Nothing stated for a module that has scales: as the tensors say.
    let (checkpoint, quantization) = modules(json!({"bits": 8, "group_size": 32, "four": false}));
    assert_eq!(quantization.resolve(&checkpoint, "four", &[2, 64], true).unwrap(), four);
}
