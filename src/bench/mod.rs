//! Benchmarks: what is measured, from a loaded model to a [`Report`]. How it is shown is left to `table`, `plot` and
//! `compare`; `docs/benchmarks.md` says how to read it.

mod bandwidth;
mod compare;
mod measure;
mod plan;
mod plot;
mod provenance;
mod report;
pub mod serve;
mod summary;
mod svg;
mod table;
mod texts;

use std::rc::Rc;

use mtplx_engine::AssessedModel;
use mtplx_engine::assess::Verdict;
use mtplx_engine::settings::{ModelDefaults, Settings};
use mtplx_runtime::architecture::Precision;
use mtplx_runtime::artifact::Area;
use mtplx_runtime::mlx;
use mtplx_runtime::model::DraftVocabulary;
use mtplx_runtime::quant::Traffic;
use mtplx_runtime::speculative::{DepthPolicy, DraftOptions, SequenceOptions};

pub use self::compare::Comparison;
use self::measure::Bench;
use self::plan::Plan;
pub use self::plan::Wanted;
pub use self::plot::draw;
pub use self::provenance::Machine;
use self::provenance::Provenance;
pub use self::report::{Kind, Report};
use self::report::{Memory, Method, SCHEMA};
pub use self::table::write as write_table;
use self::texts::Texts;
use crate::args::{MeasureArgs, MethodArgs};
use crate::error::warn;
use crate::model;
use crate::terminal::Progress;

/// Measures.
///
/// # Errors
/// What was asked for makes no sense for this model; the model does not load; MLX fails.
pub fn measure(args: &MeasureArgs, kind: Kind) -> anyhow::Result<Report> {
    model::choose_device(args.method.device.device)?;
    let figures = args.simulate_acceptance.as_deref();
    let mut wanted = Wanted::of(&args.method, figures, kind)?;
    wanted.vocab = args.vocab.clone();
    of_opened(&model::open(&args.model)?.without(Area::Template), &args.method, &wanted, args.json)
}

/// What [`measure`] does, for a model that was opened on the device that was chosen.
///
/// # Errors
/// As [`measure`].
pub fn of_opened(
    opened: &AssessedModel,
    args: &MethodArgs,
    wanted: &Wanted<'_>,
    quiet: bool,
) -> anyhow::Result<Report> {
    let headless = matches!(opened.assessment.verdict, Verdict::Incomplete { .. } | Verdict::NoMtp);
    let trunk_only = headless && !wanted.needs_head();
    opened.admit(!wanted.needs_head(), args.evidence.into())?;
    let descriptor = opened.architecture()?.descriptor();
    let text = opened.text(false)?;
    let texts = Texts::of(args, &text.tokenizer)?;
    let draft_vocab = model::draft_vocab(&wanted.vocab, &text.tokenizer)?;
    let says = ModelDefaults {
        contract: opened.assessment.contract.as_ref(),
        generation_config: text.generation_config.as_ref(),
        max_depth: if trunk_only { 0 } else { descriptor.max_depth },
        tuned_depth: None,
        has_chat_template: false,
    };
    let mut warnings = model::warnings(opened, !wanted.needs_head());
    let settings = args.settings(says, &mut warnings)?;
    warnings.iter().for_each(|warning| warn(warning));

    let progress = Progress::start(format!("loading {}", opened.checkpoint.label()), quiet);
    mlx::reset_peak_memory();
    let loaded = opened.load(trunk_only, Precision::Auto)?;
    let plan = wanted.plan(&loaded.model)?;
    let vocabulary = loaded.draft_vocabulary(draft_vocab.as_ref(), &text.tokenizer)?;
    let draft_vocab = vocabulary.as_ref().map(|vocabulary| vocabulary.tokens().len());
    let traffic = traffic(opened)?;
    let traffic = draft_vocab.map_or(traffic, |tokens| traffic.with_drafts_of(tokens, loaded.model.info.vocab_size));
    let tell = |what: String| progress.say(what);
    let mut bench = Bench {
        model: &loaded.model,
        texts: &texts,
        options: options(&settings, args, vocabulary),
        simulation: wanted.simulation.clone(),
        traffic,
        repeats: args.repeats,
        warmup: args.warmup,
        tokens: args.tokens,
        cold_first_token: None,
        progress: &tell,
    };
    let mut report = Report {
        schema: SCHEMA,
        kind: wanted.kind,
        simulated_acceptance: wanted.simulation.as_ref().map(|simulation| simulation.cumulative().to_vec()),
        method: Method { draft_vocab, ..method(args, &settings, &texts, bench.options.seed) },
        memory: Memory::new(bench.model.info.weight_bytes, traffic),
        provenance: Provenance::of(opened, loaded.load_time),
        cold_first_token_s: None,
        decode: Vec::new(),
        verify_cost: Vec::new(),
        prefill: Vec::new(),
        acceptance: None,
    };
    run(&mut bench, &plan, &mut report)?;
    report.cold_first_token_s = bench.cold_first_token;
    report.memory.peak = mlx::peak_memory();
    tell("copying, to measure the bandwidth".to_owned());
    match bandwidth::copy_gb_s() {
        Ok(measured) => report.relate_to_copy(measured),
        Err(error) => warn(&format!("the copy bandwidth was not measured: {error}")),
    }
    Ok(report)
}

