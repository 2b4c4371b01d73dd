//! How a worker shares its CPU with other processes without delaying the job.
//!
//! A thread pre-empted in the middle of a chunk stalls all others for a time slice (milliseconds; a chunk takes tens of
//! microseconds). So a worker yields by itself, between two chunks, shortly before it would be pre-empted: it has then run for
//! about the shortest slice that Linux gives, and gets a new one when it returns. Meanwhile the others take its chunks.
//!
//! Nor does a worker stay on the caller's CPU: if all are busy, the system wakes a thread on its waker's CPU, and the two would
//! then take turns on one CPU while a foreign process has another for itself.

use std::thread;
use std::time::{Duration, Instant};

/// How long a worker stays. Linux's shortest slice is 1.4 ms; it starts after another process's at a tick, and ends at one, at
/// 1000, 300, 250 or 100 Hz: so it lasts at least 2 ms.
const STAY: Duration = Duration::from_micros(1800);

/// Minimum gap between two clock reads that counts as a slice given to another process; shorter ones are interrupts.
const GAP: Duration = Duration::from_micros(700);

/// How long it leaves if another process wants the CPU: that one runs for its own slice regardless.
const LEAVE: Duration = Duration::from_micros(50);

/// A worker's stay on its CPU.
pub(super) struct Presence {
    /// When it last came back, by the clock and by its CPU time.
    since: (Instant, Option<Duration>),
    looked: Instant,
    /// Another process used this CPU recently.
    shared: bool,
    places: Places,
}

impl Presence {
    /// For the calling thread, starting now.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { since: (now, processor_time()), looked: now, shared: false, places: Places::new() }
    }

    /// Whether it is time to leave. Called often, between chunks and while waiting.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now - self.looked > GAP && self.was_away(now) {
            self.shared = true;
            self.came_back(now);
        }
        self.looked = now;
        now - self.since.0 > STAY
    }

    /// Yields the CPU and comes back.
    pub(super) fn leave(&mut self) {
        let left = Instant::now();
        if self.shared {
            thread::sleep(LEAVE);
        } else {
            thread::yield_now();
        }
        let now = Instant::now();
        self.shared = now - left > GAP;
        self.came_back(now);
    }

    /// From here on it has its own time slice again.
    pub(super) fn came_back(&mut self, now: Instant) {
        self.since = (now, processor_time());
        self.looked = now;
    }

    /// Moves to another CPU if the caller is on this one.
    pub(super) fn avoid(&self, caller: usize) {
        self.places.avoid(caller);
    }

    /// Whether most of the last gap was spent off the CPU, rather than in one long chunk.
    fn was_away(&self, now: Instant) -> bool {
        let (since, used_then) = self.since;
        match (used_then, processor_time()) {
            (Some(then), Some(used)) => (now - since).saturating_sub(used - then) > GAP / 2,
            _ => false,
        }
    }
}

/// The calling thread's current CPU.
#[cfg(target_os = "linux")]
pub(super) fn processor() -> usize {
    rustix::thread::sched_getcpu()
}

/// Not queried on other systems.
#[cfg(not(target_os = "linux"))]
pub(super) fn processor() -> usize {
    0
}

/// The CPUs that a worker may use.
#[cfg(target_os = "linux")]
struct Places(Option<rustix::thread::CpuSet>);

#[cfg(target_os = "linux")]
impl Places {
    fn new() -> Self {
        Self(rustix::thread::sched_getaffinity(None).ok().filter(|allowed| allowed.count() > 1))
    }

    fn avoid(&self, caller: usize) {
        let Some(mut allowed) = self.0.filter(|_| processor() == caller) else { return };
        allowed.unset(caller);
        // If the system refuses, the worker is slow, nothing worse.
        let _ = rustix::thread::sched_setaffinity(None, &allowed);
    }
}

/// Left to the scheduler on other systems.
#[cfg(not(target_os = "linux"))]
struct Places;

#[cfg(not(target_os = "linux"))]
impl Places {
    fn new() -> Self {
        Self
    }

    fn avoid(&self, _caller: usize) {}
}

/// CPU time of the calling thread; a system call.
#[cfg(target_os = "linux")]
fn processor_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).ok()
}

/// Not queried on other systems.
#[cfg(not(target_os = "linux"))]
fn processor_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Burns this much CPU time.
    fn work(time: Duration) {
        let begun = Instant::now();
        while begun.elapsed() < time {
            std::hint::spin_loop();
        }
    }

    #[test]
    fn a_stay_ends_and_begins_again() {
        let mut presence = Presence::new();
        let begun = Instant::now();
        // If other processes take the CPU in between, the stay restarts by itself.
        while !presence.is_over() {
            work(STAY / 100);
            assert!(begun.elapsed() < Duration::from_secs(20), "it never ends");
        }
        let (before, _) = presence.since;
        presence.leave();
        assert!(presence.since.0 >= before + STAY, "back, with a new slice");
        assert_eq!(presence.since.0, presence.looked);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn being_away_is_told_from_a_long_chunk() {
        let mut presence = Presence::new();
        thread::sleep(GAP * 10);
        presence.is_over();
        assert!(presence.shared, "the processor was somebody else's");
        // On a busy machine a long chunk may be interrupted: retry until one is not.
        let undisturbed = (0..200).any(|_| {
            let mut presence = Presence::new();
            work(GAP * 2);
            presence.is_over();
            !presence.shared
        });
        assert!(undisturbed);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_worker_leaves_the_caller_s_processor() {
        let allowed = rustix::thread::sched_getaffinity(None).expect("is known");
        if allowed.count() < 2 {
            println!("SKIPPED: this machine has one processor");
            return;
        }
        // A thread of its own: the other tests keep all CPUs.
        let worker = thread::spawn(move || {
            let presence = Presence::new();
            // Twice: the caller may move to it afterwards.
            for _ in 0..2 {
                let caller = processor();
                let mut one = rustix::thread::CpuSet::new();
                one.set(caller);
                rustix::thread::sched_setaffinity(None, &one).expect("it may");
                presence.avoid(caller);
                assert_ne!(processor(), caller);
            }
        });
        worker.join().expect("no assertion failed");
    }
}
