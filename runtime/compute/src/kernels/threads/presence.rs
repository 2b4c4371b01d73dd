//! How a worker shares its processor with other processes without holding the job up.
//!
//! A thread that the system takes off its processor in the middle of a chunk keeps everybody waiting for a time slice
//! (milliseconds; a chunk takes tens of microseconds). So a worker leaves by itself, between two chunks, shortly before
//! the system would make it: it has then run for about the shortest slice that Linux gives, and comes back with a new one.
//! While it is away the others take its chunks.
//!
//! Nor does a worker stay on the caller's processor: where all are taken, the system wakes a thread beside the one that
//! woke it, and the two would then take turns on one processor while a foreign process has another for itself.

use std::thread;
use std::time::{Duration, Instant};

/// How long a worker stays. Linux' shortest slice is 1.4 ms; it begins after another process's at a tick, and ends at one, of
/// which there are 1000, 300, 250 or 100 a second: so it lasts 2 ms at least.
const STAY: Duration = Duration::from_micros(1800);

/// A gap between two looks at the clock that may be a slice given to somebody else; shorter ones are interrupts.
const GAP: Duration = Duration::from_micros(700);

/// How long it leaves where another process wants the processor: that one runs for its own slice, whatever is said here.
const LEAVE: Duration = Duration::from_micros(50);

/// A worker's stay on its processor.
pub(super) struct Presence {
    /// When it came back last, by the clock and by the processor time it had used.
    since: (Instant, Option<Duration>),
    looked: Instant,
    /// Somebody else has used this processor lately.
    shared: bool,
    places: Places,
}

impl Presence {
    /// Of the calling thread, from now on.
    pub(super) fn new() -> Self {
        let now = Instant::now();
        Self { since: (now, processor_time()), looked: now, shared: false, places: Places::new() }
    }

    /// Called between chunks and while waiting, often. Whether it is time to leave.
    pub(super) fn is_over(&mut self) -> bool {
        let now = Instant::now();
        if now - self.looked > GAP && self.was_away(now) {
            self.shared = true;
            self.came_back(now);
        }
        self.looked = now;
        now - self.since.0 > STAY
    }

    /// Gives the processor to whoever wants it, and comes back.
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

    /// From here on it has a slice of its own again.
    pub(super) fn came_back(&mut self, now: Instant) {
        self.since = (now, processor_time());
        self.looked = now;
    }

    /// Moves to another processor if the caller is on this one.
    pub(super) fn avoid(&self, caller: usize) {
        self.places.avoid(caller);
    }

    /// Whether most of the last gap was spent off the processor, and not in one long chunk.
    fn was_away(&self, now: Instant) -> bool {
        let (since, used_then) = self.since;
        match (used_then, processor_time()) {
            (Some(then), Some(used)) => (now - since).saturating_sub(used - then) > GAP / 2,
            _ => false,
        }
    }
}

/// The processor that the calling thread is on now.
#[cfg(target_os = "linux")]
pub(super) fn processor() -> usize {
    rustix::thread::sched_getcpu()
}

/// Not asked of other systems.
#[cfg(not(target_os = "linux"))]
pub(super) fn processor() -> usize {
    0
}

/// The processors that a worker may use.
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
        // Where the system refuses, the worker is slow and nothing else.
        let _ = rustix::thread::sched_setaffinity(None, &allowed);
    }
}

/// Other systems choose alone.
#[cfg(not(target_os = "linux"))]
struct Places;

#[cfg(not(target_os = "linux"))]
impl Places {
    fn new() -> Self {
        Self
    }

    fn avoid(&self, _caller: usize) {}
}

/// Processor time of the calling thread; a system call.
#[cfg(target_os = "linux")]
fn processor_time() -> Option<Duration> {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::try_from(time).ok()
}

/// Not asked of other systems.
#[cfg(not(target_os = "linux"))]
fn processor_time() -> Option<Duration> {
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Uses the processor for so long.
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
        // Where others take the processor in between, the stay begins again by itself.
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
        // On a busy machine a long chunk may be interrupted: one that was not has to come along.
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
        // A thread of its own: the other tests keep all processors.
        let worker = thread::spawn(move || {
            let presence = Presence::new();
            // Twice: the caller may come after it.
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
