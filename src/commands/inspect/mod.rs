//! `mtplx inspect`: what a model is, what it is worth, and what it takes to run it.

mod document;
mod render;

use std::io::{self, Write as _};

use mtplx_engine::assess::Assessment;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::inspect;

use self::document::{Document, Tensor};
use crate::args::InspectArgs;
use crate::error::Exit;
use crate::{hint, model};

/// Inspects and renders.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<Exit> {
    let checkpoint = model::checkpoint(&args.model)?;
    let assessment = model::judge(&checkpoint, true);
    let Assessment { verdict, contract, findings, .. } = &assessment;
    let document = Document {
        model: checkpoint.label(),
        verdict,
        says: verdict.to_string(),
        exit_code: Exit::from(verdict) as u8,
        hint: hint::of_verdict(verdict),
        inspection: inspect::inspect(&checkpoint, assessment.architecture.zip(assessment.tier)),
        contract: contract.as_ref(),
        findings,
        tensor_list: args.tensors.then(|| tensors(&checkpoint)),
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        render::text(&mut out, &document)?;
    }
    out.flush()?;
    Ok(Exit::Done)
}

/// Every tensor, the vision parts' last.
fn tensors(checkpoint: &Checkpoint) -> Vec<Tensor<'_>> {
    let all = checkpoint.tensors().chain(checkpoint.vision());
    all.map(|(name, info)| Tensor {
        name,
        dtype: format!("{:?}", info.dtype),
        shape: &info.shape,
        bytes: info.range.len(),
        file: &info.file,
    })
    .collect()
}
