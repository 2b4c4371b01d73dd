//! How each quantised type gives up 32 columns to AVX2: the levels of a row as bytes, and the scales of eight rows as lanes.
//!
//! A new type is one implementation of [`Block`]. The layouts themselves are described in `quant`.

use std::arch::x86_64::*;

/// Eight rows whose blocks are read together; a row that does not exist is another one twice.
pub(in crate::kernels) type Rows = [*const u8; 8];

/// What eight rows' blocks hold beside the levels: lane = row, index = group of the block.
pub(in crate::kernels) struct Header {
    pub(in crate::kernels) scale: [__m256; 8],
    /// Where [`Block::OFFSET`].
    pub(in crate::kernels) offset: [__m256; 8],
    /// Where [`Block::HALVES`]: the integer scales of both halves of the group, as a pair of i16.
    pub(in crate::kernels) halves: [__m256i; 8],
}

impl Header {
    #[target_feature(enable = "avx2")]
    pub(in crate::kernels) fn new() -> Self {
        let (zeros, zero) = (_mm256_setzero_ps(), _mm256_setzero_si256());
        Header { scale: [zeros; 8], offset: [zeros; 8], halves: [zero; 8] }
    }
}

/// A quantised type as AVX2 reads it.
pub(in crate::kernels) trait Block {
    /// Bytes of a block.
    const BYTES: usize;
    /// Groups of 32 columns in it.
    const GROUPS: usize;
    /// Levels are at most this, from 0; or, for signed levels, `None`.
    const MAX_LEVEL: Option<i32>;
    /// Groups add an f32 offset to every weight.
    const OFFSET: bool = false;
    /// Each half of a group has its own integer scale, and its levels count from [`Block::HALVES_ZERO`].
    const HALVES: bool = false;
    /// The stored level that stands for 0 where [`Block::HALVES`]; even, and at most 32.
    const HALVES_ZERO: i32 = 0;

    /// How many products of a pair of columns an i16 holds; no more than the four of a half.
    const SUMS: usize = match Self::MAX_LEVEL {
        None => 1,
        Some(max) => {
            let products = i16::MAX as i32 / (2 * 127 * max);
            if products >= 4 {
                4
            } else if products >= 2 {
                2
            } else {
                1
            }
        }
    };

    /// Reads what a block of each row holds beside the levels.
    ///
    /// # Safety
    /// A block lies at each row; the processor has AVX2, FMA and F16C.
    unsafe fn header(rows: &Rows, header: &mut Header);

    /// The levels of a group of the block, in the order of columns.
    ///
    /// # Safety
    /// As above.
    unsafe fn levels(block: *const u8, group: usize) -> __m256i;
}

/// f16 scale, nibbles, 8 = zero.
pub(in crate::kernels) struct Q4_0;
/// f16 scale, f16 minimum, nibbles.
pub(in crate::kernels) struct Q4_1;
/// f16 scale, fifth bits, nibbles, 16 = zero.
pub(in crate::kernels) struct Q5_0;
/// f16 scale, f16 minimum, fifth bits, nibbles.
pub(in crate::kernels) struct Q5_1;
/// f16 scale, signed bytes.
pub(in crate::kernels) struct Q8_0;
/// Two f16, 6-bit scales and minimums, nibbles.
pub(in crate::kernels) struct Q4K;
/// Two f16, 6-bit scales and minimums, fifth bits, nibbles.
pub(in crate::kernels) struct Q5K;
/// Nibbles, upper bit pairs, signed scales of 16 columns, f16 scale, 32 = zero.
pub(in crate::kernels) struct Q6K;

impl Block for Q4_0 {
    const BYTES: usize = 18;
    const GROUPS: usize = 1;
    const MAX_LEVEL: Option<i32> = Some(15);
    const OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        header.scale[0] = unsafe { f16_of(rows, 0) };
        header.offset[0] = _mm256_mul_ps(header.scale[0], _mm256_set1_ps(-8.0));
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe { nibbles(block.add(2)) }
    }
}

impl Block for Q4_1 {
    const BYTES: usize = 20;
    const GROUPS: usize = 1;
    const MAX_LEVEL: Option<i32> = Some(15);
    const OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        (header.scale[0], header.offset[0]) = unsafe { f16_pairs_of(rows) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe { nibbles(block.add(4)) }
    }
}

impl Block for Q5_0 {
    const BYTES: usize = 22;
    const GROUPS: usize = 1;
    const MAX_LEVEL: Option<i32> = Some(31);
    const OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        header.scale[0] = unsafe { f16_of(rows, 0) };
        header.offset[0] = _mm256_mul_ps(header.scale[0], _mm256_set1_ps(-16.0));
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe { _mm256_or_si256(nibbles(block.add(6)), fifth_bits(block.add(2))) }
    }
}

