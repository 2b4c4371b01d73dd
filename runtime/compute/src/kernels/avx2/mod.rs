//! AVX2 with FMA and F16C: Intel since Haswell (2013), AMD since Excavator (2015).
//!
//! Everything in this folder may use these instructions and no others; the table is handed out only where [`runs_here`] holds.

pub(super) mod attention;
pub(super) mod elementwise;
pub(super) mod matmul;
pub(super) mod vector;

use super::Kernels;

/// For people.
pub(super) const NEEDS: &str = "AVX2, FMA and F16C";

/// Whether this processor, and the operating system, have what [`NEEDS`] names.
pub(super) fn runs_here() -> bool {
    cpufeatures::new!(cpuid, "avx2", "fma");
    // `cpufeatures` has no name for F16C.
    cpuid::get() && std::arch::is_x86_feature_detected!("f16c")
}

/// Only for processors where [`runs_here`] holds.
pub(super) static TABLE: Kernels =
    Kernels { name: "avx2", matmul: matmul::KERNELS, attention: attention::KERNELS, elementwise: elementwise::KERNELS };
