//! What this machine is: processor, memory, system, time. All but free memory is for the record.

use std::fs;
use std::process::Command;

use jiff::Timestamp;

/// Processor, graphics processor and memory, as far as the system tells.
pub fn hardware() -> String {
    let parts = [processor(), graphics(), memory().map(|bytes| format!("{} GB memory", (bytes >> 20).div_ceil(1024)))];
    let parts: Vec<String> = parts.into_iter().flatten().collect();
    if parts.is_empty() { "unknown".to_owned() } else { parts.join(", ") }
}

/// The operating system and the instruction set.
pub fn os() -> String {
    let release = fs::read_to_string("/etc/os-release").ok();
    let name = release.as_deref().and_then(|text| field(text, "PRETTY_NAME=")).map(|name| name.trim_matches('"'));
    format!("{} ({})", name.unwrap_or(std::env::consts::OS), std::env::consts::ARCH)
}

/// The time now, in UTC, as RFC 3339 spells it.
pub fn timestamp() -> String {
    Timestamp::now().strftime("%FT%TZ").to_string()
}

/// The processor's name.
pub fn processor() -> Option<String> {
    let text = fs::read_to_string("/proc/cpuinfo").ok();
    let name =
        text.as_deref().and_then(|text| field(text, "model name")).map(|name| name.trim_start_matches([' ', ':']));
    name.map(str::to_owned).or_else(|| sysctl("machdep.cpu.brand_string"))
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

fn memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok();
    text.and_then(|text| kibibytes(&text, "MemTotal:")).or_else(|| sysctl("hw.memsize")?.parse().ok())
}

/// Bytes that processes may still take, swap included, and no more than a container's bound leaves; where Linux says.
pub fn free_memory() -> Option<u64> {
    let text = fs::read_to_string("/proc/meminfo").ok()?;
    let free = kibibytes(&text, "MemAvailable:")? + kibibytes(&text, "SwapFree:").unwrap_or(0);
    // A container sees its own group there; without a bound it says `max`.
    let of_group = |name: &str| fs::read_to_string(format!("/sys/fs/cgroup/{name}")).ok()?.trim().parse::<u64>().ok();
    let file_pages = || {
        let stat = fs::read_to_string("/sys/fs/cgroup/memory.stat").ok()?;
        field(&stat, "file ")?.parse::<u64>().ok()
    };
    let left = of_group("memory.max").zip(of_group("memory.current"));
    let left = left.map(|(most, taken)| most.saturating_sub(taken.saturating_sub(file_pages().unwrap_or(0))));
    Some(left.map_or(free, |left| left.min(free)))
}

/// The number of KiB in a line of `/proc/meminfo`, in bytes.
fn kibibytes(text: &str, name: &str) -> Option<u64> {
    field(text, name)?.split_whitespace().next()?.parse::<u64>().ok().map(|kib| kib << 10)
}

/// What follows `name` on the first line that begins with it.
fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| line.strip_prefix(name)).map(str::trim).filter(|value| !value.is_empty())
}

fn sysctl(name: &str) -> Option<String> {
    if !cfg!(target_os = "macos") {
        return None;
    }
    let output = Command::new("/usr/sbin/sysctl").args(["-n", name]).output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    Some(text.trim().to_owned()).filter(|text| output.status.success() && !text.is_empty())
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
        assert!(os().contains(std::env::consts::ARCH));
        assert_eq!(free_memory().is_some(), cfg!(target_os = "linux"));
    }

    #[test]
    fn memory_in_a_line() {
        assert_eq!(kibibytes("MemTotal: 24 kB\nMemAvailable:     3 kB\n", "MemAvailable:"), Some(3 << 10));
        assert_eq!(kibibytes("MemTotal: much\n", "MemTotal:"), None);
    }
}
