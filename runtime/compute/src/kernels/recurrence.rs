//! Recurrences: operations with a fixed-size state carried from token to token.
//!
//! A step's rows belong to sequences; those of one sequence are contiguous and in order, and each sequence has a state that
//! starts as zeros. A state is updated row by row, always in the same way, so a prompt gives the same bits in one go, in chunks,
//! or token by token; there is no chunked reformulation. Threads share the work by channel or head, and by sequence.
//!
//! The layout of a state is private; only its length is public.

mod convolve;
mod gated_delta;
mod mamba;
#[cfg(test)]
mod tests;

use std::ops::Range;

use super::threads::{Disjoint, Threads};
pub use convolve::{Convolution, convolve};
pub(super) use convolve::{SiluRow, plain as convolve_plain};
pub use gated_delta::{GatedDelta, KeyHeads, gated_delta};
pub use mamba::{Mamba1, Mamba2, mamba1, mamba2};

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(super) mod lanes {
    //! The vector forms, for every instruction set.
    pub(in crate::kernels) use super::convolve::lanes as convolve;
    pub(in crate::kernels) use super::gated_delta::lanes as gated_delta;
    pub(in crate::kernels) use super::mamba::lanes::{mamba1, mamba2};
}

/// A table's functions: each processes some channels, or a head, of a run.
pub struct RecurrenceKernels {
    pub(crate) convolve: unsafe fn(&Convolution<'_>, &Unit<'_>),
    pub(crate) mamba1: unsafe fn(&Mamba1<'_>, &Unit<'_>),
    pub(crate) mamba2: unsafe fn(&Mamba2<'_>, &Unit<'_>),
    pub(crate) gated_delta: unsafe fn(&GatedDelta<'_>, &Unit<'_>),
}

/// Rows of one sequence in a step, and its state.
pub struct SequenceRun<'a> {
    /// Row range.
    pub rows: Range<usize>,
    /// The state left by the preceding rows; zeros at the start.
    pub state: &'a mut [f32],
}

/// Some columns of every row of a buffer.
#[derive(Clone, Copy)]
pub struct Columns<'a> {
    values: &'a [f32],
    stride: usize,
    first: usize,
}

impl<'a> Columns<'a> {
    /// Columns from `first` on of `values`, `(rows, stride)`.
    pub fn new(values: &'a [f32], stride: usize, first: usize) -> Self {
        Columns { values, stride, first }
    }

    /// Columns `range` of these, in a row.
    #[inline]
    pub(crate) fn row(&self, row: usize, range: Range<usize>) -> &'a [f32] {
        &self.values[row * self.stride + self.first..][range]
    }

    /// Panics unless there are this many rows and columns.
    fn check(&self, name: &str, rows: usize, columns: usize) {
        assert!(self.first + columns <= self.stride || rows == 0, "{columns} columns of {name}");
        assert!(self.values.len() >= rows * self.stride, "{rows} rows of {name}");
    }
}

/// Channels, or a head, of a run.
pub(crate) struct Unit<'a> {
    pub(crate) rows: Range<usize>,
    /// The channels, or a single head.
    pub(crate) part: Range<usize>,
    /// The sequence's whole state; a unit takes only its part of it.
    pub(crate) state: &'a Disjoint<'a, f32>,
    /// `(rows, columns)`; a unit takes only its rows and its part's columns.
    pub(crate) out: &'a Disjoint<'a, f32>,
}

/// The sizes of a recurrence.
struct Shape {
    /// Elements per state.
    state: usize,
    /// Columns of the output.
    columns: usize,
    /// Channels or heads.
    parts: usize,
    /// Channels or heads per unit.
    grain: usize,
}

/// One past the last row of any run.
fn rows_end(runs: &[SequenceRun<'_>]) -> usize {
    runs.iter().map(|run| run.rows.end).max().unwrap_or(0)
}

/// Calls `work` on all parts of all runs.
fn for_units(
    threads: &Threads,
    shape: &Shape,
    runs: &mut [SequenceRun<'_>],
    out: &mut [f32],
    work: &(dyn Fn(&Unit<'_>) + Sync),
) {
    let mut ranges: Vec<_> = runs.iter().map(|run| (run.rows.start, run.rows.end)).collect();
    ranges.sort_unstable();
    assert!(ranges.windows(2).all(|pair| pair[0].1 <= pair[1].0), "two sequences share rows");
    assert!(rows_end(runs) * shape.columns <= out.len(), "{} rows of {} columns", rows_end(runs), shape.columns);
    let out = Disjoint::new(out);
    let states: Vec<_> = runs
        .iter_mut()
        .map(|run| {
            assert_eq!(run.state.len(), shape.state, "elements of a state");
            (run.rows.clone(), Disjoint::new(run.state))
        })
        .collect();
    let units = shape.parts.div_ceil(shape.grain);
    threads.run(units * states.len(), &|index| {
        let ((rows, state), first) = (&states[index / units], index % units * shape.grain);
        let part = first..(first + shape.grain).min(shape.parts);
        work(&Unit { rows: rows.clone(), part, state, out: &out });
    });
}
