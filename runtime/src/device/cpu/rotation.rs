//! Cosines and sines of a step's positions, computed once per step for each rotation that a model uses.
//!
//! Sources: rotary embedding, arXiv:2104.09864; YaRN, arXiv:2309.00071 (its ramp and its temperature).

use crate::kernels::elementwise::{RopeKind, for_rows};
use crate::kernels::threads::Threads;
use crate::plan::{Rope, RopePairs, RopeScaling};

/// Cached rows of the current step.
#[derive(Default)]
pub(in crate::device) struct Rotations {
    computed: Vec<(Rope, Vec<f32>)>,
}

/// The kernels' kind for these pairs.
pub(super) fn kind(pairs: RopePairs) -> RopeKind {
    match pairs {
        RopePairs::Adjacent => RopeKind::Normal,
        RopePairs::Halves => RopeKind::Neox,
    }
}

impl Rotations {
    /// Starts a step.
    pub(in crate::device) fn begin(&mut self) {
        self.computed.clear();
    }

    /// `(tokens, dimensions)`: the cosines of a token's pairs, then their sines. `factors` is the weight that `rope` names.
    pub(in crate::device) fn rows(
        &mut self,
        threads: &Threads,
        rope: &Rope,
        factors: Option<&[f32]>,
        positions: &[usize],
    ) -> &[f32] {
        let known = self.computed.iter().position(|(computed, _)| computed == rope);
        let index = known.unwrap_or_else(|| {
            let rows = rows(threads, rope, factors, positions);
            self.computed.push((rope.clone(), rows));
            self.computed.len() - 1
        });
        &self.computed[index].1
    }
}

fn rows(threads: &Threads, rope: &Rope, factors: Option<&[f32]>, positions: &[usize]) -> Vec<f32> {
    /// What a sine costs, in sums.
    const SINE: usize = 16;
    let (frequencies, magnitude) = frequencies(rope, factors);
    let columns = 2 * frequencies.len();
    let mut rows = vec![0.0; positions.len() * columns];
    for_rows(threads, &mut rows, columns, SINE * columns, &|range, rows| {
        for (&position, row) in positions[range].iter().zip(rows.chunks_exact_mut(columns)) {
            let (cosines, sines) = row.split_at_mut(frequencies.len());
            for ((cosine, sine), frequency) in cosines.iter_mut().zip(sines).zip(&frequencies) {
                let angle = position as f64 * frequency;
                (*cosine, *sine) = ((angle.cos() * magnitude) as f32, (angle.sin() * magnitude) as f32);
            }
        }
    });
    rows
}

