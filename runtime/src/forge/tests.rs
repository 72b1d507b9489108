//! Packing against MLX's own, reading of rows, and what a plan makes of rules.

use half::{bf16, f16};
use mlx_rs::{Array, Dtype as MlxDtype, ops};
use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::json;
use tempfile::TempDir;

use super::plan::Coding;
use super::read::Reader;
use super::{Group, Output, Part, Policy, Rule, Rules, Source, quantize_rows};
use crate::artifact::Checkpoint;
use crate::artifact::expected::Expected;
use crate::quant::{Mode, Scheme};
use crate::testing::Rng;

/// Rows of every kind: normal, all alike, zero, one sign only, tiny, with an outlier.
fn rows(width: usize) -> Vec<f32> {
    let mut rng = Rng::new(7);
    let mut normal = |scale: f64| (0..width).map(|_| (scale * rng.normal()) as f32).collect::<Vec<_>>();
    let mut all = [normal(1.0), normal(0.02), normal(1e-9), normal(300.0)].concat();
    all.extend(vec![0.0; width]);
    all.extend(vec![-0.75; width]);
    all.extend(normal(1.0).into_iter().map(f32::abs));
    all.extend(normal(1.0).into_iter().map(|value| -value.abs()));
    let mut outlier = normal(0.01);
    outlier[5] = 9.0;
    all.extend(outlier);
    // Values on the very middle between two codes.
    all.extend((0..width).map(|i| (i % 31) as f32 / 2.0));
    all
}

#[test]
fn packs_as_mlx_does() {
    const WIDTH: usize = 256;
    let values = rows(WIDTH);
    let shape = [(values.len() / WIDTH) as i32, WIDTH as i32];
    for (dtype, mlx) in
        [(Dtype::F32, MlxDtype::Float32), (Dtype::BF16, MlxDtype::Bfloat16), (Dtype::F16, MlxDtype::Float16)]
    {
        let values: Vec<f32> = match dtype {
            Dtype::BF16 => values.iter().map(|&v| bf16::from_f32(v).to_f32()).collect(),
            Dtype::F16 => values.iter().map(|&v| f16::from_f32(v).to_f32()).collect(),
            _ => values.clone(),
        };
        let array = Array::from_slice(&values, &shape).as_dtype(mlx).unwrap();
        for bits in [2, 3, 4, 5, 6, 8] {
            for group in [32, 64, 128] {
                let scheme = Scheme::new(Mode::Affine, bits, group).unwrap();
                let (mut codes, mut scales, mut biases) = (Vec::new(), Vec::new(), Vec::new());
                quantize_rows(&values, scheme, dtype, &mut codes, &mut scales, &mut biases);
                let (weight, mlx_scales, mlx_biases) = ops::quantize(&array, group as i32, bits as i32).unwrap();
                weight.eval().unwrap();
                let theirs: Vec<u8> = weight.as_slice::<u32>().iter().flat_map(|word| word.to_le_bytes()).collect();
                assert_eq!(codes, theirs, "{scheme} {dtype}");
                for (ours, theirs) in [(&scales, &mlx_scales), (&biases, &mlx_biases)] {
                    let theirs = theirs.as_dtype(MlxDtype::Float32).unwrap();
                    theirs.eval().unwrap();
                    let ours = crate::artifact::to_f32(ours, dtype).unwrap();
                    let bits = |values: &[f32]| values.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
                    assert_eq!(bits(&ours), bits(theirs.as_slice()), "{scheme} {dtype}");
                }
            }
        }
    }
}

/// A folder with these tensors.
fn folder(config: serde_json::Value, tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> TempDir {
    let dir = TempDir::new().unwrap();
    std::fs::write(dir.path().join("config.json"), config.to_string()).unwrap();
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, bytes)| (*name, TensorView::new(*dtype, shape.to_vec(), bytes).unwrap()));
    safetensors::serialize_to_file(views, None, &dir.path().join("model.safetensors")).unwrap();
    dir
}

fn f32s(values: impl IntoIterator<Item = f32>) -> Vec<u8> {
    values.into_iter().flat_map(f32::to_le_bytes).collect()
}

fn output(shape: &[usize], source: Source, plus_one: bool) -> Output {
    let rule = Rule {
        output: "out.weight".to_owned(),
        shape: shape.to_vec(),
        part: Part::Trunk,
        group: Group::Other,
        packable: false,
        source,
        is_norm: plus_one,
        plus_one,
    };
    Output { rule, coding: Coding::Dense(Dtype::F32), source_bytes: 0 }
}

