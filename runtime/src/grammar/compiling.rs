//! Grammars of tools that are compiled while the prompt is read.
//!
//! A model that may call tools talks first, and most prompts with many tools take longer to read than the tools to compile, so no
//! request waits for it. What a set of tools gave is kept, for a conversation sends the same ones at every turn.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::thread;

use super::Grammar;
use crate::chat::output::CallRule;

/// Sets of tools that are kept.
const KEPT: usize = 8;

/// Most sets that are compiled beside others; who asks for one more does it.
const MOST_AT_ONCE: usize = 2;

/// What is compiled for the calls of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    /// The rules of each kind of call.
    pub rules: Vec<CallRule>,
    /// Of each tool, whether it is refused rather than enforced in part: the same rules may then give something else.
    pub strict: Vec<bool>,
}

/// A grammar for each kind of call, or why there are none.
pub(super) type Outcome = Result<Arc<[Grammar]>, String>;

/// Grammars that are there, or will be.
#[derive(Clone, Debug, Default)]
pub(crate) struct Compiling(Arc<OnceLock<Outcome>>);

impl Compiling {
    /// They are there.
    pub(super) fn done(grammars: Vec<Grammar>) -> Self {
        Self(Arc::new(OnceLock::from(Ok(grammars.into()))))
    }

    /// Runs `compile` on a thread of its own, which holds `busy`; on this one if there is none, or too many already.
    fn start(busy: &Arc<()>, compile: impl FnOnce() -> Outcome + Send + 'static) -> Self {
        let (compiling, compile) = (Self::default(), Arc::new(Mutex::new(Some(compile))));
        if Arc::strong_count(busy) <= MOST_AT_ONCE {
            let (own, work, busy) = (compiling.clone(), Arc::clone(&compile), Arc::clone(busy));
            let work = move || {
                own.run(&work);
                drop(busy);
            };
            if thread::Builder::new().name("tools".to_owned()).spawn(work).is_ok() {
                return compiling;
            }
        }
        compiling.run(&compile);
        compiling
    }

    fn run<F: FnOnce() -> Outcome>(&self, compile: &Mutex<Option<F>>) {
        let Some(compile) = compile.lock().unwrap_or_else(PoisonError::into_inner).take() else { return };
        let outcome = catch_unwind(AssertUnwindSafe(compile));
        // A panic is an error of the requests that wait.
        let bug = |_| Err("the tools cannot be compiled; this is a bug in Satchel".to_owned());
        let _ = self.0.set(outcome.unwrap_or_else(bug));
    }

    /// The grammar of a kind of call. Waits for it.
    pub(super) fn wait(&self, kind: usize) -> Result<&Grammar, String> {
        match self.0.wait() {
            Ok(grammars) => grammars.get(kind).ok_or_else(|| "a kind of call has no grammar".to_owned()),
            Err(line) => Err(line.clone()),
        }
    }

    /// Whether they are there.
    pub(super) fn outcome(&self) -> Option<&Outcome> {
        self.0.get()
    }
}

/// What the last sets of tools gave, newest first.
#[derive(Debug, Default)]
pub(super) struct KeptCalls {
    kept: Mutex<VecDeque<(Wanted, Compiling)>>,
    /// One more for each thread that compiles.
    busy: Arc<()>,
}

impl KeptCalls {
    /// What this gave, or will, if it was compiled before.
    pub(super) fn find(&self, wanted: &Wanted) -> Option<Compiling> {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        let at = kept.iter().position(|(own, _)| own == wanted)?;
        let found = kept.remove(at)?;
        let compiling = found.1.clone();
        // What has failed is tried again: memory may have been short.
        if compiling.outcome().is_some_and(Result::is_err) {
            return None;
        }
        kept.push_front(found);
        Some(compiling)
    }

    fn keep(&self, wanted: Wanted, compiling: &Compiling) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.push_front((wanted, compiling.clone()));
        kept.truncate(KEPT);
    }

    /// Begins to compile.
    pub(super) fn start(&self, wanted: Wanted, compile: impl FnOnce() -> Outcome + Send + 'static) -> Compiling {
        let compiling = Compiling::start(&self.busy, compile);
        self.keep(wanted, &compiling);
        compiling
    }

    /// Keeps compiled ones.
    pub(super) fn add(&self, wanted: Wanted, grammars: Vec<Grammar>) -> Compiling {
        let compiling = Compiling::done(grammars);
        self.keep(wanted, &compiling);
        compiling
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc;

    fn wanted(lark: &str, strict: bool) -> Wanted {
        let (mark, lark) = (Some("<call>".to_owned()), lark.to_owned());
        let rule = CallRule { mark, forced: "<call>".to_owned(), first: ' ', lark, last: false };
        Wanted { rules: vec![rule], strict: vec![strict] }
    }

    fn none() -> Outcome {
        Ok(Arc::default())
    }

    #[test]
    fn nobody_waits_before_it_is_needed_and_a_set_is_compiled_once() {
        let (kept, a) = (KeptCalls::default(), wanted("a", false));
        let (go, wait) = mpsc::channel::<()>();
        let begun = kept.start(a.clone(), move || wait.recv().map_err(|_| "never".to_owned()).and_then(|()| none()));
        assert!(begun.outcome().is_none(), "it goes on beside");
        let found = kept.find(&a).expect("the same one, though it is not done");
        assert!(kept.find(&wanted("a", true)).is_none(), "what is refused of a strict tool is relaxed of another");
        go.send(()).expect("it waits for this");
        assert!(found.wait(0).is_err_and(|line| line.contains("no grammar")));
        assert!(matches!(begun.outcome(), Some(Ok(_))));
    }

    #[test]
    fn what_fails_is_heard_of_and_not_kept() {
        let kept = KeptCalls::default();
        let failed = kept.start(wanted("a", false), || Err("it is too large".to_owned()));
        assert_eq!(failed.wait(0).err().as_deref(), Some("it is too large"));
        assert!(kept.find(&wanted("a", false)).is_none());
        let panicked = kept.start(wanted("b", false), || panic!("of this test"));
        assert!(panicked.wait(0).is_err_and(|line| line.contains("bug in Satchel")));
    }

    #[test]
    fn the_last_few_are_kept_and_few_are_compiled_at_once() {
        let kept = KeptCalls::default();
        for at in 0..=KEPT {
            kept.add(wanted(&at.to_string(), false), Vec::new());
        }
        assert!(kept.find(&wanted("0", false)).is_none() && kept.find(&wanted("1", false)).is_some());
        let (go, wait) = mpsc::channel::<()>();
        let wait = Arc::new(Mutex::new(wait));
        for _ in 0..MOST_AT_ONCE {
            let wait = Arc::clone(&wait);
            let held = move || wait.lock().map(|wait| wait.recv()).map_or(none(), |_| none());
            kept.start(wanted("held", false), held);
        }
        let here = thread::current().id();
        let one_more = kept.start(wanted("more", false), move || match thread::current().id() == here {
            true => none(),
            false => Err("on another thread".to_owned()),
        });
        assert!(matches!(one_more.outcome(), Some(Ok(_))));
        drop(go);
    }
}
