//! Every reader against its type's definition in `quant`.

use std::arch::x86_64::*;

use super::Block;
use crate::kernels::avx2;
use crate::kernels::matmul::tests::noise::{Noise, Scales, weights};
use crate::quant::{self, GROUP};

/// Levels equal those of `quant` plus one constant for the whole type, and are within the type's bounds.
fn check<B: Block, Q: quant::Block>() {
    assert_eq!((B::BYTES, B::GROUPS), (Q::TYPE.block_bytes(), Q::TYPE.block_elements() / GROUP), "{}", Q::TYPE);
    assert_eq!(B::APART, Q::APART, "{}", Q::TYPE);
    assert!(!(B::APART && B::HALVES), "{}", Q::TYPE);
    let blocks = weights(&mut Noise(11), Q::TYPE, 1, 400 * Q::TYPE.block_elements(), Scales::Odd);
    let mut zero = None;
    for block in blocks.chunks_exact(B::BYTES) {
        for group in 0..B::GROUPS {
            let mut levels = [0u8; GROUP];
            // SAFETY: the caller checked for AVX2; a whole block, and room for 32 bytes.
            unsafe { _mm256_storeu_si256(levels.as_mut_ptr().cast(), B::levels(block.as_ptr(), group)) };
            for (column, (level, expected)) in levels.into_iter().zip(Q::group(block, group).levels).enumerate() {
                let level = if B::MAX_LEVEL.is_some() { i32::from(level) } else { i32::from(level as i8) };
                assert!(B::MAX_LEVEL.is_none_or(|max| (0..=max).contains(&level)), "{} level {level}", Q::TYPE);
                let moved = level - i32::from(expected);
                assert_eq!(moved, *zero.get_or_insert(moved), "{} group {group}, column {column}", Q::TYPE);
            }
        }
    }
    // Otherwise the offset absorbs the difference.
    if !B::OFFSET {
        assert_eq!(zero, Some(B::ZERO), "{}", Q::TYPE);
    }
}

#[test]
fn every_reader_gives_the_levels_of_quant() {
    if !avx2::runs_here() {
        println!("SKIPPED: this processor lacks {}", avx2::NEEDS);
        return;
    }
    macro_rules! check {
        ($($block:ident)*) => { $(check::<super::$block, quant::$block>();)* };
    }
    check!(Q8_0 Q4_0 Q4_1 Q5_0 Q5_1 Q2K Q3K Q4K Q5K Q6K);
    check!(IQ1S IQ1M IQ2XXS IQ2XS IQ2S IQ3XXS IQ3S IQ4NL IQ4XS TQ1_0 TQ2_0 MXFP4 NVFP4);
}
