//! Operations whose state goes from row to row of a sequence.

use satchel_gpu::call::Words;
use satchel_gpu::{Function, GpuError, Grid, Kernel, RecurrentKernel};

use super::Preparing;
use crate::device::gpu::packed::Joined;
use crate::plan::{Activation, Kept, Recurrence, Slot, Weight};

impl Preparing<'_> {
    /// Causal convolution of each column over its last rows.
    #[allow(clippy::too_many_arguments, reason = "the operation's fields")]
    pub(super) fn convolve(
        &mut self,
        x: Slot,
        kept: Kept,
        kernel: usize,
        weight: Weight,
        bias: Option<Weight>,
        activation: Option<Activation>,
        out: Slot,
    ) -> Result<(), GpuError> {
        let columns = self.columns(x);
        let words = Words::default().count(columns).count(kept.group).flag(bias.is_some());
        let activation = activation.map(Function::of);
        let kernel = Kernel::Recurrent(RecurrentKernel::Convolve { taps: kernel as u32, activation });
        let bias = bias.map_or(self.step, |bias| self.weights.vector(bias));
        let reads = [self.buffer(x), self.weights.vector(weight), bias];
        let writes = [self.state.recurrent(kept), self.buffer(out)];
        let grid = Grid::Threads(columns);
        let call = self.gpu.call(kernel, false, grid, &words, self.step, &reads, &writes)?;
        self.calls.push(call);
        Ok(())
    }

    /// A recurrence over the rows of each sequence.
    pub(super) fn recur(&mut self, kept: Kept, recurrence: &Recurrence, out: Slot) -> Result<(), GpuError> {
        match *recurrence {
            Recurrence::Mamba { x, dt, b, c, a, d } => {
                let channels = self.columns(x);
                let kernel = RecurrentKernel::Mamba { states: self.columns(b) as u32, each: true };
                let words = Words::default().count(kept.group).count(channels).count(1).count(channels).count(1);
                self.run_over(kernel, channels, &words, kept, &[x, dt, b, c], Some(Joined::Two(a, d)), out)
            }
            Recurrence::Mamba2 { x, dt, b, c, a, d, heads, groups } => {
                let channels = self.columns(x);
                let kernel = RecurrentKernel::Mamba { states: (self.columns(b) / groups) as u32, each: false };
                let words = Words::default().count(kept.group).count(channels);
                let words = words.count(channels / heads).count(heads / groups).count(groups);
                self.run_over(kernel, channels, &words, kept, &[x, dt, b, c], Some(Joined::Two(a, d)), out)
            }
            Recurrence::GatedDelta { query, key, value, decay, beta, key_heads, value_heads, interleaved } => {
                let columns = self.columns(out);
                let kernel = RecurrentKernel::GatedDelta { key_dim: (self.columns(key) / key_heads) as u32 };
                let words = Words::default().count(kept.group).count(key_heads).count(value_heads);
                let words = words.count(columns / value_heads).flag(interleaved);
                self.run_over(kernel, columns, &words, kept, &[query, key, value, decay, beta], None, out)
            }
        }
    }

    /// A recurrence of so many channels.
    #[allow(clippy::too_many_arguments, reason = "a call's, which has them")]
    fn run_over(
        &mut self,
        kernel: RecurrentKernel,
        channels: usize,
        words: &Words,
        kept: Kept,
        slots: &[Slot],
        joined: Option<Joined>,
        out: Slot,
    ) -> Result<(), GpuError> {
        let mut reads: Vec<_> = slots.iter().map(|slot| self.buffer(*slot)).collect();
        reads.extend(joined.map(|joined| self.packed.joined(joined)));
        let writes = [self.state.recurrent(kept), self.buffer(out)];
        // Those of a row that begins no sequence end at once.
        let grid = Grid::Workgroups(channels.div_ceil(kernel.together()));
        let call = self.gpu.call(Kernel::Recurrent(kernel), false, grid, words, self.step, &reads, &writes)?;
        self.calls.push(call);
        Ok(())
    }
}
