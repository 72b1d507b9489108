//! Randomness as a function of (seed, absolute position, role), never as a stream.
//!
//! A stream's values depend on how many were drawn before, so that rollback, depth and batching would change them. Here
//! a draw is addressed: whatever was drafted, rejected or recomputed, position 17's acceptance draw is the same number.
//! Reuse is safe: a draw at position j is *used* (changes what is emitted) in one round only, the one that decides
//! position j. A draft behind a rejection is drawn from the same number again later, but its first value changed
//! nothing.
//!
//! The generator is Philox4x32-10 (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC 2011),
//! with the seed as its key and (position, role, token) as its counter. Its published test vectors are tested below.
//! It is a bijection of the counter for each seed, so two addresses of one seed never share a block.

/// What a number at a position is for. Draws of different roles are independent.
///
/// The numbers are part of what a seed means: never renumber.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Role {
    /// Draws the draft token, from q.
    Draft = 0,
    /// Decides whether the draft is accepted.
    Accept = 1,
    /// Draws the residual token after a rejection.
    Residual = 2,
    /// Draws from p itself: the bonus token, and every token of plain decoding, which is a round at depth 0.
    Bonus = 3,
    /// The Gumbel noise of the coupled rule: draft, target, bonus and plain decoding share it.
    Coupled = 4,
}

/// The noise of one seed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Noise {
    seed: u64,
}

impl Noise {
    /// The noise of `seed`.
    #[must_use]
    pub const fn new(seed: u64) -> Self {
        Self { seed }
    }

    /// The seed it was made from.
    #[must_use]
    pub const fn seed(&self) -> u64 {
        self.seed
    }

    /// A multiple of 2^-53 in [0, 1), uniform. `position` is the absolute place in the sequence, prompt included, of the
    /// token that is drawn or decided.
    ///
    /// Not to be narrowed to f32, which rounds up to 1: see [`Noise::uniform_f32`].
    #[must_use]
    pub fn uniform(&self, position: u64, role: Role) -> f64 {
        unit(self.bits(position, role, 0))
    }

    /// [`Noise::uniform`] in two parts, multiples of 2^-24 in [0, 1) each, and independent: it rounded down, and what
    /// rounding dropped, scaled up.
    #[must_use]
    pub fn uniform_f32(&self, position: u64, role: Role) -> [f32; 2] {
        const SCALE: f32 = 1.0 / (1u32 << 24) as f32;
        let bits = self.bits(position, role, 0);
        [(bits >> 40) as f32 * SCALE, (bits >> 16 & 0xFF_FFFF) as f32 * SCALE]
    }

    /// The device's key for the coupled rule's Gumbel noise at a position: `role_key(position, Role::Coupled)`.
    #[must_use]
    pub fn key(&self, position: u64) -> u64 {
        self.role_key(position, Role::Coupled)
    }

    /// A key for a device generator that draws many numbers for one role at one position.
    #[must_use]
    pub fn role_key(&self, position: u64, role: Role) -> u64 {
        // The counter's last word is all ones here and a token id elsewhere: no key is any draw's own bits.
        self.bits(position, role, u32::MAX)
    }

    /// Standard Gumbel noise of one token, finite: `-ln(-ln u)`, for the coupled rule's reference.
    #[must_use]
    pub fn gumbel(&self, position: u64, token: u32) -> f64 {
        // The middle of one of 2^52 cells (of 2^53, the last would round to 1): u is inside (0, 1), both logarithms finite.
        let u = ((self.bits(position, Role::Coupled, token) >> 12) as f64 + 0.5) * (2.0 * UNIT);
        -(-u.ln()).ln()
    }

    fn bits(&self, position: u64, role: Role, lane: u32) -> u64 {
        let [low, high, ..] = philox4x32_10([low(position), high(position), role as u32, lane], words(self.seed));
        u64::from(high) << 32 | u64::from(low)
    }
}

/// Draws from `probabilities` by inverting the cumulative sum in the order of token ids.
///
/// `u` in [0, 1). The weights need not sum to 1 exactly, or at all: their own sum is what counts, so that rounding can
/// neither run past the end nor favour it. Never returns a place without mass, unless no place has any (then 0).
#[must_use]
pub fn categorical(probabilities: &[f64], u: f64) -> usize {
    // Summed in the same order as below: at the last place with mass the running sum is this very number.
    let mass: f64 = probabilities.iter().filter(|&&weight| weight > 0.0).sum();
    let target = u * mass;
    let mut before = 0.0;
    let mut last = 0;
    for (place, &weight) in probabilities.iter().enumerate() {
        if weight > 0.0 {
            last = place;
            before += weight;
            if target < before {
                return place;
            }
        }
    }
    // u * mass may round up to mass.
    last
}