impl Block for Q5_1 {
    const BYTES: usize = 24;
    const GROUPS: usize = 1;
    const MAX_LEVEL: Option<i32> = Some(31);
    const OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        (header.scale[0], header.offset[0]) = unsafe { f16_pairs_of(rows) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe { _mm256_or_si256(nibbles(block.add(8)), fifth_bits(block.add(4))) }
    }
}

impl Block for Q8_0 {
    const BYTES: usize = 34;
    const GROUPS: usize = 1;
    const MAX_LEVEL: Option<i32> = None;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        header.scale[0] = unsafe { f16_of(rows, 0) };
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, _: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe { _mm256_loadu_si256(block.add(2).cast()) }
    }
}

impl Block for Q4K {
    const BYTES: usize = 144;
    const GROUPS: usize = 8;
    const MAX_LEVEL: Option<i32> = Some(15);
    const OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        unsafe { six_bit_header(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe { k_nibbles(block.add(16), group) }
    }
}

impl Block for Q5K {
    const BYTES: usize = 176;
    const GROUPS: usize = 8;
    const MAX_LEVEL: Option<i32> = Some(31);
    const OFFSET: bool = true;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        unsafe { six_bit_header(rows, header) }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        // SAFETY: passed on from the caller.
        unsafe {
            let bits = _mm256_loadu_si256(block.add(16).cast());
            let bit = _mm256_srl_epi16(bits, _mm_cvtsi32_si128(group as i32));
            let bit = _mm256_and_si256(bit, _mm256_set1_epi8(1));
            _mm256_or_si256(k_nibbles(block.add(48), group), _mm256_slli_epi16::<4>(bit))
        }
    }
}

impl Block for Q6K {
    const BYTES: usize = 210;
    const GROUPS: usize = 8;
    const MAX_LEVEL: Option<i32> = Some(63);
    const HALVES: bool = true;
    const HALVES_ZERO: i32 = 32;

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn header(rows: &Rows, header: &mut Header) {
        // SAFETY: passed on from the caller.
        unsafe {
            header.scale = [f16_of(rows, 208); 8];
            // Sixteen signed scales a row, a pair for each group, widened to eight pairs of i16.
            let mut pairs = [_mm256_setzero_si256(); 8];
            for (pairs, row) in pairs.iter_mut().zip(rows) {
                *pairs = _mm256_cvtepi8_epi16(_mm_loadu_si128(row.add(192).cast()));
            }
            header.halves = transpose(pairs);
        }
    }

    #[inline]
    #[target_feature(enable = "avx2,fma,f16c")]
    unsafe fn levels(block: *const u8, group: usize) -> __m256i {
        let (half, part) = (group / 4, group % 4);
        // SAFETY: passed on from the caller.
        let (low, high) = unsafe {
            (
                _mm256_loadu_si256(block.add(64 * half + 32 * (part % 2)).cast()),
                _mm256_loadu_si256(block.add(128 + 32 * half).cast()),
            )
        };
        let low = _mm256_srl_epi16(low, _mm_cvtsi32_si128(4 * (part / 2) as i32));
        let low = _mm256_and_si256(low, _mm256_set1_epi8(15));
        let high = _mm256_srl_epi16(high, _mm_cvtsi32_si128(2 * part as i32));
        let high = _mm256_and_si256(high, _mm256_set1_epi8(3));
        _mm256_or_si256(low, _mm256_slli_epi16::<4>(high))
    }
}

/// An f16 of each row.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16_of(rows: &Rows, offset: usize) -> __m256 {
    // SAFETY: the caller has a block at each row, `offset` lies two bytes before its end at least.
    let bits = rows.map(|row| unsafe { row.add(offset).cast::<i16>().read_unaligned() });
    let bits = _mm_setr_epi16(bits[0], bits[1], bits[2], bits[3], bits[4], bits[5], bits[6], bits[7]);
    _mm256_cvtph_ps(bits)
}

/// The two f16 that each row's block begins with.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn f16_pairs_of(rows: &Rows) -> (__m256, __m256) {
    // SAFETY: the caller has a block at each row.
    let bits = rows.map(|row| unsafe { row.cast::<i32>().read_unaligned() });
    let apart = _mm_setr_epi8(0, 1, 4, 5, 8, 9, 12, 13, 2, 3, 6, 7, 10, 11, 14, 15);
    let front = _mm_shuffle_epi8(_mm_setr_epi32(bits[0], bits[1], bits[2], bits[3]), apart);
    let back = _mm_shuffle_epi8(_mm_setr_epi32(bits[4], bits[5], bits[6], bits[7]), apart);
    (_mm256_cvtph_ps(_mm_unpacklo_epi64(front, back)), _mm256_cvtph_ps(_mm_unpackhi_epi64(front, back)))
}

