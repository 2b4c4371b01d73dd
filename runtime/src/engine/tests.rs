//! Concurrent sequences give what they give alone; ends and cancellations are correct.

use std::path::{Path, PathBuf};
use std::sync::{Arc, mpsc};

use super::{Engine, EngineOptions, Event, FinishReason, Finished, Overflow, Request, SubmitError};
use crate::TokenId;
use crate::kernels::{self, Kernels};
use crate::plan::{AdapterSet, CacheType, CacheTypes};
use crate::sampling::SamplingParams;
use crate::session::ModelSource;
use crate::session::open::{Compute, load_model};

mod answers;
mod draft;
mod fragile;
mod interleaved;
mod lost;
mod masks;
mod shared_prompts;
mod speculation;
mod store;
mod warm;

/// A tiny real model.
fn stories() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/models/stories260K-f32.v3.gguf"))
}

fn engine_of(path: &Path, kernels: &'static Kernels, options: EngineOptions, threads: usize) -> Engine {
    cached_engine_of(path, Compute { kernels, threads, cache: CacheTypes::default() }, options)
}

fn cached_engine_of(path: &Path, compute: Compute, options: EngineOptions) -> Engine {
    let source = ModelSource::open(Some(path)).expect("the model opens");
    let loaded = load_model(&source, compute, None).expect("and is loaded");
    Engine::start(loaded, options, Vec::new()).expect("a thread")
}

fn engine(options: EngineOptions, threads: usize) -> Engine {
    engine_of(&stories(), kernels::best(), options, threads)
}

fn request(prompt: &[TokenId], temperature: f32, max_tokens: usize) -> Request {
    Request {
        caller: 0,
        constraint: None,
        prompt: prompt.to_vec(),
        sampling: SamplingParams { temperature, seed: Some(7), ..SamplingParams::default() },
        max_tokens: Some(max_tokens),
        end_tokens: Arc::from([]),
        logprobs: None,
        after_sampling: false,
        infill: None,
        adapters: AdapterSet::default(),
        overflow: Overflow::Stop,
    }
}

#[test]
fn a_full_context_makes_room_where_that_is_wanted() {
    let engine = engine(EngineOptions { context: 64, ..EngineOptions::default() }, 2);
    let prompt: Vec<TokenId> = (0..20).map(|at| 30 + at * 7 % 300).collect();
    let ask = |overflow, count| {
        let request = Request { overflow, ..request(&prompt, 0.0, count) };
        finish(engine.submit(request).expect("taken"))
    };
    let (stopped, finished) = ask(Overflow::Stop, 100);
    assert_eq!((stopped.len(), finished.reason, finished.shifted_tokens), (44, FinishReason::ContextFull, 0));
    let (tokens, finished) = ask(Overflow::Shift { keep: 4 }, 100);
    // 64 tokens become 4 and 30, after 44 and again after 30 more, 30 more.
    assert_eq!((tokens.len(), finished.reason, finished.shifted_tokens), (100, FinishReason::MaxTokens, 60));
    assert_eq!(tokens[..44], stopped[..], "nothing changes before it is full");
    // What comes next is what a prompt of the kept tokens gives.
    let mut kept = prompt[..4].to_vec();
    kept.extend(prompt.iter().chain(&tokens[..44]).skip(34));
    assert_eq!(kept.len(), 34);
    let (again, _) = finish(engine.submit(request(&kept, 0.0, 30)).expect("taken"));
    assert_eq!(tokens[44..74], again[..]);
    // A prompt that is too long makes room in the same way; one whose beginning leaves none is refused.
    let long: Vec<TokenId> = (0..200).map(|at| 30 + at * 11 % 300).collect();
    let shifting = Request { overflow: Overflow::Shift { keep: 4 }, ..request(&long, 0.0, 5) };
    let (tokens, finished) = finish(engine.submit(shifting.clone()).expect("taken"));
    assert_eq!((finished.prompt_tokens, finished.shifted_tokens), (34, 166));
    let kept = [&long[..4], &long[170..]].concat();
    assert_eq!(finish(engine.submit(request(&kept, 0.0, 5)).expect("taken")).0, tokens);
    let full = Request { overflow: Overflow::Shift { keep: 63 }, ..shifting };
    assert!(matches!(engine.submit(full), Err(SubmitError::PromptTooLong { .. })));
}

