//! The course of a measurement: the server is asked what it is, prompts are made to measure, then the rows.

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::{Duration, Instant};

use super::chunk::Chunk;
use super::client::{Answer, Client, Target};
use super::counters::{Page, Sums};
use super::fault::{Fault, FaultKind};
use super::load::{Ended, Load, Outcome, Until};
use super::memory::Watch;
use super::prompts::{Prompts, Scale, Texts};
use super::reach::{fields, reach};
use super::report::{BadCounts, Check, Difference, Method, ServeReport, Server};
use super::tally::RowTally;
use super::turns;
use crate::args::ServeBenchArgs;
use crate::error::{Exit, Failure, warn};
use crate::terminal::Progress;

/// Conversations where no number is given.
const CONVERSATIONS: usize = 5;
/// Different prompts with `--check`, each of which is answered alone first.
const REFERENCES: usize = 16;
/// Requests of a row where no number is given: so many a client, and at least so many.
const A_CLIENT: usize = 2;
const AT_LEAST: usize = 8;
/// Characters of texts that are shown where they differ.
const SHOWN: usize = 60;

/// Measures, until the end or until `stop` is set.
///
/// # Errors
/// The arguments contradict each other or the server; the server does not answer at all.
pub fn measure(args: &ServeBenchArgs, stop: &Arc<AtomicBool>) -> Result<ServeReport, Failure> {
    judge(args)?;
    let progress = Progress::start(format!("asking {}", args.url.0), args.json);
    let mut watch = match args.pid {
        Some(pid) => Some(Watch::new(pid).ok_or_else(|| {
            Failure::usage(format!("--pid {pid}: no such process"), "the server must run on this machine")
        })?),
        None => None,
    };
    let seed = args.seed.unwrap_or(0);
    // A seed asks for the same prompts; without one a server that keeps prompts shall not know them from an earlier run.
    let texts = Texts { seed, mark: args.seed.unwrap_or_else(|| fastrand::u64(..)) };
    let distinct = args.distinct.or(args.check.then_some(REFERENCES));
    let of_file = args.prompts.as_ref().map(|path| Prompts::of_file(path, texts, distinct)).transpose()?;
    let mut target = Target {
        url: args.url.0.clone(),
        key: args.api_key.clone(),
        model: args.model.clone().unwrap_or_default(),
        route: args.route,
        timeout: Duration::from_secs_f64(args.timeout),
        fields: fields(args),
        asks_for_usage: true,
    };
    let reached = reach(&mut target, args, stop);
    let mut report = ServeReport::new(server(&target), method(args, &target));
    if let Err(fault) = reached {
        return interrupted(report, &fault, &target);
    }
    let client = Client::new(Arc::new(target));
    report.server.is_mtplx = Page::fetch(&client).is_some();

    let tokens = if args.turns.is_some() { args.history_tokens } else { args.prompt_tokens };
    progress.say("measuring what a token is");
    let scale = match of_file {
        Some(_) => None,
        None => match Scale::measure(&client, stop, texts, tokens) {
            Ok(scale) => Some(scale),
            Err(fault) => return interrupted(report, &fault, &client.target),
        },
    };
    if scale.is_some_and(|scale| !scale.is_counted) {
        warn("the server sends no usage: prompts are made of four characters a token, and answers counted by chunks");
    }
    if let (Some(turns), Some(scale)) = (args.turns, scale) {
        let plan = turns::Plan {
            turns,
            conversations: args.repeats.unwrap_or(CONVERSATIONS),
            history_tokens: args.history_tokens,
            new_tokens: args.new_tokens,
            max_tokens: args.max_tokens,
            texts,
            seed: args.seed,
            scale,
        };
        let (found, whole) = turns::measure(&client, &plan, stop, |what| progress.say(what));
        report.interrupted = !whole;
        report.turns = Some(found);
        return Ok(report);
    }

    let characters = scale.map_or(0, |scale| scale.characters_of(args.prompt_tokens));
    let prompts = of_file.unwrap_or_else(|| Prompts::made(characters, texts, distinct));
    let load = Load {
        target: Arc::clone(&client.target),
        prompts: Arc::new(prompts),
        max_tokens: args.max_tokens,
        seed: args.seed.or(args.check.then_some(seed)),
        draws: seed,
        hang_ups: args.hang_ups,
        bad_requests: args.bad_requests,
    };
    let references = match prepare(&client, &load, args, distinct, stop, &progress) {
        Ok(references) => references,
        Err(fault) => return interrupted(report, &fault, &client.target),
    };
    let before = if args.check { Page::settled(&client) } else { None };
    let mut found = Found {
        rows: args.clients.iter().map(|&clients| RowTally::new(clients)).collect(),
        check: args.check.then(|| Check { references: references.len(), ..Check::default() }),
        bad: (args.bad_requests > 0.0).then(BadCounts::default),
        sums: Sums::default(),
    };
    report.interrupted = !rows(args, &load, &references, &mut found, watch.as_mut(), stop, &progress);
    report.rows = found.rows.iter().map(|row| row.row(found.rows.first())).collect();
    if report.interrupted {
        report.rows.retain(|row| row.requests > 0);
    }
    report.check = found.check;
    report.bad_requests = found.bad;
    // Requests in flight at an interrupt are in the server's counters alone.
    if let Some(before) = before.filter(|_| !report.interrupted) {
        progress.say("waiting for the server to be idle");
        report.counters = Page::settled(&client).map(|after| found.sums.compared(&before, &after, args.route));
    }
    report.memory = watch.and_then(|watch| watch.result());
    Ok(report)
}

