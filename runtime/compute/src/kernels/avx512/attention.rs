//! Attention on AVX-512: the flash form in tiles of 6 × 64, which are a page's positions or a common head's elements.

use std::ops::Range;

use super::vector::F32x16;
use crate::kernels::attention::{self, AttentionKernels, Block, Partial};
use crate::kernels::avx2;

/// Storing is bound by memory, and the transform is a small part: `avx2`'s.
pub(super) const KERNELS: AttentionKernels = AttentionKernels { segment, ..avx2::attention::KERNELS };

#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq")]
unsafe fn segment(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>) {
    // SAFETY: compiled with the features of `F32x16`; the rest is upheld by the caller.
    unsafe { attention::segment::<F32x16, 4, 4>(block, positions, scratch, to) }
}
