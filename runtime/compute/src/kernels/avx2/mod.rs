//! AVX2 with FMA and F16C: Intel since Haswell (2013), AMD since Excavator (2015). A second table adds AVX-VNNI: Intel since
//! Alder Lake (2021), AMD since Zen 5 (2024).
//!
//! Everything in this folder may use these instructions and no others; the table is handed out only if [`runs_here`].

pub(super) mod attention;
pub(super) mod elementwise;
pub(super) mod matmul;
pub(super) mod recurrence;
pub(super) mod vector;

use super::Kernels;

/// Shown to the user.
pub(super) const NEEDS: &str = "AVX2, FMA and F16C";

/// Shown to the user: what the second table needs.
pub(super) const NEEDS_VNNI: &str = "AVX2, FMA, F16C and AVX-VNNI";

/// Whether this processor and the operating system support what [`NEEDS`] names.
pub(super) fn runs_here() -> bool {
    cpufeatures::new!(cpuid, "avx2", "fma");
    // `cpufeatures` has no name for F16C.
    cpuid::get() && std::arch::is_x86_feature_detected!("f16c")
}

/// The same for [`NEEDS_VNNI`].
pub(super) fn runs_here_with_vnni() -> bool {
    // `cpufeatures` has no name for AVX-VNNI.
    runs_here() && std::arch::is_x86_feature_detected!("avxvnni")
}

/// Only for processors that pass [`runs_here`].
pub(super) static TABLE: Kernels = Kernels {
    name: "avx2",
    matmul: matmul::KERNELS,
    attention: attention::KERNELS,
    elementwise: elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};

/// Only for processors that pass [`runs_here_with_vnni`].
pub(super) static TABLE_VNNI: Kernels = Kernels {
    name: "avx2vnni",
    matmul: matmul::KERNELS_VNNI,
    attention: attention::KERNELS,
    elementwise: elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};
