//! The comparison itself, and a model that is nothing but a table: what it computes is known.

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize};

use super::*;
use crate::cache::Cache;
use crate::model::{Batch, Input, ModelInfo, Trunk};

/// Hidden state: the token and a one; logits: the hidden state again.
struct Table;

impl Trunk for Table {
    fn new_cache(&self) -> Cache {
        Cache::new(Vec::new())
    }

    fn embed(&self, tokens: &Array) -> Result<Array> {
        let column = tokens.reshape(&[-1, 1])?.as_type::<f32>()?;
        Ok(mlx_rs::ops::concatenate(&[&column, &mlx_rs::ops::ones_like(&column)?], 1)?)
    }

    fn forward(&self, batch: &mut Batch<'_>) -> Result<Array> {
        for rows in &mut batch.sequences {
            rows.cache.append(rows.count)?;
        }
        match batch.input {
            Input::Tokens(tokens) => self.embed(tokens),
            Input::Embeddings(rows) => Ok(rows.clone()),
        }
    }

    fn logits(&self, hidden: &Array) -> Result<Array> {
        Ok(hidden.clone())
    }
}

fn model() -> MtpModel {
    let info = ModelInfo {
        vocab_size: 2,
        hidden_size: 2,
        context: 8,
        weight_bytes: 0,
        hidden_variant: HiddenVariant::PostNorm,
    };
    MtpModel { trunk: Box::new(Table), drafter: None, info }
}

fn file(tensors: &[(&str, Dtype, &[usize], Vec<u8>)]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|(name, dtype, shape, data)| (name.to_string(), TensorView::new(*dtype, shape.to_vec(), data).unwrap()));
    serialize(views, None).unwrap()
}

fn floats(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

fn ids(values: &[i32]) -> Vec<u8> {
    values.iter().flat_map(|v| v.to_le_bytes()).collect()
}

#[test]
fn differences_and_argmax() {
    let found = Comparison::new("x", &[1.0, 2.0, -4.0, 0.0], &[1.0, 1.5, -4.0, 0.25], 2, true);
    assert_eq!((found.max_abs_diff, found.worst, found.mean_abs_diff), (0.5, [0, 1], 0.1875));
    assert_eq!((found.max_abs_reference, found.relative_diff), (4.0, 0.125));
    assert_eq!(found.argmax, Some(Argmax { agree: 2, rows: 2, largest_margin: 0.0, margins: Vec::new() }));
    assert!(found.within(Tolerance::Largest(0.5)) && !found.within(Tolerance::Largest(0.4)));

    let found = Comparison::new("x", &[1.0, 2.0, 9.0, 9.0], &[3.0, f32::NAN], 2, true);
    assert_eq!((found.rows, found.reference_rows, found.not_finite), (1, 2, 1));
    assert_eq!(found.argmax, Some(Argmax { agree: 0, rows: 1, largest_margin: 1.0, margins: vec![1.0] }));
    assert!(!found.within(Tolerance::Largest(1e9)));
}

/// A mean forgives a stray row of twenty and every tie, and nothing else.
#[test]
fn means_are_held_with_the_choices() {
    let reference: Vec<f32> = [0.0, 1.0].repeat(20);
    let found = |strays: usize, by: f32| {
        let ours = reference
            .chunks(2)
            .enumerate()
            .flat_map(|(row, r)| if row < strays { [r[0] + by, r[1]] } else { [r[0], r[1]] });
        Comparison::new("x", &reference, &ours.collect::<Vec<f32>>(), 2, true)
    };
    let tolerance = Tolerance::Mean(0.1);
    assert!(found(1, 2.0).within(tolerance));
    assert!(!found(2, 1.5).within(tolerance), "two rows of twenty choose another");
    assert!(!found(1, 8.0).within(tolerance), "the mean is 0.2");
    let tie = Comparison::new("x", &[0.0, 0.05], &[0.05, 0.0], 2, true);
    assert!(tie.within(tolerance) && !tie.within(Tolerance::Mean(0.01)));
}

#[test]
fn a_trunk_against_what_a_file_has() {
    let bytes = file(&[
        ("input_ids", Dtype::I32, &[3], ids(&[0, 1, 1])),
        ("trunk.logits", Dtype::F32, &[3, 2], floats(&[0.0, 1.0, 1.0, 1.0, 1.0, 1.5])),
        ("mtp.next_ids", Dtype::I32, &[3], ids(&[1, 1, 0])),
    ]);
    let report = compare(&model(), &Reference::parse(&bytes).unwrap()).unwrap();
    let [logits] = &report.compared[..] else { panic!("{report:?}") };
    assert_eq!((logits.name.as_str(), logits.max_abs_diff, logits.worst), ("trunk.logits", 0.5, [2, 1]));
    assert_eq!(logits.argmax.as_ref().unwrap().agree, 2);
    assert_eq!(report.worst(), (0.5, true));
    assert_eq!(report.skipped[0].name, "mtp*");
}

#[test]
fn faulty_references_are_errors() {
    let error = |bytes: &[u8]| match Reference::parse(bytes) {
        Ok(reference) => compare(&model(), &reference).unwrap_err().to_string(),
        Err(error) => error.to_string(),
    };
    let wide = ("trunk.logits", Dtype::F32, &[1, 3][..], floats(&[0.0; 3]));
    assert!(error(b"junk").starts_with("not a safetensors file: "));
    assert_eq!(error(&file(std::slice::from_ref(&wide))), "input_ids: tensor not found");
    assert_eq!(
        error(&file(&[("input_ids", Dtype::I32, &[1], ids(&[2]))])),
        "input_ids: 2: the vocabulary has 2 tokens"
    );
    assert_eq!(
        error(&file(&[("input_ids", Dtype::I32, &[0], vec![])])),
        "input_ids: shape [0], expected a list of ids"
    );
    assert_eq!(error(&file(&[("input_ids", Dtype::F32, &[1], floats(&[0.0]))])), "input_ids: F32, expected integers");
    let known = ("input_ids", Dtype::I32, &[1][..], ids(&[1]));
    assert_eq!(error(&file(&[known, wide])), "trunk.logits: shape [1, 3], the model computes [1, 2]");
}
