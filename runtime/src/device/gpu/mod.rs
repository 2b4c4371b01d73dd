//! A GPU as a device: weights, activations and the KV cache in its memory, a plan's operations as calls that are prepared once.
//!
//! Rows of tables are looked up on the CPU and written before the first call (`lookup`); logits come back for each wanted row. All between
//! is one submission, in one compute pass (`satchel_gpu::call`). [`uncovered`] says what of a plan has no shader.

use std::ops::Range;
use std::sync::Arc;

use satchel_gpu::{Gpu, GpuError};

use super::{Device, DeviceError, MappedPart, Program};
use crate::plan::{CacheTypes, Plan};

mod ahead;
mod cover;
mod fuse;
mod lookup;
mod packed;
mod picking;
mod place;
mod prepare;
mod program;
mod state;
mod step;
#[cfg(test)]
mod tests;
mod weights;

pub use cover::{converted, uncovered};
pub use place::{Load, Needed, Placed, place};
use program::GpuProgram;

/// A GPU that was opened.
pub struct GpuDevice {
    gpu: Arc<Gpu>,
    cache: CacheTypes,
    tell: Arc<dyn Fn(f64) + Send + Sync>,
}

impl GpuDevice {
    /// Opens the adapter at this place of `satchel_gpu::adapter::list`, with its cooperative matrices if it has some and `matrices`
    /// says so.
    ///
    /// # Errors
    /// If its driver refuses.
    pub fn open(index: usize, cache: CacheTypes, matrices: bool) -> Result<Self, DeviceError> {
        Ok(Self { gpu: Arc::new(Gpu::open(index, matrices)?), cache, tell: Arc::new(|_| {}) })
    }

    /// Opens the first adapter with this in its name, likewise.
    ///
    /// # Errors
    /// If there is none, or its driver refuses.
    pub fn open_named(name: &str, cache: CacheTypes, matrices: bool) -> Result<Self, DeviceError> {
        Ok(Self { gpu: Arc::new(Gpu::open_named(name, matrices)?), cache, tell: Arc::new(|_| {}) })
    }

    /// The same, which tells how much of a plan is loaded, of 1.
    #[must_use]
    pub fn telling(self, tell: impl Fn(f64) + Send + Sync + 'static) -> Self {
        Self { tell: Arc::new(tell), ..self }
    }

    /// The same with buffers of no more than this, as on a smaller GPU; for tests.
    ///
    /// # Errors
    /// If a plan was loaded before.
    pub fn limited(mut self, bytes: u64) -> Result<Self, DeviceError> {
        let gpu = Arc::get_mut(&mut self.gpu);
        gpu.ok_or_else(|| DeviceError::Unsupported("the GPU is in use".to_owned()))?.limit_buffers(bytes);
        Ok(self)
    }

    /// What was opened.
    pub fn gpu(&self) -> &Gpu {
        &self.gpu
    }
}

impl Device for GpuDevice {
    fn name(&self) -> String {
        let facts = self.gpu.facts();
        format!("{} ({})", facts.name, facts.interface)
    }

    fn load(&self, plan: &Plan, ops: Range<usize>, parts: &[MappedPart]) -> Result<Box<dyn Program>, DeviceError> {
        if let Some(why) = uncovered(plan, ops.clone(), self.cache) {
            return Err(DeviceError::Unsupported(why));
        }
        Ok(Box::new(GpuProgram::new(Arc::clone(&self.gpu), plan, ops, parts, &*self.tell)?))
    }
}

impl From<GpuError> for DeviceError {
    fn from(error: GpuError) -> Self {
        match error {
            GpuError::NoMemory { what, bytes } => Self::NoMemory { what, bytes },
            GpuError::Unusable(line) => Self::Unsupported(line),
            GpuError::Failed(_) => Self::Failed(error.to_string()),
        }
    }
}
