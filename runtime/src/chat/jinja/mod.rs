//! Jinja with Python's semantics: `minijinja` parses, and this module interprets the syntax tree.
//!
//! Why not minijinja's VM: a chat template comes with a model file, so every built-in must be bounded; its output must
//! match Python's; and for each output character we must know whether the template or its input wrote it. All three are
//! properties of values, so the values are ours: `units` (text with provenance marks), `value`, `budget`.
//!
//! No I/O: other templates cannot be loaded, and the only external input is the time that the caller passes in.

mod budget;
mod call;
mod expressions;
mod filters;
mod format;
mod functions;
mod growing;
mod interpreter;
mod json;
mod lookup;
mod methods;
mod operators;
mod predicates;
mod print;
mod statements;
mod tree;
mod units;
mod value;

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc;
use std::time::Duration;

use budget::{Result, failed};
use units::{UNTRUSTED, plain};

pub(super) use tree::check;

/// Address space for a rendering's stack; only touched pages use memory.
const STACK_BYTES: usize = 64 << 20;
/// How often a rendering is checked for cancellation.
const POLL_INTERVAL: Duration = Duration::from_millis(100);

/// A variable of a template.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: serde_json::Value,
    /// It comes from outside the template: its text must not become control tokens.
    pub(super) untrusted: bool,
}

/// A stretch of output with one provenance: the template's text, or untrusted input.
pub(super) struct Run {
    pub(super) text: String,
    pub(super) untrusted: bool,
}

/// Renders a source with the given variables. `grows`: lists of a namespace may be appended to (`growing`). Polls `cancelled`,
/// which ends the rendering.
pub(super) fn render(
    source: &str,
    variables: Vec<Variable>,
    now: Option<jiff::civil::DateTime>,
    grows: bool,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Vec<Run>> {
    on_own_stack(cancelled, || {
        let tree = tree::parse(source)?;
        let units = interpreter::Interpreter::run(&tree, &variables, now, grows)?;
        Ok(runs(&units))
    })
}

/// Runs a rendering with its own budget, on its own stack: parser and interpreter recurse as deeply as the template
/// nests, which the caller's stack may not hold. A panic becomes an error.
fn on_own_stack<T: Send>(cancelled: &mut dyn FnMut() -> bool, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let (done, finished) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, move || {
            // Dropped at the end, even by a panic; disconnecting the channel wakes the waiting side.
            let _done = done;
            budget::begin(flag);
            work()
        });
        let thread = thread.map_err(|error| failed(format!("no thread can be started for it: {error}")))?;
        while let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(POLL_INTERVAL) {
            if cancelled() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        thread.join().unwrap_or_else(|_| Err(failed("the template engine crashed")))
    })
}

/// Splits a rendering where the provenance changes.
fn runs(units: &[u32]) -> Vec<Run> {
    let same_source = |a: &u32, b: &u32| (a & UNTRUSTED) == (b & UNTRUSTED);
    let run = |units: &[u32]| Run {
        text: units.iter().map(|unit| plain(*unit)).collect(),
        untrusted: units.first().is_some_and(|unit| unit & UNTRUSTED != 0),
    };
    units.chunk_by(same_source).map(run).collect()
}
