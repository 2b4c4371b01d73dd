//! A second model guesses; what it says changes no token.

use super::{Compute, TokenId, finish, prompts, request, stories};
use crate::engine::{Companions, Engine, EngineOptions, Speculate};
use crate::kernels;
use crate::plan::CacheTypes;
use crate::session::ModelSource;
use crate::session::open::load_model;

/// An engine whose draft is the same model, with this context.
fn engine(speculate: Speculate, draft_context: Option<usize>) -> Engine {
    let load = || {
        let source = ModelSource::open(Some(&stories())).expect("the model opens");
        let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
        load_model(&source, compute, None).expect("and is loaded")
    };
    let options = EngineOptions { context: 400, batch_tokens: 48, speculate, ..EngineOptions::default() };
    let draft = draft_context.map(|context| (load(), context));
    let companions = Companions { draft, ..Companions::default() };
    Engine::start_with(load(), options, Vec::new(), companions).expect("a thread")
}

/// Every prompt's answer, all at once, and how many tokens were guessed and accepted.
fn answers(engine: &Engine, temperature: f32) -> (Vec<Vec<TokenId>>, usize, usize) {
    let running: Vec<_> =
        prompts().iter().map(|prompt| engine.submit(request(prompt, temperature, 60)).expect("taken")).collect();
    let (mut tokens, mut guessed, mut accepted) = (Vec::new(), 0, 0);
    for generation in running {
        let (answer, finished) = finish(generation);
        tokens.push(answer);
        guessed += finished.guessed_tokens;
        accepted += finished.accepted_tokens;
    }
    (tokens, guessed, accepted)
}

#[test]
fn a_draft_changes_no_token() {
    for temperature in [0.0, 1.0] {
        let (without, ..) = answers(&engine(Speculate::Off, None), temperature);
        let (found, looked_up, right) = answers(&engine(Speculate::Always, None), temperature);
        let (drafted, guessed, accepted) = answers(&engine(Speculate::Always, Some(400)), temperature);
        assert_eq!((&found, &drafted), (&without, &without));
        assert!(accepted > 0);
        let line =
            format!("{accepted} of {guessed} with a draft, which is the model itself, {right} of {looked_up} without");
        assert!(temperature > 0.0 || accepted * looked_up > right * guessed, "{line}");
    }
}

#[test]
fn a_draft_with_a_short_context_guesses_as_far_as_it_reaches() {
    let (without, ..) = answers(&engine(Speculate::Off, None), 0.0);
    let (drafted, guessed, _) = answers(&engine(Speculate::Always, Some(64)), 0.0);
    assert_eq!(drafted, without);
    assert!(guessed > 0);
}
