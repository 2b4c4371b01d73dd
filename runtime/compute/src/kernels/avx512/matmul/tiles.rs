//! Quantised weights times many tokens with AMX.
//!
//! A strip's four columns of sixteen rows a vector are as AMX takes its second operand, and int8 activations lie as it takes its
//! first: one `tdpbssd` gives the integers of half a group for sixteen rows and sixteen tokens, a token's in 64 bytes. They are
//! stored, which stays in L1, and added to sums by the functions of `integer`, group by group: an exact integer has the same bits
//! whatever computed it, so this table gives those of `avx512vnni`, which does what few tokens need. While a group's integers are
//! added, the next group's are computed.
//!
//! Levels are signed here: a zero point is subtracted from them, once a strip.

use std::arch::asm;
use std::arch::x86_64::*;

use super::integer::{self, add_halves, pair, scaling_of, store};
use super::sixteen::Sixteen;
use crate::kernels::avx2::matmul::strip::{Piece, StripGroup, for_each_piece};
use crate::kernels::avx512::amx::Shapes;
use crate::kernels::matmul::{ActivationGroup, Chunk};
use crate::quant;

/// Tokens of a product, and rows.
const TOKENS: usize = 16;

/// Four tiles of integers, two of activations, two of weights, of half a group each.
static SHAPES: Shapes = Shapes::new([(16, 64), (16, 64), (16, 64), (16, 64), (16, 16), (16, 16), (4, 64), (4, 64)]);

/// A group's integers by half, token and row.
#[derive(Clone, Copy)]
#[repr(C, align(64))]
struct Integers([[[i32; 16]; TOKENS]; 2]);

/// A type whose strips are multiplied in tiles. The others' scales are a half's own, or their strips take longer to unpack than
/// tiles save; the list keeps the executable small.
pub(super) trait Tiled: Sixteen {}

macro_rules! tiled {
    ($($name:ident)+) => {
        $(impl Tiled for quant::$name {})+
    };
}

tiled!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q4K Q5K Q6K IQ4NL IQ4XS MXFP4);

/// The table's function for type `B`.
///
/// # Safety
/// See [`crate::kernels::matmul::RowsKernel`]; the processor supports AVX-512 with VNNI, and AMX is allowed.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
pub(super) unsafe fn rows<B: Tiled>(chunk: &Chunk<'_>) {
    const {
        let most = match B::MAX_LEVEL {
            Some(most) => most - B::ZERO,
            None => 127,
        };
        assert!(most <= 127, "levels are multiplied as i8");
    }
    let tokens = chunk.x.tokens();
    if tokens < TOKENS {
        // SAFETY: upheld by the caller.
        return unsafe { integer::vnni::rows::<B>(chunk) };
    }
    let mut integers = [Integers([[[0; 16]; TOKENS]; 2]); 2];
    let all = || {
        for_each_piece::<B, false>(chunk, |piece| {
            subtract_zero::<B>(piece.strip);
            for token in (0..tokens).step_by(TOKENS) {
                // The last tokens are multiplied together with those before them, which are done.
                let first = token.min(tokens - TOKENS);
                // SAFETY: the tokens exist and have the piece's groups; the rows belong to this chunk; tiles have these shapes.
                unsafe { tile::<B>(chunk, piece, first, token - first, &mut integers) };
            }
        });
    };
    // SAFETY: AMX is allowed, per the caller.
    unsafe { SHAPES.with(all) };
}

/// Makes unsigned levels signed, by what they are raised.
#[target_feature(enable = "avx512f,avx512bw")]
fn subtract_zero<B: Tiled>(strip: &mut [StripGroup]) {
    if B::ZERO == 0 {
        return;
    }
    for levels in strip.iter_mut().flat_map(|group| &mut group.levels) {
        let signed = _mm512_sub_epi8(pair(levels), _mm512_set1_epi8(B::ZERO as i8));
        // SAFETY: the pair is 64 bytes on a cache line.
        unsafe { _mm512_store_si512((&raw mut *levels).cast(), signed) };
    }
}

