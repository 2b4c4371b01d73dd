//! The stage for text in a gap: it ends an answer early, and else takes the likeliest text.
//!
//! What it does is what llama.cpp's header says of its sampler `infill`, with that one's thresholds. An editor shows what comes of
//! it, so a short suggestion is better than a doubtful one.

use std::borrow::Cow;
use std::fmt::Debug;
use std::sync::Arc;

use super::select::{Candidate, by_likelihood};
use super::stages::weights;
use crate::TokenId;

/// Most candidates whose texts are compared with each other. Less likely ones are dropped, which matters only without `top_k`.
const MOST_COMPARED: usize = 256;

/// What a text has to have of all probability to be a candidate.
const LEAST_SHARE: f64 = 0.2;

/// The texts of tokens.
pub trait TokenTexts: Debug + Send + Sync {
    /// The bytes of a token, possibly part of a character; empty if it has no text.
    fn bytes(&self, token: TokenId) -> Cow<'_, [u8]>;
}

/// The stage, with what it knows of a vocabulary.
#[derive(Clone, Debug)]
pub struct Infill {
    texts: Arc<dyn TokenTexts>,
    /// Tokens that end an answer.
    ends: Arc<[TokenId]>,
}

/// A candidate with its share of the probability, and the bytes of its text.
struct Weighed<'a> {
    token: TokenId,
    share: f64,
    text: Option<Cow<'a, [u8]>>,
}

impl Infill {
    /// The stage for a vocabulary in which `ends` end an answer.
    pub fn new(texts: Arc<dyn TokenTexts>, ends: Arc<[TokenId]>) -> Self {
        Self { texts, ends }
    }

    /// An end token for which `possible` holds.
    pub(super) fn end(&self, possible: impl Fn(TokenId) -> bool) -> Option<TokenId> {
        self.ends.iter().copied().find(|token| possible(*token))
    }

    /// Reduces the candidates, which are sorted, most likely first, and not empty, and of which as much holds afterwards:
    ///
    /// 1. If the ends' probability times the number of candidates is above that of the texts, only ends are left.
    /// 2. Of candidates whose text begins another's, the likelier one gets the probability of both.
    /// 3. Texts below a fifth of the probability go, and of those that remain all that have less than an equal part.
    /// 4. If no text remains, `end` is all that is left. `None`: the answer may not end here, and the likeliest text remains.
    pub(super) fn reduce(&self, candidates: &mut Vec<Candidate>, end: Option<TokenId>) {
        let (weights, total) = weights(candidates);
        let is_end = |candidate: &Candidate| self.ends.contains(&candidate.token);
        let ends = candidates.iter().zip(&weights).filter(|(candidate, _)| is_end(candidate));
        let ending: f64 = ends.map(|(_, weight)| weight).sum();
        if ending * candidates.len() as f64 > total - ending {
            return candidates.retain(is_end);
        }
        let weigh = |(candidate, weight): (&Candidate, &f64)| Weighed {
            token: candidate.token,
            share: weight / total,
            text: (!is_end(candidate)).then(|| self.texts.bytes(candidate.token)),
        };
        let all = join_beginnings(candidates.iter().zip(&weights).take(MOST_COMPARED).map(weigh).collect());
        let likeliest = all.iter().filter(|one| one.text.is_some()).max_by(|a, b| a.share.total_cmp(&b.share));
        let likeliest = likeliest.map(|one| one.token);
        let left = drop_unlikely(all);
        candidates.clear();
        if left.iter().any(|one| one.text.is_some()) {
            candidates.extend(left.iter().map(|one| Candidate { logit: one.share.ln() as f32, token: one.token }));
            candidates.sort_unstable_by(by_likelihood);
        } else if let Some(token) = end.or(likeliest) {
            candidates.push(Candidate { logit: 0.0, token });
        }
    }
}

