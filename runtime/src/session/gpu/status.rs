//! What is known of the GPU while a model is opened beside a server that runs already, and after a device was lost.
//!
//! The thread that chooses and loads writes it; the start block, `/props`, `/health` and the command read it.

use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};

/// What is known of the GPU.
#[derive(Debug, Default)]
pub struct GpuStatus {
    known: Mutex<Known>,
    changed: Condvar,
    /// Thousandths of what is to be loaded.
    loaded: AtomicU32,
    abandoned: AtomicBool,
}

#[derive(Debug, Default)]
struct Known {
    said: Option<String>,
    /// Whether there is a GPU that may be used.
    found: bool,
    ready: bool,
    failure: Option<String>,
}

impl GpuStatus {
    /// Of a model that needs none, or has it already.
    pub fn settled(said: impl Into<String>) -> Arc<Self> {
        let status = Self::default();
        status.say(said);
        status.finish();
        Arc::new(status)
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sets which GPU is used, or why none.
    pub(crate) fn say(&self, said: impl Into<String>) {
        self.known().said = Some(said.into());
        self.changed.notify_all();
    }

    /// There is a GPU, or a driver that should show one, so users are told whether it is used, and why not.
    #[cfg_attr(not(with_gpu), allow(dead_code, reason = "without GPUs none is found"))]
    pub(crate) fn find(&self) {
        self.known().found = true;
    }

    /// Whether there is a GPU, or a driver that should show one.
    pub fn is_found(&self) -> bool {
        self.known().found
    }

    /// Sets how much is loaded, of 1.
    pub fn load(&self, fraction: f64) {
        self.loaded.store((fraction * 1000.0) as u32, Ordering::Relaxed);
    }

    /// Everything is loaded.
    pub(crate) fn finish(&self) {
        self.known().ready = true;
        self.changed.notify_all();
    }

    /// The model cannot be loaded as was asked for.
    pub(crate) fn fail(&self, line: String) {
        self.known().failure = Some(line);
        self.changed.notify_all();
    }

    /// Nobody waits for it any more.
    pub fn abandon(&self) {
        self.abandoned.store(true, Ordering::Relaxed);
    }

    /// See [`Self::abandon`].
    pub fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Relaxed)
    }

    /// Waits until everything is loaded; `Some`: why it cannot be.
    pub fn loaded(&self) -> Option<String> {
        let mut known = self.known();
        while !known.ready && known.failure.is_none() {
            known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        known.failure.clone()
    }

    /// Which GPU is used, or why none.
    pub fn said(&self) -> String {
        self.known().said.clone().unwrap_or_else(|| "being looked for".to_owned())
    }

    /// How much is loaded, of 1; `None`: all of it.
    pub fn loading(&self) -> Option<f64> {
        (!self.known().ready).then(|| f64::from(self.loaded.load(Ordering::Relaxed)) / 1000.0)
    }

    /// Why the model cannot be loaded.
    pub fn failure(&self) -> Option<String> {
        self.known().failure.clone()
    }

    /// Whether it is decided which GPU is used.
    pub fn is_decided(&self) -> bool {
        self.known().said.is_some()
    }

    /// Waits until it is decided which GPU is used; `None`: nothing can be loaded.
    pub fn decided(&self) -> Option<String> {
        let mut known = self.known();
        while known.said.is_none() && known.failure.is_none() {
            known = self.changed.wait(known).unwrap_or_else(PoisonError::into_inner);
        }
        known.said.clone().filter(|_| known.failure.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_waits_learns_what_is_used_or_that_nothing_can_be() {
        let status = Arc::new(GpuStatus::default());
        assert_eq!((status.loading(), status.is_decided()), (Some(0.0), false));
        let waiting = Arc::clone(&status);
        let waiting = std::thread::spawn(move || waiting.decided());
        status.load(0.25);
        assert_eq!(status.loading(), Some(0.25));
        status.say("a GPU");
        assert_eq!(waiting.join().expect("it ends"), Some("a GPU".to_owned()));
        status.finish();
        assert_eq!(status.loading(), None);
        let failed = GpuStatus::default();
        failed.fail("no such GPU".to_owned());
        assert_eq!((failed.decided(), failed.failure()), (None, Some("no such GPU".to_owned())));
    }
}
