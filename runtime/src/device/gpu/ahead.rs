//! The next token's step, encoded and submitted before this one's token has been read.
//!
//! Where every sequence of a step is sampled greedily without penalties or masks, the next step is known but for its tokens, and
//! these are on the GPU already, where the token table is, too. It is begun before the tokens of this one are waited for. If the
//! engine then asks for that very step, its result is on its way; if anything else comes first (another step, a page that is taken
//! or copied), it is dropped: what it stored at positions beyond a sequence's end is stored anew before anything sees it.

use satchel_gpu::Pending;
use satchel_gpu::pick::{Ask, Picking};

use super::program::{GpuProgram, Memory};
use super::step;
use crate::TokenId;
use crate::device::{DeviceError, Picked, Program, Wish};
use crate::plan::{BLOCK_TOKENS, PageId, RowInput, Step};

/// A step that was begun.
pub(super) struct Ahead {
    /// As shaders see it, apart from its tokens.
    words: Vec<u32>,
    /// The tokens, once they are read.
    tokens: Vec<TokenId>,
    pending: Pending,
}

/// Whether a step's rows want a greedy token each and nothing else.
pub(super) fn is_plain(wishes: &[Wish]) -> bool {
    wishes.iter().all(|wish| wish.candidates == 1 && wish.mask.is_none() && wish.values.is_empty())
}

/// The step behind one that gives a token of every sequence, if there is room in their pages: its tokens are not known.
fn next_of(step: &Step) -> Option<Step> {
    let adapts = step.adapters.iter().any(|adapters| !adapters.is_empty());
    if adapts || step.outputs.len() != step.states.len() {
        // Adapters may have rows of their own for tokens, which the CPU looks up.
        return None;
    }
    let mut next = Step { states: step.states.clone(), adapters: step.adapters.clone(), ..Step::default() };
    for (sequence, &row) in step.outputs.iter().enumerate() {
        let is_last = step.sequences.get(row + 1) != Some(&sequence);
        if step.sequences[row] != sequence || !is_last {
            return None;
        }
        let position = step.positions[row] + 1;
        let there = |pages: &Vec<Option<PageId>>| pages.get(position / BLOCK_TOKENS).is_some_and(Option::is_some);
        if !step.states[sequence].iter().all(there) {
            return None;
        }
        next.push(0, position, sequence);
        next.outputs.push(sequence);
    }
    next.answers = next.len();
    Some(next)
}

/// The tokens of a step whose rows are all tokens.
fn tokens_of(step: &Step) -> Option<Vec<TokenId>> {
    let tokens = step.inputs.iter().map(|input| match input {
        RowInput::Token(token) => Some(*token),
        RowInput::Embedding(_) => None,
    });
    tokens.collect()
}

impl GpuProgram {
    /// A step of greedy tokens; the next one is begun.
    pub(super) fn pick_greedily(&mut self, step: &Step) -> Result<Option<Vec<Picked>>, DeviceError> {
        let (rows, words) = (step.outputs.len(), step::words(step, self.extent(step), self.groups));
        let asks = vec![Ask::default(); rows];
        let begun = self.ahead.take().filter(|ahead| {
            ahead.words == words && tokens_of(step).as_ref() == Some(&ahead.tokens) && self.memory.is_some()
        });
        let (mut memory, pending) = match (begun, self.memory.take()) {
            (Some(ahead), Some(memory)) => (memory, ahead.pending),
            (_, memory) => {
                self.memory = memory;
                let mut memory = self.ready(step)?;
                let picking = self.picking(&mut memory, rows, 1)?;
                let (calls, found, bytes) = picking.ask(&self.gpu, &asks);
                let calls = memory.calls_for(step).chain(calls);
                let pending = self.gpu.start(calls, self.extent(step), (found, bytes))?;
                memory.picking = Some(picking);
                (memory, pending)
            }
        };
        // Memory may have grown in between: then the tokens are where the calls that are now there do not look.
        let picked = memory.picking.take();
        let next = next_of(step).filter(|_| picked.is_some());
        let picking = picked.map_or_else(|| self.picking(&mut memory, rows, 1), Ok)?;
        let next = next.map(|next| self.begin(&next, &memory, &picking)).transpose()?;
        let read = self.gpu.finish(pending)?;
        let found = picking.found(&read, &asks, &vec![1; rows]);
        memory.picking = Some(picking);
        self.memory = Some(memory);
        let Some(found) = found else {
            // All logits are wanted, and the next step's are where this one's were.
            self.run(step)?;
            return Ok(None);
        };
        let tokens: Option<Vec<TokenId>> =
            found.iter().map(|row| row.candidates.first().map(|(token, _)| *token)).collect();
        self.ahead = next.zip(tokens).map(|((words, pending), tokens)| Ahead { words, tokens, pending });
        Ok(Some(found.into_iter().map(|row| Picked { candidates: row.candidates, values: row.values }).collect()))
    }

    /// Begins a step whose tokens are those that were picked last.
    fn begin(&mut self, next: &Step, memory: &Memory, picking: &Picking) -> Result<(Vec<u32>, Pending), DeviceError> {
        let words = step::words(next, self.extent(next), self.groups);
        self.write(next, &words, memory);
        picking.copy_tokens(&self.gpu, &memory.tokens_buffer, next.len());
        let asks = vec![Ask::default(); next.len()];
        let (calls, found, bytes) = picking.ask(&self.gpu, &asks);
        let calls = memory.calls_for(next).chain(calls);
        let pending = self.gpu.start(calls, self.extent(next), (found, bytes))?;
        Ok((words, pending))
    }
}
