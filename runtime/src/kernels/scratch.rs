//! Memory that a thread keeps between calls for its strips of unpacked weights.
//!
//! It is small (a strip fits the first two caches), starts on a cache line and is never cleared: who asks for it fills it first.

use std::cell::RefCell;
use std::mem::MaybeUninit;

#[derive(Clone, Copy)]
#[repr(align(64))]
struct Line(#[expect(dead_code, reason = "only room")] MaybeUninit<[u8; 64]>);

thread_local! {
    static LINES: RefCell<Vec<Line>> = const { RefCell::new(Vec::new()) };
}

/// Calls `work` with room for `count` values of `T`, their content arbitrary.
pub(super) fn with_scratch<T: Copy, R>(count: usize, work: impl FnOnce(&mut [MaybeUninit<T>]) -> R) -> R {
    const { assert!(align_of::<T>() <= 64) };
    LINES.with_borrow_mut(|lines| {
        let wanted = (count * size_of::<T>()).div_ceil(64);
        if lines.len() < wanted {
            lines.resize(wanted, Line(MaybeUninit::uninit()));
        }
        // SAFETY: aligned and long enough by the above, exclusively borrowed, and `MaybeUninit` asks nothing of the content.
        work(unsafe { std::slice::from_raw_parts_mut(lines.as_mut_ptr().cast(), count) })
    })
}
