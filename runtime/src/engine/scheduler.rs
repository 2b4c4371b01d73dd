//! The engine's thread: admits requests, builds a batch a step, hands each sequence its logits.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender};
use std::time::Instant;

use super::sequence::Running;
use super::{EngineOptions, Event, FinishReason, Finished, Load, Request};
use crate::backend::{Backend, Batch};
use crate::kv::{BLOCK_TOKENS, KvCache};
use crate::model::Model;

/// While others decode, a prompt goes in pieces of at most this many tokens, so that their streams go on.
const SHARED_PREFILL_TOKENS: usize = 64;

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
            cached_tokens: 0,
            generated_tokens: 0,
            prefill_seconds: self.submitted.elapsed().as_secs_f64(),
            decode_seconds: 0.0,
            seed: self.request.sampling.seed.unwrap_or(0),
        }));
    }
}

/// KV blocks that `parallel` sequences of `context` positions may hold at once. One more than the positions need for each: a prefix
/// that is taken over copies its last block while the kept one still has it.
pub fn kv_blocks(context: usize, parallel: usize) -> usize {
    parallel * (context.div_ceil(BLOCK_TOKENS) + 1)
}

pub(super) struct Scheduler {
    model: Model,
    backend: Box<dyn Backend>,
    options: EngineOptions,
    load: Arc<Load>,
    kv: KvCache,
    waiting: VecDeque<Submission>,
    running: Vec<Running>,
    logits: Vec<f32>,
}

impl Scheduler {
    pub(super) fn new(model: Model, backend: Box<dyn Backend>, options: EngineOptions, load: Arc<Load>) -> Self {
        Self {
            model,
            backend,
            options,
            load,
            kv: KvCache::new(kv_blocks(options.context, options.parallel)),
            waiting: VecDeque::new(),
            running: Vec::new(),
            logits: Vec::new(),
        }
    }

    /// Works until the engine is dropped. Sleeps in the channel while there is nothing to do.
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
            self.end_cancelled();
            self.admit();
            self.step();
        }
        for running in std::mem::take(&mut self.running) {
            running.finish(FinishReason::Cancelled);
        }
        for waiting in &self.waiting {
            waiting.end(FinishReason::Cancelled);
        }
    }

    /// Whenever the number changes, and before the sequences that end say so: who has an answer no longer finds it running.
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
            self.kv.end(&mut *self.backend, sequence);
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
            let Some(Submission { request, events, cancelled, submitted }) = self.waiting.pop_front() else { return };
            let sequence = self.kv.begin(&mut *self.backend, &request.prompt);
            self.running.push(Running::new(request, events, cancelled, sequence, submitted));
            // In this order, so that no one finds a request neither running nor waiting.
            self.publish_load();
            self.load.waiting.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// One forward pass over everything that wants one.
    fn step(&mut self) {
        let (batch, rows) = self.build_batch();
        if batch.tokens.is_empty() {
            return;
        }
        let (model, backend, logits) = (&self.model, &mut *self.backend, &mut self.logits);
        let passed = catch_unwind(AssertUnwindSafe(|| model.forward(backend, &batch, logits)));
        if passed.is_err() {
            self.fail_all();
            return;
        }
        let mut logits = self.logits.chunks_exact_mut(self.model.vocabulary);
        let mut ended = Vec::new();
        for (index, wants_logits) in rows {
            let running = &mut self.running[index];
            if wants_logits {
                let logits = logits.next().expect("a row of logits for each output");
                if let Some(reason) = running.advance(logits, self.options.context) {
                    ended.push((index, reason));
                }
            } else {
                running.report_prompt();
            }
        }
        // Highest index first: removing one leaves the lower ones where they are.
        ended.sort_by_key(|(index, _)| std::cmp::Reverse(*index));
        for (index, reason) in ended {
            let running = self.running.remove(index);
            self.publish_load();
            let sequence = running.finish(reason);
            self.kv.end(&mut *self.backend, sequence);
        }
    }

    /// The batch, and for each running sequence in it its index and whether its logits are wanted.
    fn build_batch(&mut self) -> (Batch, Vec<(usize, bool)>) {
        let mut batch = Batch::default();
        let mut rows = Vec::new();
        let decoding = self.running.iter().filter(|running| running.decoding()).count();
        let prefill = if decoding > 0 { SHARED_PREFILL_TOKENS } else { self.options.batch_tokens };
        let mut budget = self.options.batch_tokens.min(prefill + decoding).max(1);
        // Sequences that decode come first: a long prompt takes what they leave.
        let mut order: Vec<usize> = (0..self.running.len()).collect();
        order.sort_by_key(|&index| !self.running[index].decoding());
        for index in order {
            let running = &mut self.running[index];
            let pending = running.pending().len();
            let take = pending.min(budget);
            if take == 0 {
                continue;
            }
            budget -= take;
            let tokens = running.pending()[..take].to_vec();
            for token in tokens {
                batch.positions.push(running.kv.len());
                batch.tokens.push(token);
                batch.sequences.push(batch.tables.len());
                let pushed = self.kv.push(&mut *self.backend, &mut running.kv, token);
                assert!(pushed, "the cache has blocks for every sequence's whole context");
            }
            batch.tables.push(running.kv.blocks().to_vec());
            let wants_logits = take == pending;
            if wants_logits {
                batch.outputs.push(batch.tokens.len() - 1);
            }
            rows.push((index, wants_logits));
        }
        (batch, rows)
    }

    /// A bug in a forward pass ends the requests that were in it, not the engine.
    fn fail_all(&mut self) {
        let failed = std::mem::take(&mut self.running);
        self.publish_load();
        for running in failed {
            let reason = FinishReason::Failed("the forward pass failed; this is a bug in Satchel".into());
            let sequence = running.finish(reason);
            self.kv.discard(&mut *self.backend, sequence);
        }
    }
}
