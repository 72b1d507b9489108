//! What a benchmark found: the document that `--json` prints, and that `bench compare` reads.

use mtplx_runtime::quant::Traffic;
use mtplx_runtime::speculative::SpeculationStats;
use serde::{Deserialize, Serialize};

use super::provenance::Provenance;
use super::summary::{Percentiles, Summary};

/// The version of the document's form.
pub const SCHEMA: u32 = 2;

/// What was measured.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Kind {
    Decode,
    VerifyCost,
    Prefill,
    Acceptance,
    Sweep,
    Tune,
}

impl Kind {
    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Decode => "decode",
            Self::VerifyCost => "verify-cost",
            Self::Prefill => "prefill",
            Self::Acceptance => "acceptance",
            Self::Sweep => "sweep",
            Self::Tune => "tune",
        }
    }
}

/// The document.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    pub kind: Kind,
    /// The figures that stood for the decisions on drafts: nothing about acceptance was measured.
    pub simulated_acceptance: Option<Vec<f64>>,
    pub method: Method,
    pub provenance: Provenance,
    pub memory: Memory,
    /// From the process's first prompt, which compiles what has to be compiled, to its first token.
    pub cold_first_token_s: Option<f64>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decode: Vec<Decode>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub verify_cost: Vec<VerifyCost>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub prefill: Vec<Prefill>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acceptance: Option<AcceptanceReport>,
}

impl Report {
    /// What must be said wherever simulated figures are shown.
    pub fn simulation_line(&self) -> Option<String> {
        let figures: Vec<String> = self.simulated_acceptance.as_ref()?.iter().map(ToString::to_string).collect();
        Some(format!(
            "SIMULATED acceptance {} (cumulative): drafts were accepted by these figures, not by the rule; the text is \
             not the model's",
            figures.join(", ")
        ))
    }

    /// Relates every row's bytes to the measured copy bandwidth.
    pub fn relate_to_copy(&mut self, copy_gb_s: Option<Summary>) {
        self.memory.copy_gb_s = copy_gb_s;
        let Some(copy) = copy_gb_s else { return };
        let percent = |bytes: usize, seconds: f64| Some(100.0 * bytes as f64 / seconds / (copy.median * 1e9));
        for row in &mut self.decode {
            row.percent_of_copy = percent(row.round_bytes, row.round_s.median);
        }
        for row in &mut self.verify_cost {
            row.percent_of_copy = percent(row.bytes, row.verify_s.median);
        }
    }
}

/// How it was measured.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Method {
    pub repeats: usize,
    pub warmup: usize,
    /// Tokens generated in each run, at least.
    pub tokens: usize,
    pub seed: u64,
    pub rule: String,
    pub temperature: f32,
    pub top_p: f32,
    pub top_k: u32,
    pub min_p: f32,
    /// Where the context's tokens come from.
    pub text: String,
    /// Tokens that drafts are restricted to.
    #[serde(default)]
    pub draft_vocab: Option<usize>,
}

/// Bytes.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Memory {
    /// Weights as loaded.
    pub weights: usize,
    /// Weights that a plain step reads.
    pub step_weights: usize,
    /// Weights that a draft reads.
    pub draft_weights: usize,
    /// The most that MLX held at once, from the load on.
    pub peak: Option<usize>,
    /// Bytes read and written a second by a device copy, in GB/s (1e9).
    pub copy_gb_s: Option<Summary>,
}

impl Memory {
    /// Before anything is measured.
    pub fn new(weights: usize, traffic: Traffic) -> Self {
        Self { weights, step_weights: traffic.step, draft_weights: traffic.draft, peak: None, copy_gb_s: None }
    }
}

/// Decoding at one depth behind one length of context.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Decode {
    pub context: usize,
    pub depth: usize,
    /// Tokens a second.
    pub tok_s: Summary,
    /// Tokens a second over those of plain decoding in the same repetition.
    pub speedup: Option<Summary>,
    /// Seconds a round.
    pub round_s: Summary,
    /// C: a round's time over a plain step's in the same repetition.
    pub cost: Option<Summary>,
    /// E: tokens a round.
    pub tokens_per_round: f64,
    /// What the simulated figures imply for it.
    pub implied_tokens_per_round: Option<f64>,
    /// Times between tokens: a round's time shared out among its tokens.
    pub itl_s: Option<Percentiles>,
    /// Times between arrivals: whole rounds.
    pub arrival_s: Option<Percentiles>,
    /// Times to the first token.
    pub ttft_s: Option<Percentiles>,
    /// Bytes that a round reads at least: weights, keys and values, states.
    pub round_bytes: usize,
    /// Of them keys, values and states.
    pub cache_bytes: usize,
    /// Those bytes a second, per cent of the copy bandwidth.
    pub percent_of_copy: Option<f64>,
    /// Counts and rates by depth, over all repetitions.
    pub counts: Counts,
}

/// The time of a verification of some rows.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct VerifyCost {
    pub context: usize,
    pub rows: usize,
    /// Seconds a verification.
    pub verify_s: Summary,
    /// c_v: over the time of one row in the same repetition.
    pub cost: Summary,
    /// Bytes that it reads at least.
    pub bytes: usize,
    /// Those bytes a second, per cent of the copy bandwidth.
    pub percent_of_copy: Option<f64>,
}

/// Feeding a prompt.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Prefill {
    pub tokens: usize,
    /// Prompt tokens a second.
    pub tok_s: Summary,
    /// Times to the first token.
    pub ttft_s: Option<Percentiles>,
}

/// What became of drafts on texts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AcceptanceReport {
    pub depth: usize,
    /// Texts read; each repetition draws from each again.
    pub texts: usize,
    pub tokens_per_round: f64,
    pub counts: Counts,
}

/// Rounds and drafts; rates are derived from the counts.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Counts {
    pub rounds: u64,
    pub emitted: u64,
    /// At `[i]`, the rounds that drafted at least i + 1 tokens; likewise below.
    pub drafted_by_depth: Vec<u64>,
    /// Those whose draft i + 1 was decided: the ones before it were accepted.
    pub examined_by_depth: Vec<u64>,
    pub accepted_by_depth: Vec<u64>,
    /// Accepted of those examined.
    pub conditional_acceptance: Vec<Option<f64>>,
    /// Accepted of those drafted.
    pub cumulative_acceptance: Vec<Option<f64>>,
}

impl From<&SpeculationStats> for Counts {
    fn from(stats: &SpeculationStats) -> Self {
        Self {
            rounds: stats.rounds(),
            emitted: stats.emitted(),
            drafted_by_depth: stats.drafted_by_depth().to_vec(),
            examined_by_depth: stats.examined_by_depth().to_vec(),
            accepted_by_depth: stats.accepted_by_depth().to_vec(),
            conditional_acceptance: stats.conditional(),
            cumulative_acceptance: stats.cumulative(),
        }
    }
}
