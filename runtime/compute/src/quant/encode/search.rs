//! Scale search for a group of weights: which scale (and minimum) minimises the error when every weight is rounded to the nearest
//! level?
//!
//! The error is not a smooth function of the scale, since every scale rounds differently. But for fixed levels, the best scale
//! follows by weighted least squares. So several scales around the obvious one (range over number of levels) are tried: each
//! gives levels, the levels give their best scale, and the pair with the smallest error wins. The search width and step were
//! found by experiment in llama.cpp (`ggml-quants.c`); its steps are used here, so that files of one type are of equal quality.

use super::legacy::farthest;
use super::nearest;

/// Groups whose weights are all below this become zero: squares of smaller ones underflow in f32.
const ZERO: f32 = 1e-15;

/// Which scales to try for levels with a minimum, and how to compare the results.
pub(super) struct Tries {
    /// The largest level.
    pub(super) top: f32,
    /// Tries spreading the range over `top + first + k · step` levels, for each k of `0..=steps`.
    pub(super) first: f32,
    pub(super) step: f32,
    pub(super) steps: u8,
    /// Compare absolute errors, not squares: with few levels, squares would let single weights dominate the group.
    pub(super) absolute: bool,
}

/// Scale and minimum, both non-negative, for weights `scale · level − minimum`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Affine {
    pub(super) scale: f32,
    pub(super) minimum: f32,
}

/// The best scale and minimum found for levels 0 to `tries.top`.
pub(super) fn affine<const N: usize>(values: &[f32; N], importance: &[f32; N], tries: &Tries) -> Affine {
    let low = values.iter().copied().fold(0.0, f32::min);
    let high = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    if high == low {
        return Affine { scale: 0.0, minimum: -low };
    }
    let group = Group::new(values, importance);
    let levels = |low: f32, spread: f32| {
        let factor = spread / (high - low);
        std::array::from_fn(|at| nearest((factor * (values[at] - low)).clamp(0.0, tries.top)))
    };
    let mut best = Affine { scale: (high - low) / tries.top, minimum: -low };
    let mut least = group.error(best, &levels(low, tries.top), tries.absolute);
    for step in 0..=tries.steps {
        // Level 0 is at the best minimum so far, so scale and minimum improve alternately.
        let levels = levels(-best.minimum, tries.top + tries.first + tries.step * f32::from(step));
        let Some(fit) = group.fit(&levels) else { continue };
        let error = group.error(fit, &levels, tries.absolute);
        if error < least {
            (best, least) = (fit, error);
        }
    }
    best
}

/// Weights with their importance, and their sums.
struct Group<'a, const N: usize> {
    values: &'a [f32; N],
    importance: &'a [f32; N],
    total: f32,
    weighted: f32,
}

impl<'a, const N: usize> Group<'a, N> {
    fn new(values: &'a [f32; N], importance: &'a [f32; N]) -> Self {
        let total = sum::<N>(|at| importance[at]);
        let weighted = sum::<N>(|at| importance[at] * values[at]);
        Self { values, importance, total, weighted }
    }

    /// Weighted least squares for these levels, with the minimum clamped to 0, since no file can store a negative one. `None` if
    /// all levels are equal.
    fn fit(&self, levels: &[f32; N]) -> Option<Affine> {
        let first = sum::<N>(|at| self.importance[at] * levels[at]);
        let second = sum::<N>(|at| self.importance[at] * levels[at] * levels[at]);
        let mixed = sum::<N>(|at| self.importance[at] * levels[at] * self.values[at]);
        let determinant = self.total * second - first * first;
        if determinant.is_nan() || determinant <= 0.0 {
            return None;
        }
        let offset = (second * self.weighted - first * mixed) / determinant;
        if offset > 0.0 {
            return Some(Affine { scale: mixed / second, minimum: 0.0 });
        }
        Some(Affine { scale: (self.total * mixed - self.weighted * first) / determinant, minimum: -offset })
    }

