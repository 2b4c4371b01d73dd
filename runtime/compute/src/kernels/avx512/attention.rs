//! Attention on AVX-512: the flash form in tiles of 6 × 64, a page's positions or the elements of a typical head.

use std::ops::Range;

use super::vector::F32x16;
use crate::kernels::attention::{self, AttentionKernels, Block, Partial};
use crate::kernels::avx2;

/// Storing is memory-bound, and the transform is a small part of the work: both reuse `avx2`'s.
pub(super) const KERNELS: AttentionKernels = AttentionKernels { segment, ..avx2::attention::KERNELS };

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn segment(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>) {
    // SAFETY: compiled with the features of `F32x16`; the rest is upheld by the caller.
    unsafe { attention::segment::<F32x16, 4, 4>(block, positions, scratch, to) }
}
