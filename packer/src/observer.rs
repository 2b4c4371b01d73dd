//! Who watches the work: told how far it is, and asked whether to stop.

/// Watches copying and hashing. Called from several threads.
pub trait Observer: Sync {
    /// Work of `total_bytes` begins.
    fn begin(&self, total_bytes: u64);
    /// The work is now at the file or entry of this name.
    fn at(&self, name: &str);
    /// `bytes` more are done.
    fn advance(&self, bytes: u64);
    /// All bytes are done; what remains is up to the disk.
    fn flushing(&self) {}
    /// Whether to give up; asked every few milliseconds of work.
    fn interrupted(&self) -> bool {
        false
    }
}

/// Watches nothing and never stops.
#[derive(Clone, Copy, Debug, Default)]
pub struct Silent;

impl Observer for Silent {
    fn begin(&self, _total_bytes: u64) {}
    fn at(&self, _name: &str) {}
    fn advance(&self, _bytes: u64) {}
}
