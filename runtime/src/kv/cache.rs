//! Blocks, their reference counts, and the sequences made of them.

use super::prefix::PrefixCache;
use super::{BLOCK_TOKENS, BlockId};
use crate::TokenId;
use crate::backend::Backend;

/// A sequence's tokens that have keys and values, and the blocks that hold them.
#[derive(Debug, Default)]
pub struct KvSequence {
    tokens: Vec<TokenId>,
    blocks: Vec<BlockId>,
}

impl KvSequence {
    /// Positions with keys and values (or about to get them in the batch being built).
    pub fn len(&self) -> usize {
        self.tokens.len()
    }

    /// Whether no position is held.
    pub fn is_empty(&self) -> bool {
        self.tokens.is_empty()
    }

    /// The blocks in order of position.
    pub fn blocks(&self) -> &[BlockId] {
        &self.blocks
    }
}

/// The cache of one model: a fixed number of blocks, handed to sequences and kept for their successors.
#[derive(Debug)]
pub struct KvCache {
    /// Reference counts; 0: the block has no memory.
    references: Vec<u32>,
    free: Vec<BlockId>,
    prefixes: PrefixCache,
}

impl KvCache {
    /// A cache of at most `blocks` blocks. Memory is taken from the backend as blocks are first used.
    pub fn new(blocks: usize) -> Self {
        let blocks = u32::try_from(blocks).unwrap_or(u32::MAX);
        Self {
            references: vec![0; blocks as usize],
            free: (0..blocks).rev().collect(),
            prefixes: PrefixCache::default(),
        }
    }

    /// Blocks that no sequence and no kept prefix holds.
    pub fn free_blocks(&self) -> usize {
        self.free.len()
    }

    /// Begins a sequence with the longest kept prefix of `prompt`; at least the prompt's last token is left to compute.
    /// The length of the result says how many tokens need no computing.
    pub fn begin(&mut self, backend: &mut dyn Backend, prompt: &[TokenId]) -> KvSequence {
        let usable = &prompt[..prompt.len().saturating_sub(1)];
        let Some((kept, common)) = self.prefixes.longest(usable) else {
            return KvSequence::default();
        };
        let whole = common / BLOCK_TOKENS;
        let shared: Vec<BlockId> = kept[..common.div_ceil(BLOCK_TOKENS)].to_vec();
        let mut sequence =
            KvSequence { tokens: prompt[..whole * BLOCK_TOKENS].to_vec(), blocks: shared[..whole].to_vec() };
        for &block in &sequence.blocks {
            self.references[block as usize] += 1;
        }
        // The rest of the prefix lies in a block that this sequence will go on writing: it gets a copy of its own.
        if let Some(&partial) = shared.get(whole) {
            self.references[partial as usize] += 1; // not to be evicted by the allocation
            if let Some(copy) = self.allocate(backend) {
                backend.kv_copy(partial, copy);
                sequence.blocks.push(copy);
                sequence.tokens.extend_from_slice(&prompt[whole * BLOCK_TOKENS..common]);
            }
            self.release(backend, partial);
        }
        sequence
    }

    /// Appends a token's position. `false`: the cache has no block left, and nothing changed.
    pub fn push(&mut self, backend: &mut dyn Backend, sequence: &mut KvSequence, token: TokenId) -> bool {
        if sequence.tokens.len() == sequence.blocks.len() * BLOCK_TOKENS {
            let Some(block) = self.allocate(backend) else { return false };
            sequence.blocks.push(block);
        }
        sequence.tokens.push(token);
        true
    }

    /// Ends a sequence. What it holds is kept for a later prompt that begins alike, until room is needed.
    pub fn end(&mut self, backend: &mut dyn Backend, sequence: KvSequence) {
        if sequence.is_empty() {
            return;
        }
        for block in self.prefixes.keep(sequence.tokens, sequence.blocks) {
            self.release(backend, block);
        }
    }

    /// Drops a sequence whose keys and values cannot be trusted (its forward pass failed).
    pub fn discard(&mut self, backend: &mut dyn Backend, sequence: KvSequence) {
        for block in sequence.blocks {
            self.release(backend, block);
        }
    }

    fn allocate(&mut self, backend: &mut dyn Backend) -> Option<BlockId> {
        while self.free.is_empty() {
            for block in self.prefixes.evict()? {
                self.release(backend, block);
            }
        }
        let block = self.free.pop()?;
        self.references[block as usize] = 1;
        backend.kv_allocate(block);
        Some(block)
    }

    fn release(&mut self, backend: &mut dyn Backend, block: BlockId) {
        let count = &mut self.references[block as usize];
        *count -= 1;
        if *count == 0 {
            backend.kv_free(block);
            self.free.push(block);
        }
    }
}
