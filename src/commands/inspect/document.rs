//! The result of `mtplx inspect`.

use mtplx_engine::assess::Verdict;
use mtplx_runtime::artifact::{Contract, Finding};
use mtplx_runtime::inspect::Inspection;
use serde::Serialize;

/// The whole result, as `--json` prints it.
#[derive(Serialize)]
pub(super) struct Document<'a> {
    pub(super) model: &'a str,
    pub(super) verdict: &'a Verdict,
    /// The verdict in a line.
    pub(super) says: String,
    /// The exit code of a command that the verdict keeps from running.
    pub(super) exit_code: u8,
    pub(super) hint: Option<String>,
    #[serde(flatten)]
    pub(super) inspection: Inspection,
    pub(super) contract: Option<&'a Contract>,
    pub(super) findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tensor_list: Option<Vec<Tensor<'a>>>,
}

/// A tensor, for `--tensors`.
#[derive(Serialize)]
pub(super) struct Tensor<'a> {
    pub(super) name: &'a str,
    pub(super) dtype: String,
    pub(super) shape: &'a [usize],
    pub(super) bytes: usize,
    pub(super) file: &'a str,
}
