//! One slice, written by several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose disjoint parts different threads write.
pub(crate) struct Disjoint<'a, T> {
    pointer: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for `&mut [T]` cut into parts; handing parts to other threads is `split_at_mut` plus sending the halves,
// which needs `T: Send`. That the parts are disjoint is what `part` asks of its callers.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { pointer: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Has the cache line of an item brought near, to be written to.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fetch(&self, item: usize) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: fetching never faults, wherever it points.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(self.pointer.wrapping_add(item).cast()) };
    }

    /// The part `range`, which must lie inside the slice.
    ///
    /// # Safety
    /// No two parts that are alive at the same time may overlap.
    #[allow(clippy::mut_from_ref, reason = "the point of the type; disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "part {range:?} of {} items", self.length);
        // SAFETY: in bounds by the check above, exclusive by the caller's promise, borrowed from the slice for 'a at least.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(range.start), range.len()) }
    }
}
