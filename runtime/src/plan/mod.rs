//! A model as a value: weights, activation slots, state and operations, as data.
//!
//! `model` builds a [`Plan`] from metadata and tensor table without touching a weight or a device; a `device` executes it. A
//! model's memory use is summed from its plan, `inspect --plan` prints it, a split between devices is a range of its operations.
//! Nothing here computes.
//!
//! The one idea: an operation reads and writes *slots*, each created by one operation and read by later ones. Slots get their
//! memory once, when the plan is finished (`buffers`).

mod adapt;
mod buffers;
mod builder;
mod op;
mod part;
mod print;
mod rope;
mod state;
mod step;
mod weight;

pub use adapt::{Adapter, AdapterOps, AdapterSet, LowRank};
pub use buffers::Rows;
pub use builder::{Linear, PlanBuilder};
pub use op::{
    Activation, AdaptedExperts, AdaptedStack, Attention, ExpertActivation, Experts, Factor, Gating, Kept, Norm,
    NormKind, Op, Pooling, Product, Recurrence, Router, Window,
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
    /// Elements per row.
    pub columns: usize,
    /// What it has rows for.
    pub rows: Rows,
    /// Its buffer, an index into [`Plan::buffers`]; slots that are never live at the same time share one.
    pub buffer: usize,
}

/// Memory shared by slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BufferShape {
    /// Elements per row of the widest slot.
    pub columns: usize,
    /// What it has rows for.
    pub rows: Rows,
}

/// The result of a plan.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Head {
    /// Vocabulary logits, for each wanted row.
    Logits(Slot),
    /// Embeddings, for each sequence or wanted row.
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
    /// Rows of the token table: an exclusive upper bound of token ids.
    pub vocabulary: usize,
    /// Width of the residual stream.
    pub embedding: usize,
    /// Context length of training.
    pub trained_context: usize,
    /// What operations read from the file.
    pub weights: Vec<WeightUse>,
    /// Activations.
    pub slots: Vec<SlotShape>,
    /// Memory of the slots.
    pub buffers: Vec<BufferShape>,
    /// What a sequence keeps between steps.
    pub state: StateLayout,
    /// Operations, in order.
    pub ops: Vec<Op>,
    /// From this operation on there is a row only for each wanted row; a step that wants none ends before it.
    pub first_output_op: usize,
    /// Which of them belong to adapters.
    pub adapted: Vec<AdapterOps>,
    /// The result.
    pub head: Head,
}

impl Plan {
    /// The shape of a slot.
    pub fn slot(&self, slot: Slot) -> SlotShape {
        self.slots[slot.0]
    }

    /// Elements per row of the result.
    pub fn output_columns(&self) -> usize {
        self.slot(self.head.slot()).columns
    }

    /// Total bytes of activation buffers for a step of `tokens` rows, `outputs` of them wanted.
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

    /// Attention of every layer that has it, in order.
    pub fn attentions(&self) -> impl Iterator<Item = &Attention> {
        self.ops.iter().filter_map(|op| match op {
            Op::Attend { shape, .. } => Some(shape),
            _ => None,
        })
    }

    /// Whether every position sees only earlier ones, as generation requires.
    pub fn is_causal(&self) -> bool {
        self.attentions().all(|attention| attention.causal)
    }
}
