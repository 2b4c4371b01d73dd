//! What sequences keep: which pages of keys, values and recurrent state belong to which sequence, and what can be used again.
//!
//! Bookkeeping only: page numbers with reference counts; the memory behind a number belongs to the program that runs the plan.
//! A block of [`crate::plan::BLOCK_TOKENS`] tokens is known to later and to running sequences as soon as it is full
//! ([`prefix`]); positions that are written are never written again, so a page that is not full can be shared, too, and whoever
//! goes on from within it takes a copy.

mod cache;
mod pool;
mod prefix;
#[cfg(test)]
mod tests;

pub use cache::{Sequence, StateCache, StateError};
