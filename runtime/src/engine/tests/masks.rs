//! Where masks are computed changes no token, and what goes wrong there ends one request.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use super::{engine, finish, request};
use crate::TokenId;
use crate::engine::{EngineOptions, FinishReason, Request, Speculate};
use crate::sampling::{Constraint, TokenMask};

/// What `allowed` does.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Kind {
    Quick,
    Slow,
    /// These two after some tokens.
    Fails(usize),
    Panics(usize),
}

/// Allows every third token, another third after each, and notes the threads that ask.
#[derive(Clone, Debug)]
struct Thirds {
    kind: Kind,
    accepted: usize,
    asked_on: Arc<Mutex<Vec<String>>>,
}

impl Constraint for Thirds {
    fn allowed(&mut self) -> Result<TokenMask, String> {
        let thread = std::thread::current().name().unwrap_or("").to_owned();
        self.asked_on.lock().expect("no panic holds it").push(thread);
        match self.kind {
            Kind::Slow => std::thread::sleep(Duration::from_millis(1)),
            Kind::Fails(at) if at == self.accepted => return Err("the grammar gave up".to_owned()),
            Kind::Panics(at) if at == self.accepted => panic!("of this test"),
            _ => {}
        }
        let mut mask = TokenMask::none(512);
        (0..512).filter(|token| token % 3 == self.accepted % 3).for_each(|token| mask.allow(token as TokenId));
        Ok(mask)
    }
    fn accept(&mut self, token: TokenId) -> Result<(), String> {
        assert_eq!(token as usize % 3, self.accepted % 3, "it was not allowed");
        self.accepted += 1;
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

type Threads = Arc<Mutex<Vec<String>>>;

fn constrained(kind: Kind) -> (Request, Threads) {
    let asked_on = Threads::default();
    let constraint = Thirds { kind, accepted: 0, asked_on: Arc::clone(&asked_on) };
    (Request { constraint: Some(Box::new(constraint)), ..request(&[5, 9, 40, 11], 0.8, 24) }, asked_on)
}

const OPTIONS: EngineOptions =
    EngineOptions { context: 256, parallel: 2, batch_tokens: 48, speculate: Speculate::Off, kept: 0 };

#[test]
fn slow_masks_are_computed_beside_and_the_tokens_are_the_same() {
    let several = std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
    for speculate in [Speculate::Off, Speculate::Always] {
        let engine = engine(EngineOptions { speculate, ..OPTIONS }, 2);
        let [quick, slow] = [Kind::Quick, Kind::Slow].map(|kind| {
            let (request, threads) = constrained(kind);
            let (tokens, finished) = finish(engine.submit(request).expect("taken"));
            assert_eq!((tokens.len(), finished.reason), (24, FinishReason::MaxTokens));
            let threads = threads.lock().expect("no panic holds it");
            (tokens, threads.iter().filter(|thread| *thread == "masks").count(), threads.len())
        });
        assert_eq!(quick.0, slow.0);
        assert!(quick.2 >= 24 && slow.2 >= 24);
        // The first of the quick ones is not known to be quick.
        assert!(quick.1 < slow.1 || !several, "{quick:?} {slow:?}");
        if speculate == Speculate::Off && several {
            assert_eq!(slow.1, 24, "every mask beside a step");
        }
    }
}

#[test]
fn what_goes_wrong_beside_ends_its_own_request_only() {
    let engine = engine(OPTIONS, 2);
    for (kind, line) in [(Kind::Fails(5), "the grammar gave up"), (Kind::Panics(5), super::super::masks::LOST)] {
        let other = engine.submit(request(&[3, 4, 5], 0.0, 40)).expect("taken");
        let (tokens, finished) = finish(engine.submit(constrained(kind).0).expect("taken"));
        assert_eq!((tokens.len(), finished.reason), (5, FinishReason::Failed(line.to_owned())));
        assert_eq!(finish(other).0.len(), 40);
    }
    // The first mask, computed beside the prompt, and the thread goes on after a panic.
    for kind in [Kind::Panics(0), Kind::Fails(0)] {
        let (tokens, finished) = finish(engine.submit(constrained(kind).0).expect("taken"));
        assert!(tokens.is_empty() && matches!(finished.reason, FinishReason::Failed(_)), "{finished:?}");
    }
    let (tokens, _) = finish(engine.submit(constrained(Kind::Slow).0).expect("taken"));
    assert_eq!(tokens.len(), 24);
}

/// Allows everything, once it is ready.
#[derive(Clone, Debug)]
struct Late(Arc<AtomicBool>);

impl Constraint for Late {
    fn is_ready(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
    fn allowed(&mut self) -> Result<TokenMask, String> {
        assert!(self.is_ready(), "it was asked too early");
        Ok(TokenMask::all(512))
    }
    fn accept(&mut self, _: TokenId) -> Result<(), String> {
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
fn an_answer_whose_constraint_is_not_ready_holds_nobody_up() {
    let engine = engine(OPTIONS, 2);
    for prompt in [&[5, 9, 40, 11][..], &[7]] {
        let ready = Arc::new(AtomicBool::new(false));
        let constraint: Option<Box<dyn Constraint>> = Some(Box::new(Late(Arc::clone(&ready))));
        let late = engine.submit(Request { constraint, ..request(prompt, 0.0, 8) }).expect("taken");
        // All of another answer comes meanwhile.
        let (tokens, _) = finish(engine.submit(request(&[3, 4, 5], 0.0, 40)).expect("taken"));
        assert_eq!(tokens.len(), 40);
        std::thread::sleep(Duration::from_millis(5));
        ready.store(true, Ordering::Relaxed);
        let (tokens, finished) = finish(late);
        assert_eq!((tokens.len(), finished.reason), (8, FinishReason::MaxTokens));
        let (free, _) = finish(engine.submit(request(prompt, 0.0, 8)).expect("taken"));
        assert_eq!(tokens, free, "waiting changes no token");
    }
}

#[test]
fn a_constraint_goes_with_its_request() {
    let engine = engine(OPTIONS, 2);
    let (mut request, threads) = constrained(Kind::Slow);
    request.max_tokens = Some(200);
    let mut generation = engine.submit(request).expect("taken");
    while !matches!(generation.recv(), Some(crate::engine::Event::Token(_))) {}
    drop(generation);
    engine.close();
    assert_eq!(Arc::strong_count(&threads), 1, "nothing holds it once the engine is closed");
}