/// 16 bytes of nibbles: the low ones, then the high ones.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn nibbles(bytes: *const u8) -> __m256i {
    // SAFETY: the caller has 16 bytes there.
    let twice = _mm256_broadcastsi128_si256(unsafe { _mm_loadu_si128(bytes.cast()) });
    let shifted = _mm256_srlv_epi64(twice, _mm256_setr_epi64x(0, 0, 4, 4));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// 32 bits to 32 bytes of 0 or 16.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn fifth_bits(bytes: *const u8) -> __m256i {
    // SAFETY: the caller has four bytes there.
    let bits = _mm256_set1_epi32(unsafe { bytes.cast::<i32>().read_unaligned() });
    // Each byte to eight bytes, of which each keeps its bit.
    let spread = _mm256_setr_epi64x(0, 0x0101_0101_0101_0101, 0x0202_0202_0202_0202, 0x0303_0303_0303_0303);
    let bit = _mm256_set1_epi64x(0x8040_2010_0804_0201_u64 as i64);
    let kept = _mm256_and_si256(_mm256_shuffle_epi8(bits, spread), bit);
    _mm256_and_si256(_mm256_cmpeq_epi8(kept, bit), _mm256_set1_epi8(16))
}

/// Each 32 bytes hold two groups: the even one in the low nibbles, the odd one in the high nibbles.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn k_nibbles(bytes: *const u8, group: usize) -> __m256i {
    // SAFETY: the caller has 128 bytes there.
    let both = unsafe { _mm256_loadu_si256(bytes.add(32 * (group / 2)).cast()) };
    let shifted = _mm256_srl_epi16(both, _mm_cvtsi32_si128(4 * (group % 2) as i32));
    _mm256_and_si256(shifted, _mm256_set1_epi8(15))
}

/// Scales and minimums of eight rows of Q4_K or Q5_K.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn six_bit_header(rows: &Rows, header: &mut Header) {
    // SAFETY: passed on from the caller.
    let (scale, minimum) = unsafe { f16_pairs_of(rows) };
    let zero = _mm256_setzero_si256();
    let (mut scales, mut minimums) = ([zero; 8], [zero; 8]);
    for (row, (scales, minimums)) in rows.iter().zip(scales.iter_mut().zip(&mut minimums)) {
        // SAFETY: a block is longer than 16 bytes.
        let word = |offset: usize| u64::from(unsafe { row.add(4 + offset).cast::<u32>().read_unaligned() });
        let (first, second, third) = (word(0), word(4), word(8));
        // Groups 0..4 in the lower four bytes, 4..8 in the upper four: see `quant::k`.
        let scale_bytes = first & 0x3f3f_3f3f | (third & 0x0f0f_0f0f | first >> 2 & 0x3030_3030) << 32;
        let minimum_bytes = second & 0x3f3f_3f3f | (third >> 4 & 0x0f0f_0f0f | second >> 2 & 0x3030_3030) << 32;
        *scales = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(scale_bytes as i64));
        *minimums = _mm256_cvtepu8_epi32(_mm_cvtsi64_si128(minimum_bytes as i64));
    }
    let minus = _mm256_sub_ps(_mm256_setzero_ps(), minimum);
    let (scales, minimums) = (transpose(scales), transpose(minimums));
    for group in 0..8 {
        header.scale[group] = _mm256_mul_ps(scale, _mm256_cvtepi32_ps(scales[group]));
        header.offset[group] = _mm256_mul_ps(minus, _mm256_cvtepi32_ps(minimums[group]));
    }
}

/// Rows and columns of 8 × 8 words of 32 bits exchanged.
#[inline]
#[target_feature(enable = "avx2,fma,f16c")]
pub(in crate::kernels) fn transpose(rows: [__m256i; 8]) -> [__m256i; 8] {
    let [a, b, c, d, e, f, g, h] = rows;
    let pairs = |a, b| (_mm256_unpacklo_epi32(a, b), _mm256_unpackhi_epi32(a, b));
    let ((ab0, ab1), (cd0, cd1), (ef0, ef1), (gh0, gh1)) = (pairs(a, b), pairs(c, d), pairs(e, f), pairs(g, h));
    let quads = |a, b| (_mm256_unpacklo_epi64(a, b), _mm256_unpackhi_epi64(a, b));
    let ((front0, front1), (front2, front3)) = (quads(ab0, cd0), quads(ab1, cd1));
    let ((back0, back1), (back2, back3)) = (quads(ef0, gh0), quads(ef1, gh1));
    [
        _mm256_permute2x128_si256::<0x20>(front0, back0),
        _mm256_permute2x128_si256::<0x20>(front1, back1),
        _mm256_permute2x128_si256::<0x20>(front2, back2),
        _mm256_permute2x128_si256::<0x20>(front3, back3),
        _mm256_permute2x128_si256::<0x31>(front0, back0),
        _mm256_permute2x128_si256::<0x31>(front1, back1),
        _mm256_permute2x128_si256::<0x31>(front2, back2),
        _mm256_permute2x128_si256::<0x31>(front3, back3),
    ]
}
