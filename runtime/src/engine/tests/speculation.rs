//! Guessed tokens change how many a step gives, never which.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{finish, request, scheduler};
use crate::TokenId;
use crate::engine::{Engine, EngineOptions, Event, Finished, Request, Speculate};
use crate::sampling::{Constraint, SamplingParams, TokenMask};

/// A text that repeats itself, so that there is always something to find.
fn prompt(of: usize) -> Vec<TokenId> {
    let verse: Vec<TokenId> = (0..30).map(|at| 1 + ((at * 31 + of * 97) % 250) as TokenId).collect();
    verse.iter().cycle().take(70 + 40 * of).copied().collect()
}

fn engine(speculate: Speculate, options: EngineOptions) -> Engine {
    super::engine(EngineOptions { speculate, ..options }, 2)
}

/// The same requests without speculation and with every guess checked; gives the tokens guessed and accepted.
fn check(options: EngineOptions, requests: &[Request]) -> (usize, usize) {
    let answers = |speculate| {
        let engine = engine(speculate, options);
        let running: Vec<_> = requests.iter().map(|request| engine.submit(request.clone()).expect("taken")).collect();
        running.into_iter().map(finish).collect::<Vec<(Vec<TokenId>, Finished)>>()
    };
    let (without, with) = (answers(Speculate::Off), answers(Speculate::Always));
    let (mut guessed, mut accepted) = (0, 0);
    for (at, (without, with)) in without.iter().zip(&with).enumerate() {
        assert_eq!(with.0, without.0, "request {at}");
        assert_eq!((&with.1.reason, with.1.generated_tokens), (&without.1.reason, without.1.generated_tokens));
        assert_eq!((without.1.guessed_tokens, without.1.accepted_tokens), (0, 0));
        guessed += with.1.guessed_tokens;
        accepted += with.1.accepted_tokens;
    }
    (guessed, accepted)
}

const OPTIONS: EngineOptions =
    EngineOptions { context: 400, parallel: 4, batch_tokens: 48, speculate: Speculate::Measured, kept: 0 };

#[test]
fn answers_are_the_same_tokens_at_any_temperature() {
    let sampled = |of: usize, temperature: f32| {
        let mut request = request(&prompt(of), temperature, 150);
        request.sampling.repeat_penalty = 1.1;
        request.sampling.top_k = 20 * (of % 2);
        request
    };
    let greedy: Vec<Request> = (0..5).map(|of| request(&prompt(of), 0.0, 150)).collect();
    let (guessed, accepted) = check(OPTIONS, &greedy);
    assert!(accepted > 50 && guessed > accepted, "{accepted} of {guessed}: both outcomes are needed");
    let drawn: Vec<Request> = (0..5).map(|of| sampled(of, 0.9)).collect();
    let (guessed, accepted) = check(OPTIONS, &drawn);
    assert!(accepted > 0 && guessed > accepted, "{accepted} of {guessed}");
}

#[test]
fn ends_come_where_they_come_without() {
    let alone = EngineOptions { parallel: 1, ..OPTIONS };
    let (tokens, _) = finish(engine(Speculate::Off, alone).submit(request(&prompt(1), 0.0, 150)).expect("taken"));
    // At every length, so that some end within the guesses of a step.
    for most in [1, 2, 3, 10, 37, 64, 65, 128] {
        check(alone, &[request(&prompt(1), 0.0, most)]);
    }
    for end in [5, 30, 70, 120] {
        let ending = Request { end_tokens: Arc::from([tokens[end]]), ..request(&prompt(1), 0.0, 150) };
        check(alone, &[ending]);
    }
    // Until the context is full, and beyond.
    let small = EngineOptions { context: 128, ..alone };
    check(small, &[Request { max_tokens: None, ..request(&prompt(0), 0.0, 1) }]);
    let overflow = crate::engine::Overflow::Shift { keep: 4 };
    let (_, accepted) = check(small, &[Request { overflow, ..request(&prompt(0), 0.0, 300) }]);
    assert!(accepted > 0);
}

#[test]
fn what_is_kept_after_wrong_guesses_is_right() {
    let with = engine(Speculate::Always, OPTIONS);
    let without = engine(Speculate::Off, OPTIONS);
    let mut turn = prompt(2);
    for _ in 0..4 {
        let answers = [&with, &without].map(|engine| finish(engine.submit(request(&turn, 0.0, 40)).expect("taken")));
        assert_eq!(answers[0].0, answers[1].0);
        assert_eq!(answers[0].1.cached_tokens, answers[1].1.cached_tokens, "as much is kept");
        turn.extend(&answers[0].0);
        turn.extend([7, 8]);
    }
}

/// Allows tokens of one parity after another, and counts what it is told.
#[derive(Clone, Debug)]
struct Alternating {
    even: bool,
    told: Arc<AtomicUsize>,
}

impl Constraint for Alternating {
    fn allowed(&mut self) -> Result<TokenMask, String> {
        let mut mask = TokenMask::none(512);
        (TokenId::from(!self.even)..512).step_by(2).for_each(|token| mask.allow(token));
        Ok(mask)
    }
    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        assert_eq!(token.is_multiple_of(2), self.even, "a guess that is not allowed was accepted");
        self.even = !self.even;
        self.told.fetch_add(1, Ordering::Relaxed);
        Ok(())
    }
    fn is_complete(&self) -> bool {
        false
    }
    fn roll_back(&mut self, _: usize) -> Result<(), String> {
        Err("there is never anything to undo".to_owned())
    }
    fn fork(&self) -> Box<dyn Constraint> {
        Box::new(self.clone())
    }
}

#[test]
fn a_constraint_hears_of_sampled_tokens_only() {
    let told = Arc::new(AtomicUsize::new(0));
    let constraint = Alternating { even: true, told: Arc::clone(&told) };
    let constrained = Request { constraint: Some(Box::new(constraint)), ..request(&prompt(1), 0.0, 100) };
    let (guessed, accepted) = check(OPTIONS, &[constrained]);
    assert!(guessed > accepted);
    assert_eq!(told.load(Ordering::Relaxed), 200, "of 100 in each of two runs");
}

#[test]
fn log_probabilities_are_those_of_the_model() {
    let answer = |speculate| {
        let request = Request { logprobs: Some(3), ..request(&prompt(1), 0.0, 100) };
        let mut generation = engine(speculate, OPTIONS).submit(request).expect("taken");
        let mut tokens = Vec::new();
        while let Some(event) = generation.recv() {
            if let Event::Token(token) = event {
                tokens.push((token.id, token.logprob.map(f32::to_bits), token.top));
            }
        }
        tokens
    };
    assert_eq!(answer(Speculate::Always), answer(Speculate::Off));
}

#[test]
fn several_tokens_come_of_a_step_where_guesses_are_right() {
    let mut scheduler = scheduler(EngineOptions { speculate: Speculate::Always, ..OPTIONS });
    // A bias leaves one token: what repeats is found, and right.
    let sampling = SamplingParams { temperature: 0.0, logit_bias: vec![(9, 1e6)], ..SamplingParams::default() };
    let events = scheduler.take(Request { sampling, ..request(&[9; 40], 0.0, 64) });
    let mut steps = 0;
    while !events.try_iter().any(|event| matches!(event, Event::Finished(_))) {
        scheduler.turn();
        steps += 1;
        assert!(steps < 20, "64 tokens take a few steps of 32");
    }
}
