//! The engine: a loaded model on a thread of its own, for any number of requests.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::{self, Sender};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use mtplx_runtime::architecture::{Descriptor, Precision};
use mtplx_runtime::artifact::Checkpoint;
use mtplx_runtime::inspect::Arithmetic;
use mtplx_runtime::model::ModelInfo;
use mtplx_runtime::registry::Registry;
use mtplx_runtime::speculative::SequenceError;
use mtplx_runtime::text::{Message, RenderInput};

use crate::admission::TextMemory;
use crate::assess::AssessOptions;
use crate::batch::BatchPolicy;
use crate::error::{EngineError, RequestError};
use crate::memory::Room;
use crate::model::{Admission, AssessedModel, DraftVocab, ModelText};
use crate::prefix_store::PrefixStore;
use crate::request::{Event, Request, Stream};
use crate::settings::{ModelDefaults, Overrides, Settings};
use crate::source::Sources;
use crate::worker::{Counters, Submission, Worker};

/// Events of one request that wait for its reader at most.
const CHANNEL: usize = 64;

/// Tokens of context that are served whatever the estimate of free memory is.
const LEAST_CONTEXT: usize = 2048;

/// A model to load, and how.
pub struct LoadSpec {
    /// The model; whoever made the spec admitted it.
    pub model: AssessedModel,
    /// Tokenizer and template.
    pub text: ModelText,
    /// The arithmetic.
    pub precision: Precision,
    /// True to leave the draft head out.
    pub trunk_only: bool,
    /// Tokens that drafts are restricted to.
    pub draft_vocab: Option<DraftVocab>,
    /// The depth that was found best on this machine.
    pub tuned_depth: Option<usize>,
    /// Bounds on requests.
    pub limits: Limits,
    /// A script that is given in place of the model's text; no weights are read.
    #[cfg(any(test, feature = "testing"))]
    pub script: Option<crate::testing::script::Script>,
}

/// Bounds on requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests that run at once.
    pub running: usize,
    /// Requests that wait beside those.
    pub waiting: usize,
    /// Bytes of prefixes that are kept for prompts that begin alike; 0 keeps none, `None` takes a part of the memory that is left.
    pub kept: Option<usize>,
    /// Bytes for the texts that run, beside weights and kept prefixes; `None` takes what is left of the memory.
    pub texts: Option<u64>,
    /// Tokens that memory is set aside for behind a prompt, and again whenever a text has reached them.
    pub reserve: usize,
    /// Time after which the request of a reader that does not read ends.
    pub patience: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        let patience = Duration::from_secs(60);
        Self { running: 8, waiting: 64, kept: None, texts: None, reserve: 2048, patience }
    }
}

impl LoadSpec {
    /// An admitted model with its defaults.
    pub fn new(model: AssessedModel, text: ModelText) -> Self {
        Self {
            model,
            text,
            precision: Precision::Auto,
            trunk_only: false,
            draft_vocab: None,
            tuned_depth: None,
            limits: Limits::default(),
            #[cfg(any(test, feature = "testing"))]
            script: None,
        }
    }

    /// The model in the folder `path`, if one of `registry`'s architectures runs it with the evidence that it has.
    ///
    /// # Errors
    /// There is no such folder; the verdict on its files forbids it.
    pub fn open(path: &str, registry: &Registry) -> Result<Self, EngineError> {
        let checkpoint = Checkpoint::open_lenient(path.as_ref())?;
        let model = AssessedModel::new(checkpoint, registry, AssessOptions::default());
        model.admit(false, Admission::default())?;
        let text = model.text(true)?;
        Ok(Self::new(model, text))
    }
}

/// Stages of [`Engine::load`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Progress {
    /// Weights are being read.
    Loading,
    /// Requests are served.
    Ready,
}

