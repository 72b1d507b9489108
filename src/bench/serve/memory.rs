//! The resident memory of a server's process over a load.

use serde::Serialize;
use sysinfo::{Pid, ProcessRefreshKind, ProcessesToUpdate, System};

/// Seconds between samples.
const EVERY: f64 = 0.5;
/// Growth that is not growth: a tenth and 32 MB, of the largest in the first third to that in the last.
const FACTOR: f64 = 1.1;
const BYTES: u64 = 32_000_000;

/// Resident memory in bytes.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Memory {
    pub pid: u32,
    pub samples: usize,
    pub max: u64,
    /// The most in the first third of the time.
    pub first_third_max: u64,
    /// The most in the last.
    pub last_third_max: u64,
    /// True where the last is more than 1.1 times the first plus 32 MB.
    pub grew: bool,
}

/// Samples of a process.
pub struct Watch {
    pid: u32,
    system: System,
    /// Seconds and bytes.
    samples: Vec<(f64, u64)>,
}

impl Watch {
    /// A watch on a process; `None` where there is none with this id.
    pub fn new(pid: u32) -> Option<Self> {
        let mut watch = Self { pid, system: System::new().ok()?, samples: Vec::new() };
        watch.resident().map(|_| watch)
    }

    /// Takes a sample at `seconds`, unless the last one is younger than half a second.
    pub fn sample(&mut self, seconds: f64) {
        if self.samples.last().is_some_and(|(last, _)| seconds - last < EVERY) {
            return;
        }
        if let Some(bytes) = self.resident() {
            self.samples.push((seconds, bytes));
        }
    }

    fn resident(&mut self) -> Option<u64> {
        let pid = Pid::from_u32(self.pid);
        let kind = ProcessRefreshKind::nothing().with_memory();
        self.system.refresh_processes_specifics(ProcessesToUpdate::Some(&[pid]), true, kind);
        self.system.process(pid).map(|process| process.memory())
    }

    /// The samples in a few numbers; `None` of none.
    pub fn result(&self) -> Option<Memory> {
        thirds(self.pid, &self.samples)
    }
}

fn thirds(pid: u32, samples: &[(f64, u64)]) -> Option<Memory> {
    let (&(start, _), &(end, _)) = (samples.first()?, samples.last()?);
    let third = (end - start) / 3.0;
    let most = |from: f64, to: f64| {
        let within = samples.iter().filter(|(at, _)| (from..=to).contains(at));
        within.map(|(_, bytes)| *bytes).max().unwrap_or(0)
    };
    let (first, last) = (most(start, start + third), most(end - third, end));
    let bound = first as f64 * FACTOR + BYTES as f64;
    Some(Memory {
        pid,
        samples: samples.len(),
        max: most(start, end),
        first_third_max: first,
        last_third_max: last,
        grew: last as f64 > bound,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thirds_of_the_time() {
        let at = |bytes: [u64; 7]| -> Vec<(f64, u64)> { (0..).map(f64::from).zip(bytes).collect() };
        let flat = thirds(7, &at([100, 300, 200, 900, 200, 250, 200].map(|mb| mb * 1_000_000))).unwrap();
        assert_eq!((flat.first_third_max, flat.last_third_max, flat.max), (300_000_000, 250_000_000, 900_000_000));
        assert!(!flat.grew && flat.samples == 7);
        let bounds = thirds(7, &at([100, 100, 100, 100, 100, 142, 100].map(|mb| mb * 1_000_000))).unwrap();
        assert!(!bounds.grew);
        let grows = thirds(7, &at([100, 100, 100, 100, 100, 143, 100].map(|mb| mb * 1_000_000))).unwrap();
        assert!(grows.grew);
        assert_eq!(thirds(7, &[]), None);
    }

    #[test]
    fn this_process_has_memory() {
        let mut watch = Watch::new(std::process::id()).unwrap();
        watch.sample(0.0);
        watch.sample(0.1);
        watch.sample(0.6);
        let memory = watch.result().unwrap();
        assert!(memory.samples == 2 && memory.max > 1_000_000, "{memory:?}");
        assert!(Watch::new(u32::MAX - 1).is_none());
    }
}
