//! What the device draws, a great many times, from logits of trunk and head that were computed once: the token that a
//! round of one draft emits, by either rule, and the token of a row without a draft, against p by the host in f64.
//!
//! Sampling takes no pass through the model, so this is where numbers are cheap: a biased draw, a wrong residual or an
//! acceptance that is a few percent off shows here. The joint gate, whose every round is a pass, is left with what only
//! the loop can get wrong.

use mlx_rs::Dtype;
use mlx_rs::ops::{broadcast_to, concatenate};

use super::error::VerifyError;
use super::host;
use crate::Array;
use crate::sampling::device::{RoundNoise, probability_of};
use crate::sampling::{DeviceSampler, Noise, Role, SamplingParams, TokenCounts, filter};
use crate::speculation::statistics::{ChiSquare, goodness_of_fit};
use crate::speculative::accept::{RowOutcome, Rule, decide};

/// Tokens that may occur, half of them p's best and half of them q's.
const SYMBOLS: usize = 8;
/// Added to their logits: more than logits differ by.
const BIAS: f32 = 100.0;
/// Numbers of one array at most: a large vocabulary is drawn from a few rows at a time.
const AT_ONCE: usize = 1 << 23;

/// What is drawn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// The first token of a round, by this rule.
    Round(Rule),
    /// The bonus token, which plain decoding draws as well, under the rejection rule: the coupled rule emits its own draw
    /// in every row.
    Bonus,
}

impl Kind {
    pub(super) const ALL: [Self; 3] = [Self::Round(Rule::Rejection), Self::Round(Rule::Coupled), Self::Bonus];

    pub(super) fn name(self) -> String {
        match self {
            Self::Round(rule) => rule.to_string(),
            Self::Bonus => "bonus".to_owned(),
        }
    }
}

/// A row of logits of the trunk, `[1, vocab]`, and the head's for the same token.
pub(super) type Pair = (Array, Array);

/// Draws `count` tokens of each kind, spread over `pairs`, and says how well each kind fits p.
pub(super) fn fit(
    pairs: &[Pair],
    count: usize,
    seed: u64,
    mut tick: impl FnMut(usize) -> Result<(), VerifyError>,
) -> Result<Vec<(Kind, ChiSquare)>, VerifyError> {
    let share = count.div_ceil(pairs.len().max(1));
    let mut cells = [const { Vec::new() }; Kind::ALL.len()];
    let mut law = Vec::new();
    for (index, pair) in pairs.iter().enumerate() {
        let noise = Noise::new(seed.wrapping_add(index as u64));
        let row = Row::of(pair)?;
        for (kind, cells) in Kind::ALL.into_iter().zip(&mut cells) {
            cells.extend(row.draw(kind, share, &noise, &mut tick)?);
        }
        law.extend(row.law.iter().map(|probability| probability / pairs.len() as f64));
    }
    let mass: f64 = law.iter().sum();
    let fits = Kind::ALL.into_iter().zip(cells).map(|(kind, observed)| {
        // Logits that are not numbers give no law.
        let fit = if (mass - 1.0).abs() < 1e-9 && !observed.is_empty() {
            goodness_of_fit(&observed, &law)
        } else {
            ChiSquare { statistic: f64::INFINITY, degrees: 0, p_value: 0.0 }
        };
        (kind, fit)
    });
    Ok(fits.collect())
}

struct Row {
    /// `[1, vocab]` each, filtered by the device.
    p: Array,
    q: Array,
    /// The tokens that may occur.
    symbols: Vec<u32>,
    /// Of each of them by the host, and of any other: 0.
    law: Vec<f64>,
}

impl Row {
    fn of((p, q): &Pair) -> Result<Self, VerifyError> {
        let (own, heads) = (host::values(p)?, host::values(q)?);
        let mut symbols = host::top(&own, SYMBOLS / 2);
        let others = host::top(&heads, SYMBOLS);
        symbols.extend(others.into_iter().filter(|token| !symbols[..].contains(token)).collect::<Vec<_>>());
        symbols.truncate(SYMBOLS);
        let values = symbols.iter().map(|&token| own[token as usize]);
        let spread = values.clone().fold(f32::MIN, f32::max) - values.fold(f32::MAX, f32::min);
        let sampling = SamplingParams {
            temperature: if spread.is_finite() { (spread / 2.0).clamp(1.0, 10.0) } else { 1.0 },
            top_k: symbols.len() as u32,
            logit_bias: symbols.iter().map(|&token| (token, BIAS)).collect(),
            ..SamplingParams::unfiltered()
        };
        let law = filter::distribution(&own, &sampling, &TokenCounts::default());
        let law = symbols.iter().map(|&token| law[token as usize]).chain([0.0]).collect();
        let sampler = DeviceSampler::new(sampling, own.len())?;
        let filtered = |logits: &Array| sampler.distribution(&logits.as_dtype(Dtype::Float32)?, None);
        Ok(Self { p: filtered(p)?, q: filtered(q)?, symbols, law })
    }