/// Facts about the model that an engine runs.
#[derive(Debug, Clone)]
pub struct EngineInfo {
    /// The model.
    pub model: ModelInfo,
    /// Its architecture.
    pub descriptor: &'static Descriptor,
    /// The largest depth that it drafts; `None` without a draft head.
    pub head_depth: Option<usize>,
    /// Tokens that drafts are restricted to; `None` for all.
    pub draft_vocab: Option<usize>,
    /// Time that loading took.
    pub load_time: Duration,
}

/// A loaded model that serves requests. Dropping it ends its thread after the requests that it has.
pub struct Engine {
    submissions: Option<Sender<Submission>>,
    thread: Option<JoinHandle<()>>,
    counters: Arc<Counters>,
    limits: Limits,
    model: Arc<AssessedModel>,
    text: ModelText,
    info: EngineInfo,
    tuned_depth: Option<usize>,
}

impl Engine {
    /// Loads a model on a thread of its own, which all of its work stays on.
    ///
    /// # Errors
    /// The weights do not fit into memory; the files do not hold what their headers say; MLX fails.
    pub fn load(spec: LoadSpec, progress: &mut dyn FnMut(Progress)) -> Result<Self, EngineError> {
        let LoadSpec { model, text, precision, trunk_only, draft_vocab, tuned_depth, limits, .. } = spec;
        #[cfg(any(test, feature = "testing"))]
        let script = spec.script;
        progress(Progress::Loading);
        let model = Arc::new(model);
        let (submissions, queue) = mpsc::channel();
        let (loaded, outcome) = mpsc::channel();
        let counters = Arc::new(Counters::default());
        let of_thread = (Arc::clone(&model), Arc::clone(&text.tokenizer), Arc::clone(&counters));
        let thread = thread::Builder::new().name("engine".to_owned()).spawn(move || {
            let (model, tokenizer, counters) = of_thread;
            let need = model.memory(trunk_only).map(|memory| (memory, Arithmetic::of_default()));
            let worker = |sources: Sources, tokenizer, kept, memory| Worker {
                memory,
                batch: BatchPolicy::new(sources.most_in_a_pass(limits.running), sources.max_depth()),
                sources,
                tokenizer,
                store: PrefixStore::new(kept),
                submissions: queue,
                most: limits.running.max(1),
                patience: limits.patience,
                counters,
            };
            #[cfg(any(test, feature = "testing"))]
            if let Some(script) = script {
                match scripted(script, &model, &tokenizer) {
                    Ok((sources, info)) => {
                        if loaded.send(Ok(info)).is_ok() {
                            let memory = TextMemory::new(None, Box::new(|_| 0), limits.reserve);
                            worker(sources, tokenizer, 0, memory).run();
                        }
                    }
                    Err(error) => drop(loaded.send(Err(error))),
                }
                return;
            }
            let sources = model.load(trunk_only, precision).and_then(|loaded| {
                let vocabulary = loaded.draft_vocabulary(draft_vocab.as_ref(), &tokenizer)?;
                let info = EngineInfo {
                    model: loaded.model.info.clone(),
                    descriptor: loaded.descriptor,
                    head_depth: loaded.model.drafter.as_ref().map(|head| head.max_depth()),
                    draft_vocab: vocabulary.as_ref().map(|vocabulary| vocabulary.tokens().len()),
                    load_time: loaded.load_time,
                };
                Ok((Sources::Model { model: Box::new(loaded.model), vocabulary }, info))
            });
            drop(model);
            match sources {
                Ok((sources, mut info)) => {
                    let kept = limits.kept.unwrap_or_else(|| kept_by_default(info.model.weight_bytes));
                    let budget = limits.texts.or_else(|| texts_by_default(info.model.weight_bytes, kept));
                    let memory = match need {
                        Some((memory, on)) => {
                            let need = move |tokens| memory.need(tokens, on).context;
                            TextMemory::new(budget, Box::new(need), limits.reserve)
                        }
                        None => TextMemory::new(None, Box::new(|_| 0), limits.reserve),
                    };
                    // A longer text could never be served. Memory that is only estimated keeps no model from short ones.
                    let least = if limits.texts.is_none() { LEAST_CONTEXT } else { 1 };
                    info.model.context = memory.longest(info.model.context).max(least.min(info.model.context));
                    if loaded.send(Ok(info)).is_ok() {
                        worker(sources, tokenizer, kept, memory).run();
                    }
                }
                // Whoever asked is gone.
                Err(error) => drop(loaded.send(Err(error))),
            }
        })?;
        let info = outcome.recv().map_err(|_| EngineError::Ended)??;
        progress(Progress::Ready);
        let (submissions, thread) = (Some(submissions), Some(thread));
        Ok(Self { submissions, thread, counters, limits, model, text, info, tuned_depth })
    }

