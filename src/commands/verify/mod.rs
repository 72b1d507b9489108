//! `mtplx verify`: measures, reports, and writes what was measured into the contract.

mod prompts;

use std::collections::BTreeMap;
use std::io::{self, Write as _};
use std::time::Instant;

use mtplx_engine::assess::Verdict;
use mtplx_engine::assess::stamp::{Evidence, lasting, stamp};
use mtplx_engine::{Admission, AssessedModel, LoadedModel};
use mtplx_runtime::architecture::Precision;
use mtplx_runtime::artifact::{CONTRACT, Checkpoint, Contract, KnownHashes};
use mtplx_runtime::mlx;
use mtplx_runtime::sampling::SamplingParams;
use mtplx_runtime::verify::{self, Effort, Options, Report, VerifyError};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::args::{Model, VerifyArgs};
use crate::error::{Exit, Failure, warn};
use crate::state_dirs::StateDirs;
use crate::terminal::Stages;
use crate::{machine, model};

/// Drafts a round where the contract states no ceiling: what published models use, and one more.
const DEPTH: usize = 4;
/// All randomness: the same files give the same figures on the same machine.
const SEED: u64 = 0x006d_7470_6c78;

/// The whole result, as `--json` prints it.
#[derive(Serialize)]
struct Document<'a> {
    model: &'a str,
    architecture: &'static str,
    passed: bool,
    /// Whether the contract was written.
    written: bool,
    verdict: &'a Verdict,
    #[serde(flatten)]
    report: &'a Report,
    verified_on: &'a Map<String, Value>,
    sha256: &'a BTreeMap<String, String>,
    seconds: f64,
}

/// Measures, and writes the contract if everything passed.
pub fn verify(args: &VerifyArgs) -> anyhow::Result<Exit> {
    let started = Instant::now();
    model::choose_device(args.device.device)?;
    let opened = model::open(&args.model)?;
    admit(&opened)?;
    let before = contract(&opened)?;
    let text = opened.text(true)?;
    let effort = if args.quick { Effort::QUICK } else { Effort::FULL };
    if args.quick && before.get("exactness_baseline").and_then(|found| found.get("effort")?.as_str()) == Some("full") {
        warn("--quick: the contract has the evidence of a full verification, which this one's replaces");
    }
    let prompts = prompts::encode(args.prompts.as_deref(), effort.prompts, &text)?;

    let interrupt = super::run::on_interrupt()?;
    let mut stages = Stages::new(args.json);
    stages.begin("looking for numbers that are not finite");
    opened.require_finite()?;
    stages.begin(&format!("loading {}", opened.checkpoint.label()));
    let mut engine = opened.load(false, Precision::Auto)?;
    let mut fresh = KnownHashes::default();
    let sha256 = hashes(&opened.checkpoint, &mut fresh, &mut stages);

    let options = Options {
        prompts,
        depth: depth(&before),
        sampling: SamplingParams::default(),
        stop_tokens: text.tokenizer.eos_ids().to_vec(),
        effort,
        seed: SEED,
    };
    let report = match measure(&mut engine, &options, &mut stages, || interrupt.flow()) {
        Err(VerifyError::Interrupted) => return Ok(Exit::Interrupted),
        report => report?,
    };
    stages.end();
    let verified_on = verified_on(&opened, &engine, &options);
    let keep = || -> anyhow::Result<()> {
        unchanged(&opened.checkpoint, &before)?;
        let evidence = Evidence {
            report: &report,
            descriptor: engine.descriptor,
            sha256: &sha256,
            verified_on: verified_on.clone(),
        };
        write(&opened.checkpoint, &sha256, &stamp(before, &evidence))?;
        let home = StateDirs::of_user();
        let mut known = home.known_hashes();
        known.merge(fresh);
        home.keep_hashes(&known);
        Ok(())
    };
    // What was measured is shown, be it that it cannot be kept.
    let kept = if report.passed() && matches!(args.model, Model::Dir(_)) { keep() } else { Ok(()) };
    let written = report.passed() && opened.checkpoint.dir().is_some() && kept.is_ok();
    opened.checkpoint.forget(CONTRACT);
    let verdict = if written { model::judge(&opened.checkpoint, false).verdict } else { opened.assessment.verdict };

    let document = Document {
        model: opened.checkpoint.label(),
        architecture: engine.descriptor.id,
        passed: report.passed(),
        written,
        verdict: &verdict,
        report: &report,
        verified_on: &verified_on,
        sha256: &sha256,
        seconds: started.elapsed().as_secs_f64(),
    };
    let mut out = io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &document)?;
        writeln!(out)?;
    } else {
        show(&mut out, &document)?;
    }
    out.flush()?;
    kept?;
    let failed: Vec<&str> = report.gates.iter().filter(|gate| !gate.passed).map(|gate| gate.name).collect();
    if failed.is_empty() {
        return Ok(Exit::Done);
    }
    let kept = if opened.checkpoint.dir().is_some() { format!("; {CONTRACT} is as it was") } else { String::new() };
    warn(&format!("not passed: {}{kept}", failed.join(", ")));
    Ok(Exit::Failed)
}

