//! Interleavings of a caller and a worker over two jobs of the thread pool, under the C11 memory model: the pool's own source
//! file, compiled with loom's atomics in place of the standard library's.
//!
//! Not covered: how a worker goes to sleep. That relies on sequentially consistent loads and stores of two words, which loom
//! treats as acquire and release, so it would report lost wake-ups that cannot happen; `threads/tests.rs` stress-tests it.
#![cfg(test)]

#[path = "../../../runtime/compute/src/kernels/threads/job.rs"]
#[allow(dead_code, reason = "parts that only the pool needs")]
mod job;
#[path = "../../../runtime/compute/src/kernels/threads/word.rs"]
mod word;

/// The pool's imports from the standard library.
mod sync {
    pub(super) use loom::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
    pub(super) use loom::sync::{Condvar, Mutex};
}

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

use job::Job;
use loom::cell::UnsafeCell;
use loom::sync::Arc;
use word::End;

const CHUNKS: u16 = 2;
const JOBS: usize = 2;

/// What a job's closure borrows from the caller's stack frame. The caller sets it before the job and clears it afterwards; loom
/// fails if a chunk's read is not ordered between the two.
struct Borrowed {
    alive: UnsafeCell<bool>,
    /// How often each chunk ran. Not a loom atomic, so that it adds no ordering.
    ran: [AtomicU32; CHUNKS as usize],
}

struct Pool {
    job: Job,
    borrowed: [Borrowed; JOBS],
}

impl Pool {
    fn new() -> Self {
        let borrowed = || Borrowed { alive: UnsafeCell::new(false), ran: [AtomicU32::new(0), AtomicU32::new(0)] };
        Self { job: Job::new(), borrowed: [borrowed(), borrowed()] }
    }

    /// Stands for the address of a closure; never dereferenced.
    fn address(&self, index: usize) -> *mut () {
        (&raw const self.borrowed[index]).cast_mut().cast()
    }

    /// Like `Shared::participate`: takes chunks until none is left, then reports them together.
    fn participate(&self, end: End) -> usize {
        let mut finished = 0;
        while let Some((chunk, work)) = self.job.take(end) {
            let index = (0..JOBS).find(|index| self.address(*index) == work).expect("the work of one of the jobs");
            // SAFETY: this is what the test checks; loom panics before it allows concurrent access.
            self.borrowed[index].alive.with(|alive| assert!(unsafe { *alive }, "the closure is gone"));
            self.borrowed[index].ran[chunk].fetch_add(1, Relaxed);
            finished += 1;
        }
        self.job.report(finished);
        finished
    }

    /// Like `Threads::run`.
    fn run(&self, index: usize) {
        let borrowed = &self.borrowed[index];
        // SAFETY: loom panics if another thread may access it.
        borrowed.alive.with_mut(|alive| unsafe { *alive = true });
        self.job.open(CHUNKS, self.address(index), 0);
        self.participate(End::Front);
        // The pool spins for a while before it sleeps.
        if !self.job.is_finished() {
            self.job.join();
        }
        // SAFETY: as above.
        borrowed.alive.with_mut(|alive| unsafe { *alive = false });
        assert!(borrowed.ran.iter().all(|times| times.load(Relaxed) == 1), "each chunk runs once");
    }
}

/// Runs both jobs alongside workers that each look for a job `JOBS` times, at any time; returns the chunks they took over all
/// interleavings.
fn explore(workers: &'static [End]) -> u32 {
    let taken = std::sync::Arc::new(AtomicU32::new(0));
    let sum = std::sync::Arc::clone(&taken);
    let mut model = loom::model::Builder::new();
    // Enough for every known kind of bug in such protocols; unbounded, it runs for hours.
    model.preemption_bound = Some(3);
    model.check(move || {
        let pool = Arc::new(Pool::new());
        let threads: Vec<_> = workers
            .iter()
            .map(|end| {
                let (pool, taken) = (Arc::clone(&pool), std::sync::Arc::clone(&sum));
                loom::thread::spawn(move || {
                    for _ in 0..JOBS {
                        taken.fetch_add(pool.participate(*end) as u32, Relaxed);
                    }
                })
            })
            .collect();
        (0..JOBS).for_each(|index| pool.run(index));
        threads.into_iter().for_each(|thread| thread.join().expect("no assertion failed"));
    });
    taken.load(Relaxed)
}

#[test]
fn a_worker_at_the_back() {
    assert!(explore(&[End::Back]) > 0, "the worker never took a chunk");
}

#[test]
fn a_worker_at_the_front() {
    assert!(explore(&[End::Front]) > 0, "the worker never took a chunk");
}