#[test]
fn rows_come_from_where_the_source_says() {
    // w[r][c] = 10 r + c, 6 rows of 2.
    let w = (0..6).flat_map(|r| [0, 1].map(|c| (10 * r + c) as f32));
    let dir = folder(
        json!({"model_type": "toy"}),
        &[
            ("w", Dtype::F32, &[6, 2], f32s(w)),
            ("a", Dtype::F32, &[1, 2], f32s([1.0, 2.0])),
            ("b", Dtype::F32, &[1, 2], f32s([3.0, 4.0])),
        ],
    );
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let reader = Reader::new(&checkpoint, None).unwrap();
    let read = |output: &Output, rows: std::ops::Range<usize>| {
        let mut values = Vec::new();
        reader.floats(output, rows, &mut values).unwrap();
        values
    };
    let whole = output(&[3, 4, 1], Source::Whole("w".into()), true);
    assert_eq!(read(&whole, 1..3), [2.0, 11.0]);
    let stack = output(&[2, 1, 2], Source::Stack(vec!["a".into(), "b".into()]), false);
    assert_eq!(read(&stack, 0..2), [1.0, 2.0, 3.0, 4.0]);
    assert_eq!(read(&stack, 1..2), [3.0, 4.0]);
    // Two matrices of three stored rows each, of which the last two.
    let part = output(&[2, 2, 2], Source::Rows { tensor: "w".into(), each: 3, start: 1 }, false);
    assert_eq!(read(&part, 0..4), [10.0, 11.0, 20.0, 21.0, 40.0, 41.0, 50.0, 51.0]);
    assert_eq!(read(&part, 1..3), [20.0, 21.0, 40.0, 41.0], "across the border");
    let turned = output(&[2, 2, 2], Source::Columns { tensor: "w".into(), each: 3, start: 1 }, false);
    assert_eq!(read(&turned, 0..4), [10.0, 20.0, 11.0, 21.0, 40.0, 50.0, 41.0, 51.0]);
    assert_eq!(read(&turned, 3..4), [41.0, 51.0]);
    let mut bytes = Vec::new();
    assert!(reader.copy(&part, 1..2, &mut bytes).unwrap() && bytes == f32s([20.0, 21.0]));
    assert!(!reader.copy(&whole, 0..1, &mut bytes).unwrap(), "what is changed is not copied");
}

#[test]
fn fp8_blocks_have_their_own_scales() {
    // 3 x 5 in blocks of 2 x 4: a grid of 2 x 2, edges cut off. 0x38 is 1, 0x40 is 2, 0xb8 is -1, 0x01 is 2^-9.
    let codes = vec![0x38, 0x40, 0xb8, 0x38, 0x38, 0x40, 0x40, 0x40, 0x40, 0x40, 0x38, 0x01, 0x00, 0x38, 0x38];
    let config =
        json!({"model_type": "toy", "quantization_config": {"quant_method": "fp8", "weight_block_size": [2, 4]}});
    let dir = folder(
        config,
        &[("w", Dtype::F8_E4M3, &[3, 5], codes), ("w_scale_inv", Dtype::F32, &[2, 2], f32s([2.0, 3.0, 0.5, 1.003]))],
    );
    let checkpoint = Checkpoint::open(dir.path()).unwrap();
    let reader = Reader::new(&checkpoint, None).unwrap();
    let mut values = Vec::new();
    reader.floats(&output(&[3, 5], Source::Whole("w".into()), false), 0..3, &mut values).unwrap();
    // The last is rounded to bf16, which has 1/128 beside 1.
    let rounded = bf16::from_f32(1.003).to_f32();
    let expected = [2.0, 4.0, -2.0, 2.0, 3.0, 4.0, 4.0, 4.0, 4.0, 6.0, 0.5, 1.0 / 1024.0, 0.0, 0.5, rounded];
    assert_eq!(values, expected);
    let mut again = Vec::new();
    reader.floats(&output(&[3, 5], Source::Whole("w".into()), false), 1..3, &mut again).unwrap();
    assert_eq!(again, expected[5..]);
}

