//! The engine's thread: admits requests, builds one batch per step, gives each sequence its logits.

use std::collections::VecDeque;
use std::hash::{Hash, Hasher};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::{Duration, Instant};

use super::draft::{Drafter, MOST_DRAFTED};
use super::masks::Masks;
use super::sequence::{Running, Scores};
use super::share::{Pace, shares};
use super::speculate::{CostsByContext, Kind, Offer, all_of, worthwhile};
use super::{Companions, EngineOptions, Event, FinishReason, Finished, Load, Loaded, Request, Speculate, Store, Warm};
use crate::TokenId;
use crate::device::{DeviceError, Wish};
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
            guessed_tokens: 0,
            accepted_tokens: 0,
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
    admitted: u64,
    pace: Pace,
    costs: CostsByContext,
    logits: Vec<f32>,
    store: Option<Store>,
    drafter: Option<Drafter>,
    /// Until it has been read.
    warm: Option<Warm>,
    masks: Masks,
}

/// How long to wait if all that run wait for what is made elsewhere.
const NOT_READY: Duration = Duration::from_millis(1);

/// A running sequence's rows of a step.
struct Part {
    /// Which one.
    index: usize,
    /// Pending tokens that are computed.
    take: usize,
    /// Whether these are all, so that a token can be sampled.
    wants_logits: bool,
    /// Whether they are an answer's.
    answers: bool,
    /// Guesses behind them that are checked, and their kind.
    checked: Option<(usize, Kind)>,
}

impl Part {
    fn guesses(&self) -> usize {
        self.checked.map_or(0, |(guesses, _)| guesses)
    }
}

