//! Weights that shaders take in another grouping than the plan names them: stacks of experts, and small vectors bound together,
//! since a shader can bind few buffers. Sent when first used, kept from then on.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use satchel_gpu::{Gpu, GpuError, Stack, StackShape};

use crate::device::cpu::Weights as Mapped;
use crate::kernels::attention::alibi_slopes;
use crate::plan::{Attention, Weight};

/// Vectors that are one buffer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) enum Joined {
    /// One behind the other.
    Two(Weight, Weight),
    /// An attention's sinks, if it has them, then a slope for each head; the largest slope's bits.
    Slopes { sinks: Option<Weight>, heads: usize, max_bias: u32 },
}

impl Joined {
    /// What attention looks up by head, if it has slopes.
    pub(super) fn of(shape: &Attention) -> Option<Self> {
        let max_bias = shape.alibi?.to_bits();
        Some(Self::Slopes { sinks: shape.sinks, heads: shape.heads, max_bias })
    }

    fn values(self, mapped: &Mapped) -> Vec<f32> {
        match self {
            Self::Two(one, other) => [mapped.vector(one), mapped.vector(other)].concat(),
            Self::Slopes { sinks, heads, max_bias } => {
                let mut values = sinks.map_or(Vec::new(), |sinks| mapped.vector(sinks).to_vec());
                values.extend(alibi_slopes(heads, f32::from_bits(max_bias)));
                values
            }
        }
    }
}

/// What was sent.
#[derive(Default)]
pub(super) struct Packed {
    stacks: HashMap<Weight, Stack>,
    joined: HashMap<Joined, satchel_gpu::Buffer>,
}

impl Packed {
    /// Sends a stack unless it is there.
    pub(super) fn send_stack(&mut self, gpu: &Gpu, mapped: &Mapped, weight: Weight) -> Result<(), GpuError> {
        if let Entry::Vacant(place) = self.stacks.entry(weight) {
            let facts = mapped.facts(weight);
            let shape = StackShape {
                ty: facts.ty,
                rows: facts.rows,
                columns: facts.columns,
                count: facts.stack,
                stride: facts.stack_bytes as usize,
            };
            place.insert(Stack::upload(gpu, shape, mapped.stack_bytes(weight))?);
        }
        Ok(())
    }

    /// A stack that was sent.
    pub(super) fn stack(&self, weight: Weight) -> &Stack {
        &self.stacks[&weight]
    }

    /// Sends vectors unless they are there.
    pub(super) fn send(&mut self, gpu: &Gpu, mapped: &Mapped, joined: Joined) -> Result<(), GpuError> {
        if let Entry::Vacant(place) = self.joined.entry(joined) {
            let values = joined.values(mapped);
            let buffer = gpu.buffer("weights", 4 * values.len() as u64)?;
            gpu.write(&buffer, 0, &values.iter().flat_map(|value| value.to_le_bytes()).collect::<Vec<u8>>());
            place.insert(buffer);
        }
        Ok(())
    }

    /// Vectors that were sent.
    pub(super) fn joined(&self, joined: Joined) -> &satchel_gpu::Buffer {
        &self.joined[&joined]
    }

    /// Bytes that stacks take.
    pub(super) fn bytes(&self) -> u64 {
        self.stacks.values().map(Stack::bytes).sum()
    }
}
