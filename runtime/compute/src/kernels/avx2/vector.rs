//! Eight f32 in an AVX2 register.

use std::arch::x86_64::*;

use half::f16;

use crate::kernels::vector::Vector;

#[derive(Clone, Copy)]
pub(in crate::kernels) struct F32x8(__m256);

// SAFETY: each method is one or a few instructions of AVX2, FMA or F16C, used on processors that `runs_here` found to have
// them; loads and stores are the unaligned ones and touch exactly the lanes.
#[allow(clippy::undocumented_unsafe_blocks, reason = "one reason for all of them, above")]
unsafe impl Vector for F32x8 {
    const LANES: usize = 8;
    #[inline(always)]
    unsafe fn splat(value: f32) -> Self {
        Self(unsafe { _mm256_set1_ps(value) })
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self {
        Self(unsafe { _mm256_loadu_ps(from) })
    }
    #[inline(always)]
    unsafe fn load_f16(from: *const f16) -> Self {
        Self(unsafe { _mm256_cvtph_ps(_mm_loadu_si128(from.cast())) })
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const i8) -> Self {
        Self(unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) })
    }
    #[inline(always)]
    unsafe fn load_nibbles(from: *const u8) -> [Self; 2] {
        unsafe {
            let bytes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(from.cast()));
            let low = _mm256_and_si256(bytes, _mm256_set1_epi32(15));
            [Self(_mm256_cvtepi32_ps(low)), Self(_mm256_cvtepi32_ps(_mm256_srli_epi32::<4>(bytes)))]
        }
    }
    #[inline(always)]
    unsafe fn store(self, to: *mut f32) {
        unsafe { _mm256_storeu_ps(to, self.0) }
    }
    #[inline(always)]
    unsafe fn store_f16(self, to: *mut f16) {
        unsafe { _mm_storeu_si128(to.cast(), _mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(self.0)) }
    }
    #[inline(always)]
    unsafe fn add(self, other: Self) -> Self {
        Self(unsafe { _mm256_add_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn sub(self, other: Self) -> Self {
        Self(unsafe { _mm256_sub_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul(self, other: Self) -> Self {
        Self(unsafe { _mm256_mul_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn div(self, other: Self) -> Self {
        Self(unsafe { _mm256_div_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn mul_add(self, factor: Self, term: Self) -> Self {
        Self(unsafe { _mm256_fmadd_ps(self.0, factor.0, term.0) })
    }
    #[inline(always)]
    unsafe fn max(self, other: Self) -> Self {
        Self(unsafe { _mm256_max_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn min(self, other: Self) -> Self {
        Self(unsafe { _mm256_min_ps(self.0, other.0) })
    }
    #[inline(always)]
    unsafe fn round(self) -> Self {
        Self(unsafe { _mm256_round_ps::<{ _MM_FROUND_TO_NEAREST_INT | _MM_FROUND_NO_EXC }>(self.0) })
    }
    #[inline(always)]
    unsafe fn power_of_two(self) -> Self {
        let exponent = unsafe { _mm256_add_epi32(_mm256_cvtps_epi32(self.0), _mm256_set1_epi32(127)) };
        Self(unsafe { _mm256_castsi256_ps(_mm256_slli_epi32::<23>(exponent)) })
    }
    #[inline(always)]
    unsafe fn sum(self) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(self) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(self.0), _mm256_extractf128_ps::<1>(self.0));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }
    #[inline(always)]
    unsafe fn transpose_eight(from: *const f16, stride: usize, columns: usize, to: *mut f32, to_stride: usize) {
        unsafe { transpose_eight(from, stride, columns, to, to_stride) }
    }
}

/// [`Vector::transpose_eight`] with AVX2 and F16C: sixteen columns at a time, then eight, then one.
#[inline(always)]
#[allow(clippy::needless_range_loop, reason = "registers, not memory: iterators would pass them through closures")]
pub(in crate::kernels) unsafe fn transpose_eight(
    from: *const f16,
    stride: usize,
    columns: usize,
    to: *mut f32,
    to_stride: usize,
) {
    let mut column = 0;
    // SAFETY: reads 8 rows of `columns` elements and writes `columns` rows of 8, as the caller promises they are there.
    unsafe {
        while column + 16 <= columns {
            let source = from.add(column);
            let mut eight = [_mm256_setzero_si256(); 8];
            for row in 0..8 {
                eight[row] = _mm256_loadu_si256(source.add(row * stride).cast());
            }
            let pairs = transpose_16(eight);
            for index in 0..8 {
                let pair = pairs[index];
                let low = to.add((column + index) * to_stride);
                _mm256_storeu_ps(low, _mm256_cvtph_ps(_mm256_castsi256_si128(pair)));
                _mm256_storeu_ps(low.add(8 * to_stride), _mm256_cvtph_ps(_mm256_extracti128_si256::<1>(pair)));
            }
            column += 16;
        }
        while column + 8 <= columns {
            let source = from.add(column);
            // The upper halves are not used.
            let mut eight = [_mm256_setzero_si256(); 8];
            for row in 0..8 {
                eight[row] = _mm256_castsi128_si256(_mm_loadu_si128(source.add(row * stride).cast()));
            }
            let rows = transpose_16(eight);
            for index in 0..8 {
                let to = to.add((column + index) * to_stride);
                _mm256_storeu_ps(to, _mm256_cvtph_ps(_mm256_castsi256_si128(rows[index])));
            }
            column += 8;
        }
        for column in column..columns {
            for row in 0..8 {
                *to.add(column * to_stride + row) = (*from.add(row * stride + column)).to_f32();
            }
        }
    }
}

/// Transposes two 8 × 8 blocks of 16-bit elements side by side, each in its half of the registers.
#[inline(always)]
unsafe fn transpose_16(r: [__m256i; 8]) -> [__m256i; 8] {
    // SAFETY: register operations of AVX2, which the caller has.
    unsafe {
        let a = [
            _mm256_unpacklo_epi16(r[0], r[1]),
            _mm256_unpackhi_epi16(r[0], r[1]),
            _mm256_unpacklo_epi16(r[2], r[3]),
            _mm256_unpackhi_epi16(r[2], r[3]),
            _mm256_unpacklo_epi16(r[4], r[5]),
            _mm256_unpackhi_epi16(r[4], r[5]),
            _mm256_unpacklo_epi16(r[6], r[7]),
            _mm256_unpackhi_epi16(r[6], r[7]),
        ];
        let b = [
            _mm256_unpacklo_epi32(a[0], a[2]),
            _mm256_unpackhi_epi32(a[0], a[2]),
            _mm256_unpacklo_epi32(a[1], a[3]),
            _mm256_unpackhi_epi32(a[1], a[3]),
            _mm256_unpacklo_epi32(a[4], a[6]),
            _mm256_unpackhi_epi32(a[4], a[6]),
            _mm256_unpacklo_epi32(a[5], a[7]),
            _mm256_unpackhi_epi32(a[5], a[7]),
        ];
        [
            _mm256_unpacklo_epi64(b[0], b[4]),
            _mm256_unpackhi_epi64(b[0], b[4]),
            _mm256_unpacklo_epi64(b[1], b[5]),
            _mm256_unpackhi_epi64(b[1], b[5]),
            _mm256_unpacklo_epi64(b[2], b[6]),
            _mm256_unpackhi_epi64(b[2], b[6]),
            _mm256_unpacklo_epi64(b[3], b[7]),
            _mm256_unpackhi_epi64(b[3], b[7]),
        ]
    }
}
