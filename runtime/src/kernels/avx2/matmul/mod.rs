//! AVX2 matrix products: the table, and quantising activations.
//!
//! `blocks` knows how each quantised type unpacks 32 columns, `strip` lays rows out for many tokens, `integer` multiplies;
//! `plain` is the f32 family.
//! The idea of the tiling is explained in [`crate::kernels::matmul`].

pub(in crate::kernels) mod blocks;
pub(in crate::kernels) mod integer;
mod plain;
pub(in crate::kernels) mod strip;

use std::arch::x86_64::*;

use satchel_gguf::TensorType;

use crate::kernels::matmul::{FAINT, GroupFacts, Levels, MatmulKernels, RowsKernel};
use crate::quant::GROUP;

pub(super) const KERNELS: MatmulKernels = MatmulKernels { quantize, rows: ROWS };

const ROWS: &[(TensorType, RowsKernel)] = &[
    (TensorType::F32, plain::rows::<plain::F32>),
    (TensorType::F16, plain::rows::<plain::F16>),
    (TensorType::BF16, plain::rows::<plain::BF16>),
    (TensorType::Q8_0, integer::rows::<blocks::Q8_0>),
    (TensorType::Q4_0, integer::rows::<blocks::Q4_0>),
    (TensorType::Q4_1, integer::rows::<blocks::Q4_1>),
    (TensorType::Q5_0, integer::rows::<blocks::Q5_0>),
    (TensorType::Q5_1, integer::rows::<blocks::Q5_1>),
    (TensorType::Q4_K, integer::rows::<blocks::Q4K>),
    (TensorType::Q5_K, integer::rows::<blocks::Q5K>),
    (TensorType::Q6_K, integer::rows::<blocks::Q6K>),
];

/// The scalar table's `quantize`, bit for bit.
///
/// # Safety
/// The processor has AVX2, FMA and F16C.
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) unsafe fn quantize(x: &[f32], levels: &mut [Levels], facts: &mut [GroupFacts]) {
    for ((x, levels), facts) in x.chunks_exact(GROUP).zip(levels).zip(facts) {
        // SAFETY: `x` has 32 values, `levels` 32 bytes.
        let values: [__m256; 4] = std::array::from_fn(|part| unsafe { _mm256_loadu_ps(x.as_ptr().add(8 * part)) });
        // As integers, magnitudes keep their order, and NaN and infinity come above every number.
        let magnitude = |value| _mm256_and_si256(_mm256_castps_si256(value), _mm256_set1_epi32(i32::MAX));
        let largest = _mm256_max_epi32(
            _mm256_max_epi32(magnitude(values[0]), magnitude(values[1])),
            _mm256_max_epi32(magnitude(values[2]), magnitude(values[3])),
        );
        let largest = _mm_max_epi32(_mm256_castsi256_si128(largest), _mm256_extracti128_si256::<1>(largest));
        let largest = _mm_max_epi32(largest, _mm_shuffle_epi32::<0b01_00_11_10>(largest));
        let largest = _mm_max_epi32(largest, _mm_shuffle_epi32::<0b10_11_00_01>(largest));
        let largest = f32::from_bits(_mm_cvtsi128_si32(largest) as u32);
        let (scale, inverse) = match largest {
            largest if !largest.is_finite() => (f32::NAN, 0.0),
            largest if largest < FAINT => (0.0, 0.0),
            largest => (largest / 127.0, 127.0 / largest),
        };
        let inverse = _mm256_set1_ps(inverse);
        let [a, b, c, d] = values.map(|value| _mm256_cvtps_epi32(_mm256_mul_ps(value, inverse)));
        // The packs work on 128-bit halves apart: they leave groups of four columns in the order 0 2 4 6 1 3 5 7.
        let packed = _mm256_packs_epi16(_mm256_packs_epi32(a, b), _mm256_packs_epi32(c, d));
        let packed = _mm256_permutevar8x32_epi32(packed, _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7));
        // SAFETY: as above, and `Levels` is aligned.
        unsafe { _mm256_store_si256(levels.0.as_mut_ptr().cast(), packed) };
        let quads = _mm256_madd_epi16(_mm256_maddubs_epi16(_mm256_set1_epi8(1), packed), _mm256_set1_epi16(1));
        let pairs = _mm256_add_epi32(quads, _mm256_shuffle_epi32::<0b01_00_11_10>(quads));
        let sums = _mm256_add_epi32(pairs, _mm256_shuffle_epi32::<0b10_11_00_01>(pairs));
        let half_sums = [_mm256_extract_epi32::<0>(sums), _mm256_extract_epi32::<4>(sums)];
        *facts = GroupFacts {
            scale,
            sum: scale * (half_sums[0] + half_sums[1]) as f32,
            half_sums: half_sums.map(|sum| sum as i16),
        };
    }
}