/// Joins to the likelier one what begins it or what it begins. Expects and gives the likeliest first, but for what was added.
fn join_beginnings(all: Vec<Weighed<'_>>) -> Vec<Weighed<'_>> {
    let begins = |one: &[u8], other: &[u8]| !one.is_empty() && other.starts_with(one);
    let related = |one: &Weighed<'_>, other: &Weighed<'_>| match (&one.text, &other.text) {
        (Some(one), Some(other)) => begins(one, other) || begins(other, one),
        _ => false,
    };
    let mut kept: Vec<Weighed<'_>> = Vec::new();
    for one in all {
        match kept.iter_mut().find(|likelier| related(likelier, &one)) {
            Some(likelier) => likelier.share += one.share,
            None => kept.push(one),
        }
    }
    kept
}

/// Drops texts of low probability: first of all, then of what is left.
fn drop_unlikely(mut all: Vec<Weighed<'_>>) -> Vec<Weighed<'_>> {
    all.retain(|one| one.text.is_none() || one.share >= LEAST_SHARE);
    let total: f64 = all.iter().map(|one| one.share).sum();
    let texts = all.iter().filter(|one| one.text.is_some()).count();
    let part = 1.0 / (texts + 1) as f64;
    all.retain(|one| one.text.is_none() || one.share / total >= part);
    all
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A vocabulary whose tokens have these texts; those without one end an answer.
    #[derive(Debug)]
    struct Words(Vec<&'static str>);

    impl TokenTexts for Words {
        fn bytes(&self, token: TokenId) -> Cow<'_, [u8]> {
            self.0.get(token as usize).copied().unwrap_or("~").as_bytes().into()
        }
    }

    /// The stage for tokens with these texts.
    pub(in crate::sampling) fn stage(texts: &[&'static str]) -> Infill {
        let ends = (0..texts.len() as TokenId).filter(|token| texts[*token as usize].is_empty()).collect();
        Infill::new(Arc::new(Words(texts.to_vec())), ends)
    }

    /// What is left of tokens with these texts and probabilities, with the probabilities.
    fn left(tokens: &[(&'static str, f32)], end: Option<TokenId>) -> Vec<(TokenId, f32)> {
        let texts: Vec<&str> = tokens.iter().map(|(text, _)| *text).collect();
        let candidate = |(at, (_, p)): (usize, &(&str, f32))| Candidate { logit: p.ln() + 3.0, token: at as TokenId };
        let mut candidates: Vec<Candidate> = tokens.iter().enumerate().map(candidate).collect();
        candidates.sort_unstable_by(by_likelihood);
        stage(&texts).reduce(&mut candidates, end);
        let total: f32 = candidates.iter().map(|candidate| candidate.logit.exp()).sum();
        candidates.iter().map(|candidate| (candidate.token, candidate.logit.exp() / total)).collect()
    }

    fn tokens(tokens: &[(&'static str, f32)], end: Option<TokenId>) -> Vec<TokenId> {
        left(tokens, end).into_iter().map(|(token, _)| token).collect()
    }

    #[test]
    fn a_text_takes_what_others_begin_with_it() {
        // The example of llama.cpp's header: 0.8 and 0.1 of 0.9, of which the second is too little.
        let example = [("hel", 0.5), ("hell", 0.2), ("hello", 0.1), ("dummy", 0.1)];
        assert_eq!(left(&example, Some(9)), [(0, 1.0)]);
        // The likelier one takes it, be it the shorter or the longer; none of these would be left alone.
        let split = [("a", 0.16), ("ab", 0.18), ("abc", 0.16), ("x", 0.17), ("y", 0.17), ("z", 0.16)];
        assert_eq!(left(&split, Some(9)), [(1, 1.0)]);
        let two = left(&[("return", 0.31), ("ret", 0.2), ("if", 0.49)], None);
        assert_eq!(two.iter().map(|(token, _)| *token).collect::<Vec<_>>(), [0, 2]);
        assert!(two.iter().all(|(_, share)| (share - 0.5).abs() < 0.02), "{two:?}");
    }

    #[test]
    fn an_end_wins_over_texts_that_disagree() {
        // Four candidates: more than a fifth of the probability is enough.
        let open = |end: f32| [("a", 0.5), ("", end), ("b", 0.3), ("c", 0.2)];
        assert_eq!(tokens(&open(0.26), None), [1]);
        assert_eq!(tokens(&open(0.24), None), [0, 1]);
        assert_eq!(tokens(&[("a", 0.2), ("", 0.4), ("", 0.6)], None), [2, 1], "all ends are left");
    }

    #[test]
    fn without_a_likely_text_the_answer_ends_if_it_may() {
        let flat = [("a", 0.19), ("b", 0.18), ("c", 0.18), ("d", 0.15), ("e", 0.15), ("f", 0.15)];
        assert_eq!(tokens(&flat, Some(77)), [77]);
        assert_eq!(tokens(&flat, None), [0], "a grammar wants more");
        assert_eq!(tokens(&[("a", 0.7), ("b", 0.25), ("c", 0.05)], None), [0], "less than a third of what is left");
        assert_eq!(tokens(&[("a", 0.6), ("b", 0.4)], None), [0, 1]);
    }

    #[test]
    fn many_candidates_are_cut() {
        let many: Vec<(&str, f32)> = (0..100_000).map(|at| ("same", 1.0 + at as f32)).collect();
        assert_eq!(left(&many, None), [(99_999, 1.0)]);
    }
}
