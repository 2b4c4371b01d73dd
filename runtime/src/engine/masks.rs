//! Masks computed beside the forward pass.
//!
//! Which tokens a constraint allows next does not depend on the logits, so it is computed while the model computes those: a
//! constraint is handed to a thread of its own once its token is accepted, and comes back with the mask when the next token is
//! sampled. One thread serves all sequences and sleeps between. It is not one of the pool that computes: a mask would hold up
//! its jobs. Masks that take less than handing them over are computed where they are used, as all are with one processor.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use crate::TokenId;
use crate::sampling::{Constraint, TokenMask};

/// What waking a thread costs, and the one that it takes the processor from.
const HANDOVER: Duration = Duration::from_micros(60);

/// Most tokens after which it is asked again what is forced.
const LONGEST_REST: u32 = 4;

pub(super) const LOST: &str = "what may come next could not be computed; this is a bug in Satchel";

type Mask = Result<TokenMask, String>;

/// The thread that computes masks; started when it is first of use.
pub(super) struct Masks {
    jobs: Option<Sender<Job>>,
    thread: Option<JoinHandle<()>>,
    of_use: bool,
}

struct Job {
    constraint: Box<dyn Constraint>,
    answer: Sender<Done>,
}

struct Done {
    constraint: Box<dyn Constraint>,
    mask: Mask,
    took: Duration,
}

impl Masks {
    pub(super) fn new() -> Self {
        let of_use = thread::available_parallelism().is_ok_and(|processors| processors.get() > 1);
        Self { jobs: None, thread: None, of_use }
    }

    /// Hands a constraint over, or gives it back where no thread takes it.
    fn compute(&mut self, constraint: Box<dyn Constraint>) -> Place {
        if self.of_use && self.thread.is_none() {
            let (jobs, receiver) = mpsc::channel();
            let thread = thread::Builder::new().name("masks".to_owned()).spawn(move || serve(&receiver));
            self.of_use = thread.is_ok();
            self.thread = thread.ok();
            self.jobs = Some(jobs);
        }
        let Some(jobs) = self.jobs.as_ref().filter(|_| self.of_use) else { return Place::Here(constraint) };
        let (answer, receiver) = mpsc::channel();
        match jobs.send(Job { constraint, answer }) {
            Ok(()) => Place::Away(receiver),
            Err(returned) => Place::Here(returned.0.constraint),
        }
    }
}

impl Drop for Masks {
    fn drop(&mut self) {
        self.jobs = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

fn serve(jobs: &Receiver<Job>) {
    for Job { constraint, answer } in jobs {
        if let Some(done) = compute(constraint) {
            // The other end is gone if the request has ended meanwhile.
            let _ = answer.send(done);
        }
    }
}

/// `None` after a panic.
fn compute(mut constraint: Box<dyn Constraint>) -> Option<Done> {
    let begun = Instant::now();
    let computed = catch_unwind(AssertUnwindSafe(|| {
        let mask = constraint.allowed();
        (constraint, mask)
    }));
    computed.ok().map(|(constraint, mask)| Done { constraint, mask, took: begun.elapsed() })
}

/// A sequence's constraint, wherever it is.
pub(super) struct Constrained {
    place: Place,
    /// What may come next, if that is known.
    mask: Option<Mask>,
    /// What the last mask took.
    took: Duration,
    /// How many times in a row nothing was forced, and tokens until it is asked again.
    misses: u32,
    rest: u32,
}

enum Place {
    Here(Box<dyn Constraint>),
    Away(Receiver<Done>),
    /// It has panicked.
    Lost,
}

impl Constrained {
    pub(super) fn new(constraint: Box<dyn Constraint>) -> Self {
        // The first mask is computed beside the prompt, which takes its time.
        Self { place: Place::Here(constraint), mask: None, took: Duration::MAX, misses: 0, rest: 0 }
    }

    /// Whether an answer can begin.
    pub(super) fn is_ready(&self) -> bool {
        match &self.place {
            Place::Here(constraint) => constraint.is_ready(),
            Place::Away(_) | Place::Lost => true,
        }
    }

    /// Begins the next mask, where that is worth it.
    pub(super) fn prepare(&mut self, masks: &mut Masks) {
        if self.mask.is_some() || self.took < HANDOVER {
            return;
        }
        self.place = match std::mem::replace(&mut self.place, Place::Lost) {
            Place::Here(constraint) => masks.compute(constraint),
            place => place,
        };
    }

    fn take(&mut self, done: Option<Done>) {
        self.place = match done {
            Some(Done { constraint, mask, took }) => {
                (self.mask, self.took) = (Some(mask), took);
                Place::Here(constraint)
            }
            None => Place::Lost,
        };
    }

    /// Waits for the constraint, if it is away.
    fn here(&mut self) -> Result<&mut dyn Constraint, String> {
        if let Place::Away(receiver) = &self.place {
            let done = receiver.recv().ok();
            self.take(done);
        }
        match &mut self.place {
            Place::Here(constraint) => Ok(&mut **constraint),
            _ => Err(LOST.to_owned()),
        }
    }

    /// What may come next, computed here unless it is known; kept until a token is chosen.
    pub(super) fn allowed(&mut self) -> Result<&TokenMask, String> {
        self.here()?;
        if self.mask.is_none()
            && let Place::Here(constraint) = std::mem::replace(&mut self.place, Place::Lost)
        {
            self.take(compute(constraint));
            self.here()?;
        }
        self.mask.as_ref().ok_or(LOST)?.as_ref().map_err(Clone::clone)
    }

    /// What may come next, if it is known.
    pub(super) fn mask(&self) -> Option<&TokenMask> {
        self.mask.as_ref()?.as_ref().ok()
    }

    /// Advances by the chosen token.
    pub(super) fn accept(&mut self, token: TokenId) -> Result<(), String> {
        self.mask = None;
        self.here()?.accept(token)
    }

    /// Tokens that must come next. In the midst of a text there are none, so it is asked less often there.
    pub(super) fn forced(&mut self) -> Vec<TokenId> {
        if self.rest > 0 {
            self.rest -= 1;
            return Vec::new();
        }
        let forced = self.here().map_or(Vec::new(), |constraint| constraint.forced());
        self.misses = if forced.is_empty() { self.misses + 1 } else { 0 };
        self.rest = (self.misses / 4).min(LONGEST_REST);
        forced
    }

    /// Whether nothing but the answer's end can follow.
    pub(super) fn is_complete(&self) -> bool {
        matches!(&self.place, Place::Here(constraint) if constraint.is_complete())
    }
}
