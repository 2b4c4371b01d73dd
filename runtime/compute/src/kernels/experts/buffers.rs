//! Intermediate results of a call: pairs sorted by expert, and their inputs.

use std::ops::Range;

use super::low_rank::LowRankBuffers;
use super::{ExpertsCall, Route, Weigh, for_pairs};
use crate::kernels::Kernels;
use crate::kernels::matmul::{Activations, is_quantised};
use crate::kernels::threads::Threads;
use satchel_gguf::TensorType;

/// The pairs of one expert.
pub(super) struct Share {
    pub(super) expert: usize,
    pub(super) pairs: Range<usize>,
}

/// Intermediate results of [`super::experts`]. Reusable: later calls keep the memory.
#[derive(Default)]
pub struct ExpertsBuffers {
    /// Per pair, its token; and per pair, its slot among all tokens' slots; sorted by expert.
    pub(super) tokens: Vec<u32>,
    pub(super) slots: Vec<u32>,
    /// The pair of each slot.
    pub(super) pairs: Vec<u32>,
    pub(super) shares: Vec<Share>,
    /// Activations of tokens, then of pairs.
    pub(super) input: Activations,
    pub(super) gathered: Activations,
    /// `(pairs, inner)`; reused at the end for the outputs of `down`, `(pairs, rows)`.
    pub(super) first: Vec<f32>,
    pub(super) second: Vec<f32>,
    /// Input of `up` if weighted, later of `down`.
    pub(super) hidden: Vec<f32>,
    pub(super) low: LowRankBuffers,
}

impl ExpertsBuffers {
    /// Empty buffers.
    pub fn new() -> Self {
        Self::default()
    }

    /// Bytes held.
    pub fn bytes(&self) -> usize {
        let values = self.first.capacity() + self.second.capacity() + self.hidden.capacity();
        let indices = self.tokens.capacity() + self.slots.capacity() + self.pairs.capacity();
        (values + indices) * size_of::<f32>()
            + self.shares.capacity() * size_of::<Share>()
            + self.input.bytes()
            + self.gathered.bytes()
            + self.low.bytes()
    }

    /// Bytes that a call with this many tokens needs.
    pub fn bytes_for(call: &ExpertsCall<'_>, tokens: usize) -> usize {
        let (pairs, columns, inner) = (tokens * call.used, call.up.columns, call.up.rows);
        let gated = usize::from(call.gate.is_some());
        let values = inner.max(call.down.rows) + gated * inner + inner.max(columns);
        let (into, down) = (call.input_types(), call.hidden_types());
        let widest = |quantised: bool| {
            let any = |types: &[TensorType]| types.iter().any(|&ty| is_quantised(ty) == quantised);
            let into = if any(&into) { columns } else { 0 };
            (into, into.max(if any(&down) { inner } else { 0 }))
        };
        let ((quantised, quantised_pairs), (plain, plain_pairs)) = (widest(true), widest(false));
        pairs * (values * size_of::<f32>() + 3 * size_of::<u32>())
            + call.up.count * size_of::<Share>()
            + Activations::bytes_for(tokens, quantised, plain)
            + Activations::bytes_for(pairs, quantised_pairs, plain_pairs)
            + LowRankBuffers::bytes_for(call.adapters, pairs)
    }

    /// Sorts pairs by expert, stably in token order.
    pub(super) fn sort(&mut self, routes: &[Route], used: usize, count: usize) {
        let mut ends = vec![0; count];
        routes.iter().for_each(|route| ends[route.expert as usize] += 1);
        self.shares.clear();
        let mut start = 0;
        for (expert, end) in ends.iter_mut().enumerate() {
            let pairs = start..start + *end;
            start = pairs.end;
            *end = pairs.start;
            if !pairs.is_empty() {
                self.shares.push(Share { expert, pairs });
            }
        }
        for list in [&mut self.tokens, &mut self.slots, &mut self.pairs] {
            list.resize(routes.len(), 0);
        }
        for (slot, route) in routes.iter().enumerate() {
            let next = &mut ends[route.expert as usize];
            self.tokens[*next] = (slot / used) as u32;
            self.slots[*next] = slot as u32;
            self.pairs[slot] = *next as u32;
            *next += 1;
        }
    }

    /// Whether every pair has the same input row: one token, each expert at most once.
    pub(super) fn is_one_row(&self, call: &ExpertsCall<'_>) -> bool {
        call.weigh == Weigh::Output && call.routes.len() == call.used && self.shares.len() == call.used
    }

    /// Sets the activations of all pairs, or of the single row that they share.
    pub(super) fn take_input(&mut self, kernels: &Kernels, threads: &Threads, call: &ExpertsCall<'_>) {
        let columns = call.up.columns;
        let tokens = call.routes.len() / call.used;
        let types = call.input_types();
        match call.weigh {
            Weigh::Output => {
                self.input.set(kernels, threads, call.x, tokens, columns, &types);
                if !self.is_one_row(call) {
                    self.gathered.gather(threads, &self.input, &self.tokens);
                }
            }
            Weigh::Input => {
                self.hidden.resize(call.routes.len() * columns, 0.0);
                let (sources, slots) = (&self.tokens, &self.slots);
                for_pairs(threads, &mut self.hidden, columns, &|pair, row| {
                    let weight = call.routes[slots[pair] as usize].weight;
                    row.copy_from_slice(&call.x[sources[pair] as usize * columns..][..columns]);
                    // SAFETY: tables are handed out only on processors that support them.
                    unsafe { (kernels.elementwise.scale)(row, weight) };
                });
                self.gathered.set(kernels, threads, &self.hidden, call.routes.len(), columns, &types);
            }
        }
    }
}
