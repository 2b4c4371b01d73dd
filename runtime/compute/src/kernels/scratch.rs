//! Memory that a thread keeps between calls for its strips of unpacked weights.
//!
//! It is small (strips and partial sums fit L1 and L2) and cache-line aligned. It holds whatever the last caller left:
//! initialised, but meaningless.

use std::cell::RefCell;

/// A type for which every bit pattern is valid.
///
/// # Safety
/// It consists of numbers and vectors of them only, without padding.
pub(super) unsafe trait Numbers: Copy {}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only room")] [u8; 64]);

// SAFETY: bytes.
unsafe impl Numbers for Line {}

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with room for `count` values of `T`, with arbitrary contents.
pub(super) fn with_scratch<T: Numbers, R>(count: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    with_two_scratches::<T, Line, R>(count, 0, |values, _| work(values))
}

/// The same for values of two types.
pub(super) fn with_two_scratches<T: Numbers, U: Numbers, R>(
    count: usize,
    other_count: usize,
    work: impl FnOnce(&mut [T], &mut [U]) -> R,
) -> R {
    const { assert!(align_of::<T>() <= 64 && align_of::<U>() <= 64) };
    let (lines_of, others) = ((count * size_of::<T>()).div_ceil(64), (other_count * size_of::<U>()).div_ceil(64));
    LINES.with_borrow_mut(|lines| {
        if lines.len() < lines_of + others {
            lines.resize(lines_of + others, Line([0; 64]));
        }
        let (first, second) = lines.split_at_mut(lines_of);
        // SAFETY: aligned and long enough by the above, exclusively borrowed, initialised, and any contents are a valid `T` or
        // `U`.
        unsafe {
            work(
                std::slice::from_raw_parts_mut(first.as_mut_ptr().cast(), count),
                std::slice::from_raw_parts_mut(second.as_mut_ptr().cast(), other_count),
            )
        }
    })
}
