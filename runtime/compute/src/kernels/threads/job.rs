//! A job as its threads share it: the caller opens it, every thread takes chunks and reports them, and the caller joins.
//!
//! What a chunk does is not known here: `work` is a pointer that is handed on, never followed. Nor is how a worker waits for the
//! next job. Locks and atomics come from `super::sync`, so that `tests/loom` can run every interleaving of this file.
//!
//! The order that everything rests on: what the caller wrote before [`Job::open`] is seen by whoever [`Job::take`]s a chunk, and what
//! a thread did before [`Job::report`] is seen by the caller behind [`Job::join`].

use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

use super::sync::{AtomicPtr, AtomicU64, AtomicUsize, Condvar, Mutex};
use super::word::{End, Word};

/// Set in `pending` by a caller that went to sleep: whoever reports last wakes it.
const CALLER_SLEEPS: usize = 1 << (usize::BITS - 1);

/// Keeps what different threads write on different cache lines (128 bytes: adjacent lines are fetched in pairs).
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

/// What the caller writes to open a job, and every thread takes chunks from.
struct Opened {
    /// A [`Word`]; the rest is published by the store that opens a generation.
    word: AtomicU64,
    /// The caller's, and good while `pending` is not zero.
    work: AtomicPtr<()>,
    /// Where the caller ran when it opened the job.
    processor: AtomicUsize,
}

pub(super) struct Job {
    opened: Line<Opened>,
    /// Chunks of the open job that no thread has reported as finished.
    pending: Line<AtomicUsize>,
    join_lock: Mutex<()>,
    joined: Condvar,
}

impl Job {
    /// No job is open.
    pub(super) fn new() -> Self {
        Self {
            opened: Line(Opened {
                word: AtomicU64::new(0),
                work: AtomicPtr::new(ptr::null_mut()),
                processor: AtomicUsize::new(usize::MAX),
            }),
            pending: Line(AtomicUsize::new(0)),
            join_lock: Mutex::new(()),
            joined: Condvar::new(),
        }
    }

    /// Opens a job of `0..chunks`. Callers take turns, and the job before it was joined: it has no chunk left and none pending.
    #[inline]
    pub(super) fn open(&self, chunks: u16, work: *mut (), processor: usize) {
        let opened = &self.opened.0;
        opened.work.store(work, Relaxed);
        opened.processor.store(processor, Relaxed);
        self.pending.0.store(usize::from(chunks), Relaxed);
        let generation = Word::unpack(opened.word.load(Relaxed)).generation.wrapping_add(1);
        // Release publishes the above. SeqCst pairs with a worker's way to sleep: either it sees this job, or we see its flag.
        opened.word.store(Word { generation, front: 0, back: chunks }.pack(), SeqCst);
    }

    /// No chunk is left to take. Sequentially consistent, for workers that are about to sleep.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        Word::unpack(self.opened.0.word.load(SeqCst)).is_over()
    }

    /// Where the caller of the last job ran.
    #[inline]
    pub(super) fn processor(&self) -> usize {
        self.opened.0.processor.load(Relaxed)
    }

    /// Takes the next chunk of the open job at that end, with the job's work, if there is one. It belongs to this thread, and the
    /// work stays good, until the chunk is reported.
    #[inline]
    pub(super) fn take(&self, end: End) -> Option<(usize, *mut ())> {
        let opened = &self.opened.0;
        let mut packed = opened.word.load(Acquire);
        loop {
            let word = Word::unpack(packed);
            if word.is_over() {
                return None;
            }
            let (chunk, rest) = word.take(end);
            let work = opened.work.load(Relaxed);
            // Where the swap succeeds, this generation was open from our first look at the word until now: the next one opens only
            // after our report of this chunk. Hence `work` is this generation's: its store happened before our acquiring load, the
            // next one's happens after our report.
            match opened.word.compare_exchange_weak(packed, rest.pack(), AcqRel, Acquire) {
                Ok(_) => return Some((usize::from(chunk), work)),
                Err(now) => packed = now,
            }
        }
    }

    /// Reports chunks of one job that this thread took and finished: as many as it holds, since a chunk that was taken and not
    /// reported keeps the job open.
    #[inline]
    pub(super) fn report(&self, finished: usize) {
        if finished > 0 && self.pending.0.fetch_sub(finished, AcqRel) == CALLER_SLEEPS + finished {
            // The lock orders this notice after the caller's last look at `pending`.
            drop(self.join_lock.lock().unwrap_or_else(PoisonError::into_inner));
            self.joined.notify_all();
        }
    }

    /// Every chunk is reported.
    #[inline]
    pub(super) fn is_finished(&self) -> bool {
        self.pending.0.load(Acquire) == 0
    }

    /// Sleeps until every chunk is reported.
    pub(super) fn join(&self) {
        let pending = &self.pending.0;
        let mut guard = self.join_lock.lock().unwrap_or_else(PoisonError::into_inner);
        if pending.fetch_or(CALLER_SLEEPS, AcqRel) == 0 {
            return;
        }
        while pending.load(Acquire) != CALLER_SLEEPS {
            guard = self.joined.wait(guard).unwrap_or_else(PoisonError::into_inner);
        }
    }
}
