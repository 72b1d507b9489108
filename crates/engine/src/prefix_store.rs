//! Prefixes of prompts that were read, for prompts that begin alike.
//!
//! A state exists only where it was kept, so a hit is the longest kept prefix that the prompt begins with. Tokens are compared, never text.
//! The last token of a prompt is always computed: its row decides on the first token of the text.

use std::sync::Arc;

/// Rows between two places at which a prompt may be kept: the chunk of Gated DeltaNet, at whose multiples a prompt that goes on has the same
/// borders as one that is read from its beginning.
pub(crate) const STEP: usize = 64;
/// Rows between two places at which a long prompt is kept while it is read.
const LONG: usize = 2048;

/// The first difference between a prompt and the kept prefix that it has most in common with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Miss {
    /// Place of the difference, from 0.
    pub position: usize,
    /// Token of the kept prefix there.
    pub kept: u32,
    /// Token of the prompt there.
    pub sent: u32,
}

/// Kept prefixes, and what was computed for each.
#[derive(Debug)]
pub(crate) struct PrefixStore<T> {
    entries: Vec<Entry<T>>,
    /// Bytes at most.
    budget: usize,
    bytes: usize,
    clock: u64,
}

#[derive(Debug)]
struct Entry<T> {
    tokens: Arc<[u32]>,
    value: T,
    bytes: usize,
    used: u64,
}

impl<T> PrefixStore<T> {
    /// A store of `budget` bytes; 0 keeps nothing.
    pub(crate) fn new(budget: usize) -> Self {
        Self { entries: Vec::new(), budget, bytes: 0, clock: 0 }
    }

    /// True where it keeps anything at all.
    pub(crate) fn is_on(&self) -> bool {
        self.budget > 0
    }

    /// Length and value of the longest kept prefix of `prompt` that leaves at least one token and that `fits`.
    pub(crate) fn find(&mut self, prompt: &[u32], fits: impl Fn(&T) -> bool) -> Option<(usize, &T)> {
        self.clock += 1;
        let clock = self.clock;
        let leads = |entry: &&mut Entry<T>| {
            entry.tokens.len() < prompt.len() && prompt.starts_with(&entry.tokens) && fits(&entry.value)
        };
        let found = self.entries.iter_mut().filter(leads).max_by_key(|entry| entry.tokens.len())?;
        found.used = clock;
        Some((found.tokens.len(), &found.value))
    }

    /// The first difference to the prefix that `prompt` has most in common with, where that is more than the `found` tokens of a hit, and
    /// enough to be kept at all: every conversation begins with the same few tokens of its template.
    pub(crate) fn miss(&self, prompt: &[u32], found: usize) -> Option<Miss> {
        let common = |entry: &Entry<T>| entry.tokens.iter().zip(prompt).take_while(|(kept, sent)| kept == sent).count();
        let differs = |(entry, position): &(&Entry<T>, usize)| *position < entry.tokens.len().min(prompt.len());
        let nearest = self.entries.iter().map(|entry| (entry, common(entry))).filter(differs);
        let (entry, position) = nearest.max_by_key(|(_, position)| *position)?;
        (position > found && position >= STEP).then(|| Miss {
            position,
            kept: entry.tokens[position],
            sent: prompt[position],
        })
    }

    /// True where the tokens are kept.
    pub(crate) fn contains(&self, tokens: &[u32]) -> bool {
        self.entries.iter().any(|entry| *entry.tokens == *tokens)
    }

    /// Keeps a value of so many bytes, and drops those that were used longest ago until all fit.
    pub(crate) fn insert(&mut self, tokens: &[u32], value: T, bytes: usize) {
        if bytes > self.budget || self.contains(tokens) {
            return;
        }
        while self.bytes + bytes > self.budget {
            let oldest = self.entries.iter().enumerate().min_by_key(|(_, entry)| entry.used).map(|(place, _)| place);
            let Some(oldest) = oldest else { break };
            self.bytes -= self.entries.swap_remove(oldest).bytes;
        }
        self.clock += 1;
        self.bytes += bytes;
        self.entries.push(Entry { tokens: tokens.into(), value, bytes, used: self.clock });
    }

    /// Bytes that are held.
    pub(crate) fn bytes(&self) -> usize {
        self.bytes
    }
}

/// The next place behind `fed` at which a prompt of `total` tokens is kept; `None` behind the last.
///
/// The next turn may render the last `answer` tokens, which begin the answer, in another way: nothing is kept behind them.
pub(crate) fn next_place(fed: usize, total: usize, answer: usize) -> Option<usize> {
    let last = total.saturating_sub(answer.max(1)) / STEP * STEP;
    let long = (fed / LONG + 1) * LONG;
    [long, last].into_iter().filter(|&place| place > fed && place <= last).min()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn store(budget: usize, kept: &[&[u32]]) -> PrefixStore<usize> {
        let mut store = PrefixStore::new(budget);
        kept.iter().enumerate().for_each(|(place, tokens)| store.insert(tokens, place, 1));
        store
    }

    #[test]
    fn the_longest_prefix_that_leaves_a_token_is_found() {
        let mut store = store(10, &[&[1], &[1, 2], &[1, 2, 3], &[2]]);
        assert_eq!(store.find(&[1, 2, 3], |_| true), Some((2, &1)));
        assert_eq!(store.find(&[1, 2, 3, 4], |_| true), Some((3, &2)));
        assert_eq!(store.find(&[1, 2, 3, 4], |&value| value == 0), Some((1, &0)));
        assert_eq!(store.find(&[3], |_| true), None);
        assert_eq!(store.find(&[1], |_| true), None);
    }

    #[test]
    fn a_miss_names_the_first_difference() {
        let tokens: Vec<u32> = (0..200).collect();
        let other = |position: usize| [&tokens[..position], &[900, 901]].concat();
        let store = store(10, &[&tokens[..128], &[0, 9]]);
        assert_eq!(store.miss(&other(100), 0), Some(Miss { position: 100, kept: 100, sent: 900 }));
        assert_eq!(store.miss(&other(STEP - 1), 0), None);
        // Nothing was missed by a prompt that is all in the store, or that was found up to there.
        assert_eq!(store.miss(&tokens[..120], 64), None);
        assert_eq!(store.miss(&other(100), 100), None);
    }

    #[test]
    fn the_budget_holds_and_the_last_used_stay() {
        let mut store = store(2, &[&[1], &[2]]);
        assert!(store.find(&[1, 0], |_| true).is_some());
        store.insert(&[3], 3, 1);
        assert!(store.contains(&[1]) && !store.contains(&[2]) && store.contains(&[3]));
        store.insert(&[4], 4, 3);
        assert!(!store.contains(&[4]) && store.bytes() == 2);
        store.insert(&[5], 5, 2);
        assert_eq!((store.contains(&[5]), store.bytes(), store.entries.len()), (true, 2, 1));
    }

    proptest! {
        #[test]
        fn places_are_multiples_before_the_answer(total in 1_usize..20_000, answer in 0_usize..100) {
            let mut places = vec![0];
            while let Some(place) = next_place(places[places.len() - 1], total, answer) {
                prop_assert!(place.is_multiple_of(STEP) && place < total);
                places.push(place);
            }
            prop_assert!(places.is_sorted());
            // A next turn that differs in the answer's beginning finds all but 63 of the tokens before it.
            prop_assert!(places[places.len() - 1] + STEP + answer.max(1) > total);
        }
    }
}
