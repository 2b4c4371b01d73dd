//! A job as shared by its threads: the caller opens it, every thread takes chunks and reports them, and the caller joins.
//!
//! What a chunk does is unknown here: `work` is a pointer that is passed on, never dereferenced. Nor does it matter how a worker
//! waits for the next job. Locks and atomics come from `super::sync`, so that `tests/loom` can check every interleaving of this
//! file.
//!
//! The ordering everything relies on: what the caller wrote before [`Job::open`] is visible to every thread that [`Job::take`]s a
//! chunk, and what a thread did before [`Job::report`] is visible to the caller after [`Job::join`].

use std::ptr;
use std::sync::PoisonError;
use std::sync::atomic::Ordering::{AcqRel, Acquire, Relaxed, SeqCst};

use super::sync::{AtomicPtr, AtomicU64, AtomicUsize, Condvar, Mutex};
use super::word::{End, Word};

/// Set in `pending` by a caller that went to sleep: the last to report wakes it.
const CALLER_SLEEPS: usize = 1 << (usize::BITS - 1);

/// Keeps data written by different threads on separate cache lines (128 bytes: adjacent lines are prefetched in pairs).
#[repr(align(128))]
pub(super) struct Line<T>(pub(super) T);

/// What the caller writes to open a job, and every thread takes chunks from.
struct Opened {
    /// A [`Word`]; the rest is published by the store that opens a generation.
    word: AtomicU64,
    /// The caller's, valid while `pending` is not zero.
    work: AtomicPtr<()>,
    /// CPU of the caller when it opened the job.
    processor: AtomicUsize,
}

pub(super) struct Job {
    opened: Line<Opened>,
    /// Chunks of the open job not yet reported as finished.
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

    /// Opens a job of `0..chunks`. Callers take turns, and the previous job was joined: it has no chunk left or pending.
    #[inline]
    pub(super) fn open(&self, chunks: u16, work: *mut (), processor: usize) {
        let opened = &self.opened.0;
        opened.work.store(work, Relaxed);
        opened.processor.store(processor, Relaxed);
        self.pending.0.store(usize::from(chunks), Relaxed);
        let generation = Word::unpack(opened.word.load(Relaxed)).generation.wrapping_add(1);
        // Release publishes the above. SeqCst pairs with a worker going to sleep: either it sees this job, or we see its flag.
        opened.word.store(Word { generation, front: 0, back: chunks }.pack(), SeqCst);
    }

    /// No chunk is left to take. Sequentially consistent, for workers about to sleep.
    #[inline]
    pub(super) fn is_over(&self) -> bool {
        Word::unpack(self.opened.0.word.load(SeqCst)).is_over()
    }

    /// CPU of the last job's caller.
    #[inline]
    pub(super) fn processor(&self) -> usize {
        self.opened.0.processor.load(Relaxed)
    }

    /// Takes the open job's next chunk from that end, with the job's work, if any. The chunk belongs to this thread, and the work
    /// stays valid, until the chunk is reported.
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
            // If the swap succeeds, this generation was open from our first read of the word until now: the next one opens only
            // after we report this chunk. Hence `work` is this generation's: its store happened before our acquiring load, the
            // next one's happens after our report.
            match opened.word.compare_exchange_weak(packed, rest.pack(), AcqRel, Acquire) {
                Ok(_) => return Some((usize::from(chunk), work)),
                Err(now) => packed = now,
            }
        }
    }

    /// Reports chunks of one job that this thread took and finished. Any number, since a chunk taken but not reported keeps the
    /// job open.
    #[inline]
    pub(super) fn report(&self, finished: usize) {
        if finished > 0 && self.pending.0.fetch_sub(finished, AcqRel) == CALLER_SLEEPS + finished {
            // The lock orders this notification after the caller's last check of `pending`.
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
