//! `few` with VNNI, for the tables that have it at 256 bits: AVX-VNNI, and AVX-512 VNNI with VL.
//!
//! `vpdpbusd` gives sums of four columns, eight per row, which start at minus the zero-point term. If these, or the sum of two,
//! fit i16, rows are packed together and `madd` adds neighbours: a half needs no shuffle of its own, and the last `madd` applies
//! both the activations' multiplier and the weights' integer scale.

use std::arch::x86_64::*;

use super::blocks::{Block, Header, Rows};
use super::few::{FEW, add_group, fetch, token_kernel};
use super::integer::{accumulate, accumulate_half, store};
use super::vnni::zero;
use crate::kernels::matmul::{ActivationGroup, Chunk, GroupFacts};
use crate::quant::GROUP;

/// How many sums of four columns can be added within i16, up to 2.
const fn sums<B: Block>() -> i32 {
    let Some(max) = B::MAX_LEVEL else { return 0 };
    let largest = if B::ZERO > max - B::ZERO { B::ZERO } else { max - B::ZERO };
    let sums = i16::MAX as i32 / (4 * 127 * largest);
    if sums > 2 { 2 } else { sums }
}

/// Reduces sums of four columns to sums of halves, each times its multiplier and, if [`Block::HALVES`], the weights' scale: lane
/// = row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
fn sum_halves<B: Block>(fours: [__m256i; 8], facts: &GroupFacts, pairs: __m256i) -> [__m256i; 2] {
    const { assert!(!B::HALVES || sums::<B>() == 2, "integer scales are applied where two sums fit") };
    // The first half of the columns stays in the lower half of each vector throughout.
    let multipliers =
        _mm256_blend_epi32::<0xf0>(_mm256_set1_epi32(facts.factors[0]), _mm256_set1_epi32(facts.factors[1]));
    let [a, b, c, d, e, f, g, h] = fours;
    let (abcd, efgh) = match sums::<B>() {
        2 => {
            let ones = _mm256_set1_epi16(1);
            let pair = |a, b| _mm256_madd_epi16(_mm256_packs_epi32(a, b), ones);
            let abcd = _mm256_packs_epi32(pair(a, b), pair(c, d));
            let efgh = _mm256_packs_epi32(pair(e, f), pair(g, h));
            if B::HALVES {
                // The pair's lower scale twice in the lower half, the upper one twice in the upper half.
                let own = _mm256_setr_epi8(
                    0, 1, 0, 1, 4, 5, 4, 5, 8, 9, 8, 9, 12, 13, 12, 13, 2, 3, 2, 3, 6, 7, 6, 7, 10, 11, 10, 11, 14, 15,
                    14, 15,
                );
                let lower = _mm256_shuffle_epi8(_mm256_permute2x128_si256::<0x00>(pairs, pairs), own);
                let upper = _mm256_shuffle_epi8(_mm256_permute2x128_si256::<0x11>(pairs, pairs), own);
                let (lower, upper) = (_mm256_mullo_epi16(lower, multipliers), _mm256_mullo_epi16(upper, multipliers));
                (_mm256_madd_epi16(abcd, lower), _mm256_madd_epi16(efgh, upper))
            } else {
                (_mm256_madd_epi16(abcd, multipliers), _mm256_madd_epi16(efgh, multipliers))
            }
        }
        1 => {
            let pair = |a, b| _mm256_castsi256_ps(_mm256_madd_epi16(_mm256_packs_epi32(a, b), multipliers));
            let quad = |ab, cd| {
                let even = _mm256_castps_si256(_mm256_shuffle_ps::<0b10_00_10_00>(ab, cd));
                _mm256_add_epi32(even, _mm256_castps_si256(_mm256_shuffle_ps::<0b11_01_11_01>(ab, cd)))
            };
            (quad(pair(a, b), pair(c, d)), quad(pair(e, f), pair(g, h)))
        }
        _ => {
            let multipliers = _mm256_srli_epi32::<16>(multipliers);
            let pair = |a, b| _mm256_add_epi32(_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
            let quad = |ab, cd| {
                let sums = _mm256_add_epi32(_mm256_unpacklo_epi64(ab, cd), _mm256_unpackhi_epi64(ab, cd));
                _mm256_mullo_epi32(sums, multipliers)
            };
            (quad(pair(a, b), pair(c, d)), quad(pair(e, f), pair(g, h)))
        }
    };
    [_mm256_permute2x128_si256::<0x20>(abcd, efgh), _mm256_permute2x128_si256::<0x31>(abcd, efgh)]
}

macro_rules! table {
    ($name:ident, $features:literal, $dot:ident) => {
        /// The few-token kernel of one of the tables.
        pub(in crate::kernels) mod $name {
            use super::*;

            token_kernel!($features, group_sums);

            /// See the function of the same name in `few`.
            #[inline]
            #[target_feature(enable = $features)]
            fn group_sums<B: Block>(
                mut rows: [__m256i; 8],
                x: __m256i,
                facts: &GroupFacts,
                pairs: __m256i,
            ) -> [__m256i; 2] {
                let nothing = _mm256_setzero_si256();
                let start = match const { zero::<B>() } {
                    0 => nothing,
                    zero => _mm256_sub_epi32(nothing, $dot(nothing, _mm256_set1_epi8(zero as i8), x)),
                };
                for row in &mut rows {
                    if B::MAX_LEVEL.is_none() {
                        *row = _mm256_xor_si256(*row, _mm256_set1_epi8(-128));
                    }
                    *row = $dot(start, *row, x);
                }
                sum_halves::<B>(rows, facts, pairs)
            }
        }
    };
}

table!(avx2, "avx2,fma,f16c,avxvnni", _mm256_dpbusd_avx_epi32);
table!(avx512, "avx2,fma,f16c,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni", _mm256_dpbusd_epi32);
