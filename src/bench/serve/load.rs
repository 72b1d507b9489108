//! The closed loop: clients that each send their next request when the last one has ended.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use super::bad::{self, BadAnswer};
use super::client::{Answer, Ask, Client, Target};
use super::fault::{Fault, FaultKind};
use super::prompts::{Prompts, mixed};

/// Time between looks at the clock and at the interrupt.
const TICK: Duration = Duration::from_millis(100);
/// Rest of a client whose request failed at once: nothing is gained by asking a thousand times a second.
const REST: Duration = Duration::from_millis(50);
/// Longest rest that a server's `Retry-After` gets.
const LONGEST_REST: f64 = 1.0;

/// Settings that the requests of all rows share.
#[derive(Debug, Clone)]
pub struct Load {
    pub target: Arc<Target>,
    pub prompts: Arc<Prompts>,
    pub max_tokens: usize,
    pub seed: Option<u64>,
    /// Seed of what is drawn here: who hangs up, and when.
    pub draws: u64,
    pub hang_ups: f64,
    pub bad_requests: f64,
}

/// End of a row's load.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Until {
    Requests(u64),
    Seconds(f64),
}

/// A request that has ended.
#[derive(Debug)]
pub struct Ended {
    /// Its prompt's number.
    pub number: u64,
    /// Seconds from the row's start.
    pub at: f64,
    pub outcome: Outcome,
}

/// The end of a request.
#[derive(Debug)]
pub enum Outcome {
    Answered(Answer),
    Failed(Fault),
    /// The answer to a request that was bad on purpose.
    Bad(BadAnswer),
}

/// The kind of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Role {
    Whole,
    HangsUp(u64),
    Bad(u64),
}

impl Load {
    /// The request of a prompt's number.
    pub fn ask(&self, number: u64) -> Ask {
        // The seed goes with the prompt, so that one prompt has one answer.
        let seed = self.seed.map(|seed| seed.wrapping_add(self.prompts.index(number)) & (u64::MAX >> 1));
        Ask { conversation: vec![self.prompts.prompt(number)], max_tokens: self.max_tokens, seed, hang_up_after: None }
    }

    fn role(&self, number: u64) -> Role {
        let mut random = fastrand::Rng::with_seed(mixed(self.draws, number));
        let draw = random.f64();
        if draw < self.bad_requests {
            Role::Bad(random.u64(..))
        } else if draw < self.bad_requests + self.hang_ups {
            Role::HangsUp(random.u64(1..=(self.max_tokens as u64 / 2).max(1)))
        } else {
            Role::Whole
        }
    }

    fn request(&self, client: &Client, number: u64) -> Outcome {
        let ask = self.ask(number);
        let ask = match self.role(number) {
            Role::Whole => ask,
            Role::HangsUp(chunks) => Ask { hang_up_after: Some(chunks), ..ask },
            Role::Bad(kind) => return Outcome::Bad(bad::send(client, &ask, kind)),
        };
        match client.ask(&ask) {
            Ok(answer) => Outcome::Answered(answer),
            Err(fault) => Outcome::Failed(fault),
        }
    }

    /// Runs `clients` clients. Prompts are numbered from `first` on; `each` is told of every request that ended, and `tick` of
    /// the seconds that have passed. Returns the seconds from the first request to the end of the last, the next number, and false
    /// where `stop` was set before all had ended: then requests in flight are left alone.
    pub fn run(
        &self,
        clients: usize,
        until: Until,
        first: u64,
        stop: &AtomicBool,
        mut each: impl FnMut(Ended),
        mut tick: impl FnMut(f64),
    ) -> (f64, u64, bool) {
        let next = Arc::new(AtomicU64::new(first));
        let halted = Arc::new(AtomicBool::new(false));
        let (sender, ended) = mpsc::channel();
        let start = Instant::now();
        for _ in 0..clients {
            let (load, next, halted, sender) = (self.clone(), Arc::clone(&next), Arc::clone(&halted), sender.clone());
            thread::spawn(move || {
                let client = Client::new(Arc::clone(&load.target));
                while !halted.load(Ordering::Relaxed) {
                    if matches!(until, Until::Seconds(seconds) if start.elapsed().as_secs_f64() >= seconds) {
                        break;
                    }
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if matches!(until, Until::Requests(requests) if number - first >= requests) {
                        break;
                    }
                    let outcome = load.request(&client, number);
                    let rest = rest(&outcome);
                    let at = start.elapsed().as_secs_f64();
                    if sender.send(Ended { number, at, outcome }).is_err() {
                        break;
                    }
                    thread::sleep(rest);
                }
            });
        }
        drop(sender);
        let mut end = 0.0_f64;
        let whole = loop {
            if stop.load(Ordering::Relaxed) {
                break false;
            }
            match ended.recv_timeout(TICK) {
                Ok(request) => {
                    end = end.max(request.at);
                    each(request);
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => break true,
            }
            tick(start.elapsed().as_secs_f64());
        };
        halted.store(true, Ordering::Relaxed);
        let seconds = if whole { end } else { start.elapsed().as_secs_f64() };
        (seconds, next.load(Ordering::Relaxed), whole)
    }
}

/// Time before the next request.
fn rest(outcome: &Outcome) -> Duration {
    match outcome {
        Outcome::Failed(fault) if fault.is_busy() => {
            let asked = fault.retry_after.unwrap_or(REST.as_secs_f64());
            Duration::from_secs_f64(asked.clamp(REST.as_secs_f64(), LONGEST_REST))
        }
        Outcome::Failed(Fault { kind: FaultKind::Connection | FaultKind::Status, .. }) => REST,
        _ => Duration::ZERO,
    }
}
