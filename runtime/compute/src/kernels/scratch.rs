//! Memory that a thread keeps between calls for its strips of unpacked weights.
//!
//! It is small (a strip fits the first two caches) and starts on a cache line. What it holds is whatever the last caller left:
//! numbers, but not meaningful ones.

use std::cell::RefCell;

/// A type for which every bit pattern is a value.
///
/// # Safety
/// It holds numbers and vectors of them only, and no padding.
pub(super) unsafe trait Numbers: Copy {}

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only room")] [u8; 64]);

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with room for `count` values of `T`, left as the last call left it.
pub(super) fn with_scratch<T: Numbers, R>(count: usize, work: impl FnOnce(&mut [T]) -> R) -> R {
    const { assert!(align_of::<T>() <= 64) };
    LINES.with_borrow_mut(|lines| {
        let wanted = (count * size_of::<T>()).div_ceil(64);
        if lines.len() < wanted {
            lines.resize(wanted, Line([0; 64]));
        }
        // SAFETY: aligned and long enough by the above, exclusively borrowed, initialised, and any content is a `T`.
        work(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), count) })
    })
}
