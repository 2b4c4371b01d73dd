//! No prompt is computed twice: not beside itself, not in the next turn.

use super::{TokenId, engine, finish, request, scheduler};
use crate::engine::{EngineOptions, Event, Finished};

fn prompt(of: usize, length: usize) -> Vec<TokenId> {
    (0..length).map(|at| 1 + ((at * 31 + of * 97) % 250) as TokenId).collect()
}

/// Prompt tokens that were computed.
fn computed(finished: &Finished) -> usize {
    finished.prompt_tokens - finished.cached_tokens
}

const OPTIONS: EngineOptions = EngineOptions {
    context: 1000,
    parallel: 4,
    batch_tokens: 48,
    speculate: crate::engine::Speculate::Measured,
    kept: 0,
};

#[test]
fn a_prompt_submitted_four_times_at_once_is_computed_once() {
    let mut scheduler = scheduler(OPTIONS);
    let four: Vec<_> = (0..4).map(|_| scheduler.take(request(&prompt(0, 300), 0.0, 5))).collect();
    for _ in 0..40 {
        scheduler.turn();
    }
    let ends = four.iter().map(|events| {
        let last = events.try_iter().last();
        let Some(Event::Finished(finished)) = last else { panic!("it has not ended: {last:?}") };
        assert_eq!(finished.generated_tokens, 5);
        computed(&finished)
    });
    assert_eq!(ends.collect::<Vec<_>>(), [300, 1, 1, 1], "each needs logits of its own to sample from");
}

#[test]
fn what_several_prompts_begin_with_is_computed_once() {
    let mut scheduler = scheduler(OPTIONS);
    let common = prompt(0, 256);
    let each = |of: usize| [&common[..], &prompt(of, 40)].concat();
    let all: Vec<_> = (1..4).map(|of| scheduler.take(request(&each(of), 0.0, 5))).collect();
    for _ in 0..40 {
        scheduler.turn();
    }
    let ends = all.iter().map(|events| match events.try_iter().last() {
        Some(Event::Finished(finished)) => computed(&finished),
        other => panic!("it has not ended: {other:?}"),
    });
    assert_eq!(ends.collect::<Vec<_>>(), [296, 40, 40]);
}

#[test]
fn who_waits_for_a_prompt_goes_on_when_its_reader_is_cancelled() {
    let engine = engine(OPTIONS, 2);
    let alone = finish(engine.submit(request(&prompt(3, 700), 0.0, 5)).expect("taken")).0;
    let engine = self::engine(OPTIONS, 2);
    let mut all: Vec<_> = (0..3).map(|_| engine.submit(request(&prompt(3, 700), 0.0, 5)).expect("taken")).collect();
    drop(all.remove(0));
    for generation in all {
        assert_eq!(finish(generation).0, alone);
    }
}

#[test]
fn another_caller_waits_for_nobody() {
    let mut scheduler = scheduler(OPTIONS);
    let mut other = request(&prompt(0, 300), 0.0, 1);
    other.caller = 7;
    let both = [scheduler.take(request(&prompt(0, 300), 0.0, 1)), scheduler.take(other)];
    for _ in 0..40 {
        scheduler.turn();
    }
    for events in both {
        let Some(Event::Finished(finished)) = events.try_iter().last() else { panic!("it has not ended") };
        assert_eq!(computed(&finished), 300);
    }
}

#[test]
fn ten_turns_compute_what_is_new_in_each() {
    let engine = engine(OPTIONS, 2);
    let mut conversation = prompt(0, 200);
    for turn in 0..10 {
        let (answer, finished) = finish(engine.submit(request(&conversation, 0.0, 20)).expect("taken"));
        // The last token of an answer is sampled, and computed when something follows it.
        assert_eq!(computed(&finished), if turn == 0 { 200 } else { 30 + 1 }, "turn {turn}");
        conversation.extend(answer);
        conversation.extend(prompt(turn + 1, 30));
    }
}