    /// Facts about the model.
    pub fn info(&self) -> &EngineInfo {
        &self.info
    }

    /// The model's files and their verdict.
    pub fn model(&self) -> &AssessedModel {
        &self.model
    }

    /// The model's label: a folder, a repository or the built-in model's name.
    pub fn label(&self) -> &str {
        self.model.checkpoint.label()
    }

    /// Tokenizer and template.
    pub fn text(&self) -> &ModelText {
        &self.text
    }

    /// Defaults of the model, for [`Settings::resolve`].
    pub fn defaults(&self) -> ModelDefaults<'_> {
        ModelDefaults {
            contract: self.model.assessment.contract.as_ref(),
            generation_config: self.text.generation_config.as_ref(),
            max_depth: self.info.head_depth.unwrap_or(0),
            tuned_depth: self.tuned_depth,
            has_chat_template: self.text.template.is_some(),
        }
    }

    /// Tokens of `text`: a message of the user's where the model has a chat template, and text to go on from otherwise.
    ///
    /// # Errors
    /// The template refuses it; the tokenizer fails.
    pub fn prompt(&self, text: &str) -> Result<Vec<u32>, EngineError> {
        let Some(template) = &self.text.template else { return Ok(self.text.tokenizer.encode(text, true)?) };
        let messages = &[Message::new("user", text)][..];
        let input =
            RenderInput { messages, add_generation_prompt: true, enable_thinking: None, tools: None, kwargs: None };
        Ok(self.text.tokenizer.encode(&template.render(&input)?, false)?)
    }

    /// A request for the text behind `prompt`, with the model's settings but for `overrides`.
    ///
    /// # Errors
    /// A file's setting is out of range; a chat without a template.
    pub fn request(&self, prompt: Vec<u32>, overrides: &Overrides) -> Result<Request, EngineError> {
        let settings = Settings::resolve(overrides, self.defaults(), &mut Vec::new())?;
        Ok(Request::new(prompt, &settings))
    }

    /// Requests that were submitted and have not ended.
    pub fn requests(&self) -> usize {
        self.counters.requests.load(Ordering::Relaxed)
    }

    /// Units of work so far, rounds and chunks of prompts: a number that rises while the engine works.
    pub fn units(&self) -> u64 {
        self.counters.units.load(Ordering::Relaxed)
    }

    /// Time that the unit of work under way has taken; `None` between two.
    pub fn unit_time(&self) -> Option<Duration> {
        let since = self.counters.since.load(Ordering::Relaxed).checked_sub(1)?;
        Some(self.counters.started.elapsed().saturating_sub(Duration::from_millis(since)))
    }

    /// Bytes of prefixes that are kept.
    pub fn kept_bytes(&self) -> usize {
        self.counters.kept.load(Ordering::Relaxed)
    }

    /// Bounds on requests.
    pub fn limits(&self) -> Limits {
        self.limits
    }

    /// True once its thread has ended: no request is served any more.
    pub fn has_ended(&self) -> bool {
        self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Begins a request, or puts it behind those that wait.
    ///
    /// # Errors
    /// A prompt that is empty, has tokens that the model does not have, or leaves no room in the context; settings out of range; too many
    /// requests wait; the engine has ended.
    pub fn submit(&self, mut request: Request) -> Result<Stream, RequestError> {
        let ModelInfo { vocab_size: vocab, context, .. } = self.info.model;
        if request.prompt.is_empty() {
            return Err(SequenceError::EmptyPrompt.into());
        }
        if let Some(&token) = request.prompt.iter().find(|&&token| token as usize >= vocab) {
            return Err(SequenceError::UnknownToken { token, vocab }.into());
        }
        let prompt = request.prompt.len();
        let room = context.checked_sub(prompt).filter(|&room| room > 0);
        let room = room.ok_or(RequestError::ContextExceeded { prompt, context })?;
        request.max_tokens = request.max_tokens.clamp(1, room);
        let drafts = request.drafts.as_ref().and_then(|drafts| drafts.sampling.as_ref());
        for sampling in [Some(&request.sampling), drafts].into_iter().flatten() {
            sampling.validate(vocab).map_err(SequenceError::from)?;
        }
        let before = self.counters.requests.fetch_add(1, Ordering::Relaxed);
        let refused = |error| {
            self.counters.requests.fetch_sub(1, Ordering::Relaxed);
            Err(error)
        };
        let ahead = before.saturating_sub(self.limits.running.max(1) - 1);
        if ahead > self.limits.waiting {
            return refused(RequestError::Busy { waiting: ahead - 1 });
        }
        let (events, receiver) = tokio::sync::mpsc::channel(CHANNEL);
        if ahead > 0 {
            // The channel is empty.
            let _ = events.try_send(Ok(Event::Queued { ahead }));
        }
        let cancel = request.cancel.clone();
        let submission = Submission { request, events };
        if self.submissions.as_ref().is_some_and(|queue| queue.send(submission).is_ok()) {
            Ok(Stream { events: receiver, cancel })
        } else {
            refused(RequestError::Ended)
        }
    }
}

