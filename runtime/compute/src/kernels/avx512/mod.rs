//! AVX-512: a table for processors with F, BW, VL and DQ (Intel since Skylake-X, AMD since Zen 4), one for those that also have
//! VNNI (Intel since Ice Lake, AMD since Zen 4), and one for those with BF16, too (AMD since Zen 4, where it is twice as fast as
//! f32; Intel since Cooper Lake, where it is not); and one with AMX (Intel since Sapphire Rapids).
//!
//! Processors with these also have AVX2, FMA and F16C. A model with quantised weights gives the same bits on all of these tables
//! (but for prompts on the one with AMX, which rounds them and the weights to BF16): norms, whose sums depend on the number of
//! lanes, reuse `avx2`'s; attention sums weights in a fixed number of lanes; matrix products sum exact integers group by group,
//! independent of lanes.

pub(super) mod amx;
mod attention;
mod matmul;
mod pace;
mod recurrence;
mod vector;

use super::Kernels;
use super::avx2;
pub(super) use matmul::tiles_thread_bytes;

/// Shown to the user.
pub(super) const NEEDS: &str = "AVX-512 F, BW, VL and DQ";
/// Shown to the user: what the second table needs.
pub(super) const NEEDS_VNNI: &str = "AVX-512 F, BW, VL, DQ and VNNI";

/// Shown to the user: what the third table needs.
pub(super) const NEEDS_BF16: &str = "AVX-512 F, BW, VL, DQ, VNNI and BF16";

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

/// The same for [`NEEDS_BF16`].
pub(super) fn runs_here_with_bf16() -> bool {
    runs_here_with_vnni() && std::arch::is_x86_feature_detected!("avx512bf16")
}

/// Whether products in BF16 are worth their rounding here. Only for processors that pass [`runs_here_with_bf16`].
pub(super) fn gains_from_bf16() -> bool {
    // SAFETY: upheld by the caller.
    unsafe { pace::bf16_to_f32() >= pace::WORTH }
}

/// Whether products in tiles are faster here, and come out right. Only for processors that pass [`amx::runs_here`].
pub(super) fn gains_from_amx() -> bool {
    pace::of_tables(&TABLE_AMX, &TABLE_VNNI).is_some_and(|ratio| ratio >= pace::WORTH_OF_TILES)
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

/// Only for processors that pass [`runs_here_with_bf16`].
pub(super) static TABLE_BF16: Kernels = Kernels {
    name: "avx512bf16",
    matmul: matmul::KERNELS_BF16,
    attention: attention::KERNELS,
    elementwise: avx2::elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};

/// Only for processors that pass [`amx::runs_here`].
pub(super) static TABLE_AMX: Kernels = Kernels {
    name: "amx",
    matmul: matmul::KERNELS_AMX,
    attention: attention::KERNELS,
    elementwise: avx2::elementwise::KERNELS,
    recurrence: recurrence::KERNELS,
};
