//! The threads that cooperate within one token: a pool whose calling thread takes part.
//!
//! A job is a number of chunks and one closure. Every thread takes the next chunk from one atomic word until none is left, so a
//! slow or pre-empted thread delays one chunk and never a fixed share. The caller and every second worker take from the front,
//! the others from the back: with two threads each has its own contiguous range, and what it prefetches is what it takes next.
//! The caller never waits for a worker that took nothing: if every worker sleeps it does the whole job alone. Workers spin for
//! some tens of microseconds between jobs (a token needs over a hundred), then sleep; an idle pool uses no CPU time. A worker
//! yields its CPU between two chunks before the system would pre-empt it within one (`presence`).
//!
//! Not for coarse work (hashing, packing: `rayon`), and not a scheduler: one job at a time, no results, no order.
//!
//! The one idea to know is why a borrowed closure is safe here. The word holds the job's generation and the remaining chunks, and
//! a chunk is taken by compare-and-swap on it. A thread that took one is counted in `pending` until it reports, and `run` does
//! not return before `pending` is zero. That is `job`, of which `tests/loom` checks every interleaving. A late worker that read
//! the word of a finished job cannot take anything: the swap fails, because the generation or the range has moved on, and what it
//! read about the job is discarded unused.
#![allow(unsafe_code)]

mod disjoint;
mod job;
mod presence;
mod word;

/// The primitives of `job`; `tests/loom` substitutes its own.
mod sync {
    pub(super) use std::sync::atomic::{AtomicPtr, AtomicU64, AtomicUsize};
    pub(super) use std::sync::{Condvar, Mutex};
}

use std::any::Any;
use std::cell::Cell;
use std::ops::Range;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::ptr;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Acquire, Relaxed, Release, SeqCst};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

pub(crate) use disjoint::Disjoint;
use job::{Job, Line};
use presence::Presence;
use word::End;

/// How long a worker spins for the next job before it sleeps. Waking one costs the caller a system call and the job some 50 µs of
/// that worker's help; gaps between a token's jobs are shorter than this.
const WORKER_SPIN: Duration = Duration::from_micros(60);

/// How long the caller spins for the last report before it sleeps. After this long, a worker that holds a chunk has most likely
/// been pre-empted; sleeping gives it our CPU.
const JOIN_SPIN: Duration = Duration::from_micros(40);

type Work<'a> = &'a (dyn Fn(usize) + Sync);

thread_local! {
    /// True in a worker, and in a caller while it runs chunks: a nested `run` then runs inline.
    static IN_JOB: Cell<bool> = const { Cell::new(false) };
}

struct Shared {
    job: Job,
    /// A chunk of the open job panicked: the remaining ones are taken, but not run.
    panicked: AtomicBool,
    panic: Mutex<Option<Box<dyn Any + Send>>>,
    closing: AtomicBool,
    /// One flag per worker: it sleeps, or is about to.
    asleep: Vec<Line<AtomicBool>>,
}

/// A pool of threads, including the calling one. Dropping it stops and joins the workers.
pub struct Threads {
    shared: Arc<Shared>,
    workers: Vec<JoinHandle<()>>,
    /// Held during a job: concurrent callers take turns.
    turn: Mutex<()>,
}

impl Threads {
    /// A pool of `threads` threads: the caller of [`Threads::run`] and `threads - 1` workers (0 counts as 1). If the system
    /// refuses more threads, the pool is smaller; see [`Threads::count`].
    pub fn new(threads: usize) -> Self {
        let wanted = threads.max(1) - 1;
        let shared = Arc::new(Shared {
            job: Job::new(),
            panicked: AtomicBool::new(false),
            panic: Mutex::new(None),
            closing: AtomicBool::new(false),
            asleep: (0..wanted).map(|_| Line(AtomicBool::new(false))).collect(),
        });
        let mut workers = Vec::with_capacity(wanted);
        for index in 0..wanted {
            let shared = Arc::clone(&shared);
            let worker = thread::Builder::new().name(format!("worker-{}", index + 1));
            match worker.spawn(move || shared.serve(index)) {
                Ok(handle) => workers.push(handle),
                Err(_) => break,
            }
        }
        Threads { shared, workers, turn: Mutex::new(()) }
    }

    /// Threads that work on a job, including the caller.
    pub fn count(&self) -> usize {
        self.workers.len() + 1
    }

    /// Calls `work(chunk)` once for each chunk of `0..chunks`, on any thread and in any order, and returns when all are done.
    ///
    /// A panic in `work` reaches the caller once the chunks already taken are done; the rest are not run and the pool stays
    /// usable. Concurrent callers take turns. A call from inside `work` runs inline on its own thread.
    ///
    /// # Panics
    /// If `work` panics.
    pub fn run(&self, chunks: usize, work: &(dyn Fn(usize) + Sync)) {
        if chunks <= 1 || self.workers.is_empty() || IN_JOB.get() {
            (0..chunks).for_each(work);
            return;
        }
        let Ok(back) = u16::try_from(chunks) else {
            let several = chunks.div_ceil(u16::MAX.into());
            return self.run(chunks.div_ceil(several), &|first| {
                (first * several..chunks.min((first + 1) * several)).for_each(work);
            });
        };
        let turn = lock(&self.turn);
        self.shared.open(back, &work);
        self.wake(chunks - 1);
        IN_JOB.set(true);
        self.shared.participate(End::Front, || false);
        IN_JOB.set(false);
        // From here on no thread holds a chunk, so none can reach `work` any more.
        self.shared.join();
        let panic = if self.shared.panicked.load(Acquire) { lock(&self.shared.panic).take() } else { None };
        drop(turn);
        if let Some(payload) = panic {
            resume_unwind(payload);
        }
    }

