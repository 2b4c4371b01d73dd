//! The CPU as a device: weights stay in the mapped file, operations are one table's kernels distributed over one thread pool, and
//! a plan is interpreted operation by operation.

use std::ops::Range;
use std::sync::Arc;

use super::{Device, DeviceError, MappedPart, Program};
use crate::kernels::Kernels;
use crate::kernels::threads::Threads;
use crate::plan::{CacheTypes, Plan};

mod attend;
mod check;
mod elementwise;
mod linear;
mod memory;
mod mixture;
mod program;
mod recur;
mod rotation;
mod rows;
mod state;
#[cfg(test)]
mod tests;
mod weights;

#[cfg(with_gpu)]
pub(super) use check::{adapters_of, learned_positions, positions as check_positions, rotations as check_rotations};
pub use memory::{Load, Working, working};
use program::CpuProgram;
#[cfg(with_gpu)]
pub(super) use rotation::Rotations;
#[cfg(with_gpu)]
pub(super) use weights::Weights;

/// The CPU device.
pub struct Cpu {
    kernels: &'static Kernels,
    threads: Arc<Threads>,
    cache: CacheTypes,
}

impl Cpu {
    /// The CPU with `threads` threads (including the caller's), one kernel table, and a KV cache of these types.
    pub fn new(kernels: &'static Kernels, threads: usize, cache: CacheTypes) -> Self {
        Self { kernels, threads: Arc::new(Threads::new(threads)), cache }
    }
}

impl Device for Cpu {
    fn name(&self) -> String {
        format!("cpu {}", self.kernels.name)
    }

    fn load(&self, plan: &Plan, ops: Range<usize>, parts: &[MappedPart]) -> Result<Box<dyn Program>, DeviceError> {
        let program = CpuProgram::new(self.kernels, Arc::clone(&self.threads), self.cache, plan, ops, parts)?;
        Ok(Box::new(program))
    }
}
