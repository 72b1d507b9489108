//! Memory for weights: how much there is, and whether they fit. Where it runs out, MLX ends the process.

use std::fmt;

use mtplx_runtime::mlx::{self, MemoryBudget};
use sysinfo::System;

/// Bytes of memory for weights, and whose memory it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Room {
    /// The processor's, as much as is free.
    Free(u64),
    /// A graphics card's, all of it.
    Card(u64),
    /// Of memory that processor and GPU share, as much as the GPU may hold.
    Shared(u64),
}

/// Weights that do not fit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Shortage {
    /// Bytes of the weights.
    pub needed: u64,
    /// True where a weight takes four bytes, however few it is stored in.
    pub in_f32: bool,
    /// The memory.
    pub room: Room,
}

impl Room {
    /// Of the default device; `None` where it does not say.
    pub fn of_default() -> Option<Self> {
        if let Some(budget) = MemoryBudget::of_default() {
            return Some(Self::Shared(budget.weights()));
        }
        match mlx::default_device() {
            mlx::Device::Gpu => mlx::DeviceInfo::of_default().memory.map(|bytes| Self::Card(bytes as u64)),
            mlx::Device::Cpu => free_memory().map(Self::Free),
        }
    }

    fn bytes(self) -> u64 {
        let (Self::Free(bytes) | Self::Card(bytes) | Self::Shared(bytes)) = self;
        bytes
    }

    /// The shortage where weights take more bytes.
    pub fn shortage(self, needed: u64, in_f32: bool) -> Option<Shortage> {
        (needed > self.bytes()).then_some(Shortage { needed, in_f32, room: self })
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gib = |bytes: u64| format!("{:.1} GiB", bytes as f64 / f64::from(1 << 30));
        let unit = if self.in_f32 { "at four bytes each" } else { "as stored" };
        write!(f, "its weights take {}, {unit}, and ", gib(self.needed))?;
        match self.room {
            Room::Free(room) => write!(f, "{} are free", gib(room)),
            Room::Card(room) => write!(f, "the GPU has {}", gib(room)),
            Room::Shared(room) => write!(f, "the GPU may hold {} of this machine's memory", gib(room)),
        }
    }
}

/// Bytes that processes may still take, swap included, and no more than a container's bound leaves; where Linux says.
fn free_memory() -> Option<u64> {
    if !cfg!(target_os = "linux") {
        return None;
    }
    let mut system = System::new().ok()?;
    system.refresh_memory();
    let free = system.available_memory() + system.free_swap();
    // Pages of files are given up when memory is short, so they count as free: sysinfo's `free_memory` counts them as taken.
    let left = system.cgroup_limits().map(|group| group.total_memory.saturating_sub(group.rss));
    Some(left.map_or(free, |left| left.min(free)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn free_memory_is_known_on_linux() {
        assert_eq!(free_memory().is_some_and(|free| free > 0), cfg!(target_os = "linux"));
    }

    #[test]
    fn weights_beyond_memory() {
        let gib = |n: u64| n << 30;
        let said = |room: Room, needed, in_f32| room.shortage(needed, in_f32).map(|shortage| shortage.to_string());
        assert_eq!(said(Room::Free(gib(3)), gib(3), true), None);
        assert_eq!(
            said(Room::Free(gib(3)), gib(3) + 1, true).unwrap(),
            "its weights take 3.0 GiB, at four bytes each, and 3.0 GiB are free"
        );
        assert_eq!(
            said(Room::Card(gib(79)), gib(90), false).unwrap(),
            "its weights take 90.0 GiB, as stored, and the GPU has 79.0 GiB"
        );
        assert_eq!(
            said(Room::Shared(gib(10)), gib(11), false).unwrap(),
            "its weights take 11.0 GiB, as stored, and the GPU may hold 10.0 GiB of this machine's memory"
        );
    }
}
