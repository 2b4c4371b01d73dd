//! What a sequence keeps from step to step: keys and values in pages, recurrent states whole.

use satchel_compute::kernels::attention::{CacheType, CacheTypes, PAGE_TOKENS};

/// Positions in a page of a paged group.
pub const BLOCK_TOKENS: usize = PAGE_TOKENS;

/// The number of a page within its group.
pub type PageId = u32;

/// Layers whose state has one shape and is handed out together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateGroup {
    /// Keys and values, [`BLOCK_TOKENS`] positions of all the group's layers to a page.
    Paged {
        /// Layers.
        layers: usize,
        /// Key and value heads of a layer.
        heads: usize,
        /// Elements of a key's head.
        key_dim: usize,
        /// Elements of a value's head.
        value_dim: usize,
        /// Positions that a layer looks back; pages before them are given back. `None`: all.
        window: Option<usize>,
    },
    /// A state of fixed size, one page for a sequence.
    Recurrent {
        /// Layers.
        layers: usize,
        /// f32 of a layer.
        elements: usize,
    },
}

impl StateGroup {
    /// Bytes of a page.
    ///
    /// # Errors
    /// One line for the user, where heads of this size do not fit the types that the cache was asked to have.
    pub fn page_bytes(&self, cache: CacheTypes) -> Result<u64, String> {
        match *self {
            Self::Paged { layers, heads, key_dim, value_dim, .. } => {
                cache.check(key_dim, value_dim)?;
                let row = |ty: CacheType, dim| ty.row_bytes(dim).expect("the shape was checked");
                let position = row(cache.keys, key_dim) + row(cache.values, value_dim);
                Ok((layers * heads * BLOCK_TOKENS) as u64 * position)
            }
            Self::Recurrent { layers, elements } => Ok((layers * elements * size_of::<f32>()) as u64),
        }
    }

    /// Pages that a sequence of `positions` holds at the most.
    pub fn pages(&self, positions: usize, step_tokens: usize) -> usize {
        match *self {
            Self::Paged { window: Some(window), .. } => {
                // What is seen from the first row of a step, and the step's own rows; both ends may lie within a page.
                let held = (window + step_tokens).min(positions);
                (held.div_ceil(BLOCK_TOKENS) + 1).min(positions.div_ceil(BLOCK_TOKENS))
            }
            Self::Paged { window: None, .. } => positions.div_ceil(BLOCK_TOKENS),
            Self::Recurrent { .. } => 1,
        }
    }

    /// Whether a sequence's state can be had at any earlier length, or only where a copy of it was kept.
    pub fn is_recurrent(&self) -> bool {
        matches!(self, Self::Recurrent { .. })
    }
}

/// All that a sequence keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateLayout {
    /// In the order of first use.
    pub groups: Vec<StateGroup>,
}

impl StateLayout {
    /// Whether any state is recurrent.
    pub fn has_recurrent(&self) -> bool {
        self.groups.iter().any(StateGroup::is_recurrent)
    }
}
