//! What several AVX2 kernels need of arithmetic: the exponential, and sums across lanes.

use std::arch::x86_64::*;

/// The sum of the eight lanes, always in the same order.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn sum_of_lanes(x: __m256) -> f32 {
    let four = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps::<1>(x));
    let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
    _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
}

/// `e^x` to about one unit in the last place; 0 below -87.3, infinity above 88.7, NaN stays NaN.
///
/// `x = n ln 2 + r` with `|r| <= ln 2 / 2`; `e^r` by a polynomial of degree 6 (Taylor's coefficients, whose error there is
/// below 1.3e-7), `2^n` by the exponent bits.
#[target_feature(enable = "avx2,fma,f16c")]
pub(super) fn exp(x: __m256) -> __m256 {
    const LOWEST: f32 = -87.3;
    const HIGHEST: f32 = 88.7;
    // The constant comes first: where `x` is NaN, these give their second operand.
    let inside = _mm256_min_ps(_mm256_set1_ps(HIGHEST), _mm256_max_ps(_mm256_set1_ps(LOWEST), x));
    let n = _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(_mm256_mul_ps(
        inside,
        _mm256_set1_ps(std::f32::consts::LOG2_E),
    ));
    // ln 2 in two parts, the first with so few bits that its product with n is exact.
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(0.693_359_4), inside);
    let r = _mm256_fnmadd_ps(n, _mm256_set1_ps(-2.121_944_4e-4), r);
    let mut y = _mm256_set1_ps(1.0 / 720.0);
    for coefficient in [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0] {
        y = _mm256_fmadd_ps(y, r, _mm256_set1_ps(coefficient));
    }
    // In two halves, so that the largest n does not overflow the exponent.
    let n = _mm256_cvtps_epi32(n);
    let half = _mm256_srai_epi32::<1>(n);
    let y = _mm256_mul_ps(y, power_of_two(half));
    let y = _mm256_mul_ps(y, power_of_two(_mm256_sub_epi32(n, half)));
    let vanishes = _mm256_cmp_ps::<_CMP_LT_OQ>(x, _mm256_set1_ps(LOWEST));
    let overflows = _mm256_cmp_ps::<_CMP_GT_OQ>(x, _mm256_set1_ps(HIGHEST));
    let y = _mm256_andnot_ps(vanishes, y);
    _mm256_blendv_ps(y, _mm256_set1_ps(f32::INFINITY), overflows)
}

#[target_feature(enable = "avx2,fma,f16c")]
fn power_of_two(n: __m256i) -> __m256 {
    _mm256_castsi256_ps(_mm256_slli_epi32::<23>(_mm256_add_epi32(n, _mm256_set1_epi32(127))))
}
