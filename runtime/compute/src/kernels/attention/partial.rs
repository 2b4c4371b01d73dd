//! What has been folded of a block's rows, and how two such results become one.

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
    /// f32 that `rows` rows take.
    pub(super) fn room(rows: usize, stride: usize) -> usize {
        rows * (stride + 2)
    }

    pub(super) fn new(memory: &'a mut [f32], rows: usize, stride: usize) -> Self {
        let (out, rest) = memory[..Self::room(rows, stride)].split_at_mut(rows * stride);
        let (max, sum) = rest.split_at_mut(rows);
        Partial { max, sum, out }
    }

    /// Takes in the positions after the own ones.
    pub(super) fn merge(&mut self, next: &Partial<'_>) {
        let stride = self.out.len() / self.max.len();
        let rows = self.out.chunks_exact_mut(stride).zip(next.out.chunks_exact(stride));
        for (row, (out, next_out)) in rows.enumerate() {
            if next.sum[row] == 0.0 {
                continue;
            }
            if self.sum[row] == 0.0 {
                // Nothing so far: taken as it is, so that segments which a row does not see leave no trace.
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

    /// What a row's `out` is multiplied with once everything has been merged; `None`: it saw nothing. A sink joins the sum here
    /// and nowhere else, so how the positions were cut does not show.
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
