//! Patterns over the beginning of a text that may not be complete yet.
//!
//! A pattern takes a text and gives the rest behind its match. A text that ends inside the pattern is [`Stop::More`],
//! so a caller holds back exactly the texts that further characters can still complete.

/// Blanks in bytes that markup may have between two of its parts. More of them are no markup, so that what is held
/// back stays bounded.
pub(super) const MAX_BLANKS: usize = 64;

/// Reason for which a text does not match.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stop {
    /// The text is a proper prefix of a match.
    More,
    /// No continuation of the text matches.
    Mismatch,
}

/// Rest of a text behind a match.
pub(super) type Rest<'t> = Result<&'t str, Stop>;

/// Matches `literal`.
pub(super) fn literal<'t>(text: &'t str, literal: &str) -> Rest<'t> {
    match text.strip_prefix(literal) {
        Some(rest) => Ok(rest),
        None if literal.starts_with(text) => Err(Stop::More),
        None => Err(Stop::Mismatch),
    }
}

/// Matches any number of blanks up to [`MAX_BLANKS`].
pub(super) fn blanks(text: &str) -> Rest<'_> {
    let rest = text.trim_start_matches(is_blank);
    if text.len() - rest.len() <= MAX_BLANKS { Ok(rest) } else { Err(Stop::Mismatch) }
}

/// Matches `opener` and blanks, or nothing.
pub(super) fn optional_opener<'t>(text: &'t str, opener: &str) -> Rest<'t> {
    match literal(text, opener) {
        Ok(rest) => blanks(rest),
        Err(Stop::Mismatch) => Ok(text),
        Err(Stop::More) => Err(Stop::More),
    }
}

/// Matches blanks and then one of `literals`. Gives the index of the literal and the rest behind it.
pub(super) fn any_of<'t>(text: &'t str, literals: &[&str]) -> Result<(usize, &'t str), Stop> {
    let text = blanks(text)?;
    first(literals.iter().enumerate().map(|(i, l)| Ok((i, literal(text, l)?))))
}

/// First match of several; without one [`Stop::More`] where a candidate can still match.
pub(super) fn first<T>(candidates: impl IntoIterator<Item = Result<T, Stop>>) -> Result<T, Stop> {
    let mut stop = Stop::Mismatch;
    for candidate in candidates {
        match candidate {
            Ok(found) => return Ok(found),
            Err(Stop::More) => stop = Stop::More,
            Err(Stop::Mismatch) => {}
        }
    }
    Err(stop)
}

/// True for the blanks that markup may have between its parts.
pub(super) fn is_blank(c: char) -> bool {
    matches!(c, ' ' | '\t' | '\n' | '\r')
}
