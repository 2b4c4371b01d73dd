//! AVX-512: two tables, one for processors with F, BW, VL and DQ (Intel since Skylake-X, AMD since Zen 4), one for those that
//! also have VNNI (Intel since Ice Lake, AMD since Zen 4).
//!
//! Processors with these also have AVX2, FMA and F16C. A model with quantised weights gives the same bits on all of these tables:
//! norms, whose sums depend on the number of lanes, reuse `avx2`'s; attention sums weights in a fixed number of lanes; matrix
//! products sum exact integers group by group, independent of lanes.

mod attention;
mod matmul;
mod recurrence;
mod vector;

use super::Kernels;
use super::avx2;

/// Shown to the user.
pub(super) const NEEDS: &str = "AVX-512 F, BW, VL and DQ";
/// Shown to the user: what the second table needs.
pub(super) const NEEDS_VNNI: &str = "AVX-512 F, BW, VL, DQ and VNNI";

/// Whether this processor and the operating system support what [`NEEDS`] names.
pub(super) fn runs_here() -> bool {
    cpufeatures::new!(cpuid, "avx512f", "avx512bw", "avx512vl", "avx512dq");
    cpuid::get() && avx2::runs_here()
}

/// The same for [`NEEDS_VNNI`].
pub(super) fn runs_here_with_vnni() -> bool {
    // `cpufeatures` has no name for VNNI.
    runs_here() && std::arch::is_x86_feature_detected!("avx512vnni")
}

/// Only for processors that pass [`runs_here`].
pub(super) static TABLE: Kernels = Kernels {
    name: "avx512",
    matmul: matmul::KERNELS,
    attention: attention::KERNELS,
    elementwise: avx2::elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};

/// Only for processors that pass [`runs_here_with_vnni`].
pub(super) static TABLE_VNNI: Kernels = Kernels {
    name: "avx512vnni",
    matmul: matmul::KERNELS_VNNI,
    attention: attention::KERNELS,
    elementwise: avx2::elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};
