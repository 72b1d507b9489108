//! Which drafts of a round are emitted, and which token ends it: the pure decision, and its reference.
//!
//! Two layers. [`decide`] takes one small [`RowOutcome`] a draft, the few numbers that a device returns, and settles
//! the round: the sequence calls it. [`accept`] computes those numbers from whole distributions on the host and calls
//! [`decide`] too: the reference that a device version must agree with. Drafting, clipping at stop tokens and
//! committing are the sequence's.
//!
//! p is the target distribution at a position and q the one that the draft was really drawn from, both filtered.
//!
//! * [`Rule::Rejection`] (Leviathan et al. 2023, arXiv 2211.17192; Chen et al. 2023, arXiv 2302.01318): a draft x stays
//!   with probability `min(1, p(x)/q(x))`; at the first that does not, the round ends with a token drawn from
//!   `norm(max(p - q, 0))`. A position's emitted token is then distributed as p:
//!   `q(y) min(1, p(y)/q(y)) + (1 - sum min(p, q)) max(p(y) - q(y), 0) / (1 - sum min(p, q)) = p(y)`.
//! * [`Rule::Coupled`] (Daliri, Musco, Suresh 2024, arXiv 2408.07978): draft and target take the argmax of `ln prob +
//!   noise` with the same Gumbel noise. The target's choice is what is emitted, whether the draft agrees or not; the
//!   round goes on while it does. A residual would be inexact here, since the noise already decided.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::noise::{Noise, Role, categorical, gumbel_max};

/// How a round decides. Both rules are exact.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Rule {
    /// Accepts most: `sum min(p, q)`, the best that any rule can do with a single draft.
    #[default]
    Rejection,
    /// Accepts at least `(1 - TV)/(1 + TV)`, and writes what plain decoding writes for the same seed, at any depth.
    Coupled,
}

impl fmt::Display for Rule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Rejection => "rejection",
            Self::Coupled => "coupled",
        })
    }
}

/// What a round needs to know of one draft.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct RowOutcome {
    /// The draft token x.
    pub draft: u32,
    /// p(x): the target's probability of the draft, in [0, 1]. The coupled rule does not look at it.
    pub p: f64,
    /// q(x): the draft's own probability, in [0, 1], from the distribution that it was drawn from. Likewise.
    pub q: f64,
    /// What is emitted here if the draft is not: the residual token, or the coupled target's own choice.
    pub recovered: u32,
}

/// The result of a round: `accepted` drafts and then `next`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Acceptance {
    /// How many drafts were proposed.
    pub drafted: usize,
    /// How many drafts, from the first on, are emitted.
    pub accepted: usize,
    /// The token emitted behind them: the bonus if every draft was accepted, what the row says otherwise.
    pub next: u32,
}

impl Acceptance {
    /// Drafts whose fate was decided: the accepted ones and the one that was not. Those behind it were never looked at.
    #[must_use]
    pub fn examined(&self) -> usize {
        self.drafted.min(self.accepted + 1)
    }

    /// Tokens that the round emits, before any clipping.
    #[must_use]
    pub fn emitted(&self) -> usize {
        self.accepted + 1
    }

    /// Whether every draft was accepted, so that `next` is the bonus token.
    #[must_use]
    pub fn is_bonus(&self) -> bool {
        self.accepted == self.drafted
    }

    /// The tokens that the round emits: the accepted ones of `drafts`, then `next`.
    pub fn tokens<'a>(&self, drafts: &'a [u32]) -> impl Iterator<Item = u32> + 'a {
        drafts.iter().copied().take(self.accepted).chain(std::iter::once(self.next))
    }
}

/// Settles a round.
///
/// `position`: the absolute position of the first draft's token, prompt included; row j's is `position + j`. `bonus`:
/// the token drawn from the target's row behind the last draft. Without rows this is a step of plain decoding.
#[must_use]
pub fn decide(rule: Rule, rows: &[RowOutcome], bonus: u32, position: u64, noise: &Noise) -> Acceptance {
    let stays = |&(position, row): &(u64, &RowOutcome)| match rule {
        Rule::Rejection => accepts(row.p, row.q, noise.uniform(position, Role::Accept)),
        Rule::Coupled => row.draft == row.recovered,
    };
    let accepted = (position..).zip(rows).take_while(stays).count();
    let next = rows.get(accepted).map_or(bonus, |row| row.recovered);
    Acceptance { drafted: rows.len(), accepted, next }
}

