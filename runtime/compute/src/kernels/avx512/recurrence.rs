//! Recurrences on AVX-512 where the number of lanes does not affect the result. The others are `avx2`'s.

use super::vector::F32x16;
use crate::kernels::avx2;
use crate::kernels::recurrence::{GatedDelta, RecurrenceKernels, Unit, lanes};

pub(super) const KERNELS: RecurrenceKernels = RecurrenceKernels { gated_delta, ..avx2::recurrence::KERNELS };

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,fma")]
unsafe fn gated_delta(call: &GatedDelta<'_>, unit: &Unit<'_>) {
    // SAFETY: compiled with the features of `F32x16`; the rest is upheld by the caller.
    unsafe { lanes::gated_delta::<F32x16>(call, unit) }
}
