//! The shaders of operations with a state that goes from row to row.

use satchel_compute::kernels::elementwise::Activation;

use super::{Function, function_number};

/// A shader of a recurrence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs, reason = "each is the comment at the top of its file")]
pub enum RecurrentKernel {
    /// The rows that a result depends on, and what follows.
    Convolve {
        taps: u32,
        activation: Option<Function>,
    },
    /// The state's elements of a channel; whether each has a decay of its own.
    Mamba {
        states: u32,
        each: bool,
    },
    GatedDelta {
        key_dim: u32,
    },
}

/// Threads that share a channel of Mamba, and a column of the gated delta rule.
const MAMBA_LANES: u32 = 16;
const DELTA_LANES: u32 = 8;

/// The most elements that a thread keeps in registers.
const MOST_OWN: u32 = 32;

impl RecurrentKernel {
    pub(super) fn all() -> Vec<Self> {
        let mut all = Vec::new();
        for taps in [1, 2, 3, 4, 8] {
            let silu = Function::of(Activation::Silu);
            all.extend([None, Some(silu)].map(|activation| Self::Convolve { taps, activation }));
        }
        for states in [8, 16, 20, 128] {
            all.extend([true, false].map(|each| Self::Mamba { states, each }));
        }
        all.extend([12, 64, 128].map(|key_dim| Self::GatedDelta { key_dim }));
        all
    }

    /// Whether a thread's part of the state fits its registers.
    pub fn fits(self) -> bool {
        match self {
            Self::Convolve { .. } => true,
            Self::Mamba { states, .. } => states <= MAMBA_LANES * MOST_OWN,
            Self::GatedDelta { key_dim } => key_dim <= DELTA_LANES * MOST_OWN,
        }
    }

    /// Channels, or columns of values, of a workgroup.
    pub fn together(self) -> usize {
        match self {
            Self::Convolve { .. } => 64,
            Self::Mamba { .. } => 64 / MAMBA_LANES as usize,
            Self::GatedDelta { .. } => 64 / DELTA_LANES as usize,
        }
    }

    pub(super) fn bindings(self) -> (u32, u32) {
        match self {
            Self::Convolve { .. } => (3, 2),
            Self::Mamba { .. } | Self::GatedDelta { .. } => (5, 2),
        }
    }

    /// Constants, and the files after `common.wgsl`.
    pub(super) fn parts(self) -> (String, Vec<&'static str>) {
        match self {
            Self::Convolve { taps, activation } => {
                let function = function_number(activation.unwrap_or(Function::of(Activation::Silu)));
                let activates = activation.is_some();
                let constants = format!("const TAPS = {taps}u;\nconst ACTIVATES = {activates};\n{function}");
                (constants, vec![shader!("sequences"), shader!("activations"), shader!("convolve")])
            }
            Self::Mamba { states, each } => {
                let constants =
                    format!("const LANES = {MAMBA_LANES}u;\nconst STATES = {states}u;\nconst EACH = {each};\n");
                (constants, vec![shader!("sequences"), shader!("lane_sums"), shader!("mamba")])
            }
            Self::GatedDelta { key_dim } => {
                let constants = format!("const LANES = {DELTA_LANES}u;\nconst KEY_DIM = {key_dim}u;\n");
                (constants, vec![shader!("sequences"), shader!("lane_sums"), shader!("gated_delta")])
            }
        }
    }
}