/// The rejection rule's test: `u < p/q`, for u uniform in [0, 1).
///
/// Multiplied out, which says the rest as well: q = 0 accepts only if p > 0, p = 0 never does, nor does a NaN.
#[must_use]
pub fn accepts(p: f64, q: f64, u: f64) -> bool {
    u * q < p
}

/// What a rejected draft is replaced from: `norm(max(p - q, 0))`, or p when that has no mass.
///
/// No mass means that p and q are equal up to rounding, where a rejection has no probability but rounding's.
/// `p` and `q` are as long as each other; a missing q counts as 0.
#[must_use]
pub fn residual(p: &[f64], q: &[f64]) -> Vec<f64> {
    let q = q.iter().copied().chain(std::iter::repeat(0.0));
    let excess: Vec<f64> = p.iter().zip(q).map(|(p, q)| (p - q).max(0.0)).collect();
    let mass: f64 = excess.iter().sum();
    if mass > 0.0 { excess.into_iter().map(|excess| excess / mass).collect() } else { p.to_vec() }
}

/// The probability that the rejection rule accepts a draft: `sum min(p, q)`, which is 1 - TV.
#[must_use]
pub fn overlap(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).map(|(p, q)| p.min(*q)).sum()
}

/// One draft with both whole distributions, for the reference.
#[derive(Debug, Clone, Copy)]
pub struct Proposal<'a> {
    /// The draft token, drawn from `q` by [`draft`].
    pub token: u32,
    /// The distribution that it was drawn from, by token id.
    pub q: &'a [f64],
    /// The target distribution at its position, by token id.
    pub p: &'a [f64],
}

/// The reference of a round, from whole distributions. See [`decide`] for `position`; `bonus_p` is the target
/// distribution behind the last draft.
#[must_use]
pub fn accept(rule: Rule, proposals: &[Proposal<'_>], bonus_p: &[f64], position: u64, noise: &Noise) -> Acceptance {
    let rows: Vec<_> =
        (position..).zip(proposals).map(|(position, proposal)| row_outcome(rule, proposal, position, noise)).collect();
    let bonus = plain(rule, bonus_p, position + proposals.len() as u64, noise);
    decide(rule, &rows, bonus, position, noise)
}

/// The reference of one row: what a device returns for it.
#[must_use]
pub fn row_outcome(rule: Rule, proposal: &Proposal<'_>, position: u64, noise: &Noise) -> RowOutcome {
    let &Proposal { token, q, p } = proposal;
    let probability = |of: &[f64]| of.get(token as usize).copied().unwrap_or(0.0);
    let recovered = match rule {
        Rule::Rejection => draw(&residual(p, q), noise.uniform(position, Role::Residual)),
        Rule::Coupled => plain(rule, p, position, noise),
    };
    RowOutcome { draft: token, p: probability(p), q: probability(q), recovered }
}

/// The reference of drafting: the token drawn from `q` for `position`.
#[must_use]
pub fn draft(rule: Rule, q: &[f64], position: u64, noise: &Noise) -> u32 {
    match rule {
        Rule::Rejection => draw(q, noise.uniform(position, Role::Draft)),
        Rule::Coupled => gumbel_max(q, |token| noise.gumbel(position, token)),
    }
}

/// The reference of plain decoding, and of the bonus token: the token drawn from `p` for `position`.
#[must_use]
pub fn plain(rule: Rule, p: &[f64], position: u64, noise: &Noise) -> u32 {
    match rule {
        Rule::Rejection => draw(p, noise.uniform(position, Role::Bonus)),
        Rule::Coupled => gumbel_max(p, |token| noise.gumbel(position, token)),
    }
}

/// [`categorical`] with a token id for a place: vocabularies fit in u32.
fn draw(probabilities: &[f64], u: f64) -> u32 {
    u32::try_from(categorical(probabilities, u)).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
