//! The measurements: each takes a loaded model and gives rows of the report.
//!
//! What is compared is measured within one run, in turns: plain decoding and every depth from the same prompt, then the
//! next repetition. A repetition starts from one prefill; each of its runs goes on from a snapshot of it.

use std::ops::ControlFlow;
use std::time::Instant;

use mtplx_runtime::Array;
use mtplx_runtime::cache::{Cache, LayerCache};
use mtplx_runtime::mlx_rs::ops::indexing::argmax_axis;
use mtplx_runtime::model::MtpModel;
use mtplx_runtime::quant::Traffic;
use mtplx_runtime::speculative::{
    DepthPolicy, DraftOptions, Sequence, SequenceError, SequenceOptions, Simulation, Snapshot, SpeculationStats,
};

use super::report::{AcceptanceReport, Decode, Prefill, VerifyCost};
use super::summary::{Summary, Times};
use super::texts::Texts;

/// Rounds before the clock starts: the first copies the buffers that it shares with the snapshot.
pub const SETTLE: usize = 2;
/// Verifications timed together.
pub const STEPS: usize = 8;

/// What all measurements share.
pub struct Bench<'a> {
    pub model: &'a MtpModel,
    pub texts: &'a Texts,
    /// Of sequences; the depth is set for each run, and the seed counts up.
    pub options: SequenceOptions,
    pub simulation: Option<Simulation>,
    pub traffic: Traffic,
    pub repeats: usize,
    pub warmup: usize,
    pub tokens: usize,
    /// Seconds to the first token of the first prompt of all.
    pub cold_first_token: Option<f64>,
    /// Told what is being done.
    pub progress: &'a dyn Fn(String),
}

type Result<T> = std::result::Result<T, SequenceError>;

/// A repetition's start: a sequence that was fed a prompt.
struct Start {
    sequence: Sequence,
    prefill_seconds: f64,
    first_token_seconds: f64,
}

/// What repetitions of one depth gave.
struct Runs {
    depth: usize,
    tok_s: Vec<f64>,
    round_s: Vec<f64>,
    stats: SpeculationStats,
    itl: Times,
    arrivals: Times,
}

