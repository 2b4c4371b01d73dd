//! A memory budget shared by all requests, since many at once could otherwise each take the most that one may.
//!
//! Bodies count as they arrive, and the cost of parsing one before it is parsed. A request that exceeds the budget is
//! refused with 503; nothing waits here.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A byte budget, shared by all requests.
#[derive(Debug)]
pub struct Budget {
    left: AtomicUsize,
}

impl Budget {
    /// A budget of `bytes` bytes.
    pub fn new(bytes: usize) -> Arc<Self> {
        Arc::new(Self { left: AtomicUsize::new(bytes) })
    }

    /// An empty reservation.
    pub fn reserve(self: &Arc<Self>) -> Reservation {
        Reservation { budget: Arc::clone(self), bytes: 0 }
    }
}

/// Bytes reserved from a budget; returned on drop.
#[derive(Debug)]
pub struct Reservation {
    budget: Arc<Budget>,
    bytes: usize,
}

impl Reservation {
    /// Grows the reservation to `bytes`; false, with nothing changed, if the budget does not have that many left.
    #[must_use]
    pub fn grow_to(&mut self, bytes: usize) -> bool {
        let more = bytes.saturating_sub(self.bytes);
        let taken =
            self.budget.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(more)).is_ok();
        if taken {
            self.bytes += more;
        }
        taken
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        self.budget.left.fetch_add(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reservations_return_their_bytes() {
        let budget = Budget::new(100);
        let (mut first, mut second) = (budget.reserve(), budget.reserve());
        assert!(first.grow_to(60) && first.grow_to(30), "it holds more than that already");
        assert!(!second.grow_to(41) && second.grow_to(40));
        drop(first);
        assert!(second.grow_to(100) && !budget.reserve().grow_to(1));
    }
}