#[test]
fn experts_are_stacked_whatever_they_were() {
    let numbered = (0..2).flat_map(|expert| {
        ["w1", "w3", "w2"].map(|name| Expected::module(format!("l.moe.experts.{expert}.{name}"), [4, 8]))
    });
    let joined = [
        Expected::tensor("m.mlp.experts.gate_up_proj", [2, 8, 4]),
        Expected::tensor("m.mlp.experts.down_proj", [2, 4, 4]),
    ];
    let rules = Rules::new(numbered.chain(joined).collect(), Vec::new()).stack_experts(["w1", "w3", "w2"]).grouped();
    let list: Vec<_> =
        rules.iter().map(|rule| (rule.output.as_str(), rule.shape.clone(), rule.source.clone())).collect();
    let stack = |name: &str| Source::Stack((0..2).map(|e| format!("l.moe.experts.{e}.{name}.weight")).collect());
    let half = |start| Source::Rows { tensor: "m.mlp.experts.gate_up_proj".into(), each: 8, start };
    assert_eq!(
        list,
        [
            ("l.moe.switch_mlp.gate_proj.weight", vec![2, 4, 8], stack("w1")),
            ("l.moe.switch_mlp.up_proj.weight", vec![2, 4, 8], stack("w3")),
            ("l.moe.switch_mlp.down_proj.weight", vec![2, 4, 8], stack("w2")),
            ("m.mlp.switch_mlp.gate_proj.weight", vec![2, 4, 4], half(0)),
            ("m.mlp.switch_mlp.up_proj.weight", vec![2, 4, 4], half(4)),
            ("m.mlp.switch_mlp.down_proj.weight", vec![2, 4, 4], Source::Whole("m.mlp.experts.down_proj".into())),
        ]
    );
    assert!(rules.iter().all(|rule| rule.packable && rule.group == Group::Experts));
}

#[test]
fn a_plan_states_what_departs_from_the_default() {
    let rules = Rules::new(
        vec![
            Expected::module("model.embed_tokens", [8, 64]),
            Expected::module("model.layers.0.linear_attn.out_proj", [8, 64]),
            Expected::module("model.layers.0.self_attn.o_proj", [8, 48]),
            Expected::tensor("model.norm.weight", [64]),
        ],
        vec![Expected::module("mtp.fc", [64, 128]), Expected::module("mtp.layers.0.mlp.up_proj", [64, 64])],
    );
    let plan = super::Plan::imagined(&rules.grouped(), Policy::builtin("gdn8-speed4").unwrap());
    assert_eq!(
        plan.quantization().unwrap(),
        json!({"group_size": 64, "bits": 4, "mode": "affine",
            "model.layers.0.linear_attn.out_proj": {"group_size": 64, "bits": 8, "mode": "affine"},
            "model.layers.0.self_attn.o_proj": false}),
        "48 is no multiple of 64"
    );
    assert_eq!(plan.head_quantization()["policy"], "layer-linears");
    let files: Vec<&str> = plan.files.iter().map(|file| file.name.as_str()).collect();
    assert_eq!(files, ["model.safetensors", "mtp.safetensors"]);
    assert!(plan.index()["weight_map"].get("mtp.fc.weight").is_none(), "the head is not of the index");
    let written: u64 = plan.table().iter().map(|row| row.after).sum();
    let headers: u64 = plan.files.iter().map(|file| file.header.len() as u64).sum();
    assert_eq!(plan.bytes(), written + headers);
}

#[test]
fn shards_keep_modules_together_and_types_aligned() {
    use super::layout::{Tensor, files};
    let module = |name: &str, rows: usize| {
        vec![
            Tensor { name: format!("{name}.scales"), dtype: Dtype::BF16, shape: vec![rows, 1] },
            Tensor { name: format!("{name}.weight"), dtype: Dtype::U32, shape: vec![rows, 8] },
        ]
    };
    let files = files(vec![module("a", 3), module("b", 3), module("c", 100)], 250, |n, of| format!("{n}-{of}"));
    let names: Vec<_> = files.iter().map(|file| (file.name.as_str(), file.tensors.len())).collect();
    assert_eq!(names, [("1-2", 4), ("2-2", 2)], "one that is too large has a file of its own");
    for file in &files {
        for (tensor, at) in &file.tensors {
            assert!(at.is_multiple_of(tensor.dtype.bitsize() as u64 / 8), "{} at {at}", tensor.name);
        }
    }
}