impl Scheduler {
    pub(super) fn new(loaded: Loaded, options: EngineOptions, shared: Vec<TokenId>, load: Arc<Load>) -> Self {
        let EngineOptions { context, parallel, batch_tokens, kept, .. } = options;
        let state = StateCache::new(&loaded.plan.state, parallel, context, batch_tokens);
        let mut state = state.with_kept(kept, context, batch_tokens);
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
            admitted: 0,
            pace: Pace::default(),
            costs: CostsByContext::default(),
            logits: Vec::new(),
            store: None,
            drafter: None,
            warm: None,
            masks: Masks::new(),
        }
    }

    /// The same with what it has beside the model.
    pub(super) fn with(self, companions: Companions) -> Self {
        let EngineOptions { parallel, batch_tokens, .. } = self.options;
        let drafter = companions.draft.map(|(draft, context)| Drafter::new(draft, parallel, context, batch_tokens));
        let state = self.state.with_limit(companions.limit);
        Self { state, store: companions.store, drafter, warm: companions.warm, ..self }
    }

    /// Runs until the engine is dropped. Blocks on the channel while idle.
    pub(super) fn run(mut self, submissions: &Receiver<Submission>) {
        if let Some(store) = &self.store {
            store.load(&mut self.state, &mut *self.loaded.program);
            self.state.keep_within_limit(&mut *self.loaded.program);
        }
        self.serve(submissions);
        for running in std::mem::take(&mut self.running) {
            let sequence = running.finish(FinishReason::Cancelled);
            self.state.end(&mut *self.loaded.program, sequence);
        }
        for waiting in &self.waiting {
            waiting.end(FinishReason::Cancelled);
        }
        // Of a file that was cut while it was mapped, states are wrong.
        if let Some(store) = self.store.as_ref().filter(|_| mapping::damaged().is_none()) {
            store.save(&self.state, &*self.loaded.program);
        }
    }

    fn serve(&mut self, submissions: &Receiver<Submission>) {
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
    }

    /// Ends cancelled sequences, admits waiting ones, and runs a step.
    pub(super) fn turn(&mut self) {
        self.end_cancelled();
        self.admit();
        self.join();
        self.step();
    }

    /// Lets sequences go on that have waited until another had read what their prompts have in common.
    fn join(&mut self) {
        for index in 0..self.running.len() {
            let (before, rest) = self.running.split_at_mut(index);
            let running = &mut rest[0];
            if !running.is_ahead(before) {
                continue;
            }
            let program = &mut *self.loaded.program;
            let owner = owner(running.caller(), running.adapters());
            let shorter = std::mem::take(&mut running.state);
            self.state.discard(program, shorter);
            let state = self.state.begin(program, owner, running.tokens());
            running.join(state);
            // The leader may have been cancelled: then the next one reads.
            running.follow(before);
        }
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
        self.load.kept_tokens.store(self.state.kept_tokens(), Ordering::Relaxed);
        self.load.evicted_blocks.store(self.state.evicted(), Ordering::Relaxed);
    }

    fn end_cancelled(&mut self) {
        let (cancelled, running): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.running).into_iter().partition(Running::cancelled);
        self.running = running;
        self.publish_load();
        for running in cancelled {
            let sequence = running.finish(FinishReason::Cancelled);
            self.state.end(&mut *self.loaded.program, sequence);
            self.state.keep_within_limit(&mut *self.loaded.program);
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
            if let Some(warm) = self.warm.take_if(|warm| warm.is_wanted(&request.prompt)) {
                warm.load(&mut self.state, &mut *self.loaded.program);
            }
            let sequence = self.state.begin(&mut *self.loaded.program, owner, &request.prompt);
            self.admitted += 1;
            let mut running = Running::new(request, events, cancelled, sequence, submitted, self.admitted);
            running.shifted = shifted;
            // A recurrent state is kept at the prompt's end only, which is too late for the same prompt.
            if !self.loaded.plan.state.has_recurrent() {
                running.follow(&self.running);
            }
            self.running.push(running);
            // In this order, so that no one finds a request neither running nor waiting.
            self.publish_load();
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One pass over all sequences that want one.
    fn step(&mut self) {
        if let Some(drafter) = &mut self.drafter {
            drafter.keep(&self.running.iter().map(Running::id).collect::<Vec<_>>());
        }
        let (step, parts) = self.build_step();
        if step.is_empty() {
            if !self.running.iter().all(Running::is_ready) {
                std::thread::sleep(NOT_READY);
            }
            return;
        }
        let wishes = self.wishes(&parts);
        for part in parts.iter().filter(|part| part.wants_logits) {
            self.running[part.index].prepare_mask(&mut self.masks);
        }
        let program = &mut self.loaded.program;
        let begun = Instant::now();
        let passed = catch_unwind(AssertUnwindSafe(|| match &wishes {
            Some(wishes) => program.run_picking(&step, wishes),
            None => program.run(&step).map(|()| None),
        }));
        let picked = match passed {
            Err(_) => {
                let why = "the forward pass failed; this is a bug in Satchel".to_owned();
                return self.fail_all(&FinishReason::Failed(why));
            }
            Ok(Err(error)) if self.recovers(&error) => return,
            Ok(Err(error)) => return self.fail_all(&FinishReason::Unavailable(error.to_string())),
            Ok(Ok(picked)) => picked,
        };
        if let Some(path) = mapping::damaged() {
            // Unreadable pages were replaced by zeros: neither the answer nor the state is valid.
            let why = format!("{}: the file was changed or cut short while it was in use; start again", path.display());
            return self.fail_all(&FinishReason::Unavailable(why));
        }
        self.pace.note(step.len(), begun.elapsed());
        self.load.steps.fetch_add(1, Ordering::Relaxed);
        self.load.step_sequences.fetch_add(parts.len() as u64, Ordering::Relaxed);
        if step.outputs.len() == step.len() {
            let longest = step.positions.iter().copied().max().unwrap_or(0);
            self.costs.at(longest).note(step.len(), begun.elapsed());
        }
        self.logits.clear();
        if !step.outputs.is_empty() && picked.is_none() {
            self.logits.extend_from_slice(self.loaded.program.output());
        }
        let columns = self.loaded.plan.output_columns();
        let mut logits = &mut self.logits[..];
        let mut few = picked.iter().flatten();
        let mut ended = Vec::new();
        for part in parts {
            let (index, guesses) = (part.index, part.guesses());
            let running = &mut self.running[index];
            let program = &mut *self.loaded.program;
            if !part.wants_logits {
                running.step_done(0);
                self.load.longest.fetch_max(running.state.len(), Ordering::Relaxed);
                self.state.commit(program, &mut running.state);
                running.report_prompt();
                continue;
            }
            let prefilled = running.generated() == 0;
            let (right, end) = if picked.is_some() {
                let row = few.next().expect("something of each output");
                (0, running.advance(Scores::Few(row), self.options.context))
            } else {
                let rows = logits.split_off_mut(..(guesses + 1) * columns).expect("a row of logits for each output");
                running.advance_over(rows, columns, part.checked, self.options.context)
            };
            running.step_done(guesses - right);
            self.load.longest.fetch_max(running.tokens().len(), Ordering::Relaxed);
            match prefilled {
                true => self.state.checkpoint(program, &mut running.state),
                false => self.state.commit(program, &mut running.state),
            }
            match end {
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

    /// What is wished of a step's rows, if all of them need few logits. Rows behind a guess need all: what a constraint or a penalty
    /// does to them is known only once those before are sampled.
    fn wishes(&mut self, parts: &[Part]) -> Option<Vec<Wish>> {
        let limits = self.loaded.program.pick_limits();
        let mut wanted = parts.iter().filter(|part| part.wants_logits).peekable();
        if limits.candidates == 0 || wanted.peek().is_none() || parts.iter().any(|part| part.guesses() > 0) {
            return None;
        }
        let vocabulary = self.loaded.plan.output_columns();
        wanted.map(|part| self.running[part.index].wish(vocabulary, limits)).collect()
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
            self.state.keep_within_limit(&mut *self.loaded.program);
            self.publish_load();
        }
    }

    /// The step, and each running sequence's part in it. Sequences for which memory runs out end here.
    fn build_step(&mut self) -> (Step, Vec<Part>) {
        let mut step = Step::default();
        let mut parts = Vec::new();
        let mut failed = Vec::new();
        for mut part in self.share_out() {
            let mut added = self.add_rows(&mut step, &part);
            if added.is_err() && part.checked.take().is_some() {
                // Guesses need memory that the sequence itself may never need.
                added = self.add_rows(&mut step, &part);
            }
            match added {
                Ok(()) => {
                    if part.answers {
                        step.answers = step.len();
                    }
                    if part.wants_logits {
                        step.outputs.extend(step.len() - 1 - part.guesses()..step.len());
                    }
                    parts.push(part);
                }
                Err(error) => failed.push((part.index, error)),
            }
        }
        if failed.is_empty() {
            return (step, parts);
        }
        let broken = failed.iter().find_map(|(_, error)| match error {
            StateError::Device(error) => Some(error.clone()),
            StateError::NoRoom => None,
        });
        if broken.is_some_and(|error| self.recovers(&error)) {
            return self.build_step();
        }
        // Indices change: the remaining sequences go on in the next step.
        self.fail(failed);
        self.build_step()
    }

    /// The next step's parts. Decoding sequences come first; prompts share the rest.
    fn share_out(&mut self) -> Vec<Part> {
        let most = self.options.batch_tokens;
        // A prompt's last token is left until the answer can begin: a constraint that is not ready would hold up everyone's steps.
        let readable = |index: usize| {
            let running = &self.running[index];
            running.pending().len() - usize::from(!running.is_ready())
        };
        let (mut decoding, prompts): (Vec<usize>, Vec<usize>) = (0..self.running.len())
            .filter(|&index| readable(index) > 0)
            .partition(|&index| self.running[index].decoding());
        // Answers before prompts of which a token is left.
        decoding.sort_by_key(|&index| !self.running[index].answers());
        let answers = |index: usize| self.running[index].answers();
        let part = |index: usize| Part { index, take: 1, wants_logits: true, answers: answers(index), checked: None };
        let mut parts: Vec<Part> = decoding.iter().take(most).map(|&index| part(index)).collect();
        if prompts.is_empty() {
            self.speculate(&mut parts);
            return parts;
        }
        let alone = self.running.iter().filter(|running| !running.follows()).count() <= 1 && self.waiting.is_empty();
        let prefill = self.pace.prefill_tokens(alone, most).min(most - parts.len());
        let prompts: Vec<usize> = prompts.into_iter().filter(|&index| !self.running[index].follows()).collect();
        let pending: Vec<usize> = prompts.iter().map(|&index| readable(index)).collect();
        let shared = prompts.into_iter().zip(pending.iter().zip(shares(&pending, prefill)));
        let shared = shared.filter(|&(_, (_, take))| take > 0);
        parts.extend(shared.map(|(index, (_, take))| Part {
            take,
            wants_logits: take == self.running[index].pending().len(),
            ..part(index)
        }));
        parts
    }

    /// Adds guesses to the parts of a step without prompts, where checking them is faster.
    fn speculate(&mut self, parts: &mut [Part]) {
        // A recurrent state cannot be taken back, short of a copy for each step.
        if self.options.speculate == Speculate::Off || self.loaded.plan.state.has_recurrent() {
            return;
        }
        let room = self.options.batch_tokens.saturating_sub(parts.len());
        let (mut offers, mut kinds) = (Vec::new(), Vec::new());
        // What follows a prompt's last token is guessed once that is read: a part's rows are all an answer's, or none is.
        for (at, part) in parts.iter().enumerate().filter(|(_, part)| part.answers) {
            if let Some((kind, offer)) = self.offer(part.index) {
                offers.push(offer);
                kinds.push((at, kind));
            }
        }
        let mut chosen = self.choose(&offers, parts, room);
        let mut changed = false;
        for (place, (at, kind)) in kinds.iter_mut().enumerate() {
            // Where the draft does not pay, what was found may: it costs nothing to make.
            if *kind != Kind::Drafted || chosen[place] > 0 {
                continue;
            }
            if let Some((found, offer)) = self.found(parts[*at].index) {
                self.running[parts[*at].index].rest(*kind);
                (*kind, offers[place], changed) = (found, offer, true);
            }
        }
        if changed {
            chosen = self.choose(&offers, parts, room);
        }
        for ((at, kind), guesses) in kinds.into_iter().zip(chosen) {
            let part = &mut parts[at];
            let running = &mut self.running[part.index];
            let guesses = match (&mut self.drafter, kind) {
                (Some(drafter), Kind::Drafted) if guesses > 0 => {
                    running.set_guess(drafter.guess(running.id(), running.tokens(), guesses))
                }
                _ => guesses,
            };
            match guesses {
                0 => running.rest(kind),
                _ => part.checked = Some((guesses, kind)),
            }
        }
    }

    /// How many guesses of each offer to check.
    fn choose(&mut self, offers: &[Offer], parts: &[Part], room: usize) -> Vec<usize> {
        if self.options.speculate == Speculate::Always {
            return all_of(offers, room);
        }
        let longest = parts.iter().map(|part| self.running[part.index].state.len()).max().unwrap_or(0);
        worthwhile(self.costs.at(longest), offers, parts.len() - offers.len(), room)
    }

    /// What can be guessed of a sequence from its own tokens.
    fn found(&mut self, index: usize) -> Option<(Kind, Offer)> {
        let running = &mut self.running[index];
        let (guesses, kind) = running.guess(running.most_guesses(self.options.context))?;
        (guesses > 0).then(|| (kind, Offer { guesses, odds: running.odds(kind), seconds: 0.0 }))
    }

    /// What can be guessed of a sequence: from its own tokens where much speaks for it, else by the draft model if there is one.
    fn offer(&mut self, index: usize) -> Option<(Kind, Offer)> {
        let running = &mut self.running[index];
        let guesses = running.most_guesses(self.options.context).min(MOST_DRAFTED);
        let found = self.found(index);
        let running = &self.running[index];
        let drafter = self.drafter.as_ref().filter(|drafter| guesses > 0 && drafter.reaches(running.tokens().len()));
        match (found, drafter) {
            (None | Some((Kind::Short, _)), Some(drafter)) => {
                let (odds, seconds) = (running.odds(Kind::Drafted), drafter.seconds());
                Some((Kind::Drafted, Offer { guesses, odds, seconds }))
            }
            (found, _) => found,
        }
    }

    /// Adds a part's pending tokens and guesses to the step, all or none.
    fn add_rows(&mut self, step: &mut Step, part: &Part) -> Result<(), StateError> {
        let running = &mut self.running[part.index];
        let program = &mut *self.loaded.program;
        let mut tokens = running.pending()[..part.take].to_vec();
        tokens.extend_from_slice(running.guesses(part.guesses()));
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

    /// Whether another device takes over from one that broke down. No state is left then: all that runs is computed anew, of the
    /// tokens that are known.
    fn recovers(&mut self, error: &DeviceError) -> bool {
        if !matches!(error, DeviceError::Failed(_)) || !self.loaded.program.recover(error) {
            return false;
        }
        self.state.forget();
        self.costs = CostsByContext::default();
        for running in &mut self.running {
            let owner = owner(running.caller(), running.adapters());
            let state = self.state.begin(&mut *self.loaded.program, owner, running.tokens());
            running.go_on_from(state);
        }
        true
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