/// Sixteen rows × sixteen tokens, of which the first `done` have their results.
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn tile<B: Tiled>(
    chunk: &Chunk<'_>,
    piece: &mut Piece<'_>,
    token: usize,
    done: usize,
    integers: &mut [Integers; 2],
) {
    let mut sums = [_mm512_setzero_ps(); TOKENS];
    if !piece.begins() {
        for (sums, place) in sums.iter_mut().zip(&piece.sums[token..]).skip(done) {
            // SAFETY: sixteen sums.
            *sums = unsafe { _mm512_load_ps(place.0.as_ptr()) };
        }
    }
    let x = chunk.x.groups(token)[piece.group..].as_ptr();
    let stride = chunk.x.group_stride();
    let [even, odd] = integers;
    let strip = &*piece.strip;
    // SAFETY: every token has a group for each of the strip's, `stride` groups after that of the token before; so too below.
    unsafe { multiply_even(&strip[0], x, stride, even) };
    for (index, group) in strip.iter().enumerate() {
        let next = strip.get(index + 1);
        let x = x.wrapping_add(index);
        // SAFETY: as above.
        unsafe {
            if index % 2 == 0 {
                if let Some(next) = next {
                    multiply_odd(next, x.add(1), stride, odd);
                }
                add::<B>(&mut sums, group, x, stride, even);
            } else {
                if let Some(next) = next {
                    multiply_even(next, x.add(1), stride, even);
                }
                add::<B>(&mut sums, group, x, stride, odd);
            }
        }
    }
    for (t, sums) in sums.into_iter().enumerate().skip(done) {
        // SAFETY: sixteen sums; the rows belong to this chunk, per the caller.
        unsafe {
            if piece.ends {
                store(chunk, token + t, piece.first, sums);
            } else {
                _mm512_store_ps(piece.sums[token + t].0.as_mut_ptr(), sums);
            }
        }
    }
}

/// Adds a group's integers to the sums.
#[inline]
#[target_feature(enable = "avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")]
unsafe fn add<B: Tiled>(
    sums: &mut [__m512; TOKENS],
    group: &StripGroup,
    x: *const ActivationGroup,
    stride: usize,
    integers: &Integers,
) {
    let scaling = scaling_of(group);
    for (t, sums) in sums.iter_mut().enumerate() {
        // SAFETY: the caller has as many tokens, `stride` groups apart; integers are whole cache lines.
        unsafe {
            let facts = &(*x.add(t * stride)).facts;
            let half = |half: usize| _mm512_load_si512(integers.0[half][t].as_ptr().cast());
            *sums = add_halves::<B>(*sums, [half(0), half(1)], &scaling, facts);
        }
    }
}

/// A function that stores the integers of a group of sixteen rows for sixteen tokens, by way of two tiles of its own: two groups
/// take turns, so that one need not wait until the other is stored.
macro_rules! multiply {
    ($name:ident, $first:literal, $second:literal) => {
        /// # Safety
        /// The tokens' groups are `stride` groups apart; tiles have these shapes.
        #[inline]
        unsafe fn $name(weights: &StripGroup, x: *const ActivationGroup, stride: usize, integers: &mut Integers) {
            // SAFETY: upheld by the caller. Levels are the first bytes of a strip's group and of an activation's.
            unsafe {
                asm!(
                    concat!("tilezero ", $first),
                    concat!("tilezero ", $second),
                    "tileloadd tmm6, [{weights} + {line}]",
                    "tileloadd tmm4, [{x} + {stride}]",
                    concat!("tdpbssd ", $first, ", tmm4, tmm6"),
                    "tileloadd tmm7, [{weights} + {line} + 256]",
                    "tileloadd tmm5, [{x} + {stride} + 16]",
                    concat!("tdpbssd ", $second, ", tmm5, tmm7"),
                    concat!("tilestored [{integers} + {line}], ", $first),
                    concat!("tilestored [{integers} + {line} + 1024], ", $second),
                    weights = in(reg) std::ptr::from_ref(weights),
                    x = in(reg) x,
                    integers = in(reg) std::ptr::from_mut(integers),
                    stride = in(reg) stride * size_of::<ActivationGroup>(),
                    line = in(reg) 64usize,
                    options(nostack),
                );
            }
        }
    };
}

multiply!(multiply_even, "tmm0", "tmm1");
multiply!(multiply_odd, "tmm2", "tmm3");
