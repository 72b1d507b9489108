//! A model against expected tensors: the check that architecture authors and tests share.
//!
//! A reference is a safetensors file with `input_ids` and whichever of the tensors below it has. Its tokens run through
//! the trunk and the draft head as the loop runs them; what comes out is compared tensor by tensor. Judging the
//! differences (which tolerance, what to print) is left to the caller.
//!
//! | tensor | what |
//! | --- | --- |
//! | `trunk.post_norm`, `trunk.logits` | every row of the trunk (`trunk.pre_norm` where the contract feeds that to the head) |
//! | `mtp.next_ids` | the token that follows each row |
//! | `mtp.post_norm`, `mtp.logits` | the head, row t fed our trunk's hidden state t and the token that follows |
//! | `mtp.chain_ids`, `mtp.chain_logits` | drafts after the last row, each fed the one before |
//! | `mtp_multi.k.post_norm`, `mtp_multi.k.logits` | MTP layer k of several, over all rows |
//! | `mtp_multi.chain_ids`, `mtp_multi.chain_logits` | its drafts; where present, `mtp.chain_*` (one layer again and again) is not compared |

mod compare;
mod error;
mod reference;

pub use compare::{Argmax, Comparison, Tolerance};
pub use error::ParityError;
pub use reference::{Reference, ReferenceError};

use crate::artifact::HiddenVariant;
use crate::model::{Drafter, MtpModel};
use crate::{Array, Result};

/// What was compared, and what the reference has that was not.
#[derive(Debug, Clone, Default, serde::Serialize)]
pub struct Report {
    /// In the order in which the model computes them.
    pub compared: Vec<Comparison>,
    /// Tensors of the reference that this model has no counterpart for.
    pub skipped: Vec<Skipped>,
}

/// A tensor that was not compared.
#[derive(Debug, Clone, serde::Serialize)]
pub struct Skipped {
    /// The tensor, or a prefix that ends in `*`.
    pub name: String,
    /// Why.
    pub why: String,
}

/// Runs the reference's tokens through `model` and compares everything that both have.
///
/// # Errors
/// The reference has no usable `input_ids` or tensors of other shapes than the model's, or MLX fails.
pub fn compare(model: &MtpModel, reference: &Reference) -> Result<Report, ParityError> {
    let vocab = model.info.vocab_size;
    let ids = reference.ids("input_ids", vocab)?.ok_or(ReferenceError::Missing { name: "input_ids" })?;
    let mut report = Report::default();

    let mut cache = model.trunk.new_cache();
    let hidden = model.trunk.append(&tokens(&ids), &mut cache)?;
    let name = match model.info.hidden_variant {
        HiddenVariant::PostNorm => "trunk.post_norm",
        HiddenVariant::PreNorm => "trunk.pre_norm",
    };
    report.rows(name, reference, &hidden)?;
    if reference.has("trunk.logits") {
        report.logits("trunk.logits", reference, &model.trunk.logits(&hidden)?)?;
    }

    let Some(head) = model.drafter.as_deref() else {
        if reference.names().any(|name| name.starts_with("mtp")) {
            report.skip("mtp*", "the model was loaded without a draft head");
        }
        return Ok(report);
    };
    let Some(next) = reference.ids("mtp.next_ids", vocab)? else {
        if reference.names().any(|name| name.starts_with("mtp")) {
            report.skip("mtp*", "the reference has no mtp.next_ids");
        }
        return Ok(report);
    };
    if next.len() != ids.len() {
        let what = format!("{} ids, expected one for each of the {} input_ids", next.len(), ids.len());
        return Err(ReferenceError::Malformed { name: "mtp.next_ids".to_owned(), what }.into());
    }
    report.head(head, reference, &hidden, &tokens(&next), vocab)?;
    Ok(report)
}

impl Report {
    /// The largest absolute difference of all, and whether every value was finite.
    pub fn worst(&self) -> (f64, bool) {
        let largest = self.compared.iter().map(|c| c.max_abs_diff).fold(0.0, f64::max);
        (largest, self.compared.iter().all(|c| c.not_finite == 0))
    }

    fn skip(&mut self, name: impl Into<String>, why: impl Into<String>) {
        self.skipped.push(Skipped { name: name.into(), why: why.into() });
    }

    /// Hidden states: compares as many rows as ours has, from the first on.
    fn rows(&mut self, name: &str, reference: &Reference, ours: &Array) -> Result<(), ParityError> {
        self.compared.extend(compare::rows(name, reference, ours, false)?);
        Ok(())
    }

    /// Logits: the same, with argmax.
    fn logits(&mut self, name: &str, reference: &Reference, ours: &Array) -> Result<(), ParityError> {
        self.compared.extend(compare::rows(name, reference, ours, true)?);
        Ok(())
    }

    fn head(
        &mut self,
        head: &dyn Drafter,
        reference: &Reference,
        hidden: &Array,
        next: &Array,
        vocab: usize,
    ) -> Result<(), ParityError> {
        let mut state = head.new_state();
        head.feed(&mut state, hidden, next)?;
        let fed = state.round()?.rows.clone();
        let layers = fed.len();
        let several = reference.names().any(|name| name.starts_with("mtp_multi."));

        // With several layers, layer k has seen all rows but the last k: those wait for tokens that are not known yet.
        for (layer, rows) in fed.iter().enumerate() {
            let prefixes: &[String] = &match (layer, several) {
                (0, true) => vec!["mtp".to_owned(), "mtp_multi.0".to_owned()],
                (0, false) => vec!["mtp".to_owned()],
                (layer, _) => vec![format!("mtp_multi.{layer}")],
            };
            for prefix in prefixes {
                if rows.dim(0) == 0 {
                    continue;
                }
                self.rows(&format!("{prefix}.post_norm"), reference, rows)?;
                let name = format!("{prefix}.logits");
                if reference.has(&name) {
                    self.logits(&name, reference, &head.logits(rows)?)?;
                }
            }
        }
        for layer in layers.. {
            if !reference.has(&format!("mtp_multi.{layer}.logits")) {
                break;
            }
            self.skip(format!("mtp_multi.{layer}.*"), format!("the head has {layers} layers"));
        }

        let prefix = if several { "mtp_multi" } else { "mtp" };
        let (ids_name, logits_name) = (format!("{prefix}.chain_ids"), format!("{prefix}.chain_logits"));
        if !reference.has(&logits_name) {
            return Ok(());
        }
        let Some(chain) = reference.ids(&ids_name, vocab)? else {
            self.skip(logits_name, format!("the reference has no {ids_name}"));
            return Ok(());
        };
        let depth = chain.len().min(head.max_depth());
        let mut drafts = Vec::with_capacity(depth);
        let mut previous = None;
        for &id in &chain[..depth] {
            drafts.push(head.draft(&mut state, previous.as_ref(), None)?);
            previous = Some(tokens(&[id]));
        }
        if !drafts.is_empty() {
            let drafts: Vec<&Array> = drafts.iter().collect();
            self.logits(&logits_name, reference, &mlx_rs::ops::concatenate(&drafts, 0)?)?;
        }
        Ok(())
    }
}

/// Token ids as the model takes them.
fn tokens(ids: &[i32]) -> Array {
    Array::from_slice(ids, &[ids.len() as i32])
}

#[cfg(test)]
mod tests;
