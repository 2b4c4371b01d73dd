//! Why no token could be sampled.
//!
//! None is an everyday user mistake: non-finite logits point to damaged weights, the other two to a logit bias that bans
//! everything or names a token the model does not have.

use crate::TokenId;

/// Why no token could be sampled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplingError {
    /// A logit is NaN or positive infinity.
    #[error("the model's logit of token {token} is not a finite number: the weights may be damaged (try `verify`)")]
    NotFinite {
        /// First token with such a logit.
        token: TokenId,
    },
    /// Every logit is negative infinity, or there are none.
    #[error("no token is left to choose from: the logit bias bans every one")]
    NothingLeft,
    /// A bias names a token outside the vocabulary.
    #[error("logit_bias names token {token}, but the vocabulary has {vocabulary} tokens")]
    BiasOutOfVocabulary {
        /// The token named.
        token: TokenId,
        /// Number of logits.
        vocabulary: usize,
    },
}
