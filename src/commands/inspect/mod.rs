//! `mtplx inspect`: what a model is, what it is worth, and what it takes to run it.

mod render;

use std::io::{self, Write as _};

use mtplx_runtime::artifact::{Assessment, Checkpoint, Contract, Finding, Verdict};
use mtplx_runtime::inspect::{Inspection, inspect as look};
use serde::Serialize;

use crate::args::InspectArgs;
use crate::engine;
use crate::error::Exit;

/// The whole result, as `--json` prints it.
#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    verdict: &'a Verdict,
    /// What the verdict says, in a line.
    says: String,
    /// The exit code of a command that the verdict keeps from running.
    exit_code: u8,
    hint: Option<&'a str>,
    #[serde(flatten)]
    inspection: Inspection,
    contract: Option<&'a Contract>,
    findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    tensor_list: Option<Vec<Tensor<'a>>>,
}

/// A tensor, for `--tensors`.
#[derive(Serialize)]
struct Tensor<'a> {
    name: &'a str,
    dtype: String,
    shape: &'a [usize],
    bytes: usize,
    file: &'a str,
}

/// Inspects and renders.
pub fn inspect(args: &InspectArgs) -> anyhow::Result<Exit> {
    let checkpoint = engine::checkpoint(&args.model)?;
    let assessment = engine::judge(&checkpoint, true);
    let Assessment { verdict, contract, findings, .. } = &assessment;
    let document = Document {
        model: checkpoint.label(),
        verdict,
        says: verdict.to_string(),
        exit_code: verdict.exit_code(),
        hint: verdict.hint(),
        inspection: look(&checkpoint, &engine::registry()),
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
