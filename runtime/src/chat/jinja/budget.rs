//! What a rendering may cost: steps, work, memory that is held at one time, and time.
//!
//! A template comes with the model file, so it may be hostile. Nothing here knows what a filter does: whoever walks or
//! makes something spends what it walks, and whoever keeps something holds its bytes. The clock and the client are
//! looked at as work is spent, so no built-in can be forgotten as long as it walks by way of `units` and `Value`.

use std::cell::{Cell, RefCell};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crate::chat::TemplateError;

pub(super) type Result<T> = std::result::Result<T, TemplateError>;

/// The longest text, in characters; a million tokens of context are about 5 MB.
pub(super) const MAX_TEXT: usize = 16 << 20;
/// The longest list.
pub(super) const MAX_ITEMS: usize = 1 << 20;
/// Bytes that texts and lists may take at one time.
const MAX_HELD: usize = 256 << 20;
/// Expressions and statements that a rendering may run. A long conversation takes some 100,000.
const MAX_STEPS: u64 = if cfg!(fuzzing) { 100_000 } else { 10_000_000 };
/// A rendering takes milliseconds; this is for the slow machine with the long conversation.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(fuzzing) { 1 } else { 5 });
/// Work between two looks at the clock: well below a millisecond of copying.
const WORK_PER_LOOK: usize = 1 << 16;
/// Lists in lists; JSON is limited to 128 where it is read.
pub(super) const MAX_NESTING: u16 = 140;

thread_local! {
    static STEPS: Cell<u64> = const { Cell::new(0) };
    static WORK: Cell<usize> = const { Cell::new(0) };
    static HELD: Cell<usize> = const { Cell::new(0) };
    static LIMITS: RefCell<Option<(Instant, Arc<AtomicBool>)>> = const { RefCell::new(None) };
}

/// Gives this thread's rendering its budget. `cancelled` ends it early.
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
        return Err(limit("it does not come to an end"));
    }
    spend(16)
}

/// Counts work: characters or items walked.
pub(super) fn spend(work: usize) -> Result<()> {
    let total = WORK.get().saturating_add(work);
    if total < WORK_PER_LOOK {
        WORK.set(total);
        return Ok(());
    }
    WORK.set(0);
    LIMITS.with_borrow(|limits| match limits {
        Some((_, cancelled)) if cancelled.load(Ordering::Relaxed) => Err(limit("nobody waits for it any more")),
        Some((deadline, _)) if Instant::now() > *deadline => {
            Err(limit(format!("it takes longer than {} seconds", MAX_TIME.as_secs())))
        }
        _ => Ok(()),
    })
}

/// Bytes that are in use until this is dropped.
#[derive(Debug, Default)]
pub(super) struct Held(usize);

impl Held {
    /// Takes `bytes` of what a rendering may hold.
    pub(super) fn take(bytes: usize) -> Result<Held> {
        let mut held = Held(0);
        held.grow(bytes)?;
        Ok(held)
    }

    /// Takes more.
    pub(super) fn grow(&mut self, bytes: usize) -> Result<()> {
        let total = HELD.get().saturating_add(bytes);
        if total > MAX_HELD {
            return Err(limit(format!("it keeps more than {} MiB", MAX_HELD >> 20)));
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

/// Refuses a text that would be too long, before it is made.
pub(super) fn check_length(characters: usize) -> Result<()> {
    if characters > MAX_TEXT {
        Err(limit(format!("it makes a text of more than {} MiB", MAX_TEXT >> 20)))
    } else {
        Ok(())
    }
}

/// Refuses a list that would be too long, before it is made.
pub(super) fn check_items(items: usize) -> Result<()> {
    if items > MAX_ITEMS { Err(limit(format!("it makes a list of more than {MAX_ITEMS} items"))) } else { Ok(()) }
}

pub(super) fn limit(message: impl Into<String>) -> TemplateError {
    TemplateError::Limit(message.into())
}

/// An error of the template's own making, as Python would raise.
pub(super) fn failed(message: impl Into<String>) -> TemplateError {
    TemplateError::Failed { line: None, message: message.into() }
}