fn finish(mut generation: super::Generation) -> (Vec<TokenId>, Finished) {
    let mut tokens = Vec::new();
    while let Some(event) = generation.recv() {
        match event {
            Event::Prompt { done, total } => assert!(done <= total),
            Event::Token(token) => tokens.push(token.id),
            Event::Finished(finished) => return (tokens, finished),
        }
    }
    panic!("no end was reported");
}

/// Prompts of different lengths, so that one's prefill coincides with another's decode.
fn prompts() -> Vec<Vec<TokenId>> {
    (0..8u32).map(|n| (0..5 + n * 23).map(|at| 1 + (at * 31 + n * 97) % 500).collect()).collect()
}

#[test]
fn a_seed_gives_the_same_answer_beside_others() {
    let options = EngineOptions { context: 400, parallel: 8, batch_tokens: 48, ..EngineOptions::default() };
    let alone: Vec<Vec<TokenId>> = prompts()
        .iter()
        .enumerate()
        .map(|(n, prompt)| {
            let engine = engine(EngineOptions { parallel: 1, batch_tokens: 512, ..options }, 1);
            finish(engine.submit(request(prompt, (n % 2) as f32, 60)).expect("taken")).0
        })
        .collect();
    for threads in [1, 2, 3] {
        let engine = engine(options, threads);
        let running: Vec<_> = prompts()
            .iter()
            .enumerate()
            .map(|(n, prompt)| engine.submit(request(prompt, (n % 2) as f32, 60)).expect("taken"))
            .collect();
        for (n, generation) in running.into_iter().enumerate() {
            assert_eq!(finish(generation).0, alone[n], "sequence {n} with {threads} threads");
        }
    }
}

#[test]
fn a_kept_prefix_changes_nothing_but_the_time() {
    let engine = engine(EngineOptions { context: 400, ..EngineOptions::default() }, 2);
    let prompt = &prompts()[6];
    let (first, finished) = finish(engine.submit(request(prompt, 0.0, 40)).expect("taken"));
    assert_eq!(finished.cached_tokens, 0);
    let (second, finished) = finish(engine.submit(request(prompt, 0.0, 40)).expect("taken"));
    assert_eq!(finished.cached_tokens, prompt.len() - 1);
    assert_eq!(first, second);
    assert_eq!(finished.generated_tokens, 40);
    assert_eq!(finished.reason, FinishReason::MaxTokens);
}

#[test]
fn an_answer_that_ended_is_not_running() {
    let engine = engine(EngineOptions { context: 64, parallel: 2, ..EngineOptions::default() }, 1);
    for _ in 0..300 {
        finish(engine.submit(request(&[1, 2], 0.0, 2)).expect("taken"));
        assert_eq!((engine.running(), engine.waiting()), (0, 0));
    }
}

#[test]
fn the_context_ends_with_its_own_reason() {
    let engine = engine(EngineOptions { context: 64, ..EngineOptions::default() }, 2);
    let mut long = request(&[1; 40], 0.0, 1000);
    let (tokens, finished) = finish(engine.submit(long.clone()).expect("taken"));
    assert_eq!(finished.reason, FinishReason::ContextFull);
    assert_eq!(tokens.len() + 40, 64);
    long.prompt = vec![1; 64];
    assert_eq!(engine.submit(long.clone()).err(), Some(SubmitError::PromptTooLong { prompt: 64, context: 64 }));
    long.prompt = vec![];
    assert_eq!(engine.submit(long.clone()).err(), Some(SubmitError::EmptyPrompt));
    long.prompt = vec![512];
    assert_eq!(engine.submit(long).err(), Some(SubmitError::TokenOutOfRange { token: 512, vocabulary: 512 }));
}

