//! Stop strings in a stream: what may be shown now, and where the text ends.
//!
//! Text that may be the beginning of a stop string is held back until it is decided. The text ends at the stop string
//! that is complete first, reading character by character (of several complete at once the longest), so the result does
//! not depend on how the text was cut into pieces.

/// Looks for stop strings in a stream of text.
#[derive(Debug, Clone)]
pub struct StopMatcher {
    stops: Vec<String>,
    held: String,
}

/// What [`StopMatcher::push`] found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct StopOutput {
    /// Text that is certain to be part of the result.
    pub text: String,
    /// The stop string that ended it: an index into the list given to [`StopMatcher::new`].
    pub stopped: Option<usize>,
}

impl StopMatcher {
    /// A matcher for `stops`. Empty strings never match.
    pub fn new(stops: impl IntoIterator<Item = impl Into<String>>) -> Self {
        Self { stops: stops.into_iter().map(Into::into).collect(), held: String::new() }
    }

    /// Adds text. After a match nothing more must be pushed.
    pub fn push(&mut self, text: &str) -> StopOutput {
        let old = self.held.len();
        self.held.push_str(text);
        // Whatever was given out before cannot begin a match: it would have been held.
        for end in old + 1..=self.held.len() {
            let Some((stop, length)) = self.complete_at(end) else { continue };
            self.held.truncate(end - length);
            return StopOutput { text: std::mem::take(&mut self.held), stopped: Some(stop) };
        }
        let rest = self.held.split_off(self.held.len() - self.unfinished());
        StopOutput { text: std::mem::replace(&mut self.held, rest), stopped: None }
    }

    /// The text is over: what was held back is part of it.
    pub fn finish(&mut self) -> String {
        std::mem::take(&mut self.held)
    }

    /// The longest stop string that ends at byte `end`, with its length.
    fn complete_at(&self, end: usize) -> Option<(usize, usize)> {
        let text = &self.held.as_bytes()[..end];
        let found = self.stops.iter().enumerate().filter(|(_, s)| !s.is_empty() && text.ends_with(s.as_bytes()));
        found.map(|(i, s)| (i, s.len())).max_by_key(|&(i, length)| (length, std::cmp::Reverse(i)))
    }

    /// The length of the longest end of the text that begins a stop string.
    fn unfinished(&self) -> usize {
        let text = self.held.as_bytes();
        let longest = |stop: &String| {
            let stop = stop.as_bytes();
            (1..stop.len()).rev().find(|&n| text.ends_with(&stop[..n])).unwrap_or(0)
        };
        // A stop string begins with a character's first byte, so the cut is a character boundary; a prefix of it may end
        // inside a character, but the text does not.
        self.stops.iter().map(longest).max().unwrap_or(0)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn run(stops: &[&str], pieces: &[&str]) -> (Vec<String>, Option<usize>) {
        let mut matcher = StopMatcher::new(stops.iter().copied());
        let mut out = Vec::new();
        for piece in pieces {
            let found = matcher.push(piece);
            out.push(found.text);
            if found.stopped.is_some() {
                return (out, found.stopped);
            }
        }
        out.push(matcher.finish());
        (out, None)
    }

    #[test]
    fn holds_back_what_may_begin_a_stop_string() {
        let (out, stopped) = run(&["</end>"], &["a<", "/e", "x</en", "d>tail"]);
        assert_eq!((out, stopped), (vec!["a".into(), "".into(), "</ex".into(), "".into()], Some(0)));
        let (out, stopped) = run(&["</end>"], &["a</"]);
        assert_eq!((out, stopped), (vec!["a".into(), "</".into()], None));
    }

    #[test]
    fn overlapping_beginnings() {
        assert_eq!(run(&["aab"], &["aaaa", "b"]).0.concat(), "aa");
        assert_eq!(run(&["abab"], &["ab", "aabab"]).0.concat(), "aba");
    }

    #[test]
    fn first_complete_wins_then_the_longest() {
        assert_eq!(run(&["abc", "b"], &["abc"]), (vec!["a".into()], Some(1)));
        assert_eq!(run(&["c", "abc"], &["xabc"]), (vec!["x".into()], Some(1)));
        assert_eq!(run(&["", "é"], &["aé"]), (vec!["a".into()], Some(1)));
    }

    /// The definition: the first end, in bytes, at which a stop string is complete.
    fn naive(stops: &[String], text: &str) -> (String, Option<usize>) {
        for end in 1..=text.len() {
            let ends = |s: &String| !s.is_empty() && text.as_bytes()[..end].ends_with(s.as_bytes());
            let longest = stops.iter().filter(|s| ends(s)).map(String::len).max();
            if let Some(length) = longest {
                let which = stops.iter().position(|s| ends(s) && s.len() == length);
                return (text[..end - length].to_owned(), which);
            }
        }
        (text.to_owned(), None)
    }

    proptest! {
        #[test]
        fn pieces_do_not_matter(
            stops in proptest::collection::vec("[ab\u{e9}]{0,4}", 0..4),
            pieces in proptest::collection::vec("[ab\u{e9}]{0,5}", 0..12),
        ) {
            let mut matcher = StopMatcher::new(stops.clone());
            let (mut text, mut stopped) = (String::new(), None);
            for piece in &pieces {
                let found = matcher.push(piece);
                text += &found.text;
                // Never ahead of the definition: what is shown is part of the result.
                prop_assert!(naive(&stops, &pieces.concat()).0.starts_with(&text));
                if found.stopped.is_some() {
                    stopped = found.stopped;
                    break;
                }
            }
            if stopped.is_none() {
                text += &matcher.finish();
            }
            prop_assert_eq!((text, stopped), naive(&stops, &pieces.concat()));
        }
    }
}
