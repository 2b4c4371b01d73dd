//! What a rendering may cost: bytes of one value, bytes in all, nesting, and time.
//!
//! A template comes with the model file, so it may be hostile: `s ~ s` in a loop doubles, `[a, a]` doubles what printing
//! `a` writes, one filter call may multiply two lengths. Everything that makes a value charges it here first.

use std::cell::Cell;
use std::fmt::{Display, Write};
use std::time::{Duration, Instant};

use minijinja::value::{Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::TemplateError;

/// The largest value, printed, and the largest rendering; a million tokens of context are about 5 MB of text.
pub(super) const MAX_VALUE_BYTES: usize = 16 << 20;
/// Everything a rendering makes, added up.
const MAX_TOTAL_BYTES: usize = 256 << 20;
/// Lists in lists; the messages' JSON is limited to 128 where it is read.
const MAX_NESTING: usize = 140;
/// A rendering takes milliseconds; this is for the slow machine with the long conversation.
const MAX_TIME: Duration = Duration::from_secs(if cfg!(fuzzing) { 1 } else { 5 });

/// Address space for a rendering's stack; only what is used becomes memory.
const STACK_BYTES: usize = 64 << 20;

/// What is left for one rendering. Filters and functions find it in their thread, where a rendering begins and ends.
#[derive(Clone, Copy)]
struct Budget {
    bytes: usize,
    deadline: Instant,
}

thread_local! {
    static BUDGET: Cell<Option<Budget>> = const { Cell::new(None) };
}

/// Runs a rendering with a budget of its own, on a stack of its own: the parser and the syntax tree recurse as deep as
/// the template nests, whatever stack the caller has. A panic inside becomes an error.
pub(super) fn run<T: Send>(render: impl FnOnce() -> Result<T, Error> + Send) -> Result<T, Error> {
    let budget = Budget { bytes: MAX_TOTAL_BYTES, deadline: Instant::now() + MAX_TIME };
    let work = || {
        BUDGET.set(Some(budget));
        render()
    };
    let failed = |message: String| Error::new(ErrorKind::InvalidOperation, message);
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, work);
        let thread = thread.map_err(|error| failed(format!("no thread could be started for it: {error}")))?;
        thread.join().unwrap_or_else(|_| Err(failed("the template engine gave up on it".into())))
    })
}

/// Takes `bytes` from the budget.
pub(super) fn charge(bytes: usize) -> Result<(), Error> {
    let Some(mut budget) = BUDGET.get() else { return Ok(()) };
    if bytes > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    if bytes > budget.bytes {
        return Err(stopped(format!("it makes more than {} MiB of text", MAX_TOTAL_BYTES >> 20)));
    }
    if Instant::now() > budget.deadline {
        return Err(stopped(format!("it takes longer than {} seconds", MAX_TIME.as_secs())));
    }
    budget.bytes -= bytes;
    BUDGET.set(Some(budget));
    Ok(())
}

/// Checks a value that was just made and takes it from the budget; a lazy sequence becomes a list on the way, so that
/// lazy ones cannot be stacked.
pub(super) fn bounded(value: Value) -> Result<Value, Error> {
    let value = match value.kind() {
        ValueKind::Iterable => {
            let mut items = Vec::new();
            for item in value.try_iter()? {
                items.push(item);
                if items.len() > MAX_VALUE_BYTES / 16 {
                    return Err(too_large());
                }
            }
            Value::from(items)
        }
        _ => value,
    };
    measure(&value, 0, &mut 0)?;
    charge(match (value.as_str(), value.len()) {
        (Some(text), _) => text.len(),
        (None, Some(items)) => items * 24, // the items themselves are shared
        (None, None) => 0,
    })?;
    Ok(value)
}

/// Adds about what printing the value would write, and stops at the limit.
fn measure(value: &Value, depth: usize, bytes: &mut usize) -> Result<(), Error> {
    if depth > MAX_NESTING {
        return Err(stopped(format!("it nests lists deeper than {MAX_NESTING}")));
    }
    *bytes += value.as_str().map_or(16, |text| text.len() + 8);
    if *bytes > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                measure(&item, depth + 1, bytes)?;
            }
        }
        ValueKind::Map => {
            for (key, item) in value.as_object().and_then(|map| map.try_iter_pairs()).into_iter().flatten() {
                measure(&key, depth + 1, bytes)?;
                measure(&item, depth + 1, bytes)?;
            }
        }
        _ => {}
    }
    Ok(())
}

/// Text that ends with an error where it grows too large.
#[derive(Default)]
pub(super) struct BoundedText(String);

impl BoundedText {
    /// Adds a value as Python's `str` writes it.
    pub(super) fn write(&mut self, value: impl Display) -> Result<(), Error> {
        write!(self, "{value}").map_err(|_| too_large())
    }
}

impl Write for BoundedText {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_VALUE_BYTES {
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

/// What `write` puts together, within the limit.
pub(super) fn bounded_string(write: impl FnOnce(&mut BoundedText) -> Result<(), Error>) -> Result<String, Error> {
    let mut text = BoundedText::default();
    write(&mut text)?;
    Ok(text.0)
}

/// The error for a value over the limit.
pub(super) fn too_large() -> Error {
    stopped(format!("it makes a value of more than {} MiB", MAX_VALUE_BYTES >> 20))
}

fn stopped(message: String) -> Error {
    Error::new(ErrorKind::InvalidOperation, "stopped").with_source(TemplateError::Limit(message))
}
