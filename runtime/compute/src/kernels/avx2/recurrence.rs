//! Recurrences on AVX2.

use super::vector::F32x8;
use crate::kernels::recurrence::{Convolution, GatedDelta, Mamba1, Mamba2, RecurrenceKernels, Unit, lanes};

pub(in crate::kernels) const KERNELS: RecurrenceKernels = RecurrenceKernels { convolve, mamba1, mamba2, gated_delta };

#[target_feature(enable = "avx2,fma")]
unsafe fn convolve(call: &Convolution<'_>, unit: &Unit<'_>) {
    // SAFETY: compiled with the features of `F32x8`, like all of the following; the rest is upheld by the caller.
    unsafe { lanes::convolve::<F32x8>(call, unit) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn mamba1(call: &Mamba1<'_>, unit: &Unit<'_>) {
    // SAFETY: see `convolve`.
    unsafe { lanes::mamba1::<F32x8>(call, unit) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn mamba2(call: &Mamba2<'_>, unit: &Unit<'_>) {
    // SAFETY: see `convolve`.
    unsafe { lanes::mamba2::<F32x8>(call, unit) }
}

#[target_feature(enable = "avx2,fma")]
unsafe fn gated_delta(call: &GatedDelta<'_>, unit: &Unit<'_>) {
    // SAFETY: see `convolve`.
    unsafe { lanes::gated_delta::<F32x8>(call, unit) }
}
