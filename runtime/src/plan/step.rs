//! The rows of one pass over a plan.

use std::sync::Arc;

use super::PageId;
use crate::TokenId;

/// What a row begins as.
#[derive(Clone, Debug, PartialEq)]
pub enum RowInput {
    /// A token, looked up in the table.
    Token(TokenId),
    /// An embedding, taken as it is.
    Embedding(Arc<[f32]>),
}

/// Rows of any mixture of sequences. Rows of one sequence stand together, in order of position.
#[derive(Clone, Debug, Default)]
pub struct Step {
    /// What each row begins as.
    pub inputs: Vec<RowInput>,
    /// Its position in its sequence.
    pub positions: Vec<usize>,
    /// Its sequence, an index into `states`.
    pub sequences: Vec<usize>,
    /// The pages of each sequence, for each group of the plan's state, in order of position; they cover every position above.
    /// `None`: a window has passed it. Of a recurrent group it is the one page.
    pub states: Vec<Vec<Vec<Option<PageId>>>>,
    /// Rows whose result is wanted, ascending; several of a sequence, perhaps. Where the plan pools rows, one row of each
    /// sequence that is wanted (any of them, as all count), and all rows of the sequence are in this step.
    pub outputs: Vec<usize>,
}

impl Step {
    /// Rows.
    pub fn len(&self) -> usize {
        self.inputs.len()
    }

    /// Whether there is nothing to compute.
    pub fn is_empty(&self) -> bool {
        self.inputs.is_empty()
    }

    /// Appends a token of the sequence whose state was pushed last.
    pub fn push(&mut self, token: TokenId, position: usize, sequence: usize) {
        self.inputs.push(RowInput::Token(token));
        self.positions.push(position);
        self.sequences.push(sequence);
    }

    /// The rows of each sequence, as a range.
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