/// Radians per position for each pair, and the magnitude that scales cosine and sine.
fn frequencies(rope: &Rope, factors: Option<&[f32]>) -> (Vec<f64>, f64) {
    let pairs = rope.dimensions / 2;
    let base = f64::from(rope.base);
    let plain = (0..pairs).map(|pair| {
        let factor = factors.map_or(1.0, |factors| f64::from(factors[pair]));
        base.powf(-2.0 * pair as f64 / rope.dimensions as f64) / factor
    });
    let magnitude = f64::from(rope.magnitude);
    match rope.scaling {
        RopeScaling::None => (plain.collect(), magnitude),
        RopeScaling::Linear { factor } => (plain.map(|frequency| frequency / f64::from(factor)).collect(), magnitude),
        RopeScaling::Yarn { factor, original_context, extrapolation, beta_fast, beta_slow } => {
            // The pair that rotates `turns` times within the original context.
            let pair_of = |turns: f32| {
                let length = original_context as f64 / (f64::from(turns) * std::f64::consts::TAU);
                rope.dimensions as f64 * length.ln() / (2.0 * base.ln())
            };
            let first = pair_of(beta_fast).floor().max(0.0);
            let last = pair_of(beta_slow).ceil().min(rope.dimensions as f64 - 1.0);
            let frequencies = plain.enumerate().map(|(pair, frequency)| {
                let ramp = 1.0 - ((pair as f64 - first) / (last - first).max(0.001)).clamp(0.0, 1.0);
                let kept = ramp * f64::from(extrapolation);
                frequency / f64::from(factor) * (1.0 - kept) + frequency * kept
            });
            let warmth = if extrapolation == 0.0 { 1.0 } else { 1.0 + 0.1 * f64::from(factor).ln() };
            (frequencies.collect(), magnitude * warmth)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rope(dimensions: usize, scaling: RopeScaling) -> Rope {
        Rope { pairs: RopePairs::Halves, dimensions, base: 10_000.0, scaling, factors: None, magnitude: 1.0 }
    }

    /// The pairs' angles at position 1, recovered from cosines and sines.
    fn angles(rope: &Rope, factors: Option<&[f32]>) -> Vec<f64> {
        let row = rows(&Threads::new(1), rope, factors, &[1]);
        let (cos, sin) = row.split_at(row.len() / 2);
        cos.iter().zip(sin).map(|(cos, sin)| f64::from(*sin).atan2(f64::from(*cos))).collect()
    }

    #[test]
    fn linear_scaling_divides_all_and_factors_each() {
        let plain = angles(&rope(64, RopeScaling::None), None);
        let linear = angles(&rope(64, RopeScaling::Linear { factor: 4.0 }), None);
        let factors: Vec<f32> = (0..32).map(|pair| 1.0 + pair as f32).collect();
        let stretched = Rope { magnitude: 1.19, ..rope(64, RopeScaling::None) };
        let by_factors = angles(&stretched, Some(&factors));
        for pair in 0..32 {
            assert!((linear[pair] * 4.0 - plain[pair]).abs() < 1e-6);
            assert!((by_factors[pair] * f64::from(factors[pair]) - plain[pair]).abs() < 1e-5);
        }
        let row = rows(&Threads::new(1), &stretched, Some(&factors), &[77]);
        assert!((0..32).all(|pair| (row[pair].hypot(row[32 + pair]) - 1.19).abs() < 1e-5), "longrope's magnitude");
    }

    #[test]
    fn yarn_keeps_fast_pairs_and_divides_slow_ones() {
        let yarn = |extrapolation| RopeScaling::Yarn {
            factor: 8.0,
            original_context: 4096,
            extrapolation,
            beta_fast: 32.0,
            beta_slow: 1.0,
        };
        let plain = angles(&rope(128, RopeScaling::None), None);
        let scaled = angles(&rope(128, yarn(1.0)), None);
        // Pair i rotates 4096 / (2π 10000^(i/64)) times: 32 times at 20.9, once at 45.03, so the ramp is from 20 to 46.
        for pair in 0..64 {
            let kept = (1.0 - (pair as f64 - 20.0) / 26.0).clamp(0.0, 1.0);
            let expected = plain[pair] * (kept + (1.0 - kept) / 8.0);
            assert!((scaled[pair] - expected).abs() < 1e-6, "pair {pair}: {} {expected}", scaled[pair]);
        }
        let magnitude = |scaling| {
            let row = rows(&Threads::new(1), &rope(128, scaling), None, &[5]);
            row[0].hypot(row[64])
        };
        assert!((magnitude(yarn(1.0)) - (1.0 + 0.1 * 8f32.ln())).abs() < 1e-6);
        assert!((magnitude(yarn(0.0)) - 1.0).abs() < 1e-6);
        let divided = angles(&rope(128, yarn(0.0)), None);
        assert!(divided.iter().zip(&plain).all(|(divided, plain)| (divided * 8.0 - plain).abs() < 1e-6));
    }

    #[test]
    fn a_rotation_is_computed_once_a_step() {
        let mut rotations = Rotations::default();
        let threads = Threads::new(1);
        let (one, two) = (rope(8, RopeScaling::None), rope(8, RopeScaling::Linear { factor: 2.0 }));
        let first = rotations.rows(&threads, &one, None, &[0, 3]).to_vec();
        assert_ne!(rotations.rows(&threads, &two, None, &[0, 3]), first);
        assert_eq!(rotations.rows(&threads, &one, None, &[0, 3]), first);
        assert_eq!(rotations.computed.len(), 2);
        rotations.begin();
        assert_ne!(rotations.rows(&threads, &one, None, &[1, 3]), first);
    }
}
