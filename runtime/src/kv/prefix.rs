//! Ended sequences whose blocks are kept: a later prompt that begins with the same tokens takes them over.
//!
//! A plain list, least recently used first. Chats are few and long, so comparing a prompt with each kept sequence is
//! cheap beside one token's forward pass.

use super::BlockId;
use crate::TokenId;

#[derive(Debug)]
struct Kept {
    tokens: Vec<TokenId>,
    blocks: Vec<BlockId>,
}

/// The kept sequences, least recently used first. Each holds one reference to each of its blocks.
#[derive(Debug, Default)]
pub(super) struct PrefixCache {
    kept: Vec<Kept>,
}

fn common_prefix(a: &[TokenId], b: &[TokenId]) -> usize {
    a.iter().zip(b).take_while(|(x, y)| x == y).count()
}

impl PrefixCache {
    /// The kept sequence with the longest common prefix with `tokens`: its blocks, and that prefix's length (> 0).
    pub(super) fn longest(&mut self, tokens: &[TokenId]) -> Option<(&[BlockId], usize)> {
        let (index, common) = self
            .kept
            .iter()
            .enumerate()
            .map(|(index, kept)| (index, common_prefix(&kept.tokens, tokens)))
            .max_by_key(|(_, common)| *common)?;
        if common == 0 {
            return None;
        }
        let used = self.kept.remove(index);
        self.kept.push(used);
        self.kept.last().map(|kept| (kept.blocks.as_slice(), common))
    }

    /// Keeps a sequence; gives back the blocks of sequences it replaces (those that are a prefix of it), or its own
    /// where a kept one already holds all of it.
    pub(super) fn keep(&mut self, tokens: Vec<TokenId>, blocks: Vec<BlockId>) -> Vec<BlockId> {
        if self.kept.iter().any(|kept| kept.tokens.starts_with(&tokens)) {
            return blocks;
        }
        let mut replaced = Vec::new();
        self.kept.retain_mut(|kept| {
            let covered = tokens.starts_with(&kept.tokens);
            if covered {
                replaced.append(&mut kept.blocks);
            }
            !covered
        });
        self.kept.push(Kept { tokens, blocks });
        replaced
    }

    /// Gives up the least recently used sequence: its blocks, each to be released once.
    pub(super) fn evict(&mut self) -> Option<Vec<BlockId>> {
        if self.kept.is_empty() { None } else { Some(self.kept.remove(0).blocks) }
    }
}
