//! Pages are shared, copied and freed; a program that only counts stands in for memory.

use std::collections::{BTreeMap, BTreeSet};

use super::{EVERYONE, FileError, KeptLimit, Sequence, StateCache, StateError};
use crate::TokenId;
use crate::device::{DeviceError, MemoryUse, PickLimits, Program};
use crate::plan::{BLOCK_TOKENS, PageId, StateGroup, StateLayout, Step};

/// Tracks which pages have memory; computes nothing.
#[derive(Default)]
struct Ledger {
    live: BTreeSet<(usize, PageId)>,
    copies: Vec<(usize, PageId, PageId)>,
    /// What was written into pages; those of others are their numbers.
    contents: BTreeMap<(usize, PageId), u8>,
    /// Pages that memory is left for; `None`: unlimited.
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
    fn read_page(&self, group: usize, page: PageId, out: &mut Vec<u8>) -> Result<(), DeviceError> {
        out.extend(self.contents.get(&(group, page)).copied().unwrap_or(page as u8).to_le_bytes());
        Ok(())
    }
    fn write_page(&mut self, group: usize, page: PageId, contents: &[u8]) -> Result<(), DeviceError> {
        assert!(self.live.contains(&(group, page)));
        let &[content] = contents else {
            return Err(DeviceError::Unsupported("a page of another size".to_owned()));
        };
        self.contents.insert((group, page), content);
        Ok(())
    }
    fn run(&mut self, _: &Step) -> Result<(), DeviceError> {
        Ok(())
    }
    fn pick_limits(&self) -> PickLimits {
        PickLimits::default()
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

/// A cache for one sequence with a context of this many blocks, one of them for copies.
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

/// A sequence that computed the uncached part of `prompt`, and the length of the cached part.
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
    // Two that computed the same blocks concurrently end up sharing one copy of each.
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
        // The cached sequence lacks the last pushed token: the next round starts one short of the whole prompt.
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
    // The next turn continues where this one ended, since what the window sees there is cached.
    fill(&mut cache, &mut memory, &mut first, &[7, 8, 9]);
    cache.end(&mut memory, first);
    let mut turn = prompt.clone();
    turn.extend([7, 8, 9, 10]);
    let second = cache.begin(&mut memory, 0, &turn);
    assert_eq!(second.len(), 2003);
    cache.discard(&mut memory, second);
    // From further back, nothing is left for the window to see.
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
fn kept_prefixes_go_before_a_sequence_fails_for_memory() {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL]), 2, 448, 64), Ledger::default());
    let (first, _) = run(&mut cache, &mut memory, 0, &(0..128).collect::<Vec<_>>());
    cache.end(&mut memory, first);
    assert_eq!((cache.kept_tokens(), cache.evicted()), (128, 0));
    memory.memory_for = Some(2);
    let (second, _) = run(&mut cache, &mut memory, 1, &(500..600).collect::<Vec<_>>());
    assert_eq!((pages(&second, 0).len(), cache.kept_tokens(), cache.evicted()), (2, 100, 2));
}

