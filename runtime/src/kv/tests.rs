//! Blocks are shared, copied and given back; a backend that only counts stands in for memory.

use std::collections::BTreeSet;

use super::{BLOCK_TOKENS, BlockId, KvCache, KvSequence};
use crate::TokenId;
use crate::backend::{
    Activation, AttentionShape, Backend, Batch, KvShape, MappedTensor, MemoryUse, Product, Slot, Weight,
};
use crate::model::rope::Rope;

/// Knows which blocks have memory; computes nothing.
#[derive(Default)]
struct Ledger {
    live: BTreeSet<BlockId>,
    copies: Vec<(BlockId, BlockId)>,
}

impl Backend for Ledger {
    fn kv_allocate(&mut self, block: BlockId) {
        assert!(self.live.insert(block), "block {block} was allocated twice");
    }
    fn kv_free(&mut self, block: BlockId) {
        assert!(self.live.remove(&block), "block {block} was freed twice");
    }
    fn kv_copy(&mut self, from: BlockId, to: BlockId) {
        assert!(self.live.contains(&from) && self.live.contains(&to));
        self.copies.push((from, to));
    }
    fn name(&self) -> String {
        "ledger".into()
    }
    fn supports(&self, _: satchel_gguf::TensorType) -> bool {
        false
    }
    fn place(&mut self, _: MappedTensor) -> Weight {
        unreachable!("the cache places no weights")
    }
    fn slot(&mut self, _: usize) -> Slot {
        unreachable!("the cache has no slots")
    }
    fn kv_shape(&mut self, _: KvShape) -> Result<(), String> {
        Ok(())
    }
    fn memory(&self) -> MemoryUse {
        MemoryUse { kv_bytes: self.live.len() as u64, scratch_bytes: 0 }
    }
    fn begin(&mut self, _: &Batch) {}
    fn embed(&mut self, _: Weight, _: Slot) {}
    fn rms_norm(&mut self, _: Slot, _: Weight, _: f32, _: Slot) {}
    fn matmul(&mut self, _: Slot, _: &[Product]) {}
    fn rope(&mut self, _: Slot, _: &Rope, _: usize, _: usize) {}
    fn store_kv(&mut self, _: usize, _: Slot, _: Slot) {}
    fn attention(&mut self, _: usize, _: &AttentionShape, _: Slot, _: Slot) {}
    fn gate(&mut self, _: Activation, _: Slot, _: Slot, _: Slot) {}
    fn select_outputs(&mut self, _: Slot, _: Slot) {}
    fn read(&mut self, _: Slot) -> &[f32] {
        &[]
    }
}

fn fill(cache: &mut KvCache, memory: &mut Ledger, sequence: &mut KvSequence, tokens: &[TokenId]) {
    for &token in tokens {
        assert!(cache.push(memory, sequence, token));
    }
}

#[test]
fn a_later_prompt_takes_over_the_blocks_of_a_like_one() {
    let (mut cache, mut memory) = (KvCache::new(8), Ledger::default());
    let prompt: Vec<TokenId> = (0..200).collect();
    let mut first = cache.begin(&mut memory, &prompt);
    assert!(first.is_empty());
    fill(&mut cache, &mut memory, &mut first, &prompt);
    let blocks = first.blocks().to_vec();
    cache.end(&mut memory, first);

    let mut longer = prompt[..150].to_vec();
    longer.extend([900, 901]);
    let second = cache.begin(&mut memory, &longer);
    assert_eq!(second.len(), 150);
    assert_eq!(second.blocks()[..2], blocks[..2], "whole blocks are shared");
    assert_ne!(second.blocks()[2], blocks[2], "the block that will be written is a copy");
    assert_eq!(memory.copies, [(blocks[2], second.blocks()[2])]);

    let same = cache.begin(&mut memory, &prompt);
    assert_eq!(same.len(), 199, "the last token is left, so that there are logits to sample from");
}

#[test]
fn a_full_cache_gives_up_kept_prefixes_and_never_what_runs() {
    let (mut cache, mut memory) = (KvCache::new(4), Ledger::default());
    let (a, b): (Vec<TokenId>, Vec<TokenId>) = ((0..128).collect(), (1000..1128).collect());
    let mut first = cache.begin(&mut memory, &a);
    fill(&mut cache, &mut memory, &mut first, &a);
    cache.end(&mut memory, first);
    let mut second = cache.begin(&mut memory, &b);
    fill(&mut cache, &mut memory, &mut second, &b);
    assert_eq!(cache.free_blocks(), 0);
    fill(&mut cache, &mut memory, &mut second, &(2000..2128).collect::<Vec<_>>());
    assert_eq!(second.blocks().len(), 4, "the kept sequence gave its blocks");
    assert!(!cache.push(&mut memory, &mut second, 1), "and then there is no more");
    assert_eq!(second.len(), 4 * BLOCK_TOKENS);
    cache.discard(&mut memory, second);
    assert_eq!((cache.free_blocks(), memory.live.len()), (4, 0));
    assert!(cache.begin(&mut memory, &a).is_empty(), "what was given up is not found again");
}

#[test]
fn a_sequence_that_goes_on_replaces_the_kept_one() {
    let (mut cache, mut memory) = (KvCache::new(4), Ledger::default());
    let mut prompt: Vec<TokenId> = (0..10).collect();
    for round in 0..20 {
        let mut sequence = cache.begin(&mut memory, &prompt);
        assert_eq!(sequence.len(), if round == 0 { 0 } else { prompt.len() - 1 });
        let rest = prompt[sequence.len()..].to_vec();
        fill(&mut cache, &mut memory, &mut sequence, &rest);
        fill(&mut cache, &mut memory, &mut sequence, &[500 + round]);
        prompt.push(500 + round);
        cache.end(&mut memory, sequence);
        prompt.push(600 + round);
        // The kept sequence lacks the token pushed last: the next round begins one short of the whole prompt.
    }
    assert_eq!(memory.live.len(), 1, "one conversation, one block");
}
