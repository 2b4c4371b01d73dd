//! The key-value cache: which blocks of positions belong to which sequence, and which of them can be used again.
//!
//! Bookkeeping only: block numbers with reference counts. The memory behind a number belongs to the backend. A block
//! holds [`BLOCK_TOKENS`] positions of every layer; full blocks are shared between sequences with the same prefix, a
//! block that is written to is never shared.

mod cache;
mod prefix;
#[cfg(test)]
mod tests;

pub use cache::{KvCache, KvSequence};

/// Positions in one block.
pub const BLOCK_TOKENS: usize = 64;

/// The number of a block of the KV cache.
pub type BlockId = u32;
