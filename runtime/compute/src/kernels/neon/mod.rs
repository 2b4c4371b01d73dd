//! NEON: three tables, one for every 64-bit ARM processor, one for those with the dot product instructions (ARMv8.2 on, such as
//! Cortex-A75 or Apple M1), one for those that also have 8-bit matrix instructions (ARMv8.6 on, such as Neoverse V1 or Apple M2).
//!
//! The tables differ only in int8 products (`matmul::dot`), whose sums are exact: all three give the same bits. NEON itself is
//! part of every aarch64 target, so the compiler may use it anywhere. The newer instructions are written in assembly, since their
//! intrinsics need a nightly compiler.

mod attention;
mod elementwise;
mod matmul;
mod recurrence;
mod vector;

use super::Kernels;

/// Shown to the user: what the second table needs.
pub(super) const NEEDS_DOTPROD: &str = "the dot product instructions (ASIMDDP)";
/// Shown to the user: what the third table needs.
pub(super) const NEEDS_I8MM: &str = "the dot product and 8-bit matrix instructions (ASIMDDP, I8MM)";

/// Whether this processor and the operating system support what [`NEEDS_DOTPROD`] names.
pub(super) fn runs_here_with_dotprod() -> bool {
    std::arch::is_aarch64_feature_detected!("dotprod")
}

/// The same for [`NEEDS_I8MM`].
pub(super) fn runs_here_with_i8mm() -> bool {
    runs_here_with_dotprod() && std::arch::is_aarch64_feature_detected!("i8mm")
}

/// For every processor.
pub(super) static TABLE: Kernels = Kernels {
    name: "neon",
    matmul: matmul::KERNELS,
    attention: attention::KERNELS,
    elementwise: elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};

/// Only for processors that pass [`runs_here_with_dotprod`].
pub(super) static TABLE_DOTPROD: Kernels = Kernels {
    name: "neon-dotprod",
    matmul: matmul::KERNELS_DOTPROD,
    attention: attention::KERNELS,
    elementwise: elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};

/// Only for processors that pass [`runs_here_with_i8mm`].
pub(super) static TABLE_I8MM: Kernels = Kernels {
    name: "neon-i8mm",
    matmul: matmul::KERNELS_I8MM,
    attention: attention::KERNELS,
    elementwise: elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};
