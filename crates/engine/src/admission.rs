//! Memory of texts: how many run at once, and which gives its memory back when all of it is taken.
//!
//! A text has memory set aside for its prompt and a number of tokens behind it, and for as many again whenever it reaches them. A request
//! waits until its first part is free. A text that cannot grow makes the newest one give its memory back; that one is read again when
//! there is room.

/// Bytes that a text of so many tokens takes.
pub(crate) type Need = Box<dyn Fn(usize) -> u64 + Send>;

/// The memory of all texts.
pub(crate) struct TextMemory {
    /// Bytes; `None` where the system does not tell.
    budget: Option<u64>,
    need: Need,
    /// Tokens that are set aside beyond those that there are.
    reserve: usize,
}

/// Memory of one text, in tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Share {
    /// Tokens that memory is set aside for.
    pub tokens: usize,
    /// Tokens that the text can have.
    pub most: usize,
}

impl TextMemory {
    /// Memory of `budget` bytes for texts of `need`.
    pub(crate) fn new(budget: Option<u64>, need: Need, reserve: usize) -> Self {
        Self { budget, need, reserve: reserve.max(1) }
    }

    /// The share of a text that has so many tokens.
    pub(crate) fn share(&self, tokens: usize, most: usize) -> Share {
        Share { tokens: tokens.saturating_add(self.reserve).min(most), most }
    }

    /// True where `more` fits beside `held`. The only text fits always: it was not refused when it came.
    pub(crate) fn fits(&self, held: impl Iterator<Item = Share>, more: Share) -> bool {
        let Some(budget) = self.budget else { return true };
        let mut bytes = 0_u64;
        let mut alone = true;
        for share in held {
            alone = false;
            bytes = bytes.saturating_add((self.need)(share.tokens));
        }
        alone || bytes.saturating_add((self.need)(more.tokens)) <= budget
    }

    /// The most tokens, up to `most`, of a text that fits alone; at least one.
    pub(crate) fn longest(&self, most: usize) -> usize {
        let holds = |tokens: usize| self.budget.is_none_or(|budget| (self.need)(tokens) <= budget);
        if holds(most) {
            return most;
        }
        let (mut fits, mut beyond) = (1, most);
        while beyond - fits > 1 {
            let middle = fits + (beyond - fits) / 2;
            *(if holds(middle) { &mut fits } else { &mut beyond }) = middle;
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_grow_by_the_reserve_up_to_the_most() {
        let memory = TextMemory::new(Some(1000), Box::new(|tokens| 10 + tokens as u64), 100);
        assert_eq!(memory.share(50, 1000), Share { tokens: 150, most: 1000 });
        assert_eq!(memory.share(950, 1000).tokens, 1000);
        let [small, large] = [150, 850].map(|tokens| Share { tokens, most: 1000 });
        assert!(memory.fits([small].into_iter(), Share { tokens: 830, most: 1000 }));
        assert!(!memory.fits([small].into_iter(), large));
        assert!(!memory.fits([small, small, small].into_iter().chain([small; 4]), small));
        // Nothing else can be given back.
        assert!(memory.fits([].into_iter(), Share { tokens: 5000, most: 5000 }));
        assert_eq!([980, 990, 991, 5000].map(|most| memory.longest(most)), [980, 990, 990, 990]);
        assert!(TextMemory::new(None, Box::new(|_| u64::MAX), 1).fits([small; 3].into_iter(), large));
    }
}