impl Bench<'_> {
    /// Decoding behind `context` tokens at each of `depths`, which begin with 0.
    pub fn decode(&mut self, context: usize, depths: &[usize]) -> Result<Vec<Decode>> {
        let mut all: Vec<Runs> = depths.iter().map(|&depth| Runs::new(depth)).collect();
        let mut ttft = Times::new();
        let mut cache_bytes = 0;
        for repetition in 0..self.warmup + self.repeats {
            (self.progress)(format!("decoding behind {context} tokens, {}", self.turn(repetition)));
            let mut start = self.start(&self.texts.fill(repetition, context), repetition)?;
            cache_bytes = bytes_read(start.sequence.cache());
            let snapshot = start.sequence.snapshot()?;
            drop(start.sequence);
            let counts = repetition >= self.warmup;
            if counts {
                ttft.add(start.first_token_seconds, 1);
            }
            for runs in &mut all {
                let run = self.run(&snapshot, runs.depth, repetition)?;
                if counts {
                    runs.add(&run);
                }
            }
        }
        let ttft = ttft.percentiles();
        let plain = all.first().map(|runs| (runs.tok_s.clone(), runs.round_s.clone()));
        let ratios = |of: &[f64], to: &[f64]| Summary::of(of.iter().zip(to).map(|(of, to)| of / to));
        let rows = all.iter().filter_map(|runs| {
            let drafts = runs.depth > 0;
            let to_plain = plain.as_ref().filter(|_| drafts);
            Some(Decode {
                context,
                depth: runs.depth,
                tok_s: Summary::of(runs.tok_s.iter().copied())?,
                speedup: to_plain.and_then(|(tok_s, _)| ratios(&runs.tok_s, tok_s)),
                round_s: Summary::of(runs.round_s.iter().copied())?,
                cost: to_plain.and_then(|(_, round_s)| ratios(&runs.round_s, round_s)),
                tokens_per_round: runs.stats.mean_accepted_length()?,
                implied_tokens_per_round: self
                    .simulation
                    .as_ref()
                    .filter(|_| drafts)
                    .map(|simulation| simulation.expected_emitted(runs.depth)),
                itl_s: runs.itl.percentiles(),
                arrival_s: runs.arrivals.percentiles(),
                ttft_s: ttft,
                round_bytes: self.traffic.step + runs.depth * self.traffic.draft + cache_bytes,
                cache_bytes,
                percent_of_copy: None,
                counts: (&runs.stats).into(),
            })
        });
        Ok(rows.collect())
    }

    /// The cost of verifying each number of `rows`, which begin with 1, behind `context` tokens.
    pub fn verify_cost(&mut self, context: usize, rows: &[usize]) -> Result<Vec<VerifyCost>> {
        let mut seconds: Vec<Vec<f64>> = vec![Vec::new(); rows.len()];
        let mut cache_bytes = 0;
        for repetition in 0..self.warmup + self.repeats {
            (self.progress)(format!("verifying behind {context} tokens, {}", self.turn(repetition)));
            let mut start = self.start(&self.texts.fill(repetition, context), repetition)?;
            cache_bytes = bytes_read(start.sequence.cache());
            let snapshot = start.sequence.snapshot()?;
            let most = rows.last().copied().unwrap_or(1);
            let tokens = self.texts.fill(repetition + 1, most);
            for (seconds, &rows) in seconds.iter_mut().zip(rows) {
                let mut cache = snapshot.cache().fork();
                let tokens: Vec<i32> = tokens[..rows].iter().map(|&token| token as i32).collect();
                let tokens = Array::from_slice(&tokens, &[rows as i32]);
                for _ in 0..SETTLE {
                    self.verify(&tokens, &mut cache)?;
                }
                let started = Instant::now();
                for _ in 0..STEPS {
                    self.verify(&tokens, &mut cache)?;
                }
                if repetition >= self.warmup {
                    seconds.push(started.elapsed().as_secs_f64() / STEPS as f64);
                }
            }
        }
        let one = seconds.first().cloned().unwrap_or_default();
        let found = rows.iter().zip(&seconds).filter_map(|(&rows, seconds)| {
            Some(VerifyCost {
                context,
                rows,
                verify_s: Summary::of(seconds.iter().copied())?,
                cost: Summary::of(seconds.iter().zip(&one).map(|(several, one)| several / one))?,
                bytes: self.traffic.step + cache_bytes,
                percent_of_copy: None,
            })
        });
        Ok(found.collect())
    }

    /// Feeding a prompt of `tokens`.
    pub fn prefill(&mut self, tokens: usize) -> Result<Option<Prefill>> {
        let (mut tok_s, mut ttft) = (Vec::new(), Times::new());
        for repetition in 0..self.warmup + self.repeats {
            (self.progress)(format!("reading {tokens} tokens, {}", self.turn(repetition)));
            let start = self.start(&self.texts.fill(repetition, tokens), repetition)?;
            if repetition >= self.warmup {
                tok_s.push(tokens as f64 / start.prefill_seconds);
                ttft.add(start.first_token_seconds, 1);
            }
        }
        Ok(Summary::of(tok_s).map(|tok_s| Prefill { tokens, tok_s, ttft_s: ttft.percentiles() }))
    }

    /// What becomes of drafts, `depth` a round, on each text; `most` tokens of it are read.
    pub fn acceptance(&mut self, depth: usize, most: usize) -> Result<AcceptanceReport> {
        let mut stats = SpeculationStats::new();
        for repetition in 0..self.repeats {
            for index in 0..self.texts.len() {
                (self.progress)(format!("drafting behind text {}, repetition {}", index + 1, repetition + 1));
                let seed = repetition * self.texts.len() + index;
                let prompt = self.texts.text(index, most).to_vec();
                let snapshot = self.start(&prompt, seed)?.sequence.snapshot()?;
                stats.merge(&self.run(&snapshot, depth, seed)?.stats);
            }
        }
        Ok(AcceptanceReport {
            depth,
            texts: self.texts.len(),
            tokens_per_round: stats.mean_accepted_length().unwrap_or(1.0),
            counts: (&stats).into(),
        })
    }

    fn turn(&self, repetition: usize) -> String {
        match repetition.checked_sub(self.warmup) {
            None => format!("warm-up {}", repetition + 1),
            Some(repetition) => format!("repetition {}", repetition + 1),
        }
    }

    fn options(&self, depth: usize, repetition: usize) -> SequenceOptions {
        let seed = self.options.seed.wrapping_add(repetition as u64);
        let drafts = self.options.drafts.clone();
        let drafts = drafts.map(|drafts| DraftOptions { depth: DepthPolicy::Fixed(depth), ..drafts });
        SequenceOptions { drafts, seed, ..self.options.clone() }
    }

    fn start(&mut self, prompt: &[u32], repetition: usize) -> Result<Start> {
        let mut sequence = Sequence::new(self.model, self.options(0, repetition))?;
        sequence.prefill(self.model, prompt, |_, _| ControlFlow::Continue(()))?;
        let stats = sequence.stats();
        let (prefill_seconds, first) = (stats.prefill_seconds(), stats.ttft_seconds().unwrap_or(0.0));
        self.cold_first_token.get_or_insert(first);
        Ok(Start { sequence, prefill_seconds, first_token_seconds: first })
    }

    /// Rounds at `depth` from `snapshot`, for `tokens` tokens or a few more.
    fn run(&mut self, snapshot: &Snapshot, depth: usize, repetition: usize) -> Result<Run> {
        let mut options = self.options(depth, repetition);
        // Plain decoding has no use for the head's history and should not pay for it.
        options.drafts = options.drafts.filter(|_| depth > 0);
        let mut sequence = Sequence::resume(self.model, options, snapshot)?;
        if let Some(simulation) = self.simulation.as_ref().filter(|_| depth > 0) {
            sequence = sequence.simulated(simulation.clone())?;
        }
        // The limit would clip the last rounds: none is set, and what was emitted is counted.
        for _ in 0..SETTLE {
            sequence.round(self.model, usize::MAX)?;
        }
        let mut run = Run::default();
        let mut emitted = 0;
        let mut before = Instant::now();
        while emitted < self.tokens {
            let round = sequence.round(self.model, usize::MAX)?;
            // From end to end, so that nothing hides between two rounds.
            let now = Instant::now();
            let seconds = now.duration_since(before).as_secs_f64();
            before = now;
            emitted += round.tokens.len();
            run.stats.record_round(&round.acceptance, round.tokens.len(), seconds);
            run.rounds.push((seconds, round.tokens.len()));
        }
        Ok(run)
    }

    /// A trunk pass over `tokens` with the most probable token of each row read back, all rows kept.
    fn verify(&mut self, tokens: &Array, cache: &mut Cache) -> Result<()> {
        let hidden = self.model.trunk.verify(tokens, cache)?;
        let logits = self.model.trunk.logits(&hidden)?;
        let best = argmax_axis(&logits, -1, false)?;
        best.eval()?;
        Ok(cache.commit(tokens.dim(0) as usize)?)
    }
}

