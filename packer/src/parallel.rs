//! Coarse-grained parallel work, on as many threads as the system grants; if it grants none, on the calling thread.
//!
//! `rayon`'s global pool aborts the program if its threads cannot be started (a process limit, no memory for stacks), so
//! neither this crate nor its callers use `rayon` outside of [`on_threads`] and [`on_some_threads`].

use std::sync::OnceLock;
use std::thread::available_parallelism;

use rayon::{ThreadPool, ThreadPoolBuilder};

/// Runs `work` in a `rayon` pool with one thread per processor.
pub fn on_threads<R: Send>(work: impl FnOnce() -> R + Send) -> R {
    static POOL: OnceLock<Option<ThreadPool>> = OnceLock::new();
    let pool = POOL.get_or_init(|| pool(available_parallelism().map_or(1, usize::from)));
    within(pool.as_ref(), work)
}

/// Runs `work` in a `rayon` pool of `threads` threads, or fewer if the system refuses more.
pub fn on_some_threads<R: Send>(threads: usize, work: impl FnOnce() -> R + Send) -> R {
    within(pool(threads).as_ref(), work)
}

/// A pool of `threads` threads, or fewer; `None` if none can be started.
fn pool(threads: usize) -> Option<ThreadPool> {
    let halves = std::iter::successors(Some(threads.max(1)), |threads| (*threads > 1).then_some(threads / 2));
    halves.map(|threads| ThreadPoolBuilder::new().num_threads(threads).build()).find_map(Result::ok)
}

fn within<R: Send>(pool: Option<&ThreadPool>, work: impl FnOnce() -> R + Send) -> R {
    let Some(pool) = pool else {
        // Makes the calling thread a permanent pool of one, which starts no thread. Fails only if it is in a pool already.
        let _ = ThreadPoolBuilder::new().num_threads(1).use_current_thread().build();
        return work();
    };
    pool.install(work)
}

#[cfg(test)]
mod tests {
    use rayon::prelude::*;

    use super::*;

    #[test]
    fn work_runs_with_and_without_threads() {
        let sum = || (0..1000_u32).into_par_iter().sum::<u32>();
        assert_eq!((on_threads(sum), on_some_threads(3, sum)), (499_500, 499_500));
        // On its own thread, since that becomes a pool of one for good.
        let alone = std::thread::spawn(move || {
            let here = std::thread::current().id();
            let elsewhere = || (0..1000).into_par_iter().any(|_| std::thread::current().id() != here);
            (within(None, sum), within(None, sum), within(None, elsewhere))
        });
        assert_eq!(alone.join().unwrap(), (499_500, 499_500, false));
    }
}
