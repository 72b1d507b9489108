//! `mtplx inspect`: what a model is, what it is worth, and what it takes to run it.

mod document;
mod render;

use std::io::{self, Write as _};

use mtplx_engine::Room;
use mtplx_engine::assess::Assessment;
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::inspect::{self, Arithmetic, Inspection};
use mtplx_runtime::mlx;

use self::document::{Document, FitDocument, Tensor};
use crate::args::InspectArgs;
use crate::error::Exit;
use crate::{hint, machine, model};

/// Tokens of context that memory is estimated for, where the model has as many and nobody asks for others.
const CONTEXT: usize = 32 << 10;

/// Inspects and renders.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<Exit> {
    model::choose_device(args.device.device)?;
    let checkpoint = model::checkpoint(&args.model)?;
    let assessment = model::judge(&checkpoint, true);
    let Assessment { verdict, contract, findings, .. } = &assessment;
    let inspection = inspect::inspect(&checkpoint, assessment.architecture.zip(assessment.tier));
    let document = Document {
        model: checkpoint.label(),
        verdict,
        says: verdict.to_string(),
        exit_code: Exit::from(verdict) as u8,
        hint: hint::of_verdict(verdict),
        fit: fit(&inspection, args.context),
        inspection,
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

/// The need at a context on the default device.
fn fit(inspection: &Inspection, context: Option<usize>) -> Option<FitDocument> {
    let tokens = context.unwrap_or_else(|| inspection.context.map_or(CONTEXT, |most| most.min(CONTEXT)));
    let fit = Room::of_default()?.fit(inspection.memory.as_ref()?, tokens, Arithmetic::of_default());
    Some(FitDocument {
        device: mlx::default_device().name(),
        need: fit.need,
        total: fit.need.total(),
        room: fit.room.bytes(),
        machine: machine::memory(),
        fits: fit.fits(),
        says: fit.to_string(),
        longest: fit.longest.filter(|_| !fit.fits()),
        hint: hint::of_fit(&fit),
    })
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
