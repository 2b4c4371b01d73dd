//! Recurrences: state carried from row to row of a sequence.

use super::program::CpuProgram;
use crate::kernels::elementwise;
use crate::kernels::recurrence::{
    Columns, Convolution, GatedDelta, KeyHeads, Mamba1, Mamba2, SequenceRun, convolve, gated_delta, mamba1, mamba2,
};
use crate::plan::{Activation, Kept, PageId, Recurrence, Slot, Weight};

/// A convolution's weights and its activation.
#[derive(Clone, Copy)]
pub(super) struct Convolving {
    pub(super) kernel: usize,
    pub(super) weight: Weight,
    pub(super) bias: Option<Weight>,
    pub(super) activation: Option<Activation>,
}

impl CpuProgram {
    /// Calls `work` with each sequence's rows and its state of layer `kept`.
    fn with_runs(&mut self, kept: Kept, work: impl FnOnce(&Self, &mut [SequenceRun<'_>])) {
        let elements = self.state.recurrent_elements(kept.group);
        let mut held: Vec<(std::ops::Range<usize>, PageId, Vec<f32>)> = Vec::new();
        for (sequence, rows) in self.step.runs() {
            let page = self.step.states[sequence][kept.group][0].expect("the sequence has a state");
            held.push((rows, page, self.state.take_recurrent(kept.group, page)));
        }
        let mut runs: Vec<SequenceRun<'_>> = held
            .iter_mut()
            .map(|(rows, _, state)| SequenceRun {
                rows: rows.clone(),
                state: &mut state[kept.layer * elements..(kept.layer + 1) * elements],
            })
            .collect();
        work(self, &mut runs);
        for (_, page, state) in held {
            self.state.put_recurrent(kept.group, page, state);
        }
    }

    fn columns_of(&self, slot: Slot) -> Columns<'_> {
        Columns::new(self.values(slot), self.columns(slot), 0)
    }

    /// Causal convolution of each column over its last rows.
    pub(super) fn convolve(&mut self, x: Slot, kept: Kept, convolving: &Convolving, out: Slot) {
        let mut buffer = self.take(out);
        let count = self.elements(out);
        self.with_runs(kept, |program, runs| {
            let call = Convolution {
                x: program.columns_of(x),
                channels: program.columns(x),
                taps: convolving.kernel,
                weight: program.weights.vector(convolving.weight),
                bias: convolving.bias.map(|bias| program.weights.vector(bias)),
                silu: convolving.activation == Some(Activation::Silu),
            };
            convolve(program.kernels, &program.threads, &call, runs, &mut buffer[..count]);
        });
        self.put(out, buffer);
        if let Some(activation) = convolving.activation.filter(|&activation| activation != Activation::Silu) {
            self.write(out, |program, out| {
                let x = out.to_vec();
                elementwise::activate(program.kernels, &program.threads, activation, &x, out);
            });
        }
    }

    /// A recurrence over the rows of each sequence.
    pub(super) fn recur(&mut self, kept: Kept, recurrence: &Recurrence, out: Slot) {
        let mut buffer = self.take(out);
        let count = self.elements(out);
        self.with_runs(kept, |program, runs| program.recur_runs(recurrence, runs, out, &mut buffer[..count]));
        self.put(out, buffer);
    }

    fn recur_runs(&self, recurrence: &Recurrence, runs: &mut [SequenceRun<'_>], of: Slot, out: &mut [f32]) {
        let (kernels, threads) = (self.kernels, &self.threads);
        let columns = |slot: Slot| self.columns_of(slot);
        match *recurrence {
            Recurrence::Mamba { x, dt, b, c, a, d } => {
                let call = Mamba1 {
                    x: columns(x),
                    dt: columns(dt),
                    dt_bias: None,
                    b: columns(b),
                    c: columns(c),
                    a: self.weights.vector(a),
                    d: Some(self.weights.vector(d)),
                    channels: self.columns(x),
                    states: self.columns(b),
                };
                mamba1(kernels, threads, &call, runs, out);
            }
            Recurrence::Mamba2 { x, dt, b, c, a, d, heads, groups } => {
                let call = Mamba2 {
                    x: columns(x),
                    dt: columns(dt),
                    dt_bias: None,
                    b: columns(b),
                    c: columns(c),
                    a: self.weights.vector(a),
                    d: Some(self.weights.vector(d)),
                    heads,
                    head_dim: self.columns(x) / heads,
                    groups,
                    states: self.columns(b) / groups,
                };
                mamba2(kernels, threads, &call, runs, out);
            }
            Recurrence::GatedDelta { query, key, value, decay, beta, key_heads, value_heads, interleaved } => {
                let call = GatedDelta {
                    q: columns(query),
                    k: columns(key),
                    v: columns(value),
                    g: columns(decay),
                    beta: columns(beta),
                    key_heads,
                    value_heads,
                    key_dim: self.columns(key) / key_heads,
                    value_dim: self.columns(of) / value_heads,
                    mapping: if interleaved { KeyHeads::Grouped } else { KeyHeads::Tiled },
                };
                gated_delta(kernels, threads, &call, runs, out);
            }
        }
    }
}
