//! The scalar table: plain Rust that runs on every processor and defines what is right.
//!
//! The compiler may vectorise it for the baseline of the target (SSE2 on x86-64); nothing here is written for that.

mod attention;
mod elementwise;
mod matmul;
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
