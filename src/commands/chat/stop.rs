//! Ctrl-C: it stops an answer and never the program, but while a model loads.

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

use mtplx_engine::CancelFlag;
use mtplx_runtime::mlx;

use crate::error::{Exit, stderr};

/// The way out, in words.
pub const LEAVE: &str = "/bye or Ctrl-D leaves";

const LOADING: u8 = 0;
const READING: u8 = 1;
const ANSWERING: u8 = 2;

/// The program's reaction to an interrupt.
pub struct Stop {
    phase: AtomicU8,
    flag: Arc<AtomicBool>,
}

impl Stop {
    /// Listens from here on, as a program that is loading.
    ///
    /// # Errors
    /// The system does not let it.
    pub fn listen() -> Result<Arc<Self>, ctrlc::Error> {
        let stop = Arc::new(Self::new());
        let heard = Arc::clone(&stop);
        ctrlc::set_handler(move || match heard.phase.load(Ordering::Relaxed) {
            LOADING => mlx::exit(Exit::Interrupted as u8),
            ANSWERING => heard.flag.store(true, Ordering::Relaxed),
            // Only where lines cannot be edited: the editor takes Ctrl-C itself.
            _ => drop(writeln!(stderr(), "\n{LEAVE}")),
        })?;
        Ok(stop)
    }

    /// Without listening.
    pub fn new() -> Self {
        Self { phase: AtomicU8::new(LOADING), flag: Arc::new(AtomicBool::new(false)) }
    }

    /// Lines are read from here on.
    pub fn reading(&self) {
        self.phase.store(READING, Ordering::Relaxed);
    }

    /// An answer begins, which the flag ends.
    pub fn answering(&self) -> CancelFlag {
        self.flag.store(false, Ordering::Relaxed);
        self.phase.store(ANSWERING, Ordering::Relaxed);
        CancelFlag::shared(Arc::clone(&self.flag))
    }
}