/// Drafts a round that are to be measured: all that the contract allows.
fn depth(contract: &Map<String, Value>) -> usize {
    contract.get("mtp_depth_max").and_then(Value::as_u64).map_or(DEPTH, |depth| depth as usize)
}

/// Whether there is drafting to verify, with evidence or without.
fn admit(opened: &AssessedModel) -> anyhow::Result<()> {
    let Err(refusal) = opened.admit(false, Admission::UNVERIFIED) else { return Ok(()) };
    if !matches!(*refusal.verdict, Verdict::Incomplete { .. } | Verdict::NoMtp) {
        return Err(refusal.into());
    }
    Err(Failure::new(Exit::from(&*refusal.verdict), refusal.to_string())
        .hint(
            "without its whole draft head there is nothing to verify; `mtplx inspect` says what the files hold, \
             `mtplx forge --mtp-from` takes the head of another checkpoint, `mtplx run --no-mtp` runs the trunk alone",
        )
        .into())
}

/// The contract as it is, if evidence may be added to it; empty where there is none.
///
/// # Errors
/// It has faults that new evidence would not mend: better said before an hour of measuring than after.
fn contract(opened: &AssessedModel) -> anyhow::Result<Map<String, Value>> {
    let path = opened.checkpoint.path(CONTRACT);
    // One that cannot be read was not admitted.
    let before = Contract::fields(&opened.checkpoint)
        .map_err(|finding| Failure::new(Exit::File, format!("{}: {finding}", opened.checkpoint.label())))?
        .unwrap_or_default();
    let faults = lasting(&before, opened.architecture()?.descriptor(), depth(&before));
    if faults.is_empty() {
        return Ok(before);
    }
    let faults: Vec<String> = faults.iter().map(|found| format!("{}: {}", found.field, found.what)).collect();
    let what = format!("{path}: {}", faults.join("; "));
    let newer = before.get("contract_version").and_then(Value::as_u64).is_some_and(|version| version > 1);
    let hint = if newer { "install a newer mtplx" } else { "correct these fields; evidence cannot make up for them" };
    Err(Failure::new(Exit::NotReady, what).hint(hint).into())
}

/// That the contract still says what it said: what was measured was steered by it, and what was edited since would be lost.
fn unchanged(checkpoint: &Checkpoint, before: &Map<String, Value>) -> Result<(), Failure> {
    checkpoint.forget(CONTRACT);
    let now = Contract::fields(checkpoint).map(Option::unwrap_or_default);
    if now.is_ok_and(|now| now == *before) {
        return Ok(());
    }
    Err(Failure::new(Exit::Failed, format!("{}: changed while it was measured", checkpoint.path(CONTRACT)))
        .hint("verify again once nothing writes to the folder"))
}

/// Of every byte that was loaded; what was known before is not asked.
fn hashes(checkpoint: &Checkpoint, fresh: &mut KnownHashes, stages: &mut Stages) -> BTreeMap<String, String> {
    stages.begin("hashing the files (MB)");
    checkpoint.hashes(Some(fresh), |done, all| stages.update((done / 1_000_000) as usize, (all / 1_000_000) as usize))
}

