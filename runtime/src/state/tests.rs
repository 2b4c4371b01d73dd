//! Pages are shared, copied and given back; a program that only counts stands in for memory.

use std::collections::BTreeSet;

use super::{Sequence, StateCache, StateError};
use crate::TokenId;
use crate::device::{DeviceError, MemoryUse, Program};
use crate::plan::{BLOCK_TOKENS, PageId, StateGroup, StateLayout, Step};

/// Knows which pages have memory; computes nothing.
#[derive(Default)]
struct Ledger {
    live: BTreeSet<(usize, PageId)>,
    copies: Vec<(usize, PageId, PageId)>,
    /// Pages that memory is left for; `None`: any number.
    memory_for: Option<usize>,
}

impl Program for Ledger {
    fn allocate(&mut self, group: usize, page: PageId) -> Result<(), DeviceError> {
        if self.memory_for.is_some_and(|most| self.live.len() >= most) {
            return Err(DeviceError::NoMemory { what: "a page", bytes: 1 });
        }
        assert!(self.live.insert((group, page)), "page {page} of group {group} was allocated twice");
        Ok(())
    }
    fn free(&mut self, group: usize, page: PageId) {
        assert!(self.live.remove(&(group, page)), "page {page} of group {group} was freed twice");
    }
    fn copy(&mut self, group: usize, from: PageId, to: PageId) {
        assert!(self.live.contains(&(group, from)) && self.live.contains(&(group, to)));
        self.copies.push((group, from, to));
    }
    fn run(&mut self, _: &Step) -> Result<(), DeviceError> {
        Ok(())
    }
    fn output(&self) -> &[f32] {
        &[]
    }
    fn memory(&self) -> MemoryUse {
        MemoryUse { state_bytes: self.live.len() as u64, scratch_bytes: 0 }
    }
}

/// Keys and values of all positions.
const FULL: StateGroup = StateGroup::Paged { layers: 1, heads: 1, key_dim: 8, value_dim: 8, window: None };
/// Those of the last hundred.
const WINDOWED: StateGroup = StateGroup::Paged { layers: 1, heads: 1, key_dim: 8, value_dim: 8, window: Some(100) };
const RECURRENT: StateGroup = StateGroup::Recurrent { layers: 1, elements: 8 };

fn layout(groups: &[StateGroup]) -> StateLayout {
    StateLayout { groups: groups.to_vec() }
}

/// A cache of whole contexts of so many blocks for one sequence, one of them for copies.
fn cache(groups: &[StateGroup], blocks: usize) -> StateCache {
    StateCache::new(&layout(groups), 1, (blocks - 1) * BLOCK_TOKENS, BLOCK_TOKENS)
}

/// Steps of one token each.
fn fill(cache: &mut StateCache, memory: &mut Ledger, sequence: &mut Sequence, tokens: &[TokenId]) {
    for &token in tokens {
        cache.trim(memory, sequence);
        cache.push(memory, sequence, token).expect("there is room");
        cache.commit(memory, sequence);
    }
}

/// A sequence that computed all of `prompt` that was not known, and how much was.
fn run(cache: &mut StateCache, memory: &mut Ledger, owner: u64, prompt: &[TokenId]) -> (Sequence, usize) {
    let mut sequence = cache.begin(memory, owner, prompt);
    let known = sequence.len();
    fill(cache, memory, &mut sequence, &prompt[known..]);
    cache.checkpoint(memory, &mut sequence);
    (sequence, known)
}

fn pages(sequence: &Sequence, group: usize) -> Vec<PageId> {
    sequence.pages()[group].iter().copied().flatten().collect()
}

#[test]
fn a_later_prompt_takes_over_the_pages_of_a_like_one() {
    let (mut cache, mut memory) = (cache(&[FULL], 8), Ledger::default());
    let prompt: Vec<TokenId> = (0..200).collect();
    let (first, known) = run(&mut cache, &mut memory, 0, &prompt);
    assert_eq!(known, 0);
    let blocks = pages(&first, 0);
    cache.end(&mut memory, first);

    let mut longer = prompt[..150].to_vec();
    longer.extend([900, 901]);
    let second = cache.begin(&mut memory, 0, &longer);
    assert_eq!(second.len(), 150);
    assert_eq!(pages(&second, 0)[..2], blocks[..2], "whole blocks are shared");
    assert_ne!(pages(&second, 0)[2], blocks[2], "the page that will be written is a copy");
    assert_eq!(memory.copies, [(0, blocks[2], pages(&second, 0)[2])]);

    let same = cache.begin(&mut memory, 0, &prompt);
    assert_eq!(same.len(), 199, "the last token is left, so that there are logits to sample from");
}

