//! The engine behind the server: loaded at once or with the first request, dropped after a time without any, loaded again.

use std::ops::Deref;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use mtplx_engine::assess::Verdict;
use mtplx_engine::{ChatFormat, Engine, EngineError, EngineInfo, ModelText};
use mtplx_runtime::artifact::{Contract, sha256};

use crate::wire::internal::{Failure, FailureKind};
use crate::wire::ollama::Tag;

/// Loads the engine.
pub type Loader = Box<dyn Fn() -> Result<Engine, EngineError> + Send + Sync>;

/// Seconds after which a client may find a loaded engine.
const RETRY_LOADING: u64 = 10;

/// Facts about the model that stay known while its weights are not loaded.
pub struct Model {
    /// Its label: a folder, a repository or the built-in model's name.
    pub label: String,
    /// Facts that loading found.
    pub info: EngineInfo,
    /// The verdict on its files.
    pub verdict: Verdict,
    /// Its runtime contract.
    pub contract: Option<Contract>,
    /// Bytes of its weight files.
    pub bytes: u64,
    /// SHA-256 of its configuration, in hexadecimal digits: a name for this very model.
    pub digest: String,
    /// Tokenizer, template and generation settings.
    pub text: ModelText,
    /// Its chat template, probed; `None` for a model without one.
    pub chat: Option<ChatFormat>,
}

/// State of the engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Requests are served.
    Ok,
    /// Weights are being read.
    Loading,
    /// The next request loads the weights.
    Idle,
    /// The engine has ended.
    Dead,
}

enum State {
    Loading,
    Idle,
    Loaded(Arc<Engine>),
    Dead,
}

/// The engine, wherever it stands.
pub struct Host {
    load: Loader,
    state: Mutex<State>,
    model: Mutex<Option<Arc<Model>>>,
    loading: tokio::sync::Mutex<()>,
    leases: AtomicUsize,
    last_use: Mutex<Instant>,
}

/// The engine for one request: it is not dropped meanwhile.
pub struct Lease {
    engine: Arc<Engine>,
    host: Arc<Host>,
}

impl Host {
    /// An engine that is not loaded yet.
    pub fn new(load: Loader) -> Arc<Self> {
        Arc::new(Self {
            load,
            state: Mutex::new(State::Idle),
            model: Mutex::new(None),
            loading: tokio::sync::Mutex::new(()),
            leases: AtomicUsize::new(0),
            last_use: Mutex::new(Instant::now()),
        })
    }

    /// Loads the engine, or waits for whoever does.
    ///
    /// # Errors
    /// Those of the loader.
    pub async fn load(self: &Arc<Self>) -> Result<(), EngineError> {
        // A task of its own: whoever waits may be gone before the weights are read, and nobody is to read them twice.
        tokio::spawn(Arc::clone(self).load_in_turn()).await.unwrap_or(Err(EngineError::Ended))
    }

    async fn load_in_turn(self: Arc<Self>) -> Result<(), EngineError> {
        let _turn = self.loading.lock().await;
        if matches!(*lock(&self.state), State::Loaded(_)) {
            return Ok(());
        }
        *lock(&self.state) = State::Loading;
        let this = Arc::clone(&self);
        let loaded = tokio::task::spawn_blocking(move || {
            let engine = (this.load)()?;
            if lock(&this.model).is_none() {
                *lock(&this.model) = Some(Arc::new(Model::of(&engine)));
            }
            Ok(engine)
        });
        let loaded = loaded.await.unwrap_or(Err(EngineError::Ended));
        *lock(&self.last_use) = Instant::now();
        match loaded {
            Ok(engine) => *lock(&self.state) = State::Loaded(Arc::new(engine)),
            Err(error) => {
                // Files may have been replaced, memory taken: the next request tries again.
                *lock(&self.state) = State::Idle;
                return Err(error);
            }
        }
        Ok(())
    }

