//! Log-probabilities of emitted tokens: the log-softmax of the raw logits in f32, before penalties, bias and filters.
//!
//! A row of a verification is the row of a single step, so the numbers do not depend on drafting but by rounding.

use mlx_rs::ops;

use crate::mlx::{slice_axis, values};
use crate::model::token_array;
use crate::{Array, Error};

/// Log-probabilities in the place of one token.
#[derive(Debug, Clone, PartialEq)]
pub struct TokenLogprobs {
    /// Of the token itself.
    pub logprob: f32,
    /// The likeliest tokens and theirs, the likeliest first.
    pub top: Vec<(u32, f32)>,
}

/// Of `tokens`, which rows of `logits` `[n, vocab]` decided on in their order, with the `top` likeliest of each row.
///
/// # Errors
/// When MLX fails.
pub(super) fn of_rows(logits: &Array, tokens: &[u32], top: usize) -> Result<Vec<TokenLogprobs>, Error> {
    let rows = tokens.len() as i32;
    let logits = slice_axis(logits, 0, 0, rows)?;
    let top = top.min(logits.dim(1).max(0) as usize);
    let logprobs = logits.subtract(ops::logsumexp_axis(&logits, 1, true)?)?;
    let own = logprobs.take_along_axis(token_array(tokens).reshape(&[rows, 1])?, 1)?;
    let own: Vec<f32> = values(&own)?;
    if top == 0 {
        return Ok(own.into_iter().map(|logprob| TokenLogprobs { logprob, top: Vec::new() }).collect());
    }
    let order = ops::argpartition_axis(logprobs.negative()?, top as i32 - 1, 1)?;
    let ids = slice_axis(&order, 1, 0, top as i32)?;
    let likeliest: Vec<f32> = values(&logprobs.take_along_axis(&ids, 1)?)?;
    let ids: Vec<u32> = values(&ids)?;
    let rows = own.into_iter().zip(ids.chunks(top)).zip(likeliest.chunks(top));
    Ok(rows
        .map(|((logprob, ids), likeliest)| {
            let mut top: Vec<(u32, f32)> = ids.iter().copied().zip(likeliest.iter().copied()).collect();
            top.sort_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            TokenLogprobs { logprob, top }
        })
        .collect())
}