fn measure(
    engine: &mut LoadedModel,
    options: &Options,
    stages: &mut Stages,
    mut flow: impl FnMut() -> std::ops::ControlFlow<()>,
) -> Result<Report, VerifyError> {
    verify::verify(&mut engine.model, options, |at| {
        stages.begin(&format!("measuring: {}", at.gate));
        stages.update(at.done, at.all);
        flow()
    })
}

/// Where and how it was measured.
fn verified_on(opened: &AssessedModel, engine: &LoadedModel, options: &Options) -> Map<String, Value> {
    let sampler = &options.sampling;
    let mut on = Map::new();
    let mut set = |name: &str, value: Value| on.insert(name.to_owned(), value);
    set("timestamp", json!(machine::timestamp()));
    set("hardware", json!(machine::hardware()));
    set("os", json!(machine::os()));
    set("device", json!(mlx::default_device()));
    set("mlx_version", json!(mlx::version()));
    set("engine_version", json!(env!("CARGO_PKG_VERSION")));
    set("architecture_crate", json!(format!("{} {}", engine.descriptor.crate_name, engine.descriptor.crate_version)));
    set("model", json!(name(&opened.checkpoint)));
    set(
        "sampler",
        // As they are written: f32's own digits would be noise.
        json!({"temperature": rounded(sampler.temperature), "top_p": rounded(sampler.top_p), "top_k": sampler.top_k}),
    );
    match StateDirs::of_user().make_machine() {
        Ok(machine) => drop(set("machine", json!(machine))),
        Err(error) => warn(&format!(
            "this machine's name cannot be kept ({error}): evidence for recognized architectures will not count"
        )),
    }
    on
}

fn rounded(value: f32) -> f64 {
    (f64::from(value) * 1e6).round() / 1e6
}

/// The model's name: no path, which would name somebody's machine.
fn name(checkpoint: &Checkpoint) -> String {
    let Some(dir) = checkpoint.dir() else { return checkpoint.label().to_owned() };
    let mut parts = dir.components().rev().filter_map(|part| part.as_os_str().to_str());
    let (last, _, repository) = (parts.next(), parts.next(), parts.next());
    let repository = repository.and_then(|name| name.strip_prefix("models--"));
    match (repository, last) {
        (Some(repository), _) => repository.replacen("--", "/", 1),
        (None, Some(last)) => last.to_owned(),
        (None, None) => "model".to_owned(),
    }
}

fn write(
    checkpoint: &Checkpoint,
    sha256: &BTreeMap<String, String>,
    contract: &Map<String, Value>,
) -> Result<(), Failure> {
    let Some(dir) = checkpoint.dir() else { return Ok(()) };
    if let Some(file) = checkpoint.changed_file(sha256) {
        let what = format!("{}: changed while it was measured", checkpoint.path(file));
        return Err(Failure::new(Exit::Failed, what).hint("verify again once nothing writes to the folder"));
    }
    Contract::write(dir, contract).map_err(|error| {
        Failure::new(Exit::Failed, format!("{}: {error}", checkpoint.path(CONTRACT)))
            .hint("the evidence is written beside the weights: the folder must be writable")
    })
}

fn show(out: &mut impl io::Write, document: &Document<'_>) -> io::Result<()> {
    let Document { model, architecture, report, verdict, seconds, .. } = document;
    let Report { depth, dtype, effort, .. } = report;
    let device = mlx::default_device().name();
    writeln!(out, "{model}: {architecture}, depth {depth}, {dtype} on {device}, {effort}, {seconds:.0} s")?;
    for gate in &report.gates {
        let passed = if gate.passed { "passed" } else { "FAILED" };
        writeln!(out, "  {:<14}  {passed}  {}", gate.name, gate.summary)?;
    }
    let by_depth = report.acceptance_by_depth.iter().enumerate().map(|(index, depth)| {
        let rate = 100.0 * depth.cumulative();
        format!("{}: {rate:.0}% ({}/{})", index + 1, depth.accepted, depth.drafted)
    });
    writeln!(out, "  acceptance by depth  {}", by_depth.collect::<Vec<_>>().join("  "))?;
    match document.written {
        true => writeln!(out, "wrote {CONTRACT}: {verdict}"),
        false if document.passed => writeln!(out, "passed; the contract is compiled in and not written"),
        false => Ok(()),
    }
}
