//! One slice, written by several threads.

use std::marker::PhantomData;
use std::ops::Range;

/// A mutable slice whose disjoint parts are written by different threads.
pub(crate) struct Disjoint<'a, T> {
    pointer: *mut T,
    length: usize,
    slice: PhantomData<&'a mut [T]>,
}

// SAFETY: it stands for `&mut [T]` split into parts; handing parts to other threads is `split_at_mut` plus sending the halves,
// which needs `T: Send`. `part` requires its callers to keep parts disjoint.
unsafe impl<T: Send> Sync for Disjoint<'_, T> {}

impl<'a, T> Disjoint<'a, T> {
    pub(crate) fn new(slice: &'a mut [T]) -> Self {
        Disjoint { pointer: slice.as_mut_ptr(), length: slice.len(), slice: PhantomData }
    }

    /// Prefetches an item's cache line for writing.
    #[inline]
    #[cfg(target_arch = "x86_64")]
    pub(crate) fn fetch(&self, item: usize) {
        use std::arch::x86_64::{_MM_HINT_ET0, _mm_prefetch};
        // SAFETY: prefetching never faults, whatever the address.
        unsafe { _mm_prefetch::<_MM_HINT_ET0>(self.pointer.wrapping_add(item).cast()) };
    }

    /// The part `range`, which must lie inside the slice.
    ///
    /// # Safety
    /// No two parts may overlap while both are alive.
    #[allow(clippy::mut_from_ref, reason = "the point of the type; disjointness is the caller's promise")]
    pub(crate) unsafe fn part(&self, range: Range<usize>) -> &mut [T] {
        assert!(range.start <= range.end && range.end <= self.length, "part {range:?} of {} items", self.length);
        // SAFETY: in bounds by the check above, exclusive as the caller guarantees, borrowed from the slice for at least 'a.
        unsafe { std::slice::from_raw_parts_mut(self.pointer.add(range.start), range.len()) }
    }
}
