//! Rows of which a few logits are read back instead of the vocabulary's.

use satchel_gpu::pick::{Ask, MOST_CANDIDATES, MOST_VALUES, Picking};

use super::program::{GpuProgram, seen};
use crate::device::{DeviceError, PickLimits, Picked, Wish};
use crate::plan::Step;

/// What this device picks.
pub(super) const LIMITS: PickLimits = PickLimits { candidates: MOST_CANDIDATES, values: MOST_VALUES };

impl GpuProgram {
    /// Runs a step and reads what is wished of each wanted row; all logits if one of them is no finite number.
    pub(super) fn pick(&mut self, step: &Step, wishes: &[Wish]) -> Result<Option<Vec<Picked>>, DeviceError> {
        let Some(result) = self.result.map(|result| self.slots[result.0]) else {
            return Err(DeviceError::Unsupported("this part of a model gives no logits".to_owned()));
        };
        let mut memory = self.ready(step)?;
        let most = wishes.iter().map(|wish| wish.candidates).max().unwrap_or(1).max(1);
        let rows = wishes.len();
        let logits = &memory.buffers[result.buffer];
        let picking = match memory.picking.take().filter(|picking| picking.fits(rows, most)) {
            Some(picking) => picking,
            None => Picking::new(&self.gpu, &memory.step, logits, result.columns, rows, most)?,
        };
        let asks = wishes.iter().map(|wish| Ask { mask: wish.mask.clone(), values: wish.values.clone() });
        let asks: Vec<Ask> = asks.collect();
        let (calls, found, bytes) = picking.ask(&self.gpu, &asks);
        let calls = memory.calls_for(step).chain(calls);
        let read = self.gpu.run_seeing(calls, step.len(), rows, seen(step), Some((found, bytes)))?;
        let counts: Vec<usize> = wishes.iter().map(|wish| wish.candidates).collect();
        let rows_found = picking.found(&read, &asks, &counts);
        if rows_found.is_none() {
            let bytes = 4 * rows * result.columns;
            let read = self.gpu.run(std::iter::empty(), 0, 0, Some((logits, bytes)))?;
            self.take_logits(&read);
        }
        memory.picking = Some(picking);
        self.memory = Some(memory);
        let picked = |found: satchel_gpu::pick::Found| Picked { candidates: found.candidates, values: found.values };
        Ok(rows_found.map(|rows| rows.into_iter().map(picked).collect()))
    }
}
