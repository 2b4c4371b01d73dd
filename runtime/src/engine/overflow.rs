//! What happens to a sequence that fills its context.

use crate::TokenId;

/// The policy of a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Overflow {
    /// It ends; a prompt that does not fit is refused.
    #[default]
    Stop,
    /// The first `keep` tokens stay and the older half of the rest goes. What stays is computed anew, at its new positions.
    Shift {
        /// Tokens at the beginning that are never dropped.
        keep: usize,
    },
}

impl Overflow {
    /// Whether there is room for a token when as much is dropped as may be.
    pub(super) fn makes_room(self, context: usize) -> bool {
        self.rest(context).is_some()
    }

    /// The tokens that are kept, and how many of the latest stay behind them.
    fn rest(self, context: usize) -> Option<(usize, usize)> {
        match self {
            Self::Stop => None,
            Self::Shift { keep } => {
                let rest = context.saturating_sub(keep) / 2;
                (rest > 0).then_some((keep, rest))
            }
        }
    }

    /// Drops tokens of a sequence that is full; gives how many.
    pub(super) fn shift(self, tokens: &mut Vec<TokenId>, context: usize) -> usize {
        let Some((keep, rest)) = self.rest(context).filter(|_| tokens.len() >= context) else { return 0 };
        let dropped = tokens.len() - keep - rest;
        tokens.drain(keep..keep + dropped);
        dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_and_the_latest_half_stay() {
        let shifted = |overflow: Overflow, count: TokenId| {
            let mut tokens: Vec<TokenId> = (0..count).collect();
            let dropped = overflow.shift(&mut tokens, 10);
            (dropped, tokens)
        };
        let shift = Overflow::Shift { keep: 2 };
        assert_eq!(shifted(shift, 9).0, 0, "there is room yet");
        assert_eq!(shifted(shift, 10), (4, vec![0, 1, 6, 7, 8, 9]));
        assert_eq!(shifted(shift, 30), (24, vec![0, 1, 26, 27, 28, 29]));
        assert_eq!(shifted(Overflow::Stop, 10).0, 0);
        assert_eq!(shifted(Overflow::Shift { keep: 9 }, 10).0, 0, "no room can be made");
        assert!(Overflow::Shift { keep: 8 }.makes_room(10) && !Overflow::Shift { keep: 9 }.makes_room(10));
    }
}
