//! Guesses how a sequence goes on from where its last tokens stood before: n-gram lookup in prompt and answer.
//!
//! Rewriting a file, quoting and repeating produce text that is already there. An index from each pair of tokens to the places
//! behind it gives candidates; the one with the longest common past wins. Guesses cost nothing but the rows that check them.

use std::collections::HashMap;

use crate::TokenId;

/// Candidates compared for a guess, latest first.
const MOST_CANDIDATES: usize = 32;

/// Tokens of common past that are compared at most: a longer one is no better.
const LONGEST_PAST: usize = 32;

/// The shortest past that is looked up.
const PAIR: usize = 2;

/// An index of one sequence's tokens.
#[derive(Debug, Default)]
pub(super) struct Lookup {
    /// The latest place behind each pair.
    latest: HashMap<[TokenId; PAIR], u32>,
    /// For each place the one before it behind the same pair; 0: none.
    earlier: Vec<u32>,
    /// Where the last guess was read, and the length of the sequence then.
    source: Option<(usize, usize)>,
}

/// Tokens that may come next.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Guess {
    pub(super) tokens: Vec<TokenId>,
    /// How many tokens before them are as before their source.
    pub(super) past: usize,
}

impl Lookup {
    /// At most `most` tokens that followed the end of `tokens` before. `tokens` only ever grows between calls; after anything
    /// else, start with a new index.
    pub(super) fn guess(&mut self, tokens: &[TokenId], most: usize) -> Guess {
        self.index(tokens);
        let end = tokens.len();
        if most == 0 || end <= PAIR {
            return Guess::default();
        }
        // Where the last guess came from goes on first: most often what follows is right, too.
        let again = self.source.map(|(place, length)| place + (end - length)).filter(|&place| place < end);
        let pair = [tokens[end - 2], tokens[end - 1]];
        let first = self.latest.get(&pair).copied().unwrap_or(0);
        let chain = std::iter::successors(Some(first), |&place| self.earlier.get(place as usize).copied());
        let chain = chain.take_while(|&place| place != 0).take(MOST_CANDIDATES).map(|place| place as usize);
        let mut best = (0, 0);
        for place in again.into_iter().chain(chain) {
            let past = common_past(&tokens[..place], tokens);
            // Of equally long ones the first, which is the continued or the latest one.
            if past > best.0 {
                best = (past, place);
            }
            if past == LONGEST_PAST {
                break;
            }
        }
        let (past, place) = best;
        if past < PAIR {
            return Guess::default();
        }
        self.source = Some((place, end));
        // A source that reaches the end repeats itself.
        let period = end - place;
        Guess { tokens: (0..most).map(|at| tokens[place + at % period]).collect(), past }
    }

    /// Adds the places before the end, which is no place to read from.
    fn index(&mut self, tokens: &[TokenId]) {
        self.earlier.resize(self.earlier.len().max(PAIR), 0);
        for place in self.earlier.len()..tokens.len() {
            let pair = [tokens[place - 2], tokens[place - 1]];
            let before = self.latest.insert(pair, place as u32);
            self.earlier.push(before.unwrap_or(0));
        }
    }
}

/// How many tokens at the ends of both are the same.
fn common_past(one: &[TokenId], other: &[TokenId]) -> usize {
    let pairs = one.iter().rev().zip(other.iter().rev());
    pairs.take(LONGEST_PAST).take_while(|(one, other)| one == other).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_common_past_wins_then_the_latest() {
        let mut lookup = Lookup::default();
        assert_eq!(lookup.guess(&[1, 2, 3], 4), Guess::default(), "nothing is there twice");
        let tokens = [1, 2, 3, 4, 9, 2, 3, 5, 7, 2, 3, 6, 1, 2, 3];
        assert_eq!(lookup.guess(&tokens, 2), Guess { tokens: vec![4, 9], past: 3 });
        let mut lookup = Lookup::default();
        assert_eq!(lookup.guess(&tokens[1..11], 3), Guess { tokens: vec![5, 7, 2], past: 2 }, "the latest");
        assert_eq!(lookup.guess(&tokens[1..11], 0), Guess::default());
    }

    #[test]
    fn a_sequence_that_repeats_goes_on_repeating() {
        let mut lookup = Lookup::default();
        assert_eq!(lookup.guess(&[8, 1, 2, 1, 2], 5).tokens, [1, 2, 1, 2, 1]);
        let mut lookup = Lookup::default();
        assert_eq!(lookup.guess(&[7, 7, 7], 3).tokens, [7, 7, 7]);
    }

    #[test]
    fn a_source_is_read_on_behind_a_word_that_is_everywhere() {
        // More candidates than are compared lie behind the pair (1, 2).
        let mut tokens: Vec<TokenId> = vec![50, 51, 1, 2, 60, 61, 62];
        (0..100).for_each(|n| tokens.extend([1, 2, 100 + n]));
        let mut lookup = Lookup::default();
        tokens.extend([50, 51]);
        assert_eq!(lookup.guess(&tokens, 2).tokens, [1, 2]);
        tokens.extend([1, 2]);
        assert_eq!(lookup.guess(&tokens, 3).tokens, [60, 61, 62]);
    }

    #[test]
    fn an_index_that_grows_finds_what_a_new_one_finds() {
        let mut random = oorandom::Rand32::new(3);
        let tokens: Vec<TokenId> = (0..400).map(|_| random.rand_range(0..5)).collect();
        let mut growing = Lookup::default();
        for end in 3..tokens.len() {
            let fresh = Lookup::default().guess(&tokens[..end], 8);
            // Without a source, since a new index has none.
            growing.source = None;
            assert_eq!(growing.guess(&tokens[..end], 8), fresh, "at {end}");
        }
    }
}