#[test]
fn more_conversations_are_kept_where_there_is_room_for_them() {
    let kept = |more: usize| {
        let mut cache = StateCache::new(&layout(&[FULL, WINDOWED]), 1, 448, 64).with_kept(more, 448, 64);
        let mut memory = Ledger::default();
        let prompt = |of: TokenId| (0..400).map(|at| of * 1000 + at).collect::<Vec<_>>();
        for of in 0..6 {
            let (sequence, _) = run(&mut cache, &mut memory, 0, &prompt(of));
            cache.end(&mut memory, sequence);
        }
        let found = |of| {
            let sequence = cache.begin(&mut memory, 0, &prompt(of));
            let whole = sequence.len() == 399;
            cache.discard(&mut memory, sequence);
            whole
        };
        (0..6).rev().map(found).collect::<Vec<_>>()
    };
    assert_eq!(kept(0), [true, false, false, false, false, false]);
    assert_eq!(kept(2 * 448), [true, true, true, false, false, false], "the least recently used went first");
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

/// A cache with what two callers wrote and what everyone shares, as a file; the pages of the first one's prompt.
fn filed(owners: &[u64]) -> (Vec<u8>, Vec<PageId>) {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64), Ledger::default());
    cache.share((0..64).collect());
    let mut pages_of_first = Vec::new();
    for owner in [1, 2] {
        let (mut sequence, _) = run(&mut cache, &mut memory, owner, &prompt_of(owner));
        fill(&mut cache, &mut memory, &mut sequence, &[7]);
        if owner == 1 {
            pages_of_first = pages(&sequence, 0);
        }
        cache.end(&mut memory, sequence);
    }
    let mut file = Vec::new();
    cache.save(&memory, &[5; 32], owners, &mut file).expect("it is written");
    (file, pages_of_first)
}

/// 64 tokens that all have, and 86 of its own.
fn prompt_of(owner: u64) -> Vec<TokenId> {
    (0..64).chain((0..86).map(|at| 1000 * owner as TokenId + at)).collect()
}

fn loaded(file: &[u8]) -> (StateCache, Ledger, Result<usize, FileError>) {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64), Ledger::default());
    let result = cache.load(&mut memory, &[5; 32], || Ok(file));
    (cache, memory, result)
}

#[test]
fn a_file_keeps_prefixes_of_those_who_come_back() {
    let (file, written) = filed(&[1, EVERYONE]);
    let (mut cache, mut memory, result) = loaded(&file);
    assert_eq!(result.expect("it is read"), 3);
    let turn = |owner| [prompt_of(owner), vec![7, 8, 9]].concat();
    let sequence = cache.begin(&mut memory, 1, &turn(1));
    assert_eq!(sequence.len(), 151, "from where the answer ended");
    let contents: Vec<u8> = pages(&sequence, 0).iter().take(2).map(|&page| memory.contents[&(0, page)]).collect();
    assert_eq!(contents, [written[0] as u8, written[1] as u8], "the pages have what they had");
    let other = cache.begin(&mut memory, 2, &turn(2));
    assert!(other.is_empty(), "the recurrent state of another caller was not kept, though the shared block was");
    // Once more through a file, and nothing is lost.
    let mut again = Vec::new();
    cache.save(&memory, &[5; 32], &[1, EVERYONE], &mut again).expect("it is written");
    assert_eq!(loaded(&again).2.expect("it is read"), 3);
}

#[test]
fn of_a_damaged_or_foreign_file_nothing_is_used() {
    let (file, _) = filed(&[1, 2, EVERYONE]);
    let mut random = oorandom::Rand32::new(5);
    for _ in 0..300 {
        let mut damaged = file.clone();
        let at = random.rand_range(52..file.len() as u32) as usize;
        damaged[at] ^= 1 << random.rand_range(0..8);
        let (cache, memory, result) = loaded(&damaged);
        assert!(result.is_err(), "byte {at}");
        assert_eq!((cache.kept_tokens(), memory.live.len()), (0, 0), "byte {at}");
    }
    for length in [0, 10, 83, 100, file.len() - 1] {
        assert!(loaded(&file[..length]).2.is_err(), "{length} bytes of it");
    }
    assert!(matches!(loaded(&[&file[..], b"more"].concat()).2, Err(FileError::Damaged)));
    assert!(matches!(loaded(&[b'x'; 200]).2, Err(FileError::Foreign)));
    let (mut cache, mut memory, _) = loaded(&[]);
    let other = cache.load(&mut memory, &[6; 32], || Ok(&file[..]));
    assert!(matches!(other, Err(FileError::Other)), "{other:?}");
}

