//! The memory that running takes: weights, a context, and the pass that needs most. Estimated from headers and configuration.
//!
//! Constants are fitted to the peaks that MLX counted on a processor: built-in model, shapes of Qwen3.5 (0.8B with 4, 12 and 24 layers, 4B
//! with 4 and 12, a mixture of experts with 4) and MiMo with 4, prompts of 64 to 4096 tokens (docs/benchmarks.md). For a GPU they are
//! an estimate that was not measured.

use serde::Serialize;

use super::groups::Group;
use crate::architecture::{CacheSize, PassSize};
use crate::cache::capacity_after;
use crate::mlx::{Device, cuda_default, default_device};
use crate::speculative::prefill_chunk;

/// Contexts that memory is estimated for, in rows.
pub const CONTEXTS: [usize; 3] = [4 << 10, 32 << 10, 256 << 10];
/// Layers whose intermediate results are held at once: MLX sends operations ahead of the one that runs, and each holds its buffers.
const LAYERS_AHEAD: u64 = 4;
/// Weights that are unpacked at once where products read them unpacked: one that is used, one that is prepared.
const UNPACKED: u64 = 2;
/// Scores of one layer that are written out on CUDA at most (`nn/attention`).
const MOST_SCORES: u64 = 1 << 28;

/// Bytes that running takes, estimated.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Memory {
    /// Weights unpacked to f32, as on a CPU.
    pub weights_f32: u64,
    /// Weights as they are stored, as on a GPU.
    pub weights_native: u64,
    /// By context.
    pub contexts: Vec<ContextMemory>,
    #[serde(skip)]
    cache: CacheSize,
    #[serde(skip)]
    pass: PassSize,
}

/// Bytes that a context takes beside the weights: trunk's cache and draft head's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ContextMemory {
    /// Rows of context.
    pub rows: usize,
    /// With f32 activations.
    pub cache_f32: u64,
    /// With 16-bit activations.
    pub cache_native: u64,
    /// True where the configuration allows so long a context.
    pub within_context: bool,
}

/// The arithmetic of a device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Arithmetic {
    /// True where weights are unpacked and computed with in f32.
    pub f32: bool,
    /// Rows of a prompt that one pass reads.
    pub chunk: usize,
    /// True where a product over many rows unpacks its weight, and where scores are bounded.
    pub cuda: bool,
}

impl Arithmetic {
    /// Of the default device.
    #[must_use]
    pub fn of_default() -> Self {
        Self { f32: default_device() == Device::Cpu, chunk: prefill_chunk(), cuda: cuda_default() }
    }
}

/// Bytes that running takes at a context, by what they are for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Need {
    /// Tokens of context.
    pub tokens: usize,
    /// Weights, as the device holds them.
    pub weights: u64,
    /// Keys, values and recurrent states of the tokens, room to grow included.
    pub context: u64,
    /// Intermediate results of the pass that needs most.
    pub working: u64,
}

impl Need {
    /// All of it.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.weights.saturating_add(self.context).saturating_add(self.working)
    }
}

impl Memory {
    pub(super) fn of(cache: CacheSize, pass: PassSize, groups: &[Group], context: Option<usize>) -> Self {
        // Some publish copies of the trunk's embedding and head with each MTP layer; none of them is loaded.
        let copied = |group: &&Group| group.head && matches!(group.part, "embeddings" | "output");
        let loaded = || groups.iter().filter(|group| !copied(group));
        let weights_f32 = loaded().map(|group| 4 * group.parameters).sum();
        let weights_native = loaded().map(|group| group.bytes).sum();
        Self { contexts: contexts(cache, context), ..Self::with_weights(cache, pass, weights_f32, weights_native) }
    }

    /// Of a model that is not there yet, with weights of so many bytes in f32 and as stored.
    #[must_use]
    pub fn with_weights(cache: CacheSize, pass: PassSize, weights_f32: u64, weights_native: u64) -> Self {
        Self { weights_f32, weights_native, contexts: Vec::new(), cache, pass }
    }