#[test]
fn what_one_caller_wrote_is_not_found_by_another() {
    let (mut cache, mut memory) = (cache(&[FULL], 8), Ledger::default());
    let prompt: Vec<TokenId> = (0..200).collect();
    let (first, _) = run(&mut cache, &mut memory, 1, &prompt);
    assert!(cache.begin(&mut memory, 2, &prompt).is_empty(), "while it runs");
    cache.end(&mut memory, first);
    assert!(cache.begin(&mut memory, 2, &prompt).is_empty(), "and after it");
    assert_eq!(cache.begin(&mut memory, 1, &prompt).len(), 199);
}

#[test]
fn running_sequences_share_blocks_as_soon_as_they_are_full() {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL]), 2, 448, 64), Ledger::default());
    let prompt: Vec<TokenId> = (0..200).collect();
    let (first, _) = run(&mut cache, &mut memory, 0, &prompt);
    let second = cache.begin(&mut memory, 0, &prompt);
    assert_eq!(second.len(), 199);
    assert_eq!(pages(&second, 0)[..3], pages(&first, 0)[..3]);
    // Two that computed the same blocks at the same time end up with one copy of each.
    let mut others = [cache.begin(&mut memory, 7, &prompt), cache.begin(&mut memory, 7, &prompt)];
    for sequence in &mut others {
        fill(&mut cache, &mut memory, sequence, &prompt);
    }
    assert_eq!(pages(&others[0], 0)[..3], pages(&others[1], 0)[..3]);
    assert_ne!(pages(&others[0], 0)[3], pages(&others[1], 0)[3]);
}

#[test]
fn a_full_cache_gives_up_kept_prefixes_and_never_what_runs() {
    let (mut cache, mut memory) = (cache(&[FULL], 4), Ledger::default());
    let (a, b): (Vec<TokenId>, Vec<TokenId>) = ((0..128).collect(), (1000..1128).collect());
    let (first, _) = run(&mut cache, &mut memory, 0, &a);
    cache.end(&mut memory, first);
    let (mut second, _) = run(&mut cache, &mut memory, 0, &b);
    assert_eq!(cache.free_pages(0), 0);
    fill(&mut cache, &mut memory, &mut second, &(2000..2128).collect::<Vec<_>>());
    assert_eq!(pages(&second, 0).len(), 4, "the kept sequence gave its pages");
    assert_eq!(cache.push(&mut memory, &mut second, 1), Err(StateError::NoRoom), "and then there is no more");
    assert_eq!(second.len(), 4 * BLOCK_TOKENS);
    cache.discard(&mut memory, second);
    assert!(cache.begin(&mut memory, 0, &a).is_empty(), "what was given up is not found again");
}

#[test]
fn a_sequence_that_goes_on_replaces_the_kept_one() {
    let (mut cache, mut memory) = (cache(&[FULL], 4), Ledger::default());
    let mut prompt: Vec<TokenId> = (0..10).collect();
    for round in 0..20 {
        let (mut sequence, known) = run(&mut cache, &mut memory, 0, &prompt);
        assert_eq!(known, if round == 0 { 0 } else { prompt.len() - 1 });
        fill(&mut cache, &mut memory, &mut sequence, &[500 + round]);
        prompt.push(500 + round);
        cache.end(&mut memory, sequence);
        prompt.push(600 + round);
        // The kept sequence lacks the token pushed last: the next round begins one short of the whole prompt.
    }
    assert_eq!(memory.live.len(), 1, "one conversation, one page");
}

#[test]
fn windows_give_back_what_they_have_passed() {
    let (mut cache, mut memory) = (cache(&[FULL, WINDOWED], 33), Ledger::default());
    let prompt: Vec<TokenId> = (0..2000).collect();
    let (mut first, _) = run(&mut cache, &mut memory, 0, &prompt);
    let held = |sequence: &Sequence| pages(sequence, 1).len();
    assert!(held(&first) <= 3, "a hundred positions lie in three pages at the most: {}", held(&first));
    assert_eq!(pages(&first, 0).len(), 32);
    let windowed = memory.live.iter().filter(|(group, _)| *group == 1).count();
    assert!(windowed <= StateCache::pages(&layout(&[FULL, WINDOWED]), 1, 2048, 64)[1], "{windowed}");
    // The next turn goes on where this one ends, since what the window sees there is kept.
    fill(&mut cache, &mut memory, &mut first, &[7, 8, 9]);
    cache.end(&mut memory, first);
    let mut turn = prompt.clone();
    turn.extend([7, 8, 9, 10]);
    let second = cache.begin(&mut memory, 0, &turn);
    assert_eq!(second.len(), 2003);
    cache.discard(&mut memory, second);
    // From further back nothing is left for the window to see.
    assert!(cache.begin(&mut memory, 0, &prompt[..900]).len() < 899);
}

