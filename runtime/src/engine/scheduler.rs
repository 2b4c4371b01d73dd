//! The engine's thread: admits requests, builds one batch per step, gives each sequence its logits.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::sequence::Running;
use super::share::{Pace, shares};
use super::{EngineOptions, Event, FinishReason, Finished, Load, Loaded, Request};
use crate::TokenId;
use crate::mapping;
use crate::plan::{AdapterSet, Step};
use crate::state::{StateCache, StateError};

/// A request on its way to the engine's thread.
pub(super) struct Submission {
    pub(super) request: Request,
    pub(super) events: Sender<Event>,
    pub(super) cancelled: Arc<AtomicBool>,
    pub(super) submitted: Instant,
}

impl Submission {
    /// Reports the end of a request that never ran.
    fn end(&self, reason: FinishReason) {
        let _ = self.events.send(Event::Finished(Finished {
            reason,
            prompt_tokens: self.request.prompt.len(),
            shifted_tokens: 0,
            cached_tokens: 0,
            generated_tokens: 0,
            prefill_seconds: self.submitted.elapsed().as_secs_f64(),
            decode_seconds: 0.0,
            seed: self.request.sampling.seed.unwrap_or(0),
        }));
    }
}

/// Whose prefixes a request may find: what was computed with one set of adapters is of no use with another.
fn owner(caller: u64, adapters: AdapterSet) -> u64 {
    if adapters.is_empty() {
        return caller;
    }
    let mut hasher = std::hash::DefaultHasher::new();
    (caller, adapters).hash(&mut hasher);
    hasher.finish()
}

pub(super) struct Scheduler {
    loaded: Loaded,
    options: EngineOptions,
    load: Arc<Load>,
    state: StateCache,
    waiting: VecDeque<Submission>,
    running: Vec<Running>,
    pace: Pace,
    logits: Vec<f32>,
}

impl Scheduler {
    pub(super) fn new(loaded: Loaded, options: EngineOptions, shared: Vec<TokenId>, load: Arc<Load>) -> Self {
        let EngineOptions { context, parallel, batch_tokens } = options;
        let mut state = StateCache::new(&loaded.plan.state, parallel, context, batch_tokens);
        // With adapters, what is computed of a text depends on which are used: nothing is everyone's.
        if loaded.plan.adapted.is_empty() {
            state.share(shared);
        }
        Self {
            state,
            loaded,
            options,
            load,
            waiting: VecDeque::new(),
            running: Vec::new(),
            pace: Pace::default(),
            logits: Vec::new(),
        }
    }

    /// Runs until the engine is dropped. Blocks on the channel while idle.
    pub(super) fn run(mut self, submissions: &Receiver<Submission>) {
        while !self.load.ending.load(Ordering::Relaxed) {
            if self.running.is_empty() && self.waiting.is_empty() {
                match submissions.recv() {
                    Ok(submission) => self.waiting.push_back(submission),
                    Err(_) => return,
                }
            }
            while let Ok(submission) = submissions.try_recv() {
                self.waiting.push_back(submission);
            }
            self.turn();
        }
        for running in std::mem::take(&mut self.running) {
            running.finish(FinishReason::Cancelled);
        }
        for waiting in &self.waiting {
            waiting.end(FinishReason::Cancelled);
        }
    }

    /// Ends cancelled sequences, admits waiting ones, and runs a step.
    pub(super) fn turn(&mut self) {
        self.end_cancelled();
        self.admit();
        self.step();
    }

    /// Submits a request, as the channel does.
    #[cfg(test)]
    pub(super) fn take(&mut self, request: Request) -> Receiver<Event> {
        let (events, receiver) = std::sync::mpsc::channel();
        self.load.waiting.fetch_add(1, Ordering::Relaxed);
        self.waiting.push_back(Submission { request, events, cancelled: Arc::default(), submitted: Instant::now() });
        receiver
    }

    /// Called whenever the numbers change, before ending sequences report it: a client with its answer must not find it running.
    fn publish_load(&self) {
        self.load.running.store(self.running.len(), Ordering::Relaxed);
    }

    fn end_cancelled(&mut self) {
        let (cancelled, running): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(Running::cancelled);
        self.running = running;
        self.publish_load();
        for running in cancelled {
            let sequence = running.finish(FinishReason::Cancelled);
            self.state.end(&mut *self.loaded.program, sequence);
        }
        let load = &self.load;
        self.waiting.retain(|submission| {
            let cancelled = submission.cancelled.load(Ordering::Relaxed);
            if cancelled {
                submission.end(FinishReason::Cancelled);
                load.waiting.fetch_sub(1, Ordering::Relaxed);
            }
            !cancelled
        });
    }