/// Every part of the plan, in an order that leaves the first prompt cold.
fn run(bench: &mut Bench<'_>, plan: &Plan, report: &mut Report) -> anyhow::Result<()> {
    for &tokens in &plan.prefill {
        report.prefill.extend(bench.prefill(tokens)?);
    }
    for &context in &plan.decode {
        report.decode.extend(bench.decode(context, &plan.depths)?);
    }
    for &context in &plan.verify {
        report.verify_cost.extend(bench.verify_cost(context, &plan.rows)?);
    }
    if let Some(most) = plan.acceptance {
        let depth = plan.depths.last().copied().unwrap_or(0);
        report.acceptance = Some(bench.acceptance(depth, most)?);
    }
    Ok(())
}

/// The bytes of weights that this device reads: packed weights are unpacked on a CPU.
fn traffic(opened: &AssessedModel) -> anyhow::Result<Traffic> {
    Ok(Traffic::of(&opened.checkpoint, mlx::default_device() == mlx::Device::Cpu)?)
}

fn options(settings: &Settings, args: &MethodArgs, vocabulary: Option<Rc<DraftVocabulary>>) -> SequenceOptions {
    let sampling = settings.draft_sampling();
    SequenceOptions {
        sampling: settings.sampling(),
        drafts: Some(DraftOptions { depth: DepthPolicy::Fixed(0), sampling, vocabulary }),
        rule: settings.acceptance.value,
        // A benchmark is repeated: its seed is fixed unless another was asked for.
        seed: args.sampling.seed.unwrap_or(0),
        stop_tokens: Vec::new(),
        logprobs: None,
    }
}

fn method(args: &MethodArgs, settings: &Settings, texts: &Texts, seed: u64) -> Method {
    Method {
        repeats: args.repeats,
        warmup: args.warmup,
        tokens: args.tokens,
        seed,
        rule: settings.acceptance.value.to_string(),
        temperature: settings.temperature.value,
        top_p: settings.top_p.value,
        top_k: settings.top_k.value,
        min_p: settings.min_p.value,
        text: texts.source.clone(),
        draft_vocab: None,
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::args::{Device, Model};

    /// Every tensor is counted once, as it is held: with the loader's own sum as the reference.
    #[test]
    fn bytes_of_weights_are_those_of_the_loader() {
        model::choose_device(Some(Device::Cpu)).unwrap();
        let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures");
        // With copies of the embeddings and the output matrix in the head's layer, or without.
        for (name, copies) in [
            ("deepseek_v3/mlx_q4g32", true),
            ("glm4_moe_air_bf16", true),
            ("mimo_bf16", false),
            ("minimax_m2_bf16", true),
            ("qwen3_5_moe/mlx_q4g32", false),
            ("trained_qwen3_5/mlx_q4g32", false),
        ] {
            let opened = model::open(&Model::Dir(fixtures.join(name))).unwrap();
            let loaded = opened.load(false, Precision::Auto).unwrap().model.info.weight_bytes;
            let Traffic { step, draft, total, .. } = Traffic::of(&opened.checkpoint, true).unwrap();
            // The loader counts norms twice, and does not load copies.
            let ratio = total as f64 / loaded as f64;
            assert!(ratio > 0.99 && ratio < if copies { 1.5 } else { 1.01 }, "{name}: {total}, loaded {loaded}");
            assert!(0 < draft && draft < step && step < loaded, "{name}: step {step}, draft {draft} of {loaded}");
        }
    }
}
