//! Verifies a packed model's weights: the SHA-256 of each part against the manifest's.
//!
//! [`check_now`] reads everything before the model is used. [`WeightCheck`] does the same in the background after the first
//! answer, when the file is in the page cache anyway, on one thread that sleeps half of the time. A plain GGUF has no hash.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, OnceLock, Weak};
use std::time::Instant;

use rayon::prelude::*;
use satchel_container::{Digest, Entry};
use satchel_packer::parallel::on_threads;
use sha2::Digest as _;

use super::source::{ModelSource, Packed};
use crate::mapping::MappedFile;

/// Bytes hashed between two checks whether the session still exists.
const STEP_BYTES: usize = 8 << 20;

/// Result of verifying the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weights {
    /// There is no hash to compare with.
    Unknown,
    /// Not verified yet.
    Unchecked,
    /// Verification is running.
    Checking,
    /// The hashes match.
    Good,
    /// A hash does not match.
    Damaged,
}

impl Weights {
    /// Name in `/health`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Unknown => "unknown",
            Self::Unchecked => "unchecked",
            Self::Checking => "checking",
            Self::Good => "good",
            Self::Damaged => "damaged",
        }
    }
}

/// Verifies the weights before they are used, all parts in parallel.
///
/// # Errors
/// One line: the weights are damaged, or there is no hash to compare them with.
pub fn check_now(source: &ModelSource) -> Result<(), String> {
    let Some(packed) = &source.packed else {
        return Err(format!(
            "{}: a plain GGUF carries no hash to verify: compare the SHA-256 that `satchel inspect` shows with its \
             publisher's, or pack it",
            source.path.display()
        ));
    };
    let parts = parts(packed);
    let wrong = on_threads(|| {
        parts.par_iter().find_first(|part| {
            let bytes = part.file.get(part.start..part.start + part.length);
            bytes.is_none_or(|bytes| Digest::of(bytes) != part.sha256)
        })
    });
    wrong.map_or(Ok(()), |part| Err(part.damaged()))
}

/// Verification in the background.
#[derive(Debug)]
pub struct WeightCheck {
    state: AtomicU8,
    begun: AtomicBool,
    parts: Vec<Part>,
    damage: OnceLock<String>,
    on_damage: OnceLock<fn(&str)>,
}

/// A part of the model or an adapter, in the packed file.
#[derive(Clone, Debug)]
struct Part {
    path: PathBuf,
    name: String,
    file: MappedFile,
    start: usize,
    length: usize,
    sha256: Digest,
}

impl Part {
    fn damaged(&self) -> String {
        let (path, name) = (self.path.display(), &self.name);
        format!("{path}: entry {name} does not match its SHA-256, the weights are damaged: get the file again")
    }
}

fn parts(packed: &Packed) -> Vec<Part> {
    let part = |entry: &Entry| Part {
        path: packed.file.path().to_owned(),
        name: entry.name.clone(),
        file: packed.file.clone(),
        // Opening the bundle checked that the range lies inside the file.
        start: entry.offset as usize,
        length: entry.size as usize,
        sha256: entry.sha256,
    };
    let adapters = packed.bundle.adapter_entries().map(|(entry, _)| entry);
    packed.bundle.model_entries().iter().chain(adapters).map(part).collect()
}

impl WeightCheck {
    /// A check of this file's weights, not started yet.
    pub(super) fn new(packed: Option<&Packed>) -> Arc<Self> {
        let parts = packed.map(parts).unwrap_or_default();
        let state = if parts.is_empty() { Weights::Unknown } else { Weights::Unchecked };
        Arc::new(Self {
            state: AtomicU8::new(state as u8),
            begun: AtomicBool::new(false),
            parts,
            damage: OnceLock::new(),
            on_damage: OnceLock::new(),
        })
    }

    /// The current result.
    pub fn state(&self) -> Weights {
        let states = [Weights::Unknown, Weights::Unchecked, Weights::Checking, Weights::Good];
        let state = self.state.load(Ordering::Acquire);
        states.into_iter().find(|known| *known as u8 == state).unwrap_or(Weights::Damaged)
    }

    /// The error line, if the weights are damaged.
    pub fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Sets the function to call if the weights turn out to be damaged.
    pub fn on_damage(&self, tell: fn(&str)) {
        let _ = self.on_damage.set(tell);
    }

    /// Says a line where damage is said, as long as the check exists.
    pub(super) fn teller(check: &Arc<Self>) -> impl Fn(&str) + Send + use<> {
        let check = Arc::downgrade(check);
        move |line| {
            if let Some(tell) = check.upgrade().and_then(|check| check.on_damage.get().copied()) {
                tell(line);
            }
        }
    }

    /// Records that the weights were verified before, so that they are not read again.
    pub fn checked_before(&self) {
        self.begun.store(true, Ordering::Release);
        self.set(Weights::Good);
    }

    /// Starts the check, once. It ends early when the last owner drops it.
    pub(super) fn begin(self: &Arc<Self>) {
        if self.parts.is_empty() || self.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        let (check, parts) = (Arc::downgrade(self), self.parts.clone());
        self.set(Weights::Checking);
        let thread = std::thread::Builder::new().name("check".to_owned());
        if thread.spawn(move || run(&check, &parts)).is_err() {
            // If no thread can be started, the next answer tries again.
            self.set(Weights::Unchecked);
            self.begun.store(false, Ordering::Release);
        }
    }

    fn set(&self, state: Weights) {
        self.state.store(state as u8, Ordering::Release);
    }
}

fn run(check: &Weak<WeightCheck>, parts: &[Part]) {
    for part in parts {
        let mut hasher = sha2::Sha256::new();
        let bytes = part.file.get(part.start..part.start + part.length).unwrap_or_default();
        for step in bytes.chunks(STEP_BYTES) {
            if check.strong_count() == 0 {
                return;
            }
            let begun = Instant::now();
            hasher.update(step);
            // At most half of one processor: generation has priority.
            std::thread::sleep(begun.elapsed());
        }
        let Some(check) = check.upgrade() else { return };
        if hasher.finalize()[..] != part.sha256.0 {
            let line = check.damage.get_or_init(|| part.damaged());
            check.set(Weights::Damaged);
            if let Some(tell) = check.on_damage.get() {
                tell(line);
            }
            return;
        }
    }
    if let Some(check) = check.upgrade() {
        check.set(Weights::Good);
    }
}
