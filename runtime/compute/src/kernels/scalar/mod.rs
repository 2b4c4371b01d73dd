//! The scalar table: plain Rust that runs on every processor and is the reference.
//!
//! The compiler may vectorise it for the target's baseline (SSE2 on x86-64); nothing here is tuned for that.

mod attention;
mod elementwise;
pub(super) mod matmul;
mod recurrence;

use super::Kernels;

/// Runs everywhere.
pub(super) static TABLE: Kernels = Kernels {
    name: "scalar",
    matmul: matmul::KERNELS,
    attention: attention::KERNELS,
    elementwise: elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};