#[test]
fn an_end_token_is_not_part_of_the_answer() {
    let engine = engine(EngineOptions { context: 400, ..EngineOptions::default() }, 2);
    let prompt = &prompts()[2];
    let (tokens, _) = finish(engine.submit(request(prompt, 0.0, 20)).expect("taken"));
    let mut ending = request(prompt, 0.0, 20);
    ending.end_tokens = Arc::from([tokens[9]]);
    let first = tokens.iter().position(|token| *token == tokens[9]).expect("it is there");
    let (shorter, finished) = finish(engine.submit(ending).expect("taken"));
    assert_eq!(finished.reason, FinishReason::EndToken(tokens[9]));
    assert_eq!(shorter, tokens[..first]);
}

#[test]
fn who_goes_away_makes_room() {
    let engine = engine(EngineOptions { context: 400, parallel: 1, batch_tokens: 512, ..EngineOptions::default() }, 2);
    let endless = engine.submit(request(&[1, 2, 3], 1.0, 390)).expect("taken");
    let waiting = engine.submit(request(&[4, 5, 6], 0.0, 3)).expect("taken");
    drop(endless);
    let (tokens, finished) = finish(waiting);
    assert_eq!((tokens.len(), finished.reason), (3, FinishReason::MaxTokens));
    let cancelled = engine.submit(request(&[1, 2, 3], 1.0, 390)).expect("taken");
    cancelled.cancel();
    assert_eq!(finish(cancelled).1.reason, FinishReason::Cancelled);
}

#[test]
fn an_unseeded_request_reports_the_seed_that_repeats_it() {
    let engine = engine(EngineOptions { context: 400, ..EngineOptions::default() }, 2);
    let mut unseeded = request(&[1, 2, 3], 1.0, 30);
    unseeded.sampling.seed = None;
    let (tokens, finished) = finish(engine.submit(unseeded.clone()).expect("taken"));
    unseeded.sampling.seed = Some(finished.seed);
    assert_eq!(finish(engine.submit(unseeded).expect("taken")).0, tokens);
}

/// A scheduler without its thread, so that its steps can be counted.
fn scheduler(options: EngineOptions) -> super::scheduler::Scheduler {
    let source = ModelSource::open(Some(&stories())).expect("the model opens");
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: CacheTypes::default() };
    let loaded = load_model(&source, compute, None).expect("and is loaded");
    super::scheduler::Scheduler::new(loaded, options, Vec::new(), Arc::default())
}

#[test]
fn a_short_prompt_does_not_wait_for_a_long_one() {
    let mut scheduler =
        scheduler(EngineOptions { context: 400, parallel: 2, batch_tokens: 8, ..EngineOptions::default() });
    let long = scheduler.take(request(&[5; 300], 0.0, 3));
    scheduler.turn();
    let short = scheduler.take(request(&[1, 2, 3], 0.0, 2));
    scheduler.turn();
    scheduler.turn();
    let tokens = |events: &mpsc::Receiver<Event>| events.try_iter().filter(|e| matches!(e, Event::Token(_))).count();
    assert_eq!(tokens(&short), 2, "both of its tokens in two steps");
    let done = long.try_iter().filter_map(|event| match event {
        Event::Prompt { done, .. } => Some(done),
        _ => None,
    });
    let done: Vec<usize> = done.collect();
    assert_eq!(done, [0, 8, 13, 20], "the long one goes on with what is left");
}

#[test]
fn prompts_of_one_length_go_on_together() {
    let mut scheduler =
        scheduler(EngineOptions { context: 400, parallel: 3, batch_tokens: 9, ..EngineOptions::default() });
    let all: Vec<_> = (0..3).map(|n| scheduler.take(request(&[n + 1; 30], 0.0, 1))).collect();
    for _ in 0..5 {
        scheduler.turn();
    }
    for events in all {
        let done = events.try_iter().filter_map(|event| match event {
            Event::Prompt { done, .. } => Some(done),
            _ => None,
        });
        assert_eq!(done.collect::<Vec<_>>(), [0, 3, 6, 9, 12, 15]);
    }
}