    fn error(&self, fit: Affine, levels: &[f32; N], absolute: bool) -> f32 {
        let difference = |at: usize| fit.scale * levels[at] - fit.minimum - self.values[at];
        if absolute {
            sum::<N>(|at| self.importance[at] * difference(at).abs())
        } else {
            sum::<N>(|at| self.importance[at] * difference(at) * difference(at))
        }
    }
}

/// Fit of levels −half to half − 1 to weights without a minimum. For fixed levels the best scale is `mixed / second`, and it
/// reduces the error by `mixed² / second`: the largest gain wins.
#[derive(Clone, Copy)]
struct Gain {
    /// Σ w · level · value
    mixed: f32,
    /// Σ w · level²
    second: f32,
}

impl Gain {
    fn beats(self, other: Self) -> bool {
        self.second > 0.0 && self.mixed * self.mixed * other.second > other.mixed * other.mixed * self.second
    }

    fn scale(self) -> f32 {
        if self.second > 0.0 { self.mixed / self.second } else { 0.0 }
    }
}

/// The gain of these levels if every value is weighted by its square.
fn gain<const N: usize>(values: &[f32; N], levels: &[f32; N]) -> Gain {
    let mixed = sum::<N>(|at| values[at] * values[at] * values[at] * levels[at]);
    let second = sum::<N>(|at| values[at] * values[at] * levels[at] * levels[at]);
    Gain { mixed, second }
}

/// Levels −half to half − 1: the value farthest from zero gets `reach`, on the negative side.
fn symmetric_levels<const N: usize>(values: &[f32; N], farthest: f32, reach: f32, half: f32) -> [f32; N] {
    let factor = -reach / farthest;
    std::array::from_fn(|at| nearest((factor * values[at]).clamp(-half, half - 1.0)))
}

/// The best of 19 scales tried for levels −half to half − 1. Negative if the farthest value is positive.
pub(super) fn symmetric<const N: usize>(values: &[f32; N], half: f32) -> f32 {
    let farthest = farthest(values);
    if farthest.abs() < ZERO {
        return 0.0;
    }
    let tried = |step: i8| gain(values, &symmetric_levels(values, farthest, half + 0.1 * f32::from(step), half));
    let mut best = tried(0);
    for step in -9..=9 {
        let found = tried(step);
        if found.beats(best) {
            best = found;
        }
    }
    best.scale()
}

/// The same for few levels, where each counts: starting from the obvious scale, each value in turn takes the level that is best
/// given the others, until none changes (at most five rounds).
pub(super) fn symmetric_by_turns<const N: usize>(values: &[f32; N], half: f32) -> f32 {
    let farthest = farthest(values);
    if farthest.abs() < ZERO {
        return 0.0;
    }
    let mut levels = symmetric_levels(values, farthest, half, half);
    let mut best = gain(values, &levels);
    for _ in 0..5 {
        let mut moved = false;
        for (&value, level) in values.iter().zip(&mut levels) {
            let square = value * value;
            let mixed = best.mixed - square * value * *level;
            let second = best.second - square * *level * *level;
            if mixed <= 0.0 {
                continue;
            }
            let better = nearest((value * second / mixed).clamp(-half, half - 1.0));
            let found = Gain { mixed: mixed + square * value * better, second: second + square * better * better };
            if better != *level && found.beats(best) {
                (*level, best, moved) = (better, found, true);
            }
        }
        if !moved {
            break;
        }
    }
    best.scale()
}

/// Sum over a group in eight lanes, which vectorises. `N` is a multiple of 8.
#[inline(always)]
fn sum<const N: usize>(term: impl Fn(usize) -> f32) -> f32 {
    let mut lanes = [0.0f32; 8];
    for at in (0..N).step_by(8) {
        for (lane, total) in lanes.iter_mut().enumerate() {
            *total += term(at + lane);
        }
    }
    let [a, b, c, d, e, f, g, h] = lanes;
    ((a + e) + (c + g)) + ((b + f) + (d + h))
}
