//! Whether a text was drawn from the laws that plain decoding gives its tokens, each behind the ones before it.
//!
//! A test martingale: money put on some other law than p, `M *= r(x) / p(x)` for the token x that came, with r a law that
//! was stated before it. While p holds, M is 1 on average whatever r is, and ever reaches m with a probability of at most
//! 1/m (Ville 1939). So the p-value is `1 / max M`, exactly, for any length of text. What M does when p does not hold
//! depends on r, so the money is spread over several:
//!
//! | r | which faults it grows on |
//! | --- | --- |
//! | half p, half uniform | tokens from another context: a stale cache, rows that were not taken back |
//! | half p, half the law one token before | rows that are off by one |
//! | p squared | a temperature that acts twice, greedy drafts taken for drawn ones |
//! | p, weighted as each rank was drawn so far | any bias that stays the same |
//!
//! Every round of a text but the first goes on from what an earlier one left behind, so a few dozen tokens show a fault
//! that takes hundreds of short sequences.

use crate::sampling::filter::Candidate;

/// The kinds of r.
const KINDS: usize = 4;
/// Draws that a rank's weight begins with, as they are expected.
const PRIOR: f64 = 2.0;

/// The money so far.
#[derive(Debug, Default)]
pub(super) struct MartingaleTest {
    /// Natural logarithms, of each kind.
    logs: [f64; KINDS],
    /// Of the mean of all, the largest so far.
    highest: f64,
    /// The law of the token before.
    previous: Vec<Candidate>,
    /// Draws of each rank, and how many were expected.
    ranks: Vec<(f64, f64)>,
}

impl MartingaleTest {
    /// A token was drawn that has the law `law`, most probable first.
    pub(super) fn note(&mut self, law: Vec<Candidate>, token: u32) {
        let Some(place) = law.iter().position(|candidate| candidate.token == token && candidate.probability > 0.0)
        else {
            // Impossible: no more has to be seen.
            self.highest = f64::INFINITY;
            return;
        };
        let p = |index: usize| law[index].probability;
        let uniform = 1.0 / law.len() as f64;
        let before = |index: usize| {
            let same = self.previous.iter().find(|candidate| candidate.token == law[index].token);
            same.map_or(0.0, |candidate| candidate.probability)
        };
        self.ranks.resize(self.ranks.len().max(law.len()), (PRIOR, PRIOR));
        let weight = |index: usize| self.ranks[index].0 / self.ranks[index].1;
        let bets: [&dyn Fn(usize) -> f64; KINDS] = [
            &|index| 0.5 * p(index) + 0.5 * uniform,
            // A token that was not possible before keeps half of p.
            &|index| 0.5 * p(index) + 0.5 * before(index),
            &|index| p(index) * p(index),
            &|index| p(index) * weight(index),
        ];
        for (log, bet) in self.logs.iter_mut().zip(bets) {
            let mass: f64 = (0..law.len()).map(bet).sum();
            *log += (bet(place) / mass / p(place)).ln();
        }
        let most = self.logs.iter().copied().fold(f64::MIN, f64::max);
        let mean = self.logs.iter().map(|log| (log - most).exp()).sum::<f64>() / KINDS as f64;
        self.highest = self.highest.max(most + mean.ln());
        for (index, rank) in self.ranks.iter_mut().enumerate().take(law.len()) {
            rank.0 += f64::from(u8::from(index == place));
            rank.1 += law[index].probability;
        }
        self.previous = law;
    }

    /// The probability of so much money, at most, while every law holds.
    pub(super) fn p_value(&self) -> f64 {
        (-self.highest).exp().min(1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::Rng;
    use crate::verify::LEVEL;

    const SYMBOLS: u32 = 8;

    fn law(rng: &mut Rng) -> Vec<Candidate> {
        let mut law: Vec<Candidate> =
            (0..SYMBOLS).map(|token| Candidate { token, probability: (1.2 * rng.normal()).exp() }).collect();
        let mass: f64 = law.iter().map(|candidate| candidate.probability).sum();
        law.iter_mut().for_each(|candidate| candidate.probability /= mass);
        law.sort_by(|a, b| b.probability.total_cmp(&a.probability));
        law
    }

    fn draw(law: &[Candidate], rng: &mut Rng) -> u32 {
        let mut u = rng.uniform();
        for candidate in law {
            u -= candidate.probability;
            if u < 0.0 {
                return candidate.token;
            }
        }
        law[law.len() - 1].token
    }

    /// The p-value of a text whose tokens are drawn by `from`: the law, and that of the token before.
    fn walk(seed: u64, tokens: usize, from: impl Fn(&[Candidate], &[Candidate], &mut Rng) -> u32) -> f64 {
        let (mut rng, mut walk) = (Rng::new(seed), MartingaleTest::default());
        let mut before = law(&mut rng);
        for _ in 0..tokens {
            let now = law(&mut rng);
            let token = from(&now, &before, &mut rng);
            walk.note(now.clone(), token);
            before = now;
        }
        walk.p_value()
    }

    #[test]
    fn the_p_value_is_one() {
        // At most one walk in a hundred may end below 0.01, and so on.
        let p_values: Vec<f64> = (0..2000).map(|seed| walk(seed, 60, |law, _, rng| draw(law, rng))).collect();
        for level in [0.2, 0.05, 0.01] {
            let below = p_values.iter().filter(|&&p| p < level).count() as f64;
            let expected = level * p_values.len() as f64;
            assert!(below <= expected + 5.0 * expected.sqrt(), "{below} below {level}");
        }
    }

    #[test]
    fn faults_show_in_a_short_text() {
        for seed in 0..20 {
            let other = walk(seed, 60, |_, _, rng| {
                let law = law(rng);
                draw(&law, rng)
            });
            let late = walk(seed, 60, |_, before, rng| draw(before, rng));
            let greedy = walk(seed, 60, |law, _, _| law[0].token);
            let second = walk(seed, 60, |law, _, _| law[1].token);
            for (what, p) in [("another context", other), ("late", late), ("greedy", greedy), ("second", second)] {
                assert!(p < LEVEL, "{what}: {p}");
            }
        }
        assert_eq!(walk(1, 1, |_, _, _| SYMBOLS), 0.0);
    }
}
