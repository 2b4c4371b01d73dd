//! A model as a value: weights, activation slots, state and operations, as data.
//!
//! `model` makes a [`Plan`] from metadata and tensor table and touches neither a weight nor a device; a `device` carries it
//! out. What memory a model takes is added up from its plan, `inspect --plan` prints it, a split between devices is a range of
//! its operations. Nothing here computes.
//!
//! The one idea: an operation reads and writes *slots*, each written by one operation and read by later ones. Which memory a
//! slot lies in is decided once, when the plan is finished ([`buffers`]).

mod buffers;
mod builder;
mod op;
mod print;
mod rope;
mod state;
mod step;
mod weight;

pub use buffers::Rows;
pub use builder::{Linear, PlanBuilder};
pub use op::{
    Activation, Attention, ExpertActivation, Experts, Factor, Gating, Kept, Norm, NormKind, Op, Pooling, Product,
    Recurrence, Router, Window,
};
pub use rope::{Rope, RopePairs, RopeScaling};
pub use satchel_compute::kernels::attention::{CacheType, CacheTypes};
pub use state::{BLOCK_TOKENS, PageId, StateGroup, StateLayout};
pub use step::{RowInput, Step};
pub use weight::{Role, WeightUse};

/// A weight of a plan: an index into [`Plan::weights`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Weight(pub usize);

/// An activation of a plan, `(rows, columns)` of f32: an index into [`Plan::slots`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Slot(pub usize);

/// One activation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SlotShape {
    /// Elements of a row.
    pub columns: usize,
    /// What has a row in it.
    pub rows: Rows,
    /// The buffer it lies in, an index into [`Plan::buffers`]; slots that are never needed at once share one.
    pub buffer: usize,
}

/// Memory of slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferShape {
    /// Elements of the widest slot's row.
    pub columns: usize,
    /// What has a row in it.
    pub rows: Rows,
}

/// What a plan ends in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Logits of the vocabulary, a row for each wanted row.
    Logits(Slot),
    /// Embeddings, a row for each sequence or wanted row.
    Embeddings(Slot),
    /// Scores of a pair of texts, a row for each sequence.
    Scores(Slot),
}

impl Head {
    /// The slot that holds the result.
    pub fn slot(self) -> Slot {
        match self {
            Self::Logits(slot) | Self::Embeddings(slot) | Self::Scores(slot) => slot,
        }
    }
}

/// A model.
#[derive(Clone, Debug)]
pub struct Plan {
    /// `general.architecture`
    pub architecture: String,
    /// Rows of the token table: every token id is below it.
    pub vocabulary: usize,
    /// Columns of the residual stream.
    pub embedding: usize,
    /// Positions it was trained on.
    pub trained_context: usize,
    /// What operations read of the file.
    pub weights: Vec<WeightUse>,
    /// Activations.
    pub slots: Vec<SlotShape>,
    /// Their memory.
    pub buffers: Vec<BufferShape>,
    /// What a sequence keeps between steps.
    pub state: StateLayout,
    /// In order.
    pub ops: Vec<Op>,
    /// Operations from this one on have a row for each wanted row only; a step that wants none ends before it.
    pub first_output_op: usize,
    /// The result.
    pub head: Head,
}

impl Plan {
    /// The shape of a slot.
    pub fn slot(&self, slot: Slot) -> SlotShape {
        self.slots[slot.0]
    }

    /// Elements of the result's row.
    pub fn output_columns(&self) -> usize {
        self.slot(self.head.slot()).columns
    }

    /// Bytes of all activation buffers for a step of `tokens` rows, `outputs` of them wanted.
    pub fn activation_bytes(&self, tokens: usize, outputs: usize) -> u64 {
        let elements = self.buffers.iter().map(|buffer| {
            let rows = match buffer.rows {
                Rows::Tokens => tokens,
                Rows::Outputs => outputs,
            };
            buffer.columns as u64 * rows as u64
        });
        elements.sum::<u64>() * size_of::<f32>() as u64
    }

    /// The attentions of all layers, in order.
    pub fn attentions(&self) -> impl Iterator<Item = &Attention> {
        self.ops.iter().filter_map(|op| match op {
            Op::Attend { shape, .. } => Some(shape),
            _ => None,
        })
    }

    /// Whether every position sees only those before it: what generation takes.
    pub fn is_causal(&self) -> bool {
        self.attentions().all(|attention| attention.causal)
    }
}
