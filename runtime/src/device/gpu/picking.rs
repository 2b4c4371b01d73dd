//! Rows of which a few logits are read back instead of the vocabulary's.

use satchel_gpu::pick::{Ask, MOST_CANDIDATES, MOST_VALUES, Picking};

use super::ahead;
use super::program::{GpuProgram, Memory};
use crate::device::{DeviceError, PickLimits, Picked, Wish};
use crate::plan::Step;

/// What this device picks.
pub(super) const LIMITS: PickLimits = PickLimits { candidates: MOST_CANDIDATES, values: MOST_VALUES };

impl GpuProgram {
    /// Calls that pick tokens of so many rows: those that there are, if they fit.
    pub(super) fn picking(&self, memory: &mut Memory, rows: usize, most: usize) -> Result<Picking, DeviceError> {
        let Some(result) = self.result.map(|result| self.slots[result.0]) else {
            return Err(DeviceError::Unsupported("this part of a model gives no logits".to_owned()));
        };
        let logits = &memory.buffers[result.buffer];
        match memory.picking.take().filter(|picking| picking.fits(rows, most)) {
            Some(picking) => Ok(picking),
            None => Ok(Picking::new(&self.gpu, &memory.step, logits, result.columns, rows, most)?),
        }
    }

    /// Runs a step and reads what is wished of each wanted row; all logits if one of them is no finite number.
    pub(super) fn pick(&mut self, step: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
        let Some(result) = self.result.map(|result| self.slots[result.0]) else {
            return Err(DeviceError::Unsupported("this part of a model gives no logits".to_owned()));
        };
        // A prompt is submitted in pieces, and ends in a step of its own.
        if ahead::is_plain(wishes) && step.len() == wishes.len() && self.table.is_some() {
            return self.pick_greedily(step);
        }
        self.ahead = None;
        let mut memory = self.ready(step)?;
        let most = wishes.iter().map(|wish| wish.candidates).max().unwrap_or(1).max(1);
        let rows = wishes.len();
        let picking = self.picking(&mut memory, rows, most)?;
        let asks = wishes.iter().map(|wish| Ask { mask: wish.mask.clone(), values: wish.values.clone() });
        let asks: Vec<Ask> = asks.collect();
        let (calls, found, bytes) = picking.ask(&self.gpu, &asks);
        let calls = memory.calls_for(step).chain(calls);
        let read = self.gpu.run_step(calls, self.extent(step), Some((found, bytes)))?;
        let counts: Vec<usize> = wishes.iter().map(|wish| wish.candidates).collect();
        let rows_found = picking.found(&read, &asks, &counts);
        if rows_found.is_none() {
            let (logits, bytes) = (&memory.buffers[result.buffer], 4 * rows * result.columns);
            let read = self.gpu.run(std::iter::empty(), 0, 0, Some((logits, bytes)))?;
            self.take_logits(&read);
        }
        memory.picking = Some(picking);
        self.memory = Some(memory);
        let picked = |found: satchel_gpu::pick::Found| Picked { candidates: found.candidates, values: found.values };
        Ok(rows_found.map(|rows| rows.into_iter().map(picked).collect()))
    }
}
