//! Threads for matrix products on a processor: as many as cores are free to this process.
//!
//! OpenBLAS starts a thread for each core of the affinity mask and spins while it waits for the slowest. Where another program has one
//! of the cores, every product waits for the scheduler; a token takes a hundred products (docs/benchmarks.md has figures). A container's
//! quota is no part of the mask. Both are looked at when the device is chosen, and again while the program runs, for a server lives long.

use std::num::NonZero;
use std::sync::Once;
use std::time::Duration;
use std::{env, fs, thread};

use mtplx_runtime::mlx::OpenBlas;
use sysinfo::{CpuRefreshKind, System};

/// Variables by which a user states the number; OpenBLAS reads them itself.
const STATED: [&str; 3] = ["OPENBLAS_NUM_THREADS", "GOTO_NUM_THREADS", "OMP_NUM_THREADS"];
/// Time between two looks at the machine.
const PERIOD: Duration = Duration::from_millis(500);
/// Looks at the start, and time between them: a shell's pipeline takes cores for a moment.
const FIRST: usize = 3;
const FIRST_PERIOD: Duration = Duration::from_millis(1);

/// The variable that states the number of threads, and its value.
pub fn stated() -> Option<(&'static str, String)> {
    STATED.into_iter().find_map(|name| Some((name, env::var(name).ok().filter(|value| !value.is_empty())?)))
}

/// Cores that the affinity mask and the quota of the process's group allow.
pub fn allowed() -> usize {
    thread::available_parallelism().map_or(1, NonZero::get)
}

/// Has products take the cores that are free, from now on. Nothing where the user states a number or the BLAS is no OpenBLAS.
pub fn follow_free_cores() {
    static FOLLOWS: Once = Once::new();
    FOLLOWS.call_once(follow);
}

fn follow() {
    let (None, Some(blas)) = (stated(), OpenBlas::find()) else { return };
    let Some(cores) = cores() else {
        // Where the system does not tell what runs, there is the mask and the quota.
        blas.set_threads(allowed());
        return;
    };
    let mut first: Vec<usize> = Vec::new();
    for _ in 0..FIRST {
        first.extend(others());
        thread::sleep(FIRST_PERIOD);
    }
    first.sort_unstable();
    let Some(&others_now) = first.get(first.len() / 2) else { return };
    blas.set_threads(free(allowed(), cores, others_now));
    // Without it, products keep the number of the start.
    let _ = thread::Builder::new().name("cores".to_owned()).spawn(move || {
        let mut before = None;
        loop {
            thread::sleep(PERIOD);
            let Some(others) = others() else { return };
            let wanted = free(allowed(), cores, others);
            // A change counts once two looks in a row agree.
            if before.replace(wanted) == Some(wanted) && blas.threads() != wanted {
                tracing::debug!("{wanted} threads for products: {others} others run on {cores} cores");
                blas.set_threads(wanted);
            }
        }
    });
}

/// Threads, where `others` run on a machine of `cores` of which `allowed` are for this process.
fn free(allowed: usize, cores: usize, others: usize) -> usize {
    cores.saturating_sub(others).clamp(1, allowed.max(1))
}

/// Cores of the machine.
fn cores() -> Option<usize> {
    let mut system = System::new().ok()?;
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    Some(system.cpus().len()).filter(|&cores| cores > 0)
}

/// Threads of other processes that run or wait for a core; where Linux says.
fn others() -> Option<usize> {
    let all = running(&fs::read_to_string("/proc/loadavg").ok()?)?;
    let own = fs::read_dir("/proc/self/task").ok()?.flatten();
    let own =
        own.filter(|task| fs::read_to_string(task.path().join("stat")).is_ok_and(|stat| is_running(&stat))).count();
    Some(all.saturating_sub(own))
}

/// Threads that run or are ready to, from `/proc/loadavg`: `0.20 0.18 0.12 1/80 11206` (proc(5)).
fn running(loadavg: &str) -> Option<usize> {
    loadavg.split_whitespace().nth(3)?.split_once('/')?.0.parse().ok()
}

/// True where a thread's `stat` says that it runs; its name, in parentheses, may hold anything.
fn is_running(stat: &str) -> bool {
    stat.rsplit_once(") ").is_some_and(|(_, rest)| rest.starts_with('R'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn threads_are_the_cores_that_nobody_else_has() {
        for (allowed, cores, others, expected) in [
            (2, 2, 0, 2),
            (2, 2, 1, 1),
            (2, 2, 9, 1),
            // A mask of two cores on a machine of 64.
            (2, 64, 30, 2),
            (2, 64, 63, 1),
            (16, 16, 4, 12),
            (0, 0, 0, 1),
        ] {
            assert_eq!(free(allowed, cores, others), expected, "{allowed} of {cores}, {others} others");
        }
    }

    #[test]
    fn what_the_kernel_says() {
        assert_eq!(running("0.77 1.42 1.36 3/87 18455\n"), Some(3));
        assert_eq!(running("0.77 1.42"), None);
        assert!(is_running("7 (a) S) R 1 7"));
        assert!(!is_running("7 (R) S 1 7") && !is_running("garbage"));
        assert_eq!(others().is_some(), cfg!(target_os = "linux"));
    }
}
