//! A device that breaks down amid answers: another takes over, and every sequence goes on with the tokens it would have had.

use super::fragile::{Fragile, Seen, loaded};
use super::{EngineOptions, FinishReason, finish, request};
use crate::TokenId;
use crate::engine::{Companions, Engine, Loaded};
use crate::state::KeptLimit;

fn engine(steps: &[usize], pages: &[usize], left: usize) -> Engine {
    engine_with(steps, pages, left, Companions::default())
}

fn engine_with(steps: &[usize], pages: &[usize], left: usize, companions: Companions) -> Engine {
    let Loaded { plan, program } = loaded();
    let program =
        Box::new(Fragile { program, steps: steps.to_vec(), pages: pages.to_vec(), left, seen: Seen::default() });
    Engine::start_with(Loaded { plan, program }, EngineOptions::default(), Vec::new(), companions).expect("a thread")
}

/// Three answers side by side: one greedy, two sampled.
fn answers(engine: &Engine) -> Vec<(Vec<TokenId>, FinishReason)> {
    let prompts: Vec<Vec<TokenId>> =
        (1..4).map(|of| (0..20 * of).map(|at| 30 + at * (5 + of) % 300).collect()).collect();
    let ask =
        |(prompt, temperature): (&Vec<TokenId>, f32)| engine.submit(request(prompt, temperature, 60)).expect("taken");
    let running: Vec<_> = prompts.iter().zip([0.0, 0.8, 1.2]).map(ask).collect();
    running.into_iter().map(finish).map(|(tokens, finished)| (tokens, finished.reason)).collect()
}

#[test]
fn answers_go_on_where_another_device_takes_over() {
    let right = answers(&engine(&[], &[], 0));
    assert!(right.iter().all(|(tokens, reason)| tokens.len() == 60 && *reason == FinishReason::MaxTokens));
    for (steps, pages) in [(&[0][..], &[][..]), (&[10], &[]), (&[10, 0, 7], &[]), (&[], &[2]), (&[5], &[3, 1])] {
        assert_eq!(answers(&engine(steps, pages, 3)), right, "lost after {steps:?} steps, {pages:?} pages");
    }
}

#[test]
fn what_may_be_kept_is_the_same_on_the_device_that_takes_over() {
    let prompt: Vec<TokenId> = (0..130).map(|at| 30 + at * 7 % 300).collect();
    for (limit, kept) in [(Some(KeptLimit { bytes: 0, page_bytes: vec![1] }), false), (None, true)] {
        let engine = engine_with(&[10], &[], 1, Companions { limit, ..Companions::default() });
        let cached = || finish(engine.submit(request(&prompt, 0.0, 20)).expect("taken")).1.cached_tokens;
        assert_eq!(cached(), 0, "the first, amid which the device is lost");
        assert_eq!(cached() > 0, kept);
    }
}

#[test]
fn without_another_device_answers_end_with_the_reason() {
    let engine = engine(&[10, 0], &[], 1);
    let (tokens, finished) = finish(engine.submit(request(&[30, 37, 44], 0.0, 60)).expect("taken"));
    assert!(tokens.len() < 60, "{tokens:?}");
    assert_eq!(finished.reason, FinishReason::Unavailable("the device was lost".to_owned()));
}
