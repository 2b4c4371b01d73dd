//! MXFP4 and NVFP4: nibbles index the sixteen levels, here offset to be unsigned.

use std::arch::x86_64::*;
use std::mem::offset_of;

use super::{Block, Header, Rows, look_up, nibbles, words_of};
use crate::quant::{FP4_CODES, MXFP4, NVFP4};

/// The levels, moved to be unsigned.
const UNSIGNED: [i8; 16] = {
    let mut levels = FP4_CODES;
    let mut index = 0;
    while index < levels.len() {
        levels[index] += MXFP4::ZERO as i8;
        index += 1;
    }
    levels
};

impl Block for MXFP4 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let bits = rows.map(|row| i32::from(unsafe { *row.add(offset_of!(Self, scale)) }));
        let bits = _mm256_setr_epi32(bits[0], bits[1], bits[2], bits[3], bits[4], bits[5], bits[6], bits[7]);
        // Half the power of two; below f32's smallest normal exponent it is a mantissa bit.
        let usual = _mm256_slli_epi32::<23>(_mm256_sub_epi32(bits, _mm256_set1_epi32(1)));
        let faint = _mm256_sllv_epi32(_mm256_set1_epi32(0x0020_0000), bits);
        let scale = _mm256_blendv_epi8(usual, faint, _mm256_cmpgt_epi32(_mm256_set1_epi32(2), bits));
        header.scale[0] = _mm256_castsi256_ps(scale);
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        look_up(&UNSIGNED, unsafe { nibbles(block.add(offset_of!(Self, nibbles))) })
    }
}

impl Block for NVFP4 {
    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: upheld by the caller.
        let four = unsafe { words_of(rows, offset_of!(Self, scales)) };
        header.scale[0] = half_of_ue4m3(four);
        header.upper_scale[0] = half_of_ue4m3(_mm256_srli_epi32::<8>(four));
        header.scale[1] = half_of_ue4m3(_mm256_srli_epi32::<16>(four));
        header.upper_scale[1] = half_of_ue4m3(_mm256_srli_epi32::<24>(four));
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: upheld by the caller.
        let halves = unsafe { _mm_loadu_si128(block.add(offset_of!(Self, nibbles) + 16 * group).cast()) };
        // Eight bytes per half: first the low nibbles, then the high ones.
        let twice = _mm256_permute4x64_epi64::<0b01_01_00_00>(_mm256_castsi128_si256(halves));
        let shifted = _mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 4, 0, 4));
        look_up(&UNSIGNED, _mm256_and_si256(shifted, _mm256_set1_epi8(15)))
    }
}

/// Half of the float in the lowest byte of each lane; see `quant::fp4` for the rules.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn half_of_ue4m3(bytes: __m256i) -> __m256 {
    let bits = _mm256_and_si256(bytes, _mm256_set1_epi32(0x7f));
    // Rebias the exponent from 7 to 127, minus one for the half.
    let usual = _mm256_add_epi32(_mm256_slli_epi32::<20>(bits), _mm256_set1_epi32(119 << 23));
    let faint = _mm256_mul_ps(_mm256_cvtepi32_ps(bits), _mm256_set1_ps(1.0 / 1024.0));
    let is_faint = _mm256_castsi256_ps(_mm256_cmpgt_epi32(_mm256_set1_epi32(8), bits));
    let nan = _mm256_cmpeq_epi32(_mm256_and_si256(bytes, _mm256_set1_epi32(0xff)), _mm256_set1_epi32(0x7f));
    let value = _mm256_blendv_ps(_mm256_castsi256_ps(usual), faint, is_faint);
    _mm256_andnot_ps(_mm256_castsi256_ps(nan), value)
}