/// A prefix of 150 tokens as everyone's, computed with nothing else.
fn shared_file() -> Vec<u8> {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 1, 150, 64), Ledger::default());
    let mut sequence = cache.begin(&mut memory, EVERYONE, &[]);
    fill(&mut cache, &mut memory, &mut sequence, &(0..150).collect::<Vec<TokenId>>());
    cache.end(&mut memory, sequence);
    let mut file = Vec::new();
    cache.save(&memory, &[5; 32], &[EVERYONE], &mut file).expect("it is written");
    file
}

#[test]
fn a_computed_prefix_is_everyones_to_its_last_token() {
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64), Ledger::default());
    let prefix: Vec<TokenId> = (0..150).collect();
    let prompt = |own: TokenId| -> Vec<TokenId> { prefix.iter().copied().chain([own, own + 1]).collect() };
    let file = shared_file();
    for _ in 0..2 {
        // What is there already stays the only one.
        assert_eq!(cache.load_shared(&mut memory, &[5; 32], &prefix, &file).expect("it is read"), 150);
        assert_eq!((cache.kept_tokens(), memory.live.len()), (150, 4));
    }
    for owner in [1, 2] {
        let (sequence, known) = run(&mut cache, &mut memory, owner, &prompt(1000 * owner as TokenId));
        assert_eq!((sequence.len(), known), (152, 150));
        cache.end(&mut memory, sequence);
    }
    assert_eq!(cache.begin(&mut memory, 3, &prompt(1000)).len(), 150, "and nothing of what others wrote behind it");
}

#[test]
fn a_computed_prefix_stands_for_its_own_tokens_only() {
    let file = shared_file();
    let load = |tokens: &[TokenId], file: &[u8]| {
        let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64), Ledger::default());
        let result = cache.load_shared(&mut memory, &[5; 32], tokens, file);
        assert!(result.is_ok() || (cache.kept_tokens(), memory.live.len()) == (0, 0));
        result
    };
    let prefix: Vec<TokenId> = (0..150).collect();
    let longer = [&prefix[..], &[7]].concat();
    for tokens in [&prefix[..149], &prefix[..128], &prefix[1..], &longer[..], &[][..]] {
        assert!(matches!(load(tokens, &file), Err(FileError::Damaged)), "{} tokens", tokens.len());
    }
    // A caller's conversations are no prefix of everyone's.
    assert!(matches!(load(&prompt_of(1), &filed(&[1]).0), Err(FileError::Damaged)));
    let mut random = oorandom::Rand32::new(9);
    for _ in 0..300 {
        let mut damaged = file.clone();
        let at = random.rand_range(0..file.len() as u32) as usize;
        damaged[at] ^= 1 << random.rand_range(0..8);
        assert!(load(&prefix, &damaged).is_err(), "byte {at}");
        assert!(load(&prefix, &file[..at]).is_err(), "{at} bytes of it");
    }
}

/// A file whose hashes are right, whatever its blocks say.
fn rehashed(file: &[u8], change: impl Fn(&mut Vec<u8>)) -> Vec<u8> {
    use sha2::{Digest, Sha256};
    let header = 52;
    let mut out = file[..header + 32].to_vec();
    let mut rest = &file[header + 32..];
    while !rest.is_empty() {
        let length = u64::from_le_bytes(rest[..8].try_into().expect("eight bytes")) as usize;
        let mut body = rest[8..8 + length].to_vec();
        change(&mut body);
        out.extend((body.len() as u64).to_le_bytes());
        out.extend(&body);
        out.extend(Sha256::digest(&body));
        rest = &rest[8 + length + 32..];
    }
    out
}

#[test]
fn pages_of_another_size_are_left_out() {
    // Parent, owner, time, number of tokens and tokens; then the length of the first group's page, one byte.
    let length_at = |body: &[u8]| 4 + 8 + 8 + 1 + 4 * usize::from(body[20]);
    let crafted = rehashed(&shared_file(), |body| {
        let at = length_at(body);
        assert_eq!(body[at..at + 4], [1, 0, 0, 0]);
        body[at] = 2;
        body.insert(at + 4, 7);
    });
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64), Ledger::default());
    let prefix: Vec<TokenId> = (0..150).collect();
    assert_eq!(cache.load_shared(&mut memory, &[5; 32], &prefix, &crafted).expect("it is well-formed"), 0);
    assert_eq!((cache.kept_tokens(), memory.live.len()), (0, 0));
}

