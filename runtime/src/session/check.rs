//! Whether a packed model's weights are those that were packed: the SHA-256 of each part against the manifest's.
//!
//! [`check_now`] reads everything before the model is used. [`WeightCheck`] does the same in the background, once the first
//! answer is given and the file is in memory anyway, on one thread that rests half of its time. A plain GGUF carries no hash.

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

/// Bytes that are hashed between two looks at whether anybody wants to know.
const STEP_BYTES: usize = 8 << 20;

/// What is known of the weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Weights {
    /// They come without a hash.
    Unknown,
    /// They have one, and it was not compared yet.
    Unchecked,
    /// It is being compared.
    Checking,
    /// They are as they were packed.
    Good,
    /// They are not.
    Damaged,
}

impl Weights {
    /// How `/health` calls it.
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

/// Compares the weights with the manifest before they are used, all parts at once.
///
/// # Errors
/// One line: the weights are damaged, or there is no hash to compare them with.
pub fn check_now(source: &ModelSource) -> Result<(), String> {
    let Some(packed) = &source.packed else {
        return Err(format!(
            "{}: a plain GGUF carries no hash to check it by: compare the SHA-256 that `satchel inspect` shows with its \
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

/// A check in the background.
#[derive(Debug)]
pub struct WeightCheck {
    state: AtomicU8,
    begun: AtomicBool,
    parts: Vec<Part>,
    damage: OnceLock<String>,
    on_damage: OnceLock<fn(&str)>,
}

/// A part of the model, in the file that carries it.
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
        // Inside the mapped file: opening the bundle checked it.
        start: entry.offset as usize,
        length: entry.size as usize,
        sha256: entry.sha256,
    };
    let adapters = packed.bundle.adapter_entries().map(|(entry, _)| entry);
    packed.bundle.model_entries().iter().chain(adapters).map(part).collect()
}

impl WeightCheck {
    /// A check of what this file carries, not begun yet.
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

    /// What is known by now.
    pub fn state(&self) -> Weights {
        let states = [Weights::Unknown, Weights::Unchecked, Weights::Checking, Weights::Good];
        let state = self.state.load(Ordering::Acquire);
        states.into_iter().find(|known| *known as u8 == state).unwrap_or(Weights::Damaged)
    }

    /// What is wrong with the weights, in a line.
    pub fn damage(&self) -> Option<&str> {
        self.damage.get().map(String::as_str)
    }

    /// Whom to tell when they turn out to be damaged.
    pub fn on_damage(&self, tell: fn(&str)) {
        let _ = self.on_damage.set(tell);
    }

    /// Takes it as done: the weights were compared before.
    pub fn checked_before(&self) {
        self.begun.store(true, Ordering::Release);
        self.set(Weights::Good);
    }

    /// Begins, once. It ends early when nobody holds the check any more.
    pub(super) fn begin(self: &Arc<Self>) {
        if self.parts.is_empty() || self.begun.swap(true, Ordering::AcqRel) {
            return;
        }
        let (check, parts) = (Arc::downgrade(self), self.parts.clone());
        self.set(Weights::Checking);
        let thread = std::thread::Builder::new().name("check".to_owned());
        if thread.spawn(move || run(&check, &parts)).is_err() {
            // Without a thread they stay unchecked, and the next answer tries again.
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
            // Half of one processor at the most: what answers comes first.
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