    /// How often each of the symbols was drawn, and any other token.
    fn draw(
        &self,
        kind: Kind,
        count: usize,
        noise: &Noise,
        tick: &mut impl FnMut(usize) -> Result<(), VerifyError>,
    ) -> Result<Vec<u64>, VerifyError> {
        let vocab = self.p.dim(1);
        let at_once = (AT_ONCE / vocab.max(1) as usize).clamp(1, 256);
        let mut observed = vec![0; self.symbols.len() + 1];
        for start in (0..count).step_by(at_once) {
            let rows = at_once.min(count - start);
            // Every row is a position of its own, and so has noise of its own.
            let tokens = self.tokens(kind, rows, start as u64, noise)?;
            for token in tokens {
                let place = self.symbols.iter().position(|&symbol| symbol == token).unwrap_or(self.symbols.len());
                observed[place] += 1;
            }
            tick(rows)?;
        }
        Ok(observed)
    }

    fn tokens(&self, kind: Kind, rows: usize, first: u64, noise: &Noise) -> crate::Result<Vec<u32>> {
        let wide = |a: &Array| broadcast_to(a, &[rows as i32, a.dim(1)]);
        let (p, q) = (wide(&self.p)?, wide(&self.q)?);
        let Kind::Round(rule) = kind else {
            let draws = RoundNoise { rule: Rule::Rejection, noise, first };
            return Ok(host::values(&draws.draw(&p, Role::Bonus)?)?.into_iter().map(|token| token as u32).collect());
        };
        let draws = RoundNoise { rule, noise, first };
        let x = draws.draw(&q, Role::Draft)?;
        let packed = [probability_of(&p, &x)?, probability_of(&q, &x)?, draws.recovered(&p, &q)?, x];
        let packed = packed.iter().map(|a| Ok(a.as_dtype(Dtype::Float32)?)).collect::<crate::Result<Vec<_>>>()?;
        let read = host::values(&concatenate(&packed, 0)?)?;
        let column = |index: usize, row: usize| read[index * rows + row];
        let emitted = (0..rows).map(|row| {
            let draft = column(3, row) as u32;
            let (p, q) = (f64::from(column(0, row)), f64::from(column(1, row)));
            let outcome = RowOutcome { draft, p, q, recovered: column(2, row) as u32 };
            // What comes behind an accepted draft is another position's business.
            let acceptance = decide(rule, &[outcome], draft, first + row as u64, noise);
            if acceptance.accepted > 0 { draft } else { acceptance.next }
        });
        Ok(emitted.collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;
    use crate::verify::LEVEL;

    /// Over more tokens than one block of the device's draw.
    fn pair(seed: u64) -> Pair {
        let mut rng = Rng::new(seed);
        let own: Vec<f32> = (0..700).map(|_| (2.0 * rng.normal()) as f32).collect();
        let heads: Vec<f32> = own.iter().map(|logit| logit + rng.normal() as f32).collect();
        (Array::from_slice(&own, &[1, 700]), Array::from_slice(&heads, &[1, 700]))
    }

    #[test]
    fn what_is_drawn_has_the_law() {
        let mut told = 0;
        let fits = fit(&[pair(1), pair(2)], 2000, 7, |rows| {
            told += rows;
            Ok(())
        });
        let fits = fits.unwrap();
        assert_eq!((fits.len(), told), (3, 6000));
        for (kind, fit) in fits {
            assert!(fit.p_value >= LEVEL && fit.degrees > 8, "{kind:?}: {fit:?}");
        }
    }

    #[test]
    fn what_is_drawn_from_something_else_does_not() {
        let drawn = |row: &Row, kind| {
            let observed = row.draw(kind, 1000, &Noise::new(7), &mut |_| Ok(())).unwrap();
            goodness_of_fit(&observed, &row.law).p_value
        };
        for kind in Kind::ALL {
            let mut row = Row::of(&pair(1)).unwrap();
            assert!(drawn(&row, kind) >= LEVEL, "{kind:?}");
            // Judged against the wrong row: the head's own.
            row.p = row.q.clone();
            assert!(drawn(&row, kind) < LEVEL, "{kind:?}");
        }
        let nan = || Array::from_slice(&[f32::NAN; 16], &[1, 16]);
        let fits = fit(&[(nan(), nan())], 8, 7, |_| Ok(())).unwrap();
        assert!(fits.iter().all(|(_, fit)| fit.p_value == 0.0), "{fits:?}");
    }
}
