//! The Walsh–Hadamard transform of heads, for caches of few bits.
//!
//! One element of a key that is far larger than the others takes the levels of its whole block. The transform, orthonormal,
//! spreads it over all of them: levels then fit what is stored. Scores stay as they are when queries are transformed like keys,
//! and results come back when the transform, which is its own inverse, is applied to what has been summed of transformed values.
//!
//! Everything is sums and differences of two elements, so that all tables give the same bits.

use super::super::Kernels;
use super::super::threads::{Disjoint, Threads};

/// Elements that one thread takes at least: some microseconds of work.
const GRAIN: usize = 8192;

/// Elements that are transformed together in a head of so many: the largest power of two that divides it.
pub fn hadamard_block(width: usize) -> usize {
    1 << width.trailing_zeros()
}

/// Transforms every head of `x`, rows of heads of `width` elements, in place: each in blocks of [`hadamard_block`]. To be applied
/// to queries and keys, to values, and to the results of [`super::attention()`].
///
/// # Panics
/// If `x` is no whole heads, or they are empty.
pub fn hadamard(kernels: &Kernels, threads: &Threads, x: &mut [f32], width: usize) {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} elements are no heads of {width}", x.len());
    let block = hadamard_block(width);
    let blocks = x.len() / block;
    let x = Disjoint::new(x);
    threads.run_ranges(blocks, GRAIN.div_ceil(block), &|range| {
        // SAFETY: ranges of blocks are disjoint; a table is handed out only where the processor has what it needs.
        unsafe { (kernels.attention.hadamard)(x.part(range.start * block..range.end * block), block) }
    });
}

/// Elements side by side in which the smallest distances are done.
const SIDE: usize = 16;

/// Transforms blocks of `block` elements, a power of two. Plain code, for the compiler to vectorise with the features of the
/// function that it becomes a part of.
#[inline(always)]
pub(in crate::kernels) fn transform(x: &mut [f32], block: usize) {
    let factor = (1.0 / (block as f64).sqrt()) as f32;
    for x in x.chunks_exact_mut(block) {
        let mut distance = block / 2;
        while distance >= SIDE {
            for pair in x.chunks_exact_mut(2 * distance) {
                let (low, high) = pair.split_at_mut(distance);
                low.iter_mut().zip(high).for_each(|(low, high)| (*low, *high) = (*low + *high, *low - *high));
            }
            distance /= 2;
        }
        let (sides, rest) = x.as_chunks_mut::<SIDE>();
        for x in sides {
            *x = stage::<8>(*x);
            *x = stage::<4>(*x);
            *x = stage::<2>(*x);
            *x = stage::<1>(*x);
        }
        // A block that is smaller than that.
        let mut distance = rest.len() / 2;
        while distance > 0 {
            for pair in rest.chunks_exact_mut(2 * distance) {
                let (low, high) = pair.split_at_mut(distance);
                low.iter_mut().zip(high).for_each(|(low, high)| (*low, *high) = (*low + *high, *low - *high));
            }
            distance /= 2;
        }
        x.iter_mut().for_each(|x| *x *= factor);
    }
}

/// Sums and differences of elements that are `DISTANCE` apart.
#[inline(always)]
fn stage<const DISTANCE: usize>(x: [f32; SIDE]) -> [f32; SIDE] {
    std::array::from_fn(|at| {
        let other = x[at ^ DISTANCE];
        if at & DISTANCE == 0 { x[at] + other } else { other - x[at] }
    })
}