    fn admit(&mut self) {
        while self.running.len() < self.options.parallel {
            let Some(Submission { mut request, events, cancelled, submitted }) = self.waiting.pop_front() else {
                return;
            };
            let shifted = request.overflow.shift(&mut request.prompt, self.options.context);
            let owner = owner(request.caller, request.adapters);
            let sequence = self.state.begin(&mut *self.loaded.program, owner, &request.prompt);
            let mut running = Running::new(request, events, cancelled, sequence, submitted);
            running.shifted = shifted;
            self.running.push(running);
            // In this order, so that no one finds a request neither running nor waiting.
            self.publish_load();
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One pass over all sequences that want one.
    fn step(&mut self) {
        let (step, rows) = self.build_step();
        if step.is_empty() {
            return;
        }
        let program = &mut self.loaded.program;
        let begun = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| program.run(&step)));
        match passed {
            Err(_) => {
                let why = "the forward pass failed; this is a bug in Satchel".to_owned();
                return self.fail_all(&FinishReason::Failed(why));
            }
            Ok(Err(error)) => return self.fail_all(&FinishReason::Unavailable(error.to_string())),
            Ok(Ok(())) => {}
        }
        if let Some(path) = mapping::damaged() {
            // Unreadable pages were replaced by zeros: neither the answer nor the state is valid.
            let why = format!("{}: the file was changed or cut short while it was in use; start again", path.display());
            return self.fail_all(&FinishReason::Unavailable(why));
        }
        self.pace.note(step.len(), begun.elapsed());
        self.logits.clear();
        if !step.outputs.is_empty() {
            self.logits.extend_from_slice(self.loaded.program.output());
        }
        let mut logits = self.logits.chunks_exact_mut(self.loaded.plan.output_columns());
        let mut ended = Vec::new();
        for (index, wants_logits) in rows {
            let running = &mut self.running[index];
            let program = &mut *self.loaded.program;
            running.step_done();
            if !wants_logits {
                self.state.commit(program, &mut running.state);
                running.report_prompt();
                continue;
            }
            match running.generated() {
                0 => self.state.checkpoint(program, &mut running.state),
                _ => self.state.commit(program, &mut running.state),
            }
            let logits = logits.next().expect("a row of logits for each output");
            match running.advance(logits, self.options.context) {
                None => {}
                Some(FinishReason::ContextFull) if running.shift(self.options.context) => {
                    // What stays has other positions now: all but what is kept of its beginning is computed anew.
                    let before = std::mem::take(&mut running.state);
                    self.state.end(program, before);
                    let owner = owner(running.caller(), running.adapters());
                    let state = self.state.begin(program, owner, running.tokens());
                    running.go_on_from(state);
                }
                Some(reason) => ended.push((index, reason)),
            }
        }
        self.end(ended);
    }

    /// Ends running sequences, given by index.
    fn end(&mut self, mut ended: Vec<(usize, FinishReason)>) {
        // Highest index first: removal does not shift the lower ones.
        ended.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, reason) in ended {
            let running = self.running.remove(index);
            self.publish_load();
            let sequence = running.finish(reason);
            self.state.end(&mut *self.loaded.program, sequence);
        }
    }

    /// The step, and for each running sequence in it its index and whether its logits are wanted. Sequences for which memory runs
    /// out end here.
    fn build_step(&mut self) -> (Step, Vec<(usize, bool)>) {
        let mut step = Step::default();
        let mut rows = Vec::new();
        let mut failed = Vec::new();
        for (index, take) in self.share_out() {
            let pending = self.running[index].pending().len();
            match self.add_rows(&mut step, index, take) {
                Ok(()) => {
                    let wants_logits = take == pending;
                    if wants_logits {
                        step.outputs.push(step.len() - 1);
                    }
                    rows.push((index, wants_logits));
                }
                Err(error) => failed.push((index, error)),
            }
        }
        if failed.is_empty() {
            return (step, rows);
        }
        // Indices change: the remaining sequences go on in the next step.
        self.fail(failed);
        self.build_step()
    }

    /// The next step's rows: index and row count of each running sequence that gets any. Decoding sequences come first; prompts
    /// share the rest.
    fn share_out(&self) -> Vec<(usize, usize)> {
        let most = self.options.batch_tokens;
        let (decoding, prompts): (Vec<usize>, Vec<usize>) =
            (0..self.running.len()).partition(|&index| self.running[index].decoding());
        let mut rows: Vec<(usize, usize)> = decoding.iter().take(most).map(|&index| (index, 1)).collect();
        let alone = self.running.len() <= 1 && self.waiting.is_empty();
        let prefill = self.pace.prefill_tokens(alone, most).min(most - rows.len());
        let pending: Vec<usize> = prompts.iter().map(|&index| self.running[index].pending().len()).collect();
        let shared = prompts.into_iter().zip(shares(&pending, prefill));
        rows.extend(shared.filter(|&(_, take)| take > 0));
        rows
    }

    /// Adds the next `take` tokens of a running sequence to the step, all or none.
    fn add_rows(&mut self, step: &mut Step, index: usize, take: usize) -> Result<(), StateError> {
        let running = &mut self.running[index];
        let program = &mut *self.loaded.program;
        let tokens = running.pending()[..take].to_vec();
        let (rows, length) = (step.len(), running.state.len());
        self.state.trim(program, &mut running.state);
        for token in tokens {
            step.push(token, running.state.len(), step.states.len());
            if let Err(error) = self.state.push(program, &mut running.state, token) {
                step.inputs.truncate(rows);
                step.positions.truncate(rows);
                step.sequences.truncate(rows);
                running.state.forget_from(length);
                return Err(error);
            }
        }
        step.states.push(running.state.pages().to_vec());
        step.adapters.push(running.adapters());
        Ok(())
    }

    /// Ends sequences for which memory ran out; the others go on.
    fn fail(&mut self, mut failed: Vec<(usize, StateError)>) {
        // Rows that others had added to the step are not computed yet.
        for running in &mut self.running {
            running.take_back();
        }
        failed.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, error) in failed {
            let running = self.running.remove(index);
            self.publish_load();
            let sequence = running.finish(FinishReason::Unavailable(error.to_string()));
            self.state.discard(&mut *self.loaded.program, sequence);
        }
    }

    /// A failed pass ends the requests in it, not the engine.
    fn fail_all(&mut self, why: &FinishReason) {
        let failed = std::mem::take(&mut self.running);
        self.publish_load();
        for running in failed {
            let sequence = running.finish(why.clone());
            self.state.discard(&mut *self.loaded.program, sequence);
        }
    }
}
