//! Causal convolution of each channel with its own kernel over the last few rows.
//!
//! `out[t][c] = Σ_j weight[c][j] × x[t - (taps - 1) + j][c] + bias[c]`, optionally followed by SiLU: the short convolutions of
//! Mamba (Gu and Dao 2023), of the gated delta rule, and of LFM2. The state is the last `taps - 1` rows, oldest first.

use std::ops::Range;

use super::{Columns, SequenceRun, Shape, Unit, for_units, rows_end};
use crate::kernels::Kernels;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::kernels::elementwise::{functions::Silu, lanes::map_in_place};
use crate::kernels::threads::Threads;
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
use crate::kernels::vector::Vector;

/// Channels per unit: their sums fit a few registers.
const CHANNELS: usize = 64;

/// The longest kernel.
const MOST_TAPS: usize = 8;

/// A convolution.
#[derive(Clone, Copy)]
pub struct Convolution<'a> {
    /// `(rows, channels)`
    pub x: Columns<'a>,
    /// Number of channels.
    pub channels: usize,
    /// Kernel length, at most 8.
    pub taps: usize,
    /// `(channels, taps)`, the current row's last.
    pub weight: &'a [f32],
    /// One value per channel.
    pub bias: Option<&'a [f32]>,
    /// Whether to apply SiLU.
    pub silu: bool,
}

impl Convolution<'_> {
    /// Elements in a sequence's state.
    pub fn state_len(&self) -> usize {
        (self.taps - 1) * self.channels
    }
}

/// Writes to `out`, `(rows, channels)`; rows in no run are left unchanged.
///
/// # Panics
/// If shapes do not match, or two runs share rows.
pub fn convolve(
    kernels: &Kernels,
    threads: &Threads,
    call: &Convolution<'_>,
    runs: &mut [SequenceRun<'_>],
    out: &mut [f32],
) {
    let &Convolution { x, channels, taps, weight, bias, .. } = call;
    assert!((1..=MOST_TAPS).contains(&taps), "a convolution over {taps} rows");
    assert_eq!(weight.len(), channels * taps, "weights of {channels} channels");
    assert!(bias.is_none_or(|bias| bias.len() == channels), "a bias of {channels} channels");
    x.check("the convolution's input", rows_end(runs), channels);
    let shape = Shape { state: call.state_len(), columns: channels, parts: channels, grain: CHANNELS };
    // SAFETY: tables are handed out only on processors that support them; shapes were checked.
    for_units(threads, &shape, runs, out, &|unit| unsafe { (kernels.recurrence.convolve)(call, unit) });
}

/// SiLU on the channels of a row. A trait instead of a closure, since only a function is reliably inlined, and so compiled with
/// the instruction set's features.
pub(in crate::kernels) trait SiluRow {
    /// # Safety
    /// The processor supports the implementation.
    unsafe fn silu(x: &mut [f32]);
}

/// The weights of some channels, tap by tap. Never inlined: with AVX2 the compiler would make it several times slower.
#[inline(never)]
fn by_tap(call: &Convolution<'_>, channels: Range<usize>, weights: &mut [[f32; CHANNELS]; MOST_TAPS]) {
    for (at, channel) in call.weight.chunks_exact(call.taps).skip(channels.start).take(channels.len()).enumerate() {
        channel.iter().zip(&mut *weights).for_each(|(weight, tap)| tap[at] = *weight);
    }
}

/// See [`convolve`].
///
/// # Safety
/// See [`SiluRow`]; shapes as [`convolve`] checks them, and no other thread holds the unit's parts.
#[inline(always)]
pub(in crate::kernels) unsafe fn plain<S: SiluRow>(call: &Convolution<'_>, unit: &Unit<'_>) {
    let (channels, before, width) = (call.channels, call.taps - 1, unit.part.len());
    let mut weights = [[0.0; CHANNELS]; MOST_TAPS];
    by_tap(call, unit.part.clone(), &mut weights);
    // Range of row `at`, counting the state's rows first, then the run's.
    let state = |at: usize| at * channels + unit.part.start..at * channels + unit.part.end;
    let fresh = |at: usize| call.x.row(unit.rows.start + at - before, unit.part.clone());
    for index in 0..unit.rows.len() {
        let mut sums = [0.0; CHANNELS];
        for (tap, weights) in weights[..call.taps].iter().enumerate() {
            // SAFETY: this unit's channels; read here, written at the end.
            let stored = |at| -> &[f32] { unsafe { unit.state.part(state(at)) } };
            let input = if index + tap < before { stored(index + tap) } else { fresh(index + tap) };
            for ((sum, weight), input) in sums.iter_mut().zip(weights).zip(input) {
                *sum += weight * input;
            }
        }
        if let Some(bias) = call.bias {
            sums.iter_mut().zip(&bias[unit.part.clone()]).for_each(|(sum, bias)| *sum += bias);
        }
        if call.silu {
            // SAFETY: upheld by the caller.
            unsafe { S::silu(&mut sums[..width]) };
        }
        let row = unit.rows.start + index;
        // SAFETY: this unit's rows and channels.
        unsafe { unit.out.part(row * channels + unit.part.start..row * channels + unit.part.end) }
            .copy_from_slice(&sums[..width]);
    }
    let count = unit.rows.len();
    for at in (0..before).take_while(|_| count > 0) {
        // SAFETY: this unit's channels, of two different rows.
        unsafe {
            let to = unit.state.part(state(at));
            to.copy_from_slice(if at + count < before {
                unit.state.part(state(at + count))
            } else {
                fresh(at + count)
            });
        }
    }
}

/// # Safety
/// See [`Vector`]; shapes as [`convolve`] checks them, and no other thread holds the unit's parts.
#[inline(always)]
#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
pub(in crate::kernels) unsafe fn lanes<V: Vector>(call: &Convolution<'_>, unit: &Unit<'_>) {
    // SAFETY: upheld by the caller.
    unsafe { plain::<InLanes<V>>(call, unit) }
}

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
struct InLanes<V>(std::marker::PhantomData<V>);

#[cfg(any(target_arch = "x86_64", target_arch = "aarch64"))]
impl<V: Vector> SiluRow for InLanes<V> {
    #[inline(always)]
    unsafe fn silu(x: &mut [f32]) {
        // SAFETY: upheld by the caller.
        unsafe { map_in_place::<V, _>(&Silu, x) }
    }
}
