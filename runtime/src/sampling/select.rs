//! The most likely tokens of a whole vocabulary, without sorting it.
//!
//! `select_top` reads the logits once, against a rising threshold: values below it are dropped a run at a time, for one
//! comparison each; values above go into a small buffer, which `select_nth_unstable` trims when it is full. Ties: the smaller
//! token id always wins, so that results do not depend on the path taken.

use std::cmp::Ordering;

use crate::TokenId;
use crate::kernels::scan::{RUN, any_above, first_not_below, largest};

/// A token that can still be chosen.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Candidate {
    /// Never NaN.
    pub(super) logit: f32,
    pub(super) token: TokenId,
}

/// Most likely first; equal logits by token id.
pub(super) fn by_likelihood(a: &Candidate, b: &Candidate) -> Ordering {
    // Adding zero makes -0.0 and 0.0 equal to `total_cmp`, as they are to `>`.
    (b.logit + 0.0).total_cmp(&(a.logit + 0.0)).then(a.token.cmp(&b.token))
}

/// Puts the `n` most likely tokens into `out` (cleared first), most likely first. Tokens at negative infinity are left out, so
/// `out` may get fewer. `logits` must not contain NaN.
pub(super) fn select_top(logits: &[f32], n: usize, out: &mut Vec<Candidate>) {
    out.clear();
    if n == 0 {
        return;
    }
    let capacity = n.saturating_mul(2).saturating_add(64).min(logits.len().max(1));
    out.reserve(capacity);
    let mut threshold = f32::NEG_INFINITY;
    for (run, logits) in logits.chunks(RUN).enumerate() {
        if !any_above(logits, threshold) {
            continue;
        }
        for (at, &logit) in logits.iter().enumerate() {
            // Strictly above: a later token with an equal logit loses to the `n` already there.
            if logit > threshold {
                out.push(Candidate { logit, token: (run * RUN + at) as TokenId });
                if out.len() >= capacity && out.len() > n {
                    out.select_nth_unstable_by(n - 1, by_likelihood);
                    out.truncate(n);
                    threshold = out[n - 1].logit;
                }
            }
        }
    }
    if out.len() > n {
        out.select_nth_unstable_by(n - 1, by_likelihood);
        out.truncate(n);
    }
    out.sort_unstable_by(by_likelihood);
}

/// The most likely token; `None` if every logit is negative infinity. `logits` must not contain NaN.
pub(super) fn argmax(logits: &[f32]) -> Option<TokenId> {
    let largest = largest(logits);
    let found = (largest > f32::NEG_INFINITY).then(|| first_not_below(logits, largest)).flatten();
    found.map(|token| token as TokenId)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn naive(logits: &[f32], n: usize) -> Vec<Candidate> {
        let mut all: Vec<Candidate> = logits
            .iter()
            .enumerate()
            .filter(|(_, l)| **l > f32::NEG_INFINITY)
            .map(|(t, &logit)| Candidate { logit, token: t as TokenId })
            .collect();
        all.sort_by(by_likelihood);
        all.truncate(n);
        all
    }

    #[test]
    fn equals_a_full_sort_on_random_and_tied_logits() {
        let mut random = oorandom::Rand32::new(5);
        let mut got = Vec::new();
        for round in 0..300 {
            let len = random.rand_range(0..3000) as usize;
            let levels = if round % 2 == 0 { 1 << 24 } else { 20 };
            let mut logits: Vec<f32> = (0..len).map(|_| random.rand_range(0..levels) as f32 - 7.0).collect();
            if round % 3 == 0 {
                logits.iter_mut().step_by(4).for_each(|l| *l = f32::NEG_INFINITY);
            }
            if round % 5 == 0 {
                logits.sort_by(f32::total_cmp); // the worst order for the threshold
            }
            for n in [0, 1, 2, 40, 1000, 5000] {
                select_top(&logits, n, &mut got);
                assert_eq!(got, naive(&logits, n), "round {round}, {len} logits, n {n}");
            }
            assert_eq!(argmax(&logits), naive(&logits, 1).first().map(|c| c.token));
        }
    }
}