    /// The engine for one request, loaded if it is not.
    ///
    /// # Errors
    /// It does not load, or has ended.
    pub async fn lease(self: &Arc<Self>) -> Result<Lease, Failure> {
        loop {
            match &*lock(&self.state) {
                State::Loaded(engine) => {
                    self.leases.fetch_add(1, Ordering::Relaxed);
                    return Ok(Lease { engine: Arc::clone(engine), host: Arc::clone(self) });
                }
                State::Dead => return Err(dead()),
                State::Loading | State::Idle => {}
            }
            self.load().await.map_err(|error| Failure {
                retry_after: Some(RETRY_LOADING),
                ..Failure::new(FailureKind::Unavailable, format!("the model does not load: {error}"))
            })?;
        }
    }

    /// The model, once it has been loaded.
    pub fn model(&self) -> Option<Arc<Model>> {
        lock(&self.model).clone()
    }

    /// State of the engine.
    pub fn status(&self) -> Status {
        match &*lock(&self.state) {
            State::Loading => Status::Loading,
            State::Idle => Status::Idle,
            State::Loaded(engine) if engine.has_ended() => Status::Dead,
            State::Loaded(_) => Status::Ok,
            State::Dead => Status::Dead,
        }
    }

    /// Requests that run and that wait.
    pub fn requests(&self) -> (usize, usize) {
        match &*lock(&self.state) {
            State::Loaded(engine) => {
                let (all, most) = (engine.requests(), engine.limits().running);
                (all.min(most), all.saturating_sub(most))
            }
            _ => (0, 0),
        }
    }

    /// Bytes of prefixes that are kept.
    pub fn kept_bytes(&self) -> usize {
        match &*lock(&self.state) {
            State::Loaded(engine) => engine.kept_bytes(),
            _ => 0,
        }
    }

    /// Notes that the engine has ended.
    pub fn note_dead(&self) {
        *lock(&self.state) = State::Dead;
    }

    /// Drops the weights if nobody has used them for `idle`. True if they were dropped.
    pub fn unload_after(&self, idle: Duration) -> bool {
        let engine = {
            let mut state = lock(&self.state);
            let unused = self.leases.load(Ordering::Relaxed) == 0 && lock(&self.last_use).elapsed() >= idle;
            if !unused || !matches!(*state, State::Loaded(_)) {
                return false;
            }
            std::mem::replace(&mut *state, State::Idle)
        };
        // Its thread ends with it, and the weights.
        drop(engine);
        true
    }
}

impl Model {
    fn of(engine: &Engine) -> Self {
        let text = engine.text().clone();
        let chat = text.template.clone().map(|template| ChatFormat::new(template, Arc::clone(&text.tokenizer)));
        let model = engine.model();
        let names: Vec<&str> = model.checkpoint.tensors().map(|(name, _)| name).collect();
        Self {
            label: engine.label().to_owned(),
            info: engine.info().clone(),
            verdict: model.assessment.verdict.clone(),
            contract: model.assessment.contract.clone(),
            bytes: model.checkpoint.tensors().map(|(_, info)| info.range.len() as u64).sum(),
            digest: sha256(names.join("\n").as_bytes()),
            text,
            chat,
        }
    }
}

impl Model {
    /// The model in Ollama's list.
    pub fn tag(&self, name: &str, modified: u64) -> Tag {
        Tag {
            name: name.to_owned(),
            modified,
            size: self.bytes,
            digest: self.digest.clone(),
            format: "safetensors".to_owned(),
            family: self.info.descriptor.id.to_owned(),
            parameter_size: String::new(),
            quantization_level: String::new(),
        }
    }
}

impl Deref for Lease {
    type Target = Engine;

    fn deref(&self) -> &Engine {
        &self.engine
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        *lock(&self.host.last_use) = Instant::now();
        self.host.leases.fetch_sub(1, Ordering::Relaxed);
    }
}

/// The engine has ended.
pub fn dead() -> Failure {
    Failure {
        retry_after: Some(RETRY_LOADING),
        ..Failure::new(FailureKind::Unavailable, "the engine has ended; the server has to be started again")
    }
}

/// A panic elsewhere leaves these values whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