#[test]
fn a_recurrent_model_goes_on_from_checkpoints() {
    let (mut cache, mut memory) = (cache(&[FULL, RECURRENT], 8), Ledger::default());
    let prompt: Vec<TokenId> = (0..100).collect();
    let (mut first, _) = run(&mut cache, &mut memory, 0, &prompt);
    let own = pages(&first, 1)[0];
    fill(&mut cache, &mut memory, &mut first, &[500, 501, 502]);
    cache.end(&mut memory, first);
    let turn = |more: &[TokenId]| prompt.iter().chain(more).copied().collect::<Vec<_>>();
    let second = cache.begin(&mut memory, 0, &turn(&[500, 501, 502, 600, 601]));
    assert_eq!(second.len(), 103, "from where the answer ended");
    assert_eq!(memory.copies.last(), Some(&(1, own, pages(&second, 1)[0])));
    cache.discard(&mut memory, second);
    let other = cache.begin(&mut memory, 0, &turn(&[500, 700, 701]));
    assert_eq!(other.len(), 100, "from the end of the prompt, since the answer differs");
    cache.discard(&mut memory, other);
    assert!(cache.begin(&mut memory, 0, &prompt[..90]).is_empty(), "there is no state at any other length");
}

#[test]
fn tokens_are_taken_back() {
    let (mut cache, mut memory) = (cache(&[FULL, RECURRENT], 8), Ledger::default());
    let prompt: Vec<TokenId> = (0..130).collect();
    let (mut sequence, _) = run(&mut cache, &mut memory, 0, &prompt);
    assert_eq!(cache.truncate(&mut memory, &mut sequence, 120), Ok(false), "no state is kept there");
    cache.mark(&mut memory, &mut sequence).expect("there is room");
    fill(&mut cache, &mut memory, &mut sequence, &[1, 2, 3]);
    assert_eq!(cache.truncate(&mut memory, &mut sequence, 130), Ok(true));
    assert_eq!((sequence.len(), pages(&sequence, 0).len(), pages(&sequence, 1).len()), (130, 3, 1));
    cache.discard(&mut memory, sequence);

    let (mut cache, mut memory) = (self::cache(&[FULL], 8), Ledger::default());
    let (mut sequence, _) = run(&mut cache, &mut memory, 0, &prompt);
    let shared = pages(&sequence, 0)[1];
    assert_eq!(cache.truncate(&mut memory, &mut sequence, 100), Ok(true));
    assert_eq!(sequence.len(), 100);
    assert_ne!(pages(&sequence, 0)[1], shared, "others know that page; what follows goes into a copy");
}

#[test]
fn without_memory_a_sequence_stops_and_the_others_go_on() {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL]), 2, 448, 64), Ledger::default());
    let (mut first, _) = run(&mut cache, &mut memory, 0, &(0..64).collect::<Vec<_>>());
    memory.memory_for = Some(1);
    let mut second = cache.begin(&mut memory, 1, &[1, 2, 3]);
    let missing = StateError::Device(DeviceError::NoMemory { what: "a page", bytes: 1 });
    assert_eq!(cache.push(&mut memory, &mut second, 1), Err(missing));
    assert!(second.is_empty());
    cache.discard(&mut memory, second);
    memory.memory_for = None;
    fill(&mut cache, &mut memory, &mut first, &[1]);
    assert_eq!(first.len(), 65);
}

#[test]
fn what_no_caller_wrote_is_shared_by_all() {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL]), 3, 448, 64), Ledger::default());
    let system: Vec<TokenId> = (0..150).collect();
    cache.share(system.clone());
    let prompt = |own: TokenId| system.iter().copied().chain((0..60).map(|at| own + at)).collect::<Vec<_>>();
    let (first, _) = run(&mut cache, &mut memory, 1, &prompt(1000));
    let second = cache.begin(&mut memory, 2, &prompt(1000));
    assert_eq!(second.len(), 128, "whole blocks of the system prompt, and nothing of what the other caller wrote");
    assert_eq!(pages(&second, 0), pages(&first, 0)[..2]);
    cache.end(&mut memory, first);
    assert_eq!(cache.begin(&mut memory, 1, &prompt(1000)).len(), 209, "a caller still finds its own");
    let other: Vec<TokenId> = (500..700).collect();
    let (third, _) = run(&mut cache, &mut memory, 1, &other);
    assert!(cache.begin(&mut memory, 2, &other).is_empty());
    cache.end(&mut memory, third);
}
