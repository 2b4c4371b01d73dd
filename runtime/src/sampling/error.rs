//! Why no token could be chosen.
//!
//! None of these is the person's everyday mistake: logits that are no numbers point at damaged weights, the other two
//! at a logit bias that leaves nothing or names a token the model does not have.

use crate::TokenId;

/// Why no token could be chosen.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SamplingError {
    /// A logit is NaN or positive infinity.
    #[error("the model's logit of token {token} is not a finite number: the weights may be damaged (try `verify`)")]
    NotFinite {
        /// First token with such a logit.
        token: TokenId,
    },
    /// Every logit is negative infinity, or there is none.
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