/// One timed stretch of rounds.
#[derive(Default)]
struct Run {
    stats: SpeculationStats,
    /// Seconds and tokens of each.
    rounds: Vec<(f64, usize)>,
}

impl Runs {
    fn new(depth: usize) -> Self {
        Self {
            depth,
            tok_s: Vec::new(),
            round_s: Vec::new(),
            stats: SpeculationStats::new(),
            itl: Times::new(),
            arrivals: Times::new(),
        }
    }

    fn add(&mut self, run: &Run) {
        self.tok_s.extend(run.stats.decode_tok_s());
        self.round_s.push(run.stats.decode_seconds() / run.rounds.len().max(1) as f64);
        self.stats.merge(&run.stats);
        for &(seconds, tokens) in &run.rounds {
            self.arrivals.add(seconds, 1);
            self.itl.add(seconds / tokens.max(1) as f64, tokens as u64);
        }
    }
}

/// Bytes of keys, values and states that a step reads, and of states that it writes.
fn bytes_read(cache: &Cache) -> usize {
    let of = |layer: &LayerCache| match layer {
        LayerCache::Kv(kv) => kv.committed_nbytes(),
        LayerCache::Recurrent(recurrent) => 2 * recurrent.states().iter().map(Array::nbytes).sum::<usize>(),
    };
    cache.layers().iter().map(of).sum()
}
