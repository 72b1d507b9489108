//! Tokens of one unit of work.

use mtplx_runtime::speculative::Origin;
use mtplx_runtime::speculative::accept::Acceptance;

use crate::request::TokenInfo;

/// Tokens that were drawn together.
#[derive(Debug)]
pub(crate) struct Drawn {
    pub tokens: Vec<TokenInfo>,
    /// True where the last of them is a stop token.
    pub stopped: bool,
    /// The decision of the round that drew them; `None` where there was none.
    pub acceptance: Option<Acceptance>,
}

impl Drawn {
    /// Tokens that were put into a text.
    pub(crate) fn inserted(tokens: Vec<u32>) -> Self {
        let tokens = tokens.into_iter().map(|id| TokenInfo { id, origin: Origin::Plain, logprobs: None });
        Self { tokens: tokens.collect(), stopped: false, acceptance: None }
    }
}