#[test]
fn blocks_that_contradict_the_model_are_refused_though_their_hashes_are_right() {
    let file = shared_file();
    let prefix: Vec<TokenId> = (0..150).collect();
    let mut random = oorandom::Rand32::new(13);
    assert_eq!(rehashed(&file, |_| {}), file);
    for round in 0..2000 {
        let (at, bit, cut) = (random.rand_u32() as usize, random.rand_range(0..8), round % 7 == 0);
        let crafted = rehashed(&file, |body| {
            let at = at % body.len();
            body[at] ^= 1 << bit;
            if cut {
                body.truncate(at);
            }
        });
        let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64), Ledger::default());
        // Whatever is taken of it, sequences go on from it without harm.
        let _ = cache.load_shared(&mut memory, &[5; 32], &prefix, &crafted);
        let prompt: Vec<TokenId> = (0..200).collect();
        let (sequence, _) = run(&mut cache, &mut memory, 1, &prompt);
        assert_eq!((sequence.len(), sequence.pages()[1].len()), (200, 1));
        cache.end(&mut memory, sequence);
    }
}

#[test]
fn a_smaller_cache_takes_what_it_has_room_for() {
    let (file, _) = filed(&[1, 2, EVERYONE]);
    let (mut cache, mut memory) = (StateCache::new(&layout(&[FULL, RECURRENT]), 1, 64, 64), Ledger::default());
    let taken = cache.load(&mut memory, &[5; 32], || Ok(&file[..])).expect("it is read");
    assert_eq!(taken, 2, "two pages");
    let (sequence, _) = run(&mut cache, &mut memory, 9, &[1, 2, 3]);
    assert_eq!(sequence.len(), 3, "and gives them up for what runs");
}

#[test]
fn what_idle_sequences_leave_counts_as_kept() {
    // Room for four sequences of seven blocks; a page of keys and values has 100 bytes, one of recurrent state 10.
    let limit = |bytes| Some(KeptLimit { bytes, page_bytes: vec![100, 10] });
    for (bytes, left) in [(0, (0, 0)), (99, (0, 9)), (330, (3, 3)), (10_000, (12, 6))] {
        let mut cache = StateCache::new(&layout(&[FULL, RECURRENT]), 4, 448, 64).with_limit(limit(bytes));
        let mut memory = Ledger::default();
        let mut running = Vec::new();
        for owner in 1..=3 {
            let prompt: Vec<TokenId> = (0..200).map(|at| 1000 * owner as TokenId + at).collect();
            running.push(run(&mut cache, &mut memory, owner, &prompt).0);
        }
        cache.keep_within_limit(&mut memory);
        let held = memory.live.iter().filter(|(group, _)| *group == 0).count();
        assert!(held >= 12, "nothing is taken from those that run: {held}");
        for sequence in running {
            cache.end(&mut memory, sequence);
            cache.keep_within_limit(&mut memory);
            let kept: u64 = cache.kept_bytes(&[100, 10]).iter().sum();
            assert!(kept <= bytes, "{kept} of {bytes}");
        }
        let count = |group: usize| memory.live.iter().filter(|(of, _)| *of == group).count();
        assert!(count(0) <= left.0 && count(1) <= left.1, "{bytes}: {} and {} pages", count(0), count(1));
        // The last one that ended goes on where there is room for what it left.
        let again: Vec<TokenId> = (0..210).map(|at| 3000 + at).collect();
        assert_eq!(cache.begin(&mut memory, 3, &again).is_empty(), bytes < 10_000, "{bytes}");
    }
}
