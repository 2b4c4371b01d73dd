//! What a sequence keeps between steps: keys and values in pages, recurrent states whole.

use satchel_compute::kernels::attention::{CacheTypes, PAGE_TOKENS};

/// Positions per page of a paged group.
pub const BLOCK_TOKENS: usize = PAGE_TOKENS;

/// Index of a page within its group.
pub type PageId = u32;

/// Layers whose states have the same shape and are allocated together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StateGroup {
    /// Keys and values: one page holds [`BLOCK_TOKENS`] positions of all the group's layers.
    Paged {
        /// Layers.
        layers: usize,
        /// Key and value heads per layer.
        heads: usize,
        /// Elements per key head.
        key_dim: usize,
        /// Elements per value head.
        value_dim: usize,
        /// Positions that a layer looks back; earlier pages are freed. `None`: all.
        window: Option<usize>,
    },
    /// A fixed-size state, one page per sequence.
    Recurrent {
        /// Layers.
        layers: usize,
        /// f32 per layer.
        elements: usize,
    },
}

impl StateGroup {
    /// Bytes per page.
    ///
    /// # Errors
    /// One line for the user if heads of this size do not fit the requested cache types.
    pub fn page_bytes(&self, cache: CacheTypes) -> Result<u64, String> {
        match *self {
            Self::Paged { layers, heads, key_dim, value_dim, .. } => {
                cache.check(key_dim, value_dim)?;
                Ok((layers * heads) as u64 * cache.page_bytes(key_dim, value_dim))
            }
            Self::Recurrent { layers, elements } => Ok((layers * elements * size_of::<f32>()) as u64),
        }
    }

    /// Maximum pages that a sequence of `positions` holds.
    pub fn pages(&self, positions: usize, step_tokens: usize) -> usize {
        match *self {
            Self::Paged { window: Some(window), .. } => {
                // What a step's first row sees, plus the step's own rows; both ends may be inside a page.
                let held = (window + step_tokens).min(positions);
                (held.div_ceil(BLOCK_TOKENS) + 1).min(positions.div_ceil(BLOCK_TOKENS))
            }
            Self::Paged { window: None, .. } => positions.div_ceil(BLOCK_TOKENS),
            Self::Recurrent { .. } => 1,
        }
    }

    /// Whether the state can only be restored where a copy was kept, rather than truncated to any length.
    pub fn is_recurrent(&self) -> bool {
        matches!(self, Self::Recurrent { .. })
    }
}

/// Everything that a sequence keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StateLayout {
    /// In order of first use.
    pub groups: Vec<StateGroup>,
}

impl StateLayout {
    /// Whether any state is recurrent.
    pub fn has_recurrent(&self) -> bool {
        self.groups.iter().any(StateGroup::is_recurrent)
    }
}
