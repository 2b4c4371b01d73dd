//! The rows of one forward pass over a plan.

use std::sync::Arc;

use super::{AdapterSet, PageId};
use crate::TokenId;

/// A row's input.
#[derive(Clone, Debug, PartialEq)]
pub enum RowInput {
    /// A token, looked up in the table.
    Token(TokenId),
    /// An embedding, used as is.
    Embedding(Arc<[f32]>),
}

/// Rows of any mix of sequences. A sequence's rows are contiguous, in order of position.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// Each row's input.
    pub inputs: Vec<RowInput>,
    /// Each row's position in its sequence.
    pub positions: Vec<usize>,
    /// Each row's sequence, an index into `states`.
    pub sequences: Vec<usize>,
    /// Each sequence's pages, by group of the plan's state, in order of position, covering every position above. `None`: a window
    /// has passed it. A recurrent group has a single page.
    pub states: Vec<Vec<Vec<Option<PageId>>>>,
    /// Each sequence's adapters; none for those that are not named.
    pub adapters: Vec<AdapterSet>,
    /// So many of the first rows belong to answers, the others to prompts: a device may multiply the two in different orders.
    pub answers: usize,
    /// Wanted rows, ascending; possibly several per sequence. If the plan pools rows, one row of each wanted sequence (any of
    /// them, as all count), and all rows of the sequence are in this step.
    pub outputs: Vec<usize>,
}

impl Step {
    /// Number of rows.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Appends a token of the most recently pushed sequence state.
    pub fn push(&mut self, token: TokenId, position: usize, sequence: usize) {
        self.inputs.push(RowInput::Token(token));
        self.positions.push(position);
        self.sequences.push(sequence);
    }

    /// Whether the sequence of a row uses an adapter.
    pub fn adapts(&self, row: usize, adapter: usize) -> bool {
        self.adapters.get(self.sequences[row]).is_some_and(|set| set.has(adapter))
    }

    /// Each sequence with its range of rows.
    pub fn runs(&self) -> Vec<(usize, std::ops::Range<usize>)> {
        let mut runs: Vec<(usize, std::ops::Range<usize>)> = Vec::new();
        for (row, &sequence) in self.sequences.iter().enumerate() {
            match runs.last_mut() {
                Some((last, rows)) if *last == sequence => rows.end = row + 1,
                _ => runs.push((sequence, row..row + 1)),
            }
        }
        runs
    }
}
