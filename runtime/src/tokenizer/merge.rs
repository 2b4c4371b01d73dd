//! Greedy pair merging, the algorithm that byte-level BPE and SPM share.
//!
//! A word begins as a sequence of symbols. While any neighbours can merge, the pair with the lowest rank does, the leftmost one
//! in case of a tie. Symbols are ranges of one text, so it is enough to store the bounds between them. Short words scan for the
//! lowest rank; long ones keep candidates in a heap, so that a megabyte without a space costs n log n.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// Words of up to this many symbols are scanned; measured to be faster than a heap.
const SCANNED_SYMBOLS: usize = 48;

/// The rank of merging the ranges `[start, middle)` and `[middle, end)`; `None` if they do not merge.
pub(super) trait Rank: Fn(u32, u32, u32) -> Option<u32> {}
impl<F: Fn(u32, u32, u32) -> Option<u32>> Rank for F {}

/// Buffers, reused for all words.
#[derive(Debug, Default)]
pub(super) struct Merger {
    /// Offsets between symbols, including the start of the first and the end of the last.
    bounds: Vec<u32>,
    /// For each bound, the rank of merging the symbol that begins there with the next.
    ranks: Vec<Option<u32>>,
    links: Vec<Links>,
    candidates: BinaryHeap<Reverse<u64>>,
}

/// The neighbours of a bound that has not been merged away.
#[derive(Clone, Copy, Debug)]
struct Links {
    before: u32,
    after: u32,
}

/// A candidate: the rank in the high bits, the index of its left symbol's bound in the low bits, so that candidates are ordered
/// as they are merged.
fn candidate(rank: u32, left: u32) -> Reverse<u64> {
    Reverse(u64::from(rank) << 32 | u64::from(left))
}

/// No bound: before the first, after the last, and after one that has been merged away.
const NONE: u32 = u32::MAX;

impl Merger {
    /// Merges a word whose symbols end at `ends`. Returns the remaining bounds.
    pub(super) fn merge(&mut self, ends: impl Iterator<Item = u32>, rank: impl Rank) -> &[u32] {
        self.bounds.clear();
        self.bounds.push(0);
        self.bounds.extend(ends);
        if self.bounds.len() <= SCANNED_SYMBOLS + 1 {
            self.merge_scanning(rank);
        } else {
            self.merge_with_heap(rank);
        }
        &self.bounds
    }

    fn merge_scanning(&mut self, rank: impl Rank) {
        let Self { bounds, ranks, .. } = self;
        ranks.clear();
        ranks.extend(bounds.windows(3).map(|at| rank(at[0], at[1], at[2])));
        let lowest = |ranks: &[Option<u32>]| {
            let merging = ranks.iter().enumerate().filter_map(|(at, rank)| rank.map(|rank| (rank, at)));
            merging.min().map(|(_, at)| at)
        };
        while let Some(at) = lowest(ranks) {
            bounds.remove(at + 1);
            ranks.remove(at);
            if at > 0 {
                ranks[at - 1] = rank(bounds[at - 1], bounds[at], bounds[at + 1]);
            }
            if at < ranks.len() {
                ranks[at] = rank(bounds[at], bounds[at + 1], bounds[at + 2]);
            }
        }
    }

    fn merge_with_heap(&mut self, rank: impl Rank) {
        let Self { bounds, ranks, links, candidates } = self;
        let last = bounds.len() as u32 - 1;
        links.clear();
        links.extend((0..=last).map(|at| Links { before: at.wrapping_sub(1), after: at + 1 }));
        links[last as usize].after = NONE;

        ranks.clear();
        ranks.extend(bounds.windows(3).map(|at| rank(at[0], at[1], at[2])));
        ranks.resize(bounds.len(), None);
        // Building a heap from a vector is linear; pushing one by one is not.
        let mut first = std::mem::take(candidates).into_vec();
        first.extend((0..).zip(&*ranks).filter_map(|(left, rank)| Some(candidate((*rank)?, left))));
        *candidates = first.into();

        while let Some(Reverse(key)) = candidates.pop() {
            let (lowest, left) = ((key >> 32) as u32, key as u32);
            // Stale if the pair that begins here no longer has this rank.
            if ranks[left as usize] != Some(lowest) {
                continue;
            }
            let middle = links[left as usize].after;
            let right = links[middle as usize].after;
            links[left as usize].after = right;
            links[right as usize].before = left;
            links[middle as usize].after = NONE;
            ranks[middle as usize] = None;
            for start in [links[left as usize].before, left] {
                let Some(links_of_start) = links.get(start as usize) else { continue };
                let middle = links_of_start.after;
                let end = links[middle as usize].after;
                let place = |at: u32| bounds[at as usize];
                ranks[start as usize] = if end == NONE { None } else { rank(place(start), place(middle), place(end)) };
                candidates.extend(ranks[start as usize].map(|rank| candidate(rank, start)));
            }
        }
        let mut at = 0;
        bounds.retain(|_| {
            let stays = at == last || links[at as usize].after != NONE;
            at += 1;
            stays
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Ranks that depend on the length and letters of the pair, with many ties.
    fn rank_in(text: &str, modulus: u32) -> impl Fn(u32, u32, u32) -> Option<u32> {
        move |start, middle, end| {
            let letters =
                text[start as usize..end as usize].bytes().fold(0_u32, |sum, b| sum * 31 % 1009 + u32::from(b));
            let rank = (letters + (middle - start) * 7) % modulus;
            (end - start <= 12 && !rank.is_multiple_of(5)).then_some(rank)
        }
    }

    #[test]
    fn scan_and_heap_agree() {
        let mut state = 7_u32;
        for length in 0..200 {
            let text: String = (0..length)
                .map(|_| {
                    state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    char::from(b'a' + (state >> 24) as u8 % 3)
                })
                .collect();
            for modulus in [3, 17, 1000] {
                let mut scanned = Merger { bounds: (0..=length).collect(), ..Merger::default() };
                scanned.merge_scanning(rank_in(&text, modulus));
                let mut heaped = Merger { bounds: (0..=length).collect(), ..Merger::default() };
                if length > 0 {
                    heaped.merge_with_heap(rank_in(&text, modulus));
                }
                assert_eq!(scanned.bounds, heaped.bounds, "{text} modulo {modulus}");
            }
        }
    }

    #[test]
    fn lowest_rank_first_then_leftmost() {
        // "abab": (a,b) has rank 1 at two places, (b,a) rank 0.
        let text = "abab";
        let ranks = |start: u32, _: u32, end: u32| match &text[start as usize..end as usize] {
            "ba" => Some(0),
            "ab" => Some(1),
            _ => None,
        };
        assert_eq!(Merger::default().merge(1..=4, ranks), [0, 1, 3, 4]);
        let all_equal = |start: u32, _: u32, end: u32| (end - start == 2).then_some(0);
        assert_eq!(Merger::default().merge(1..=5, all_equal), [0, 2, 4, 5]);
    }
}
