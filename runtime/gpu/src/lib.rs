//! Operations on a GPU, through wgpu: Vulkan, DX12 or Metal with the driver that is there, shaders in WGSL.
//!
//! [`adapter`] finds GPUs and opens one, [`kernel`] names the shaders of `shaders/` and their variants, [`matrix`] is how weights lie
//! in a GPU's memory, [`upload`] is their way there, [`call`] is an operation with its buffers, prepared once, [`measure`] is what a
//! probe asks of a GPU. [`product`] and [`attention`] put together the shaders that have several shapes. Nothing here knows plans or
//! models; the runtime's `device/gpu` makes calls of a plan's operations.
//!
//! The one idea: every shader is text put together from files and constants, and each adds in an order that depends on neither the
//! number of rows nor their neighbours, as the CPU's kernels do.

pub mod adapter;
pub mod attention;
pub mod call;
mod choice;
pub mod embed;
pub mod kernel;
pub mod matrix;
pub mod measure;
mod pack;
pub mod pending;
pub mod pick;
pub mod product;
pub mod stack;
mod text;
pub mod upload;

pub use adapter::{AdapterFacts, Gpu, Kind};
pub use call::{Call, Counts, Extent, Grid};
pub use embed::Embedding;
pub use kernel::{ExpertsKernel, Form, Function, Kernel, Norm, RecurrentKernel, Tiling};
pub use matrix::Matrix;
pub use pending::Pending;
pub use stack::{Stack, StackProduct, StackShape};
pub use upload::Upload;
pub use wgpu::Buffer;

/// Why a GPU cannot go on, each as one line for the user.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GpuError {
    /// There is no such adapter, or it cannot be used.
    #[error("{0}")]
    Unusable(String),
    /// Its memory does not hold what was asked for.
    #[error("the GPU has no memory for {bytes} bytes of {what}")]
    NoMemory {
        /// What the memory is for.
        what: &'static str,
        /// Its size.
        bytes: u64,
    },
    /// The driver failed or the device was lost.
    #[error("the GPU failed: {0}")]
    Failed(String),
}
