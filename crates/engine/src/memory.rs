//! Memory of the device: how much there is, and whether a model fits. Where it runs out, MLX ends the process.

use std::fmt;

use mtplx_runtime::inspect::{Arithmetic, Memory, Need};
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

/// A model's need at a context, held against the memory that there is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fit {
    /// The bytes.
    pub need: Need,
    /// The memory.
    pub room: Room,
    /// True where a weight takes four bytes, however few it is stored in.
    pub in_f32: bool,
    /// The most tokens of context that fit, of powers of two and the context that was asked for.
    pub longest: Option<usize>,
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

    /// Bytes of it.
    pub fn bytes(self) -> u64 {
        let (Self::Free(bytes) | Self::Card(bytes) | Self::Shared(bytes)) = self;
        bytes
    }

    /// A model's need at `tokens` of context against this memory, in the arithmetic of a device.
    pub fn fit(self, memory: &Memory, tokens: usize, on: Arithmetic) -> Fit {
        let need = memory.need(tokens, on);
        Fit { need, room: self, in_f32: on.f32, longest: memory.longest(tokens, self.bytes(), on) }
    }

    /// The shortage where weights take more bytes.
    pub fn shortage(self, needed: u64, in_f32: bool) -> Option<Shortage> {
        (needed > self.bytes()).then_some(Shortage { needed, in_f32, room: self })
    }
}

impl Fit {
    /// True where it fits.
    pub fn fits(&self) -> bool {
        self.need.total() <= self.room.bytes()
    }
}

impl fmt::Display for Fit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let says = if self.fits() { "fits:" } else { "does not fit: needs" };
        // A need that is shown as the room itself would say nothing.
        let close = self.need.total().abs_diff(self.room.bytes()) < 100_000_000;
        let digits = |small: bool| if close || small { 2 } else { 1 };
        let [need, room] = [self.need.total(), self.room.bytes()].map(|bytes| bytes as f64 / 1e9);
        write!(f, "{says} {need:.*} of {room:.*} GB", digits(need < 1.0), digits(false))
    }
}

impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let gb = |bytes: u64| format!("{:.1} GB", bytes as f64 / 1e9);
        let unit = if self.in_f32 { "at four bytes each" } else { "as stored" };
        write!(f, "its weights take {}, {unit}, and ", gb(self.needed))?;
        match self.room {
            Room::Free(room) => write!(f, "{} are free", gb(room)),
            Room::Card(room) => write!(f, "the GPU has {}", gb(room)),
            Room::Shared(room) => write!(f, "the GPU may hold {} of this machine's memory", gb(room)),
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
    fn a_verdict_is_one_line() {
        let fit = |weights: u64, room: u64| {
            let need = Need { tokens: 1, weights, context: 0, working: 0 };
            Fit { need, room: Room::Free(room), in_f32: true, longest: None }.to_string()
        };
        assert_eq!(fit(18_200_000_000, 24_000_000_000), "fits: 18.2 of 24.0 GB");
        assert_eq!(fit(180_000_000, 22_900_000_000), "fits: 0.18 of 22.9 GB");
        assert_eq!(fit(31_000_000_000, 24_000_000_000), "does not fit: needs 31.0 of 24.0 GB");
        assert_eq!(fit(24_010_000_000, 24_000_000_000), "does not fit: needs 24.01 of 24.00 GB");
    }

    #[test]
    fn weights_beyond_memory() {
        let gb = |n: u64| n * 1_000_000_000;
        let said = |room: Room, needed, in_f32| room.shortage(needed, in_f32).map(|shortage| shortage.to_string());
        assert_eq!(said(Room::Free(gb(3)), gb(3), true), None);
        assert_eq!(
            said(Room::Free(gb(3)), gb(3) + 1, true).unwrap(),
            "its weights take 3.0 GB, at four bytes each, and 3.0 GB are free"
        );
        assert_eq!(
            said(Room::Card(gb(79)), gb(90), false).unwrap(),
            "its weights take 90.0 GB, as stored, and the GPU has 79.0 GB"
        );
        assert_eq!(
            said(Room::Shared(gb(10)), gb(11), false).unwrap(),
            "its weights take 11.0 GB, as stored, and the GPU may hold 10.0 GB of this machine's memory"
        );
    }
}
