//! Attention on AVX2: the flash form in tiles of 6 × 16 or 3 × 32.

use std::ops::Range;

use half::f16;

use super::vector::F32x8;
use crate::kernels::attention::{self, AttentionKernels, Block, Partial};

pub(in crate::kernels) const KERNELS: AttentionKernels = AttentionKernels { segment, convert, hadamard };

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn segment(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>) {
    // SAFETY: compiled with the features of `F32x8`; the rest is upheld by the caller.
    unsafe { attention::segment::<F32x8, 2, 4>(block, positions, scratch, to) }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn convert(from: &[f32], to: &mut [f16]) {
    // SAFETY: compiled with the features of `F32x8`.
    unsafe { attention::convert::<F32x8>(from, to) }
}

#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn hadamard(x: &mut [f32], block: usize) {
    attention::transform(x, block);
}
