//! Memory of a device that the processor shares: the part of it that MLX may take, hold back and wire.

use mlx_rs::memory;

use super::{Device, DeviceInfo, default_device};

const GIB: u64 = 1 << 30;

/// The most that Metal recommends a process to hold, and MLX's limits within it. Not tried on a Mac.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryBudget {
    /// `max_recommended_working_set_size`, in bytes: two thirds to four fifths of the machine's memory.
    room: u64,
}

impl MemoryBudget {
    /// Of the default device; `None` where it has memory of its own or is the processor.
    pub fn of_default() -> Option<Self> {
        let info = (default_device() == Device::Gpu).then(DeviceInfo::of_default)?;
        Self::of(&info)
    }

    fn of(info: &DeviceInfo) -> Option<Self> {
        info.working_set.map(|room| Self { room: room as u64 })
    }

    /// Bytes of weights at most: above 95 % of the room, MLX gives buffers back and makes them anew at every step (MLX 0.32,
    /// `metal/allocator.cpp`).
    pub fn weights(self) -> u64 {
        self.room / 20 * 19
    }

    /// Bytes that MLX allocates at most before it waits for what runs.
    fn limit(self) -> u64 {
        self.room
    }

    /// Bytes of freed buffers that MLX keeps; its own bound is the whole memory.
    fn cache(self) -> u64 {
        GIB.min(self.room / 16)
    }

    /// Bytes that the system may not move away: weights and what a step takes, for a process that wires all there is starves the others.
    fn wired(self, weights: u64) -> u64 {
        self.room.min(weights.saturating_add(GIB))
    }

    /// Sets MLX's limits; to be called before it computes.
    pub fn apply(self) {
        for result in [memory::set_memory_limit(self.limit() as usize), memory::set_cache_limit(self.cache() as usize)]
        {
            if let Err(error) = result {
                tracing::warn!("MLX keeps its own limits of memory: {}", error.what());
            }
        }
    }

    /// Wires `weights` bytes that were loaded. Systems before macOS 15 do not wire, which costs speed only.
    pub fn wire(self, weights: u64) {
        if let Err(error) = memory::set_wired_limit(self.wired(weights) as usize) {
            tracing::debug!("weights are not wired: {}", error.what());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_follow_from_the_working_set() {
        // The memory of Macs, and the share of it that Metal recommends, in GiB.
        for (memory, room) in [(8, 5.3), (16, 10.7), (36, 27.0), (64, 48.0), (128, 107.5), (512, 464.0)] {
            let room = (room * GIB as f64) as u64;
            let info = DeviceInfo {
                memory: Some((memory * GIB) as usize),
                working_set: Some(room as usize),
                ..DeviceInfo::default()
            };
            let budget = MemoryBudget::of(&info).unwrap();
            assert_eq!(budget.limit(), room, "{memory}");
            assert!(budget.weights() < room && budget.weights() > room / 10 * 9, "{memory}");
            assert!(budget.cache() <= GIB.min(room / 10), "{memory}");
            for weights in [0, GIB, budget.weights(), u64::MAX] {
                let wired = budget.wired(weights);
                assert!(wired <= room && (wired == room || wired == weights + GIB), "{memory}: {weights}");
            }
        }
        let discrete = DeviceInfo { memory: Some(80 << 30), ..DeviceInfo::default() };
        assert_eq!(MemoryBudget::of(&discrete), None);
    }
}