/// The coupled rule's draw: `argmax(ln p + gumbel)`, equal ones to the lower token id. `gumbel` gives a token's noise.
///
/// The Gumbel-max trick: distributed as `probabilities`. Never returns a place without mass, unless no place has any
/// (then 0).
#[must_use]
pub fn gumbel_max(probabilities: &[f64], gumbel: impl Fn(u32) -> f64) -> u32 {
    let mut best = 0;
    let mut highest = f64::NEG_INFINITY;
    for (token, &probability) in (0..).zip(probabilities) {
        if probability > 0.0 {
            let score = probability.ln() + gumbel(token);
            if score > highest {
                (best, highest) = (token, score);
            }
        }
    }
    best
}

/// The distance between neighbouring values of [`Noise::uniform`].
const UNIT: f64 = 1.0 / (1u64 << 53) as f64;

fn unit(bits: u64) -> f64 {
    (bits >> 11) as f64 * UNIT
}

fn low(value: u64) -> u32 {
    value as u32
}

fn high(value: u64) -> u32 {
    (value >> 32) as u32
}

fn words(value: u64) -> [u32; 2] {
    [low(value), high(value)]
}

/// One block of Philox4x32-10: ten rounds of two 32x32 -> 64 bit products, the key bumped by a Weyl sequence.
fn philox4x32_10(mut counter: [u32; 4], mut key: [u32; 2]) -> [u32; 4] {
    // Multipliers and Weyl increments of the paper: (golden ratio, sqrt(3) - 1) * 2^32.
    const MULTIPLIER: [u64; 2] = [0xD251_1F53, 0xCD9E_8D57];
    const WEYL: [u32; 2] = [0x9E37_79B9, 0xBB67_AE85];
    for _ in 0..10 {
        let first = MULTIPLIER[0] * u64::from(counter[0]);
        let second = MULTIPLIER[1] * u64::from(counter[2]);
        counter = [high(second) ^ counter[1] ^ key[0], low(second), high(first) ^ counter[3] ^ key[1], low(first)];
        key = [key[0].wrapping_add(WEYL[0]), key[1].wrapping_add(WEYL[1])];
    }
    counter
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::statistics::assert_fits;

    const ROLES: [Role; 5] = [Role::Draft, Role::Accept, Role::Residual, Role::Bonus, Role::Coupled];
    /// The largest number that [`Noise::uniform`] returns.
    const ALMOST_ONE: f64 = 1.0 - UNIT;

    /// Counts of the pairs that `pair` gives for 0..n in a grid of 16 x 16 cells must be even.
    fn assert_even(what: &str, pair: impl Fn(u64) -> (f64, f64)) {
        let mut counts = [0; 256];
        for index in 0..1 << 16 {
            let (first, second) = pair(index);
            counts[(first * 16.0) as usize * 16 + (second * 16.0) as usize] += 1;
        }
        assert_fits(what, &counts, &[1.0 / 256.0; 256]);
    }

    #[test]
    fn philox_gives_its_published_vectors() {
        // Random123's known answers for philox4x32-10: counter, key, result.
        for (counter, key, expected) in [
            ([0; 4], [0; 2], [0x6627_e8d5, 0xe169_c58d, 0xbc57_ac4c, 0x9b00_dbd8]),
            ([u32::MAX; 4], [u32::MAX; 2], [0x408f_276d, 0x41c8_3b0e, 0xa20b_c7c6, 0x6d54_51fd]),
            (
                [0x243f_6a88, 0x85a3_08d3, 0x1319_8a2e, 0x0370_7344],
                [0xa409_3822, 0x299f_31d0],
                [0xd16c_fe09, 0x94fd_cceb, 0x5001_e420, 0x2412_6ea1],
            ),
        ] {
            assert_eq!(philox4x32_10(counter, key), expected);
        }
    }

    #[test]
    fn a_seed_keeps_its_meaning() {
        let noise = Noise::new(0);
        // The first vector above, read low word first.
        assert_eq!(noise.uniform(0, Role::Draft), (0xe169_c58d_6627_e8d5_u64 >> 11) as f64 / (1u64 << 53) as f64);
        let noise = Noise::new(42);
        let values = ROLES.map(|role| (noise.uniform(17, role) * 1e9) as u64);
        // From an implementation of the paper in another language.
        assert_eq!(values, [469_361_895, 439_609_490, 526_815_597, 536_149_644, 47_837_000]);
        assert_eq!(noise.key(17), 0x7871_9215_7559_64ef);
    }

    #[test]
    fn uniform_for_every_role_and_far_positions() {
        for (seed, start) in [(0, 0), (1, 0), (u64::MAX, u64::from(u32::MAX) - 1000), (0x5eed, 1 << 40)] {
            let noise = Noise::new(seed);
            for role in ROLES {
                let mut counts = [0; 256];
                (0..1 << 16).for_each(|at| counts[(noise.uniform(start + at, role) * 256.0) as usize] += 1);
                assert_fits(&format!("seed {seed}, {role:?}"), &counts, &[1.0 / 256.0; 256]);
            }
        }
    }

    #[test]
    fn neighbouring_positions_roles_seeds_and_tokens_are_independent() {
        let noise = Noise::new(7);
        for role in ROLES {
            assert_even("positions", |at| (noise.uniform(at, role), noise.uniform(at + 1, role)));
            assert_even("seeds", |at| (Noise::new(at).uniform(3, role), Noise::new(at + 1).uniform(3, role)));
            for other in ROLES.into_iter().filter(|&other| other != role) {
                assert_even("roles", |at| (noise.uniform(at, role), noise.uniform(at, other)));
            }
        }
        let unit = |at, token| (-(-noise.gumbel(at, token)).exp()).exp();
        assert_even("tokens", |at| (unit(at, 11), unit(at, 12)));
        assert_even("tokens of a position", |token| (unit(5, token as u32), unit(5, token as u32 + 1)));
        assert_even("positions of a token", |at| (unit(at, 11), unit(at + 1, 11)));
        let key = |at| noise.key(at) as f64 / 2f64.powi(64);
        assert_even("keys", |at| (key(at).min(ALMOST_ONE), key(at + 1).min(ALMOST_ONE)));
    }

    #[test]
    fn keys_are_distinct() {
        let mut keys: Vec<u64> = (0..2_000)
            .flat_map(|at| ROLES.into_iter().flat_map(move |role| (0..4).map(move |seed| (seed, at, role))))
            .map(|(seed, at, role)| Noise::new(seed).role_key(at, role))
            .collect();
        let all = keys.len();
        keys.sort_unstable();
        keys.dedup();
        assert_eq!(keys.len(), all);
    }

    #[test]
    fn gumbel_max_is_distributed_as_the_probabilities() {
        let (noise, law) = (Noise::new(3), [0.02, 0.0, 0.5, 0.08, 0.4]);
        let mut counts = [0; 5];
        for at in 0..200_000 {
            counts[gumbel_max(&law, |token| noise.gumbel(at, token)) as usize] += 1;
        }
        assert_fits("gumbel-max", &counts, &law);
    }

    #[test]
    fn categorical_inverts_the_cumulative_sum() {
        let law = [0.0, 0.25, 0.0, 0.5, 0.25, 0.0];
        for (u, place) in
            [(0.0, 1), (0.25 - UNIT, 1), (0.25, 3), (0.75 - UNIT, 3), (0.75, 4), (ALMOST_ONE, 4), (1.0, 4)]
        {
            assert_eq!(categorical(&law, u), place, "u = {u}");
        }
        // Ten times 0.1 sums to less than 1: the last place still ends at its own sum.
        assert_eq!(categorical(&[0.1; 10], ALMOST_ONE), 9);
        // Weights, not probabilities.
        assert_eq!((categorical(&[1.0, 3.0], 0.2), categorical(&[1.0, 3.0], 0.3)), (0, 1));
        // Nothing to draw from.
        assert_eq!((categorical(&[], 0.5), categorical(&[0.0, 0.0], 0.5), gumbel_max(&[0.0], |_| 1.0)), (0, 0, 0));
    }

    #[test]
    fn equal_scores_go_to_the_lower_token() {
        assert_eq!(gumbel_max(&[0.0, 0.25, 0.25, 0.5], |_| 0.0), 3);
        assert_eq!(gumbel_max(&[0.0, 0.5, 0.5], |_| 0.0), 1);
    }

    proptest! {
        #[test]
        fn uniforms_stay_below_one(seed: u64, position: u64, token: u32) {
            let noise = Noise::new(seed);
            for role in ROLES {
                let (wide, [narrow, rest]) = (noise.uniform(position, role), noise.uniform_f32(position, role));
                prop_assert!((0.0..1.0).contains(&wide) && (0.0..1.0).contains(&narrow) && (0.0..1.0).contains(&rest));
                let scale = f64::from(1 << 24);
                let both = f64::from(narrow) + f64::from(rest) / scale;
                prop_assert!((0.0..=1.0 / (scale * scale)).contains(&(wide - both)), "{wide} {both}");
            }
            prop_assert!(noise.gumbel(position, token).is_finite());
        }

        #[test]
        fn draws_have_mass(
            weights in prop::collection::vec(prop_oneof![Just(0.0), 0.0..1.0, Just(1e-300), Just(1e300)], 1..20),
            u in prop_oneof![0.0..1.0, Just(0.0), Just(ALMOST_ONE)],
            position: u64,
        ) {
            let noise = Noise::new(1);
            let some = weights.iter().any(|&weight| weight > 0.0);
            let coupled = gumbel_max(&weights, |token| noise.gumbel(position, token)) as usize;
            for place in [categorical(&weights, u), coupled] {
                prop_assert_eq!(weights[place] > 0.0, some, "place {}", place);
            }
        }
    }
}
