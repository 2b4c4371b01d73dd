//! Progress reporting and cancellation.

/// Receives the progress of copying and hashing, and can cancel it. Called from several threads.
pub trait Observer: Sync {
    /// Work of `total_bytes` begins.
    fn begin(&self, total_bytes: u64);
    /// Work on the file or entry of this name begins.
    fn at(&self, name: &str);
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
    /// All bytes are written; flushing to disk remains.
    fn flushing(&self) {}
    /// Whether to cancel; polled every few milliseconds of work.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Ignores progress and never cancels.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn begin(&self, _total_bytes: u64) {}
    fn at(&self, _name: &str) {}
    fn advance(&self, _bytes: u64) {}
}
