//! Attention on NEON: the flash form in tiles of 6 × 16 or 3 × 24.

use std::ops::Range;

use half::f16;

use super::vector::F32x8;
use crate::kernels::attention::{self, AttentionKernels, Block, Partial};

pub(super) const KERNELS: AttentionKernels = AttentionKernels { segment, convert, hadamard: attention::transform };

unsafe fn segment(block: &Block<'_>, positions: Range<usize>, scratch: &mut [f32], to: &mut Partial<'_>) {
    // SAFETY: NEON is in every aarch64 target; the rest is upheld by the caller.
    unsafe { attention::segment::<F32x8, 2, 3>(block, positions, scratch, to) }
}

unsafe fn convert(from: &[f32], to: &mut [f16]) {
    // SAFETY: as above.
    unsafe { attention::convert::<F32x8>(from, to) }
}
