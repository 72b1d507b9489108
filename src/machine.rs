//! What this machine is: processor, memory, system, time. For the record.

use std::{env, fs};

use jiff::Timestamp;
use sysinfo::{CpuRefreshKind, System};

/// Processor, graphics processor and memory, as far as the system tells.
pub fn hardware() -> String {
    let parts = [processor(), graphics(), memory().map(|bytes| format!("{} GB memory", (bytes >> 20).div_ceil(1024)))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") }
}

/// The operating system and the instruction set.
pub fn os() -> String {
    let linux = cfg!(target_os = "linux");
    let words = if linux { vec![System::name(), System::os_version()] } else { vec![System::long_os_version()] };
    let words: Vec<String> = words.into_iter().flatten().collect();
    let name = if words.is_empty() { env::consts::OS.to_owned() } else { words.join(" ") };
    format!("{name} ({})", env::consts::ARCH)
}

/// The time now, in UTC, as RFC 3339 spells it.
pub fn timestamp() -> String {
    Timestamp::now().strftime("%FT%TZ").to_string()
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let mut system = System::new().ok()?;
    system.refresh_cpu_list(CpuRefreshKind::nothing());
    let name = system.cpus().first()?.brand().trim();
    (!name.is_empty()).then(|| name.to_owned())
}

/// True for the superuser.
pub fn is_root() -> bool {
    #[cfg(target_os = "linux")]
    {
        use std::os::unix::fs::MetadataExt as _;
        // A process's own folder belongs to its effective user (proc(5)).
        fs::metadata("/proc/self").is_ok_and(|folder| folder.uid() == 0)
    }
    #[cfg(not(target_os = "linux"))]
    env::var_os("USER").is_some_and(|user| user == "root")
}

/// The NVIDIA driver's version.
pub fn driver() -> Option<String> {
    version_in(fs::read_to_string("/proc/driver/nvidia/version").ok()?.lines().next()?)
}

/// The first word of a line that is numbers with dots between.
fn version_in(line: &str) -> Option<String> {
    let is_version = |word: &&str| word.contains('.') && word.chars().all(|c| c.is_ascii_digit() || c == '.');
    line.split_whitespace().find(is_version).map(str::to_owned)
}

/// NVIDIA's driver says; elsewhere the graphics processor is part of the processor's name.
fn graphics() -> Option<String> {
    let cards = fs::read_dir("/proc/driver/nvidia/gpus").ok()?;
    let model = |card: fs::DirEntry| {
        let text = fs::read_to_string(card.path().join("information")).ok()?;
        field(&text, "Model:").map(str::to_owned)
    };
    cards.filter_map(Result::ok).find_map(model)
}

/// Bytes of memory, or of the part of it that a container may take.
pub fn memory() -> Option<u64> {
    let system = with_memory()?;
    let bound = system.cgroup_limits().map_or(u64::MAX, |group| group.total_memory);
    Some(system.total_memory().min(bound)).filter(|&bytes| bytes > 0)
}

fn with_memory() -> Option<System> {
    let mut system = System::new().ok()?;
    system.refresh_memory();
    Some(system)
}

/// What follows `name` on the first line that begins with it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).filter(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_time_is_in_utc_to_the_second() {
        let now = timestamp();
        assert_eq!((now.len(), now.ends_with('Z')), ("2026-05-02T00:52:23Z".len(), true), "{now}");
        let since = Timestamp::now().as_second() - now.parse::<Timestamp>().unwrap().as_second();
        assert!((0..60).contains(&since), "{now}");
    }

    #[test]
    fn versions_in_a_driver_s_line() {
        let line = "NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.95.05  Tue Sep 23 10:11:16 UTC 2025";
        assert_eq!(version_in(line).as_deref(), Some("580.95.05"));
        assert_eq!(version_in("no version"), None);
    }

    #[test]
    fn something_is_known() {
        assert!(!hardware().contains('\n') && !hardware().is_empty());
        assert!(os().contains(env::consts::ARCH));
        assert!(processor().is_some() && memory() > Some(1 << 26));
    }
}
