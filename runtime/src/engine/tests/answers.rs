//! Which rows of a step belong to answers: those behind a prompt that was read whole, and they come first.

use std::sync::Arc;

use super::fragile::{Fragile, Seen, loaded};
use super::{EngineOptions, request};
use crate::TokenId;
use crate::engine::scheduler::Scheduler;
use crate::engine::{Loaded, Speculate};

#[test]
fn rows_of_answers_come_first_and_are_told_from_prompts() {
    const LENGTH: usize = 30;
    let Loaded { plan, program } = loaded();
    let seen = Seen::default();
    let noting = Box::new(Fragile { program, steps: Vec::new(), pages: Vec::new(), left: 0, seen: Arc::clone(&seen) });
    let options = EngineOptions {
        context: 200,
        parallel: 4,
        batch_tokens: 9,
        speculate: Speculate::Always,
        ..EngineOptions::default()
    };
    let mut scheduler = Scheduler::new(Loaded { plan, program: noting }, options, Vec::new(), Arc::default());
    let mut events = Vec::new();
    // Prompts of one length, begun at different times; the last finds all but a token of it computed already.
    for (first, turns) in [(1, 3), (2, 5), (3, 30), (2, 120)] {
        let prompt: Vec<TokenId> = (0..LENGTH as TokenId).map(|at| 30 + (first * 50 + at % 7) % 300).collect();
        events.push(scheduler.take(request(&prompt, 0.0, 150)));
        (0..turns).for_each(|_| scheduler.turn());
    }
    let steps = seen.lock().expect("nobody panics");
    for (positions, answers) in steps.iter() {
        let (first, rest) = positions.split_at(*answers);
        assert!(first.iter().all(|position| *position >= LENGTH), "{answers} of {positions:?}");
        assert!(rest.iter().all(|position| *position < LENGTH), "{answers} of {positions:?}");
    }
    let has = |what: &dyn Fn(usize, usize) -> bool| steps.iter().any(|(rows, answers)| what(rows.len(), *answers));
    assert!(has(&|rows, answers| answers > 0 && answers < rows), "answers and prompts share steps");
    assert!(has(&|rows, answers| answers == rows && rows > 4), "guesses are answers' rows, too");
    assert!(has(&|rows, answers| answers < rows && rows - answers == 1), "a prompt's last token alone is no answer's");
}