    /// The same without the weights of `groups`.
    #[must_use]
    pub fn without<'a>(mut self, groups: impl Iterator<Item = &'a Group>) -> Self {
        for group in groups {
            self.weights_f32 = self.weights_f32.saturating_sub(4 * group.parameters);
            self.weights_native = self.weights_native.saturating_sub(group.bytes);
        }
        self
    }

    /// The bytes that a sequence of `tokens` takes.
    #[must_use]
    pub fn need(&self, tokens: usize, on: Arithmetic) -> Need {
        let width: u64 = if on.f32 { 4 } else { 2 };
        let rows = tokens.min(on.chunk);
        let [rows_u64, pending] = [rows, self.cache.pending_elements].map(|n| n as u64);
        let ahead = LAYERS_AHEAD.saturating_mul(self.pass.width as u64);
        let results = rows_u64.saturating_mul(pending.saturating_add(ahead)).saturating_mul(width);
        // The last whole chunk meets the longest context that a whole chunk meets.
        let whole = (tokens / rows.max(1)).saturating_mul(rows) as u64;
        let scores = rows_u64.saturating_mul(whole).saturating_mul(self.pass.heads as u64);
        let scores = if on.cuda { scores.min(MOST_SCORES) } else { scores }.saturating_mul(width);
        let unpacked = if on.cuda { UNPACKED * width * self.pass.largest_linear as u64 } else { 0 };
        Need {
            tokens,
            weights: if on.f32 { self.weights_f32 } else { self.weights_native },
            context: self.cache.bytes(capacity_after(tokens, on.chunk), width as usize),
            working: results.saturating_add(scores).saturating_add(unpacked),
        }
    }

    /// The most tokens, of powers of two and `most`, with which `room` bytes hold it all; `None` where not even the fewest fit.
    #[must_use]
    pub fn longest(&self, most: usize, room: u64, on: Arithmetic) -> Option<usize> {
        let powers = (8..usize::BITS - 1).map(|power| 1 << power).take_while(|&tokens| tokens < most);
        let fits = |&tokens: &usize| self.need(tokens, on).total() <= room;
        powers.chain([most]).take_while(fits).last()
    }
}

fn contexts(cache: CacheSize, context: Option<usize>) -> Vec<ContextMemory> {
    let of = |rows: usize| ContextMemory {
        rows,
        cache_f32: cache.bytes(rows, 4),
        cache_native: cache.bytes(rows, 2),
        within_context: context.is_none_or(|context| rows <= context),
    };
    CONTEXTS.into_iter().map(of).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    const CPU: Arithmetic = Arithmetic { f32: true, chunk: 512, cuda: false };

    fn memory() -> Memory {
        let cache = CacheSize { row_elements: 100, state_bytes: 7, pending_elements: 10 };
        Memory::with_weights(cache, PassSize { width: 50, heads: 3, largest_linear: 1000 }, 4_000_000, 1_000_000)
    }

    #[test]
    fn by_hand() {
        let Need { weights, context, working, .. } = memory().need(1024, CPU);
        assert_eq!((weights, context), (4_000_000, 1024 * 100 * 4 + 7));
        assert_eq!(working, 512 * (10 + 4 * 50) * 4 + 512 * 1024 * 3 * 4);
        // A short prompt is one pass of as many rows.
        assert_eq!(memory().need(64, CPU).working, 64 * 210 * 4 + 64 * 64 * 3 * 4);
        let cuda = Arithmetic { f32: false, chunk: 2048, cuda: true };
        let need = memory().need(1 << 20, cuda);
        assert_eq!(need.weights, 1_000_000);
        assert_eq!(need.working, 2048 * 210 * 2 + (1 << 28) * 2 + 2 * 2 * 1000);
    }

    #[test]
    fn the_longest_context() {
        let memory = memory();
        let room = memory.need(4096, CPU).total();
        assert_eq!(memory.longest(100_000, room, CPU), Some(4096));
        assert_eq!(memory.longest(3000, room, CPU), Some(3000));
        assert_eq!(memory.longest(100_000, 1_000_000, CPU), None);
        // No numbers of a damaged configuration overflow.
        let huge = CacheSize { row_elements: usize::MAX, state_bytes: usize::MAX, pending_elements: usize::MAX };
        let pass = PassSize { width: usize::MAX, heads: usize::MAX, largest_linear: 0 };
        assert_eq!(Memory::with_weights(huge, pass, u64::MAX, 0).need(1 << 20, CPU).total(), u64::MAX);
    }
}
