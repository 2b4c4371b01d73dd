//! The few logits of a row that its next token can depend on, where a device gives these instead of the whole vocabulary's.
//!
//! A device only compares: penalties, biases and the draw stay the sampler's, so a token is the same either way.

use crate::TokenId;

/// What is wanted of a row.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wish {
    /// This many of the most likely tokens, of equals those with smaller numbers.
    pub candidates: usize,
    /// Of these tokens, a bit each, lowest first; `None`: of all.
    pub mask: Option<Vec<u32>>,
    /// Tokens whose logits are wanted in any case, all of the vocabulary.
    pub values: Vec<TokenId>,
}

/// What a row has of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Picked {
    /// Most likely first; fewer than were wanted if no others are above negative infinity.
    pub candidates: Vec<(TokenId, f32)>,
    /// In the order of the wish.
    pub values: Vec<f32>,
}

/// The most that a row can wish for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PickLimits {
    /// Candidates; 0: the device gives all logits only.
    pub candidates: usize,
    /// Single logits.
    pub values: usize,
}