/// Bytes of prefixes that are kept where nothing is stated: a quarter of what the weights leave of the device's memory.
fn kept_by_default(weights: usize) -> usize {
    match Room::of_default() {
        // Free memory, which other programs want as well.
        Some(Room::Free(bytes)) => usize::try_from(bytes / 4).unwrap_or(usize::MAX).min(256 << 20),
        Some(Room::Card(bytes) | Room::Shared(bytes)) => {
            usize::try_from(bytes).unwrap_or(usize::MAX).saturating_sub(weights) / 4
        }
        None => 256 << 20,
    }
}

/// Bytes for texts where nothing is stated: nine tenths of what weights and kept prefixes leave of the device's memory; `None` where the
/// system does not tell.
fn texts_by_default(weights: usize, kept: usize) -> Option<u64> {
    let left = match Room::of_default()? {
        // The weights are loaded: they are not among what is free.
        Room::Free(bytes) => bytes,
        Room::Card(bytes) | Room::Shared(bytes) => bytes.saturating_sub(weights as u64),
    };
    Some(left.saturating_sub(kept as u64) / 10 * 9)
}

/// A script in the place of `model`'s weights.
#[cfg(any(test, feature = "testing"))]
fn scripted(
    mut script: crate::testing::script::Script,
    model: &AssessedModel,
    tokenizer: &Arc<mtplx_runtime::text::Tokenizer>,
) -> Result<(Sources, EngineInfo), EngineError> {
    script.tokenizer = Some(Arc::clone(tokenizer));
    let context = if script.context == 0 { model.context().unwrap_or_default() } else { script.context };
    let info = EngineInfo {
        model: ModelInfo {
            vocab_size: tokenizer.vocab_size(),
            hidden_size: 0,
            context,
            weight_bytes: 0,
            hidden_variant: mtplx_runtime::artifact::HiddenVariant::PostNorm,
        },
        descriptor: model.architecture()?.descriptor(),
        head_depth: Some(8),
        draft_vocab: None,
        load_time: Duration::ZERO,
    };
    Ok((Sources::Script(script), info))
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.submissions = None;
        if let Some(thread) = self.thread.take() {
            // A panic of the thread was said where it happened.
            let _ = thread.join();
            mtplx_runtime::mlx::clear_cache();
        }
    }
}
