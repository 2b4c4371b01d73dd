//! Memory that the system hands out as zeros: nobody clears it, and on machines with several memories a page of it is near the
//! thread that first writes to it.

use std::alloc::{Layout, alloc_zeroed};

use half::f16;

/// A number that is 0 if all its bytes are.
///
/// # Safety
/// Zero bytes are a valid value.
pub unsafe trait Zero: Copy {}

// SAFETY: +0.0.
unsafe impl Zero for f16 {}

// SAFETY: +0.0.
unsafe impl Zero for f32 {}

/// `count` zeros; `None` if there is no memory for them.
pub fn zeros<T: Zero>(count: usize) -> Option<Vec<T>> {
    if count == 0 {
        return Some(Vec::new());
    }
    let layout = Layout::array::<T>(count).ok()?;
    // SAFETY: the layout's size is not zero.
    let memory = unsafe { alloc_zeroed(layout) };
    // SAFETY: allocated with the layout of `count` elements, which zero bytes are.
    (!memory.is_null()).then(|| unsafe { Vec::from_raw_parts(memory.cast(), count, count) })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn they_are_zeros_or_nothing() {
        for count in [0, 1, 1000, 1 << 20] {
            let values = zeros::<f32>(count).expect("there is memory");
            assert!(values.len() == count && values.iter().all(|value| value.to_bits() == 0), "{count}");
        }
        assert_eq!(zeros::<f16>(3), Some(vec![f16::ZERO; 3]));
        assert!(zeros::<f32>(usize::MAX / 8).is_none() && zeros::<f16>(usize::MAX).is_none());
    }
}
