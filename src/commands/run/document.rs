//! Everything there is to say about a generation: what `--json` prints and the footer shortens.

use mtplx_engine::Engine;
use mtplx_engine::assess::Verdict;
use mtplx_engine::settings::Settings;
use mtplx_runtime::mlx::{self, Device};
use mtplx_runtime::speculative::SpeculationStats;
use mtplx_runtime::speculative::stats::Report;
use mtplx_runtime::text::Ending;
use serde::Serialize;
use serde_json::{Map, Value};

use super::generation::Generated;

/// The document.
#[derive(Serialize)]
pub struct Document<'a> {
    pub text: &'a str,
    pub token_ids: &'a [u32],
    pub prompt_ids: &'a [u32],
    pub finish_reason: Ending,
    /// The stop string that ended the text.
    pub stop_string: Option<&'a str>,
    pub seed: u64,
    pub settings: &'a Settings,
    pub model: ModelDocument<'a>,
    pub stats: StatsDocument,
    pub warnings: &'a [String],
}

#[derive(Serialize)]
pub struct ModelDocument<'a> {
    pub label: &'a str,
    pub architecture: &'static str,
    pub model_type: &'a str,
    pub verdict: &'a Verdict,
    pub exactness_baseline: Option<&'a Map<String, Value>>,
    pub has_draft_head: bool,
    pub vocab_size: usize,
    pub context: usize,
    pub weight_bytes: usize,
    pub load_s: f64,
    pub device: Device,
    pub mtplx_version: &'static str,
    pub mlx_version: String,
}

#[derive(Serialize)]
pub struct StatsDocument {
    /// Tokens generated, the first included, which prefill draws.
    pub tokens: usize,
    #[serde(flatten)]
    pub report: Report,
    pub ttft_s: Option<f64>,
    /// At `[k]`, the rounds that drafted k tokens.
    pub rounds_by_depth: Vec<u64>,
    /// The same prompt without drafting, where that was asked for.
    pub plain: Option<Report>,
    /// Tokens a second against plain decoding.
    pub speedup: Option<f64>,
}

impl<'a> Document<'a> {
    /// Gathers it.
    pub fn new(
        engine: &'a Engine,
        settings: &'a Settings,
        prompt: &'a [u32],
        generated: &'a Generated,
        plain: Option<&SpeculationStats>,
        warnings: &'a [String],
    ) -> Self {
        let (opened, of_engine) = (engine.model(), engine.info());
        let info = &of_engine.model;
        let contract = opened.assessment.contract.as_ref();
        Self {
            text: &generated.text,
            token_ids: &generated.token_ids,
            prompt_ids: prompt,
            finish_reason: generated.ending,
            stop_string: generated.stop_string.and_then(|index| settings.stop.value.get(index)).map(String::as_str),
            seed: settings.seed.value,
            settings,
            model: ModelDocument {
                label: opened.checkpoint.label(),
                architecture: of_engine.descriptor.id,
                model_type: opened.checkpoint.config().model_type(),
                verdict: &opened.assessment.verdict,
                exactness_baseline: contract.and_then(|contract| contract.exactness_baseline.as_ref()),
                has_draft_head: of_engine.head_depth.is_some(),
                vocab_size: info.vocab_size,
                context: info.context,
                weight_bytes: info.weight_bytes,
                load_s: of_engine.load_time.as_secs_f64(),
                device: mlx::default_device(),
                mtplx_version: env!("CARGO_PKG_VERSION"),
                mlx_version: mlx::version(),
            },
            stats: StatsDocument::new(generated.token_ids.len(), &generated.stats, plain),
            warnings,
        }
    }
}

impl StatsDocument {
    /// The figures, with those of plain decoding beside them.
    pub fn new(tokens: usize, stats: &SpeculationStats, plain: Option<&SpeculationStats>) -> Self {
        let speedup = stats.decode_tok_s().zip(plain.and_then(SpeculationStats::decode_tok_s));
        Self {
            tokens,
            report: stats.clone().into(),
            ttft_s: stats.ttft_seconds(),
            rounds_by_depth: rounds_by_depth(stats.rounds(), stats.drafted_by_depth()),
            plain: plain.cloned().map(Report::from),
            speedup: speedup.map(|(with, without)| with / without),
        }
    }
}

/// Rounds of each depth, from how many drafted at least so much.
fn rounds_by_depth(rounds: u64, drafted: &[u64]) -> Vec<u64> {
    let at_least: Vec<u64> = std::iter::once(rounds).chain(drafted.iter().copied()).chain([0]).collect();
    at_least.windows(2).map(|pair| pair[0].saturating_sub(pair[1])).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_of_each_depth() {
        assert_eq!(rounds_by_depth(6, &[5, 4, 4]), [1, 1, 0, 4]);
        assert_eq!(rounds_by_depth(3, &[]), [3]);
        assert_eq!(rounds_by_depth(0, &[]), [0]);
    }
}
