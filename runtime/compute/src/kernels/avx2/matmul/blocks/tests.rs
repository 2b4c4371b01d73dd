//! Every reader against its type's definition in `quant`.

use std::arch::x86_64::*;

use super::Block;
use crate::kernels::avx2;
use crate::kernels::matmul::tests::noise::{Noise, Scales, weights};
use crate::quant::{GROUP, by_type};

/// Levels equal those of `quant` plus one constant for the whole type, and are within the type's bounds.
fn check<B: Block>() {
    let blocks = weights(&mut Noise(11), B::TYPE, 1, 400 * B::TYPE.block_elements(), Scales::Odd);
    let mut zero = None;
    for block in blocks.chunks_exact(B::BYTES) {
        for group in 0..B::GROUPS {
            let mut levels = [0u8; GROUP];
            // SAFETY: the caller checked for AVX2; a whole block, and room for 32 bytes.
            unsafe { _mm256_storeu_si256(levels.as_mut_ptr().cast(), B::levels(block.as_ptr(), group)) };
            for (column, (level, expected)) in levels.into_iter().zip(B::group(block, group).levels).enumerate() {
                let level = if B::MAX_LEVEL.is_some() { i32::from(level) } else { i32::from(level as i8) };
                assert!(B::MAX_LEVEL.is_none_or(|max| (0..=max).contains(&level)), "{} level {level}", B::TYPE);
                let moved = level - i32::from(expected);
                assert_eq!(moved, *zero.get_or_insert(moved), "{} group {group}, column {column}", B::TYPE);
            }
        }
    }
    // Otherwise the offset absorbs the difference.
    if !B::OFFSET {
        assert_eq!(zero, Some(B::ZERO), "{}", B::TYPE);
    }
}

#[test]
fn every_reader_gives_the_levels_of_quant() {
    if !avx2::runs_here() {
        println!("SKIPPED: this processor lacks {}", avx2::NEEDS);
        return;
    }
    let checks = by_type!(Option<fn()>: plain P => None, B: Block => Some(check::<B> as fn()), else None);
    checks.into_iter().filter_map(|(_, check)| check).for_each(|check| check());
}
