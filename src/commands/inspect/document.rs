//! The result of `mtplx inspect`.

use mtplx_engine::assess::Verdict;
use mtplx_runtime::artifact::{Contract, Finding};
use mtplx_runtime::inspect::{Inspection, Need};
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
    /// The need at a context on the device at hand; `None` where headers or the system do not tell.
    pub(super) fit: Option<FitDocument>,
    pub(super) contract: Option<&'a Contract>,
    pub(super) findings: &'a [Finding],
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(super) tensor_list: Option<Vec<Tensor<'a>>>,
}

/// What running at a context takes, and whether it is there. Sizes in bytes.
#[derive(Serialize)]
pub(super) struct FitDocument {
    pub(super) device: &'static str,
    #[serde(flatten)]
    pub(super) need: Need,
    pub(super) total: u64,
    /// Memory for it: free on a processor, all of a graphics card's.
    pub(super) room: u64,
    /// Memory of the machine.
    pub(super) machine: Option<u64>,
    pub(super) fits: bool,
    /// The verdict in a line.
    pub(super) says: String,
    /// The most tokens that fit, where those that were asked for do not.
    pub(super) longest: Option<usize>,
    pub(super) hint: Option<String>,
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