    /// [`Threads::run`] over `0..items` in ranges of at least `grain` items (except the last), few enough that taking one costs
    /// nothing against its work.
    pub fn run_ranges(&self, items: usize, grain: usize, work: &(dyn Fn(Range<usize>) + Sync)) {
        let share = items.div_ceil(self.count() * 4).max(grain).max(1);
        self.run(items.div_ceil(share), &|chunk| work(chunk * share..((chunk + 1) * share).min(items)));
    }

    /// The same over rows of `columns` elements: calls `work(range, rows)` with the range's part of `x`.
    ///
    /// # Panics
    /// If `x` is not whole rows.
    pub fn run_rows<T: Send>(
        &self,
        x: &mut [T],
        columns: usize,
        grain: usize,
        work: &(dyn Fn(Range<usize>, &mut [T]) + Sync),
    ) {
        if x.is_empty() {
            return;
        }
        assert!(columns > 0 && x.len().is_multiple_of(columns), "{} elements are no rows of {columns}", x.len());
        let rows = x.len() / columns;
        let x = Disjoint::new(x);
        self.run_ranges(rows, grain, &|range| {
            // SAFETY: `run_ranges` hands out disjoint ranges.
            work(range.clone(), unsafe { x.part(range.start * columns..range.end * columns) });
        });
    }

    /// Wakes up to `wanted` sleeping workers.
    fn wake(&self, wanted: usize) {
        let sleeping = self.workers.iter().zip(&self.shared.asleep).filter(|(_, asleep)| asleep.0.load(SeqCst));
        for (worker, asleep) in sleeping.take(wanted) {
            if asleep.0.swap(false, SeqCst) {
                worker.thread().unpark();
            }
        }
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        self.shared.closing.store(true, SeqCst);
        for worker in self.workers.drain(..) {
            worker.thread().unpark();
            // A worker catches its work's panics, so there is none to propagate here.
            let _ = worker.join();
        }
    }
}

impl Shared {
    /// Opens a job. The caller holds the turn, so the previous job has no chunk left or pending.
    fn open(&self, back: u16, work: &Work<'_>) {
        self.panicked.store(false, Relaxed);
        self.job.open(back, ptr::from_ref(work).cast_mut().cast(), presence::processor());
    }

    /// Takes the open job's next chunk from that end, if any. It belongs to this thread until reported.
    fn take(&self, end: End) -> Option<(usize, Work<'_>)> {
        let (chunk, work) = self.job.take(end)?;
        // SAFETY: this is the `work` of the chunk's job, valid until the chunk is reported: `run` keeps the reference it points
        // to, and the closure behind that, until every chunk is.
        let work = unsafe { *work.cast::<Work<'_>>() };
        Some((chunk, work))
    }

    /// Takes and runs chunks until none is left or `leave` returns true, then reports them.
    fn participate(&self, end: End, mut leave: impl FnMut() -> bool) {
        let mut finished = 0;
        // A chunk taken but not reported keeps the generation open, so all of these are of one job.
        while !leave()
            && let Some((chunk, work)) = self.take(end)
        {
            if !self.panicked.load(Relaxed)
                && let Err(payload) = catch_unwind(AssertUnwindSafe(|| work(chunk)))
            {
                let mut first = lock(&self.panic);
                match *first {
                    None => *first = Some(payload),
                    // Dropping a payload is foreign code that may itself panic, and nothing may unwind here.
                    Some(_) => std::mem::forget(payload),
                }
                self.panicked.store(true, Release);
            }
            finished += 1;
        }
        self.job.report(finished);
    }

    /// Waits for the chunks that other threads hold.
    fn join(&self) {
        if !spin_until(JOIN_SPIN, || self.job.is_finished()) {
            self.job.join();
        }
    }

    /// A worker's main loop.
    fn serve(&self, index: usize) {
        IN_JOB.set(true);
        let wanted = || !self.job.is_over() || self.closing.load(SeqCst);
        let end = if index.is_multiple_of(2) { End::Back } else { End::Front };
        let mut presence = Presence::new();
        loop {
            if presence.is_over() {
                presence.leave();
            }
            if !spin_until(WORKER_SPIN, wanted) {
                let asleep = &self.asleep[index].0;
                asleep.store(true, SeqCst);
                // With the flag set, check once more: a caller that opened its job before saw no flag and sends no wake-up.
                if !wanted() {
                    thread::park();
                }
                // Woken too late for that job, or spuriously: the next job is probably near, so spin again.
                asleep.store(false, SeqCst);
                presence.came_back(Instant::now());
            }
            if self.closing.load(SeqCst) {
                return;
            }
            presence.avoid(self.job.processor());
            self.participate(end, || presence.is_over());
        }
    }
}

/// Polls `done` until it is true (returns true) or `budget` has elapsed (returns false).
fn spin_until(budget: Duration, done: impl Fn() -> bool) -> bool {
    let mut end = None;
    loop {
        for _ in 0..32 {
            if done() {
                return true;
            }
            std::hint::spin_loop();
        }
        let now = Instant::now();
        if now >= *end.get_or_insert(now + budget) {
            return done();
        }
    }
}

/// No lock here guards data that a panic could leave inconsistent.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|poisoned| poisoned.into_inner())
}

#[cfg(test)]
mod tests;
