//! AVX2 matrix products: the table, and quantising activations.
//!
//! `blocks` unpacks 32 columns of each quantised type, `strip` lays out rows for many tokens, `integer` and `tile` multiply,
//! `few` handles few tokens; `vnni` and `few_vnni` do so on processors with VNNI; `plain` is the f32 family.
//! ARCHITECTURE.md, "Matrix products", draws the idea of the tiling.

pub(in crate::kernels) mod blocks;
pub(in crate::kernels) mod few;
pub(in crate::kernels) mod few_vnni;
pub(in crate::kernels) mod integer;
mod plain;
pub(in crate::kernels) mod strip;
mod tile;
pub(in crate::kernels) mod vnni;

use std::arch::x86_64::*;

use blocks::Block;

use crate::kernels::matmul::{ActivationGroup, MatmulKernels, RowsKernel, Scales, kernel_of};
use crate::kernels::scalar::matmul as scalar;
use crate::quant::{GROUP, by_type};

pub(in crate::kernels) const KERNELS: MatmulKernels = MatmulKernels {
    quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::rows::<P>, B: Block => integer::rows::<B>,
        else kernel_of(&scalar::KERNELS, B::TYPE)),
    prompts: None,
};
pub(super) const KERNELS_VNNI: MatmulKernels = MatmulKernels {
    quantize,
    round: None,
    rows: &by_type!(RowsKernel: plain P => plain::rows::<P>, B: Block => vnni::rows::<B>,
        else kernel_of(&scalar::KERNELS, B::TYPE)),
    prompts: None,
};

/// Bit-identical to the scalar `quantize`.
///
/// # Safety
/// The processor supports AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) unsafe fn quantize(x: &[f32], groups: &mut [ActivationGroup]) {
    for (x, group) in x.chunks_exact(GROUP).zip(groups) {
        // SAFETY: `x` has 32 values, `levels` 32 bytes.
        let values: [__m256; 4] = std::array::from_fn(|part| unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * part)) });
        let magnitude = |value| _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(i32::MAX));
        let largest = |first, second| {
            let largest = _mm256_max_epi32(magnitude(first), magnitude(second));
            let largest = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
            let largest = _mm_max_epi32(largest, _mm_shuffle_epi32::<0b01_00_11_10>(largest));
            let largest = _mm_max_epi32(largest, _mm_shuffle_epi32::<0b10_11_00_01>(largest));
            _mm_cvtsi128_si32(largest) as u32
        };
        let scales = Scales::new([largest(values[0], values[1]), largest(values[2], values[3])]);
        let [first, second] = scales.inverses.map(|inverse| _mm256_set1_ps(inverse));
        let a = _mm256_cvtps_epi32(_mm256_mul_ps(values[0], first));
        let b = _mm256_cvtps_epi32(_mm256_mul_ps(values[1], first));
        let c = _mm256_cvtps_epi32(_mm256_mul_ps(values[2], second));
        let d = _mm256_cvtps_epi32(_mm256_mul_ps(values[3], second));
        // The packs work within 128-bit halves: they leave groups of four columns in the order 0 2 4 6 1 3 5 7.
        let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: as above, and `Levels` is aligned.
        unsafe { _mm256_store_si256(group.levels.0.as_mut_ptr().cast(), packed) };
        let quads = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), packed), _mm256_set1_epi16(1));
        let pairs = _mm256_add_epi32(quads, _mm256_shuffle_epi32::<0b01_00_11_10>(quads));
        let sums = _mm256_add_epi32(pairs, _mm256_shuffle_epi32::<0b10_11_00_01>(pairs));
        group.facts = scales.facts([_mm256_extract_epi32::<0>(sums), _mm256_extract_epi32::<4>(sums)]);
    }
}