/// Everything that a load is counted into.
struct Found {
    rows: Vec<RowTally>,
    check: Option<Check>,
    bad: Option<BadCounts>,
    sums: Sums,
}

/// All repetitions of all rows; false where the user interrupted.
fn rows(
    args: &ServeBenchArgs,
    load: &Load,
    references: &[Answer],
    found: &mut Found,
    mut watch: Option<&mut Watch>,
    stop: &Arc<AtomicBool>,
    progress: &Progress,
) -> bool {
    let start = Instant::now();
    let repeats = args.repeats.unwrap_or(1);
    let mut next = args.warmup as u64;
    for repetition in 0..repeats {
        for place in 0..found.rows.len() {
            let clients = found.rows[place].clients;
            let until = match args.duration {
                Some(seconds) => Until::Seconds(seconds),
                None => Until::Requests(args.requests.unwrap_or((A_CLIENT * clients).max(AT_LEAST)) as u64),
            };
            let turn =
                if repeats > 1 { format!(", repetition {} of {repeats}", repetition + 1) } else { String::new() };
            progress.say(format!("{clients} clients{turn}"));
            found.rows[place].begin();
            let mut ended = 0;
            let each = |request: Ended| {
                ended += 1;
                if let Until::Requests(requests) = until {
                    progress.update(ended, requests as usize);
                }
                found.take(place, request, load, references);
            };
            let tick = |seconds: f64| {
                if let Until::Seconds(all) = until {
                    progress.update(seconds.min(all) as usize, all.ceil() as usize);
                }
                if let Some(watch) = watch.as_deref_mut() {
                    watch.sample(start.elapsed().as_secs_f64());
                }
            };
            let (seconds, after, whole) = load.run(clients, until, next, stop, each, tick);
            next = after;
            found.rows[place].end(seconds);
            if !whole {
                return false;
            }
        }
    }
    true
}

impl Found {
    fn take(&mut self, place: usize, request: Ended, load: &Load, references: &[Answer]) {
        let index = load.prompts.index(request.number);
        let alone = usize::try_from(index).ok().and_then(|index| references.get(index));
        let max_tokens = load.max_tokens as u64;
        match request.outcome {
            Outcome::Answered(answer) => {
                self.sums.status(200);
                let prompt = alone.and_then(|alone| alone.usage).map_or(0, |usage| usage.prompt_tokens);
                self.sums.answer(&answer, prompt, max_tokens);
                if let (Some(check), Some(alone)) = (&mut self.check, alone) {
                    check.compare(index, &answer, alone);
                }
                self.rows[place].answer(&answer);
            }
            Outcome::Failed(fault) => {
                if let Some(status) = fault.status {
                    self.sums.status(status);
                    if status == 200 {
                        self.sums.cut_off(u64::from(u32::MAX), max_tokens);
                    }
                }
                if let Some(check) = &mut self.check {
                    if fault.is_busy() {
                        check.refused += 1;
                    } else {
                        check.lost += 1;
                    }
                }
                self.rows[place].fault(&fault);
            }
            Outcome::Bad(answer) => {
                if let Ok(status) = answer.status {
                    self.sums.status(status);
                }
                if let Some(Chunk { usage: Some(usage), drafts, .. }) = &answer.answer {
                    self.sums.counts(
                        usage.prompt_tokens,
                        usage.completion_tokens,
                        usage.cached_tokens,
                        drafts.as_ref(),
                    );
                }
                if let Some(bad) = &mut self.bad {
                    bad.add(&answer);
                }
            }
        }
    }
}

