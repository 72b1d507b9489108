//! Random weights, made where they go: packed words are drawn as words, with scales that give the matrix the variance it
//! needs, so that activations stay of order one through any number of layers.

use std::ops::Range;

use safetensors::Dtype;

use super::affine::push;
use super::plan::{Coding, Output};
use super::source::{PackedRows, TensorSource};
use super::{ForgeError, Rule};

/// Random numbers for a plan; the same seed gives the same bytes, whoever draws them in whatever order.
pub(super) struct Synthetic {
    seed: u64,
    /// Numbers of a normal distribution, to be drawn from at random.
    normal: Vec<f32>,
}

/// Entries of the table, a square.
const TABLE: usize = 64 * 64;

/// What a tensor's numbers are like.
enum Fill {
    Constant(f32),
    Normal(f32),
    Between(f32, f32),
    /// The logarithm of a number between these.
    Log(f32, f32),
}

impl Fill {
    /// As the name suggests. What is added to the residual stream is small, so that layers do not drown one another.
    fn of(rule: &Rule) -> Self {
        let module = rule.module();
        let ends = |suffixes: &[&str]| suffixes.iter().any(|suffix| module.ends_with(suffix));
        let width = rule.shape.last().copied().unwrap_or(1).max(1) as f32;
        match rule.shape.len() {
            1 if module.contains("norm") => Self::Constant(1.0),
            // Gated DeltaNet: decay rates from 1 to 16 a unit of time, steps of 0.0025 to 0.13 units.
            1 if ends(&["A_log"]) => Self::Log(1.0, 16.0),
            1 if ends(&["dt_bias"]) => Self::Between(-6.0, -2.0),
            1 if ends(&["correction_bias"]) => Self::Constant(0.0),
            1 => Self::Normal(0.02),
            // Depthwise: each output sums the taps of one channel, before the last axis.
            3 if ends(&["conv1d"]) => Self::Normal(0.5),
            _ if ends(&["o_proj", "out_proj", "down_proj"]) => Self::Normal(0.3 / width.sqrt()),
            _ => Self::Normal(1.0 / width.sqrt()),
        }
    }
}

impl Synthetic {
    pub(super) fn new(seed: u64) -> Self {
        // Box and Muller's transform of a grid.
        let unit = |i: usize| (i as f64 + 0.5) / 64.0;
        let value = |i: usize| {
            let (radius, angle) = ((-2.0 * unit(i / 64).ln()).sqrt(), std::f64::consts::TAU * unit(i % 64));
            (radius * angle.cos()) as f32
        };
        Self { seed, normal: (0..TABLE).map(value).collect() }
    }
}

impl TensorSource for Synthetic {
    fn rows(&self, output: &Output, rows: Range<usize>, parts: &mut PackedRows) -> Result<(), ForgeError> {
        let mut rng = Rng::new(self.seed, &output.rule.output, rows.start);
        let fill = Fill::of(&output.rule);
        let count = rows.len() * output.width();
        match output.coding {
            Coding::Dense(dtype) => {
                let size = dtype.bitsize() / 8;
                parts.weight.reserve(count * size);
                if let Fill::Normal(deviation) = fill {
                    self.normals(&mut rng, deviation, dtype, count, &mut parts.weight);
                } else {
                    (0..count).for_each(|_| push(&mut parts.weight, rng.number(&fill), dtype));
                }
            }
            Coding::Packed(scheme, dtype) | Coding::Kept(scheme, dtype) => {
                let Fill::Normal(deviation) = fill else { return Ok(()) };
                let levels = (1_u32 << scheme.bits()) as f32;
                // Codes are uniform: their variance is (levels² - 1) / 12.
                let step = deviation / ((levels * levels - 1.0) / 12.0).sqrt();
                let words = count / 8 * scheme.bits() / 4;
                parts.weight.reserve(words * 4);
                for _ in 0..words / 2 {
                    parts.weight.extend_from_slice(&rng.next().to_le_bytes());
                }
                if words % 2 == 1 {
                    parts.weight.extend_from_slice(&(rng.next() as u32).to_le_bytes());
                }
                for _ in 0..count / scheme.group_size() {
                    let scale = step * (0.75 + 0.5 * rng.unit());
                    push(&mut parts.scales, scale, dtype);
                    push(&mut parts.biases, -scale * (levels - 1.0) / 2.0, dtype);
                }
            }
        }
        Ok(())
    }
}

impl Synthetic {
    fn normals(&self, rng: &mut Rng, deviation: f32, dtype: Dtype, count: usize, out: &mut Vec<u8>) {
        let size = dtype.bitsize() / 8;
        let mut table = Vec::with_capacity(TABLE * size);
        self.normal.iter().for_each(|value| push(&mut table, value * deviation, dtype));
        let mut left = count;
        while left > 0 {
            // 64 bits: five numbers out of 4096.
            let mut bits = rng.next();
            for _ in 0..left.min(5) {
                let at = (bits as usize % TABLE) * size;
                out.extend_from_slice(&table[at..at + size]);
                bits >>= 12;
            }
            left -= left.min(5);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014).
struct Rng(u64);

impl Rng {
    /// A stream of its own for every place.
    fn new(seed: u64, name: &str, row: usize) -> Self {
        // FNV-1a over the name.
        let hash = name.bytes().fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| {
            (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3)
        });
        let mut rng = Self(hash ^ seed.wrapping_mul(0x9e37_79b9_7f4a_7c15));
        rng.0 = rng.next() ^ (row as u64).wrapping_mul(0xd1b5_4a32_d192_ed03);
        Self(rng.next())
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ z >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ z >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ z >> 31
    }

    /// From 0 to 1.
    fn unit(&mut self) -> f32 {
        (self.next() >> 40) as f32 / (1_u32 << 24) as f32
    }

    fn number(&mut self, fill: &Fill) -> f32 {
        match *fill {
            Fill::Constant(value) => value,
            Fill::Between(low, high) => low + (high - low) * self.unit(),
            Fill::Log(low, high) => (low + (high - low) * self.unit()).ln(),
            // The sum of three uniform numbers: near enough for the few that are drawn this way.
            Fill::Normal(deviation) => deviation * 2.0 * (self.unit() + self.unit() + self.unit() - 1.5),
        }
    }
}
