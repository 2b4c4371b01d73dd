//! How fast this processor multiplies in BF16, beside f32, and in tiles, beside vectors.
//!
//! No flag tells. `vdpbf16ps` takes as long as an f32 multiply-add on Zen, with twice the products, and four times as long on
//! Sapphire Rapids. Two loops that touch no memory are timed in turns, a microsecond each, and the fastest runs count: other
//! programs and a rising clock only ever make a run slower. The ratio is near 2 or below 1, so [`WORTH`] is far from both, and
//! the same processor always gets the same answer. So are products in tiles: several times as fast where processors have them, and
//! slower than anything where they are emulated.

use std::arch::x86_64::*;
use std::hint::black_box;
use std::time::{Duration, Instant};

use satchel_gguf::TensorType;

use crate::kernels::Kernels;
use crate::kernels::matmul::{Activations, Matrix, Product, Tokens, matmul};
use crate::kernels::threads::Threads;
use crate::quant::random::RandomWeights;

/// The ratio from which on products in BF16 are chosen.
pub(super) const WORTH: f64 = 1.3;

/// Sums that are added to in turns: enough to hide the latency of two such instructions a cycle.
const SUMS: usize = 12;
/// Rounds of a run: some 600 instructions.
const ROUNDS: usize = 50;
/// Runs of each loop.
const RUNS: usize = 40;

/// Products a second in BF16 by those in f32.
///
/// # Safety
/// The processor supports AVX-512 with BF16.
pub(super) unsafe fn bf16_to_f32() -> f64 {
    let (mut single, mut half) = (Duration::MAX, Duration::MAX);
    for _ in 0..RUNS {
        // SAFETY: upheld by the caller.
        single = single.min(timed(|| unsafe { in_f32() }));
        // SAFETY: the same.
        half = half.min(timed(|| unsafe { in_bf16() }));
    }
    2.0 * single.as_secs_f64() / half.as_secs_f64()
}

/// The ratio from which on products in tiles are chosen.
pub(super) const WORTH_OF_TILES: f64 = 1.2;

/// How many times faster one table multiplies a small prompt than another; `None` if they differ by more than rounding.
///
/// # Panics
/// If this processor cannot run one of them.
pub(super) fn of_tables(table: &Kernels, other: &Kernels) -> Option<f64> {
    const TY: TensorType = TensorType::Q4_K;
    const ROWS: usize = 64;
    const COLUMNS: usize = 1024;
    const TOKENS: Tokens = Tokens { answers: 0, prompts: 64 };
    const RUNS: usize = 6;
    /// The most that results may differ by on average, of their average size. Rounding to BF16 or int8 leaves a hundredth.
    const ROUNDING: f32 = 0.05;
    let mut bytes = vec![0; ROWS * COLUMNS / TY.block_elements() * TY.block_bytes()];
    RandomWeights::new(TY, 0.02, 1).fill(&mut bytes);
    let x: Vec<f32> = (0..TOKENS.count() * COLUMNS).map(|at| (at * 7919 % 1009) as f32 - 500.0).collect();
    let threads = Threads::new(1);
    let weight = Matrix { ty: TY, rows: ROWS, columns: COLUMNS, bytes: &bytes };
    let mut sides = [table, other].map(|table| {
        let mut input = Activations::new();
        input.set(table, &threads, &x, TOKENS, COLUMNS, &[TY]);
        (table, input, Duration::MAX, vec![0.0; TOKENS.count() * ROWS])
    });
    for _ in 0..RUNS {
        for (table, input, least, out) in &mut sides {
            let product = Product { weight, out, add: false, bias: None };
            *least = timed(|| matmul(table, &threads, &mut [product], input)).min(*least);
        }
    }
    let [(_, _, time, out), (_, _, other_time, other_out)] = sides;
    let off: f32 = out.iter().zip(&other_out).map(|(value, other)| (value - other).abs()).sum();
    let size: f32 = other_out.iter().map(|value| value.abs()).sum();
    (off <= ROUNDING * size).then(|| other_time.as_secs_f64() / time.as_secs_f64())
}

fn timed(work: impl FnOnce()) -> Duration {
    let start = Instant::now();
    work();
    start.elapsed()
}

/// `ROUNDS × SUMS` multiply-adds of sixteen f32.
#[target_feature(enable = "avx512f")]
fn in_f32() {
    let factor = black_box(_mm512_set1_ps(0.5));
    let mut sums = black_box([_mm512_setzero_ps(); SUMS]);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_fmadd_ps(factor, factor, *sum);
        }
    }
    sums.into_iter().for_each(|sum| _ = black_box(sum));
}

/// As many of 32 BF16.
#[target_feature(enable = "avx512f,avx512bf16")]
fn in_bf16() {
    let factor = black_box(_mm512_set1_ps(0.5));
    let factor = _mm512_cvtne2ps_pbh(factor, factor);
    let mut sums = black_box([_mm512_setzero_ps(); SUMS]);
    for _ in 0..ROUNDS {
        for sum in &mut sums {
            *sum = _mm512_dpbf16_ps(*sum, factor, factor);
        }
    }
    sums.into_iter().for_each(|sum| _ = black_box(sum));
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernels::{by_name, tables_under_test};

    #[test]
    fn what_is_measured_comes_out_right_on_every_table() {
        let scalar = by_name("scalar").expect("always there");
        for table in tables_under_test("pace") {
            let ratio = of_tables(table, scalar);
            assert!(ratio.is_some_and(|ratio| ratio > 0.0), "{}: {ratio:?}", table.name);
        }
    }
}
