//! Jinja as Python runs it: `minijinja` parses, and this walks the tree.
//!
//! Why not its machine: a chat template comes with a model file and must be held to bounds inside of every built-in; it
//! must print what Python prints; and each character of the result must be known to be the template's or somebody else's.
//! All three are properties of values, so the values are ours: `units` (text with marks), `value`, `budget`.
//!
//! No I/O: other templates cannot be loaded, and the only outside thing is the time that the caller gives.

mod budget;
mod call;
mod expressions;
mod filters;
mod format;
mod functions;
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
use units::{WRITTEN, plain};

pub(super) use tree::check;

/// Address space for a rendering's stack; only what is used becomes memory.
const STACK_BYTES: usize = 64 << 20;
/// How often a rendering's client is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// A variable of a template.
pub(super) struct Variable {
    pub(super) name: String,
    pub(super) value: serde_json::Value,
    /// Somebody outside of the template wrote it; what its texts spell is no control token.
    pub(super) written: bool,
}

/// Text with where it came from: the template, or what it was given.
pub(super) struct Run {
    pub(super) text: String,
    pub(super) written: bool,
}

/// Renders a source with the given variables. `cancelled` is asked now and then, and ends it.
pub(super) fn render(
    source: &str,
    variables: Vec<Variable>,
    now: Option<jiff::civil::DateTime>,
    cancelled: &mut dyn FnMut() -> bool,
) -> Result<Vec<Run>> {
    on_own_stack(cancelled, || {
        let tree = tree::parse(source)?;
        let units = interpreter::Interpreter::run(&tree, &variables, now)?;
        Ok(runs(&units))
    })
}

/// Runs a rendering with a budget of its own, on a stack of its own: parser and interpreter recurse as deep as the
/// template nests, whatever stack the caller has. A panic inside becomes an error.
fn on_own_stack<T: Send>(cancelled: &mut dyn FnMut() -> bool, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let stop = Arc::new(AtomicBool::new(false));
    let (done, finished) = mpsc::channel::<()>();
    std::thread::scope(|scope| {
        let flag = Arc::clone(&stop);
        let thread = std::thread::Builder::new().name("template".into()).stack_size(STACK_BYTES);
        let thread = thread.spawn_scoped(scope, move || {
            // Dropped at the end, also of a panic: that is what the other side waits for.
            let _done = done;
            budget::begin(flag);
            work()
        });
        let thread = thread.map_err(|error| failed(format!("no thread could be started for it: {error}")))?;
        while let Err(mpsc::RecvTimeoutError::Timeout) = finished.recv_timeout(LOOK_EVERY) {
            if cancelled() {
                stop.store(true, Ordering::Relaxed);
            }
        }
        thread.join().unwrap_or_else(|_| Err(failed("the template engine gave up on it")))
    })
}

/// Cuts a rendering where it goes from the template to somebody else's words, or back.
fn runs(units: &[u32]) -> Vec<Run> {
    let same_source = |a: &u32, b: &u32| (a & WRITTEN) == (b & WRITTEN);
    let run = |units: &[u32]| Run {
        text: units.iter().map(|unit| plain(*unit)).collect(),
        written: units.first().is_some_and(|unit| unit & WRITTEN != 0),
    };
    units.chunk_by(same_source).map(run).collect()
}
