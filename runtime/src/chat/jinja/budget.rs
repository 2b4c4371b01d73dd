//! Limits on a rendering: steps, work, live memory, and time.
//!
//! A template comes with the model file, so it may be hostile. The budget is not per built-in: code that walks or builds a
//! value spends its length as work, and values reserve their bytes for as long as they live. Deadline and cancellation are
//! checked as work is spent, so every built-in is covered as long as it goes through `units` and `Value`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::chat::TemplateError;

pub(super) type Result<T> = std::result::Result<T, TemplateError>;

/// Longest text, in characters; a context of a million tokens is about 5 MB of text.
pub(super) const MAX_TEXT: usize = 16 << 20;
/// Longest list.
pub(super) const MAX_ITEMS: usize = 1 << 20;
/// Most bytes of live texts and lists.
const MAX_HELD: usize = 256 << 20;
/// Most expressions and statements run by a rendering. A long conversation takes some 100,000.
const MAX_STEPS: u64 = if cfg!(fuzzing) { 100_000 } else { 10_000_000 };
/// Deadline. Renderings take milliseconds; the margin is for long conversations on slow machines.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(fuzzing) { 1 } else { 5 });
/// Work between two checks of the clock: well below a millisecond of copying.
const WORK_PER_CHECK: usize = 1 << 16;
/// Deepest nesting of lists; the JSON parser allows 128.
pub(super) const MAX_NESTING: u16 = 140;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static WORK: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static LIMITS: RefCell<Option<(Instant, Arc<AtomicBool>)>> = const { RefCell::new(None) };
}

/// Starts the budget of the rendering on this thread. Setting `cancelled` ends it early.
pub(super) fn begin(cancelled: Arc<AtomicBool>) {
    STEPS.set(0);
    WORK.set(0);
    HELD.set(0);
    LIMITS.set(Some((Instant::now() + MAX_TIME, cancelled)));
}

/// Counts a statement or an expression.
pub(super) fn step() -> Result<()> {
    STEPS.set(STEPS.get() + 1);
    if STEPS.get() > MAX_STEPS {
        return Err(limit("it runs without end"));
    }
    spend(16)
}

/// Counts work: characters or items walked.
pub(super) fn spend(work: usize) -> Result<()> {
    let total = WORK.get().saturating_add(work);
    if total < WORK_PER_CHECK {
        WORK.set(total);
        return Ok(());
    }
    WORK.set(0);
    LIMITS.with_borrow(|limits| match limits {
        Some((_, cancelled)) if cancelled.load(Ordering::Relaxed) => Err(limit("it was cancelled")),
        Some((deadline, _)) if Instant::now() > *deadline => {
            Err(limit(format!("it takes longer than {} seconds", MAX_TIME.as_secs())))
        }
        _ => Ok(()),
    })
}

/// Reserved bytes; released on drop.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    /// Reserves `bytes` of the rendering's memory.
    pub(super) fn take(bytes: usize) -> Result<Held> {
        let mut held = Held(0);
        held.grow(bytes)?;
        Ok(held)
    }

    /// Reserves more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let total = HELD.get().saturating_add(bytes);
        if total > MAX_HELD {
            return Err(limit(format!("it uses more than {} MiB", MAX_HELD >> 20)));
        }
        HELD.set(total);
        self.0 += bytes;
        Ok(())
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        HELD.set(HELD.get().saturating_sub(self.0));
    }
}

/// Refuses a text that would be too long, before it is allocated.
pub(super) fn check_length(characters: usize) -> Result<()> {
    if characters > MAX_TEXT {
        Err(limit(format!("it makes a text of more than {} MiB", MAX_TEXT >> 20)))
    } else {
        Ok(())
    }
}

/// Refuses a list that would be too long, before it is allocated.
pub(super) fn check_items(items: usize) -> Result<()> {
    if items > MAX_ITEMS { Err(limit(format!("it makes a list of more than {MAX_ITEMS} items"))) } else { Ok(()) }
}

pub(super) fn limit(message: impl Into<String>) -> TemplateError {
    TemplateError::Limit(message.into())
}

/// An error in the template, where Python would raise an exception.
pub(super) fn failed(message: impl Into<String>) -> TemplateError {
    TemplateError::Failed { line: None, message: message.into() }
}
