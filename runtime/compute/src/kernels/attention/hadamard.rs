//! Walsh–Hadamard transform of heads, for low-bit caches.
//!
//! A key element far larger than the others would use up the levels of its whole block. The orthonormal transform spreads it over
//! all elements, so that the levels fit the data. Scores are unchanged if queries are transformed like keys; and since the
//! transform is its own inverse, applying it to a weighted sum of transformed values restores the result.
//!
//! Only sums and differences of pairs, so all tables are bit-identical.

use super::super::Kernels;
use super::super::threads::Threads;

/// Minimum elements per thread: a few microseconds of work.
const GRAIN: usize = 8192;

/// Block size within a head of `width` elements: the largest power of two that divides it.
pub fn hadamard_block(width: usize) -> usize {
    1 << width.trailing_zeros()
}

/// Transforms every head of `x`, rows of heads of `width` elements, in place, in blocks of [`hadamard_block`]. Apply to queries
/// and keys, to values, and to the results of [`super::attention()`].
///
/// # Panics
/// If `x` is not whole heads, or heads are empty.
pub fn hadamard(kernels: &Kernels, threads: &Threads, x: &mut [f32], width: usize) {
    assert!(width > 0 && x.len().is_multiple_of(width), "{} elements are no heads of {width}", x.len());
    let block = hadamard_block(width);
    threads.run_rows(x, block, GRAIN.div_ceil(block), &|_, x| {
        // SAFETY: tables are handed out only on processors that support them.
        unsafe { (kernels.attention.hadamard)(x, block) }
    });
}

/// Adjacent elements within which the smallest distances are processed.
const SIDE: usize = 16;

/// Transforms blocks of `block` elements, a power of two. Plain code, vectorised by the compiler with the target features of the
/// function it is inlined into.
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
        // A block smaller than that.
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

/// Butterflies of elements `DISTANCE` apart.
#[inline(always)]
fn stage<const DISTANCE: usize>(x: [f32; SIDE]) -> [f32; SIDE] {
    std::array::from_fn(|at| {
        let other = x[at ^ DISTANCE];
        if at & DISTANCE == 0 { x[at] + other } else { other - x[at] }
    })
}
