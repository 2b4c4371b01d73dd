//! State of sequences: which pages of keys, values and recurrent state belong to which sequence, and what can be reused.
//!
//! Bookkeeping only: page numbers with reference counts; the memory behind a number belongs to the program that runs the plan. A
//! block of [`crate::plan::BLOCK_TOKENS`] tokens is visible to later and to running sequences as soon as it is full (`prefix`);
//! written positions are never overwritten, so partial pages can be shared too: a sequence that continues inside one copies it.

mod cache;
mod file;
mod limit;
mod pool;
mod prefix;
#[cfg(test)]
mod tests;

pub use cache::{Sequence, StateCache, StateError};
pub use file::{FileError, Identity, is_state_file};
pub use limit::KeptLimit;
pub use prefix::EVERYONE;
