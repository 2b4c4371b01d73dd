//! Cosines and sines of a batch's positions, computed once a batch for each rotation that a model uses.
//!
//! Sources: rotary embedding, arXiv:2104.09864; YaRN, arXiv:2309.00071 (its ramp and its temperature).

use crate::kernels::elementwise::RopeKind;
use crate::model::rope::{Rope, RopePairs, RopeScaling};

/// The rows of the batch at hand.
#[derive(Default)]
pub(super) struct Rotations {
    positions: Vec<usize>,
    computed: Vec<(Rope, Vec<f32>)>,
}

/// The kernels' name for the pairs.
pub(super) fn kind(pairs: RopePairs) -> RopeKind {
    match pairs {
        RopePairs::Adjacent => RopeKind::Normal,
        RopePairs::Halves => RopeKind::Neox,
    }
}

impl Rotations {
    /// Starts a batch.
    pub(super) fn begin(&mut self, positions: &[usize]) {
        self.positions.clear();
        self.positions.extend_from_slice(positions);
        self.computed.clear();
    }

    /// `(tokens, dimensions)`: the cosines of a token's pairs, then their sines.
    pub(super) fn rows(&mut self, rope: &Rope) -> &[f32] {
        let known = self.computed.iter().position(|(computed, _)| computed == rope);
        let index = known.unwrap_or_else(|| {
            let rows = rows(rope, &self.positions);
            self.computed.push((rope.clone(), rows));
            self.computed.len() - 1
        });
        &self.computed[index].1
    }
}

fn rows(rope: &Rope, positions: &[usize]) -> Vec<f32> {
    let (frequencies, magnitude) = frequencies(rope);
    let mut rows = Vec::with_capacity(positions.len() * rope.dimensions);
    for &position in positions {
        let angles = frequencies.iter().map(|frequency| position as f64 * frequency);
        rows.extend(angles.clone().map(|angle| (angle.cos() * magnitude) as f32));
        rows.extend(angles.map(|angle| (angle.sin() * magnitude) as f32));
    }
    rows
}

/// Radians a position for each pair, and what cosine and sine are multiplied by.
fn frequencies(rope: &Rope) -> (Vec<f64>, f64) {
    let pairs = rope.dimensions / 2;
    let base = f64::from(rope.base);
    let plain = (0..pairs).map(|pair| {
        let factor = rope.factors.as_ref().map_or(1.0, |factors| f64::from(factors[pair]));
        base.powf(-2.0 * pair as f64 / rope.dimensions as f64) / factor
    });
    let magnitude = f64::from(rope.magnitude);
    match rope.scaling {
        RopeScaling::None => (plain.collect(), magnitude),
        RopeScaling::Linear { factor } => (plain.map(|frequency| frequency / f64::from(factor)).collect(), magnitude),
        RopeScaling::Yarn { factor, original_context, extrapolation, attention_factor, beta_fast, beta_slow } => {
            // The pair that turns `turns` times within the original context.
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
            (frequencies.collect(), magnitude * f64::from(attention_factor) * warmth)
        }
    }
}