impl Check {
    /// Compares an answer with the one alone; of one that hung up, as much as was read.
    fn compare(&mut self, prompt: u64, answer: &Answer, alone: &Answer) {
        let is_right = if answer.hung_up {
            alone.text.starts_with(&answer.text)
        } else {
            alone.text == answer.text && alone.finish_reason == answer.finish_reason
        };
        if is_right {
            self.right += 1;
            return;
        }
        self.wrong += 1;
        let equal = alone.text.chars().zip(answer.text.chars()).take_while(|(a, b)| a == b);
        let at = equal.map(|(c, _)| c.len_utf8()).sum();
        let shown = |answer: &Answer| {
            let rest: String = answer.text.get(at..).unwrap_or_default().chars().take(SHOWN).collect();
            if rest.is_empty() {
                format!("(ends: {})", answer.finish_reason.as_deref().unwrap_or("no reason"))
            } else {
                rest
            }
        };
        self.example.get_or_insert_with(|| Difference { prompt, at, alone: shown(alone), found: shown(answer) });
    }
}

/// Arguments that make no sense together.
fn judge(args: &ServeBenchArgs) -> Result<(), Failure> {
    if args.hang_ups + args.bad_requests > 0.9 {
        return Err(Failure::usage(
            "--hang-ups and --bad-requests: more than 0.9 together",
            "leave some requests whole",
        ));
    }
    if args.bad_requests > 0.0 && args.url.0.starts_with("https") {
        return Err(Failure::usage("--bad-requests: https", "bad requests are sent without TLS: give an http address"));
    }
    Ok(())
}

/// Sends the requests that are forgotten, and those whose answers are compared with.
fn prepare(
    client: &Client,
    load: &Load,
    args: &ServeBenchArgs,
    distinct: Option<usize>,
    stop: &AtomicBool,
    progress: &Progress,
) -> Result<Vec<Answer>, Fault> {
    for number in 0..args.warmup {
        progress.say("warming up");
        client.ask_until(&load.ask(number as u64), stop)?;
    }
    let references = if args.check { distinct.unwrap_or(REFERENCES) } else { 0 };
    let ask = |number: usize| {
        progress.say(format!("answers alone, {} of {references}", number + 1));
        client.ask_until(&load.ask(number as u64), stop)
    };
    (0..references).map(ask).collect()
}

/// The end of a measurement that never began: an error, or what an interrupt leaves.
fn interrupted(mut report: ServeReport, fault: &Fault, target: &Target) -> Result<ServeReport, Failure> {
    if fault.kind == FaultKind::Interrupted {
        report.interrupted = true;
        return Ok(report);
    }
    let what = format!("{}: {}: {}", target.url, fault.label(), fault.message);
    Err(Failure::new(Exit::Failed, what).hint(fault.hint()))
}

fn server(target: &Target) -> Server {
    Server { url: target.url.clone(), route: target.route, model: target.model.clone(), is_mtplx: false }
}

fn method(args: &ServeBenchArgs, target: &Target) -> Method {
    let turns = args.turns.is_some();
    Method {
        repeats: args.repeats.unwrap_or(if turns { CONVERSATIONS } else { 1 }),
        warmup: args.warmup,
        requests: args.requests,
        duration_s: args.duration,
        prompt_tokens: (args.prompts.is_none() && !turns).then_some(args.prompt_tokens),
        prompts: args.prompts.as_ref().map(|path| path.display().to_string()),
        distinct: args.distinct.or(args.check.then_some(REFERENCES)),
        max_tokens: args.max_tokens,
        seed: args.seed.unwrap_or(0),
        seeded: args.seed.is_some() || args.check,
        hang_ups: args.hang_ups,
        bad_requests: args.bad_requests,
        fields: target.fields.clone(),
    }
}
