//! The texts of a vocabulary as a trie over bytes, to find all tokens that are a prefix of a text.
//!
//! Nodes are numbered level by level, so that the children of a node are adjacent and sorted by byte, and a node only has to
//! store the number of its first child.

use super::vocabulary::Vocabulary;
use crate::TokenId;

/// No token ends here.
const NONE: TokenId = TokenId::MAX;

/// Tokens by their bytes.
#[derive(Debug)]
pub(super) struct Trie {
    /// The byte that leads to each node; unused for the root.
    bytes: Vec<u8>,
    /// The first child of each node, then the number of nodes, which ends the children of the last.
    first_child: Vec<u32>,
    tokens: Vec<TokenId>,
}

impl Trie {
    /// A trie of the given tokens, whose texts must be distinct.
    pub(super) fn new(vocabulary: &Vocabulary, ids: impl Iterator<Item = TokenId>) -> Self {
        let mut texts: Vec<(&[u8], TokenId)> = ids.map(|id| (vocabulary.text(id).as_bytes(), id)).collect();
        texts.retain(|(text, _)| !text.is_empty());
        texts.sort_unstable();
        let (mut bytes, mut first_child, mut tokens) = (vec![0], Vec::new(), vec![NONE]);
        // The texts below each node of a level, all of which are longer than the depth.
        let mut level = vec![&texts[..]];
        let mut depth = 0;
        while !level.is_empty() {
            let mut next = Vec::new();
            for below in level {
                first_child.push(bytes.len() as u32);
                for same in below.chunk_by(|a, b| a.0[depth] == b.0[depth]) {
                    bytes.push(same[0].0[depth]);
                    let ends = same[0].0.len() == depth + 1;
                    tokens.push(if ends { same[0].1 } else { NONE });
                    next.push(&same[usize::from(ends)..]);
                }
            }
            level = next;
            depth += 1;
        }
        first_child.push(bytes.len() as u32);
        Self { bytes, first_child, tokens }
    }

    /// The tokens that are a prefix of `text`, shortest first, each with its length in bytes.
    pub(super) fn prefixes(&self, text: &[u8]) -> impl Iterator<Item = (usize, TokenId)> {
        let (mut node, mut at) = (0, 0);
        std::iter::from_fn(move || {
            loop {
                node = self.child(node, *text.get(at)?)?;
                at += 1;
                if self.tokens[node] != NONE {
                    return Some((at, self.tokens[node]));
                }
            }
        })
    }

    fn child(&self, node: usize, byte: u8) -> Option<usize> {
        let children = self.first_child[node] as usize..self.first_child[node + 1] as usize;
        let found = match children.len() {
            0..=8 => self.bytes[children.clone()].iter().position(|&other| other == byte),
            _ => self.bytes[children.clone()].binary_search(&byte).ok(),
        };
        Some(children.start + found?)
    }
}
