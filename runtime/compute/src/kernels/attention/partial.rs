//! The partial result of a block's rows, and how two are merged.

/// The folded positions of a block's rows.
pub(crate) struct Partial<'a> {
    /// Largest score of each row.
    pub(crate) max: &'a mut [f32],
    /// Sum of `2^(score - max)`.
    pub(crate) sum: &'a mut [f32],
    /// `(rows, value_stride)`: sum of `2^(score - max) * value`.
    pub(crate) out: &'a mut [f32],
}

impl<'a> Partial<'a> {
    /// f32 needed for `rows` rows.
    pub(super) fn room(rows: usize, stride: usize) -> usize {
        rows * (stride + 2)
    }

    pub(super) fn new(memory: &'a mut [f32], rows: usize, stride: usize) -> Self {
        let (out, rest) = memory[..Self::room(rows, stride)].split_at_mut(rows * stride);
        let (max, sum) = rest.split_at_mut(rows);
        Partial { max, sum, out }
    }

    /// Merges in the positions that follow.
    pub(super) fn merge(&mut self, next: &Partial<'_>) {
        let stride = self.out.len() / self.max.len();
        let rows = self.out.chunks_exact_mut(stride).zip(next.out.chunks_exact(stride));
        for (row, (out, next_out)) in rows.enumerate() {
            if next.sum[row] == 0.0 {
                continue;
            }
            if self.sum[row] == 0.0 {
                // Still empty: copied unchanged, so that segments a row does not see have no effect.
                out.copy_from_slice(next_out);
                (self.max[row], self.sum[row]) = (next.max[row], next.sum[row]);
                continue;
            }
            let max = if next.max[row] > self.max[row] { next.max[row] } else { self.max[row] };
            let (ours, theirs) = ((self.max[row] - max).exp2(), (next.max[row] - max).exp2());
            out.iter_mut().zip(next_out).for_each(|(out, next)| *out = *out * ours + next * theirs);
            self.max[row] = max;
            self.sum[row] = self.sum[row] * ours + next.sum[row] * theirs;
        }
    }

    /// Final factor of a row's `out` once everything is merged; `None` if it saw nothing. The sink joins the sum only here, so
    /// how positions were split does not matter.
    pub(super) fn factor(&self, row: usize, sink: Option<f32>) -> Option<f32> {
        let (max, sum) = (self.max[row], self.sum[row]);
        if sum == 0.0 {
            return None;
        }
        let Some(sink) = sink.map(|sink| sink * std::f32::consts::LOG2_E) else { return Some(1.0 / sum) };
        if sink > max {
            let ours = (max - sink).exp2();
            Some(ours / (sum * ours + 1.0))
        } else {
            Some(1.0 / (sum + (sink - max).exp2()))
        }
    }
}
