//! Instruction sets.

use std::sync::OnceLock;

/// An instruction set that kernels are compiled for and that this processor has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Isa(pub(crate) Set);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    /// The target's baseline.
    Baseline,
    /// AVX2 and FMA, x86-64.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// AVX-512 F and VL besides.
    #[cfg(target_arch = "x86_64")]
    Avx512,
}

impl Isa {
    /// The widest one.
    pub fn best() -> Self {
        static BEST: OnceLock<Isa> = OnceLock::new();
        *BEST.get_or_init(|| Self::available().last().copied().unwrap_or(Self(Set::Baseline)))
    }

    /// All, the narrowest first.
    pub fn available() -> Vec<Self> {
        let mut available = vec![Self(Set::Baseline)];
        #[cfg(target_arch = "x86_64")]
        if is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma") {
            available.push(Self(Set::Avx2));
            if is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512vl") {
                available.push(Self(Set::Avx512));
            }
        }
        available
    }
}

/// Lanes of a sum: its terms are added up lane by lane, so that an instruction set of any width gives the same order.
pub(crate) const LANES: usize = 16;

/// a b + c, in one rounding where the instruction set has it.
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// The sum over lanes.
#[inline(always)]
pub(crate) fn total(lanes: [f32; LANES]) -> f32 {
    let mut lanes = lanes;
    let mut width = LANES / 2;
    while width > 0 {
        for lane in 0..width {
            lanes[lane] += lanes[lane + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// The dot product of two slices of one length.
#[inline(always)]
pub(crate) fn dot<const FMA: bool>(a: &[f32], b: &[f32]) -> f32 {
    let (a_lanes, a_rest) = a.as_chunks::<LANES>();
    let (b_lanes, b_rest) = b.as_chunks::<LANES>();
    let mut sums = [0.0; LANES];
    for (a, b) in a_lanes.iter().zip(b_lanes) {
        for lane in 0..LANES {
            sums[lane] = multiply_add::<FMA>(a[lane], b[lane], sums[lane]);
        }
    }
    let rest = a_rest.iter().zip(b_rest).fold(0.0, |sum, (&a, &b)| multiply_add::<FMA>(a, b, sum));
    total(sums) + rest
}
