//! The stages that reduce the candidates: typical, top-p, min-p, and the final draw.
//!
//! Each keeps at least one candidate; all but typical and the draw expect them sorted, most likely first. Probabilities are
//! those of the remaining candidates, renormalised at each stage, as in llama.cpp; sums are f64, so that 250,000 small ones
//! still add up.

use super::SamplingParams;
use super::select::{Candidate, by_likelihood};

/// exp(logit - largest) of each candidate, and their sum. `candidates` must not be empty.
pub(super) fn weights(candidates: &[Candidate]) -> (Vec<f64>, f64) {
    let largest = candidates.iter().fold(f32::NEG_INFINITY, |largest, c| largest.max(c.logit));
    let weights: Vec<f64> = candidates.iter().map(|c| f64::from((c.logit - largest).exp())).collect();
    let total = weights.iter().sum();
    (weights, total)
}

/// How many candidates `typical` sorts first; eight times as many each time that is not enough.
const FIRST_TYPICAL: usize = 256;

/// Keeps the tokens whose surprisal is nearest to the entropy, until their probabilities exceed `mass` (Meister et al.,
/// "Locally Typical Sampling", 2022). Candidates need not be sorted, and keep their order.
fn typical(candidates: &mut Vec<Candidate>, mass: f32) {
    if mass >= 1.0 || candidates.len() < 2 {
        return;
    }
    let (weights, total) = weights(candidates);
    let surprises: Vec<f64> = weights.iter().map(|weight| -(weight / total).ln()).collect();
    let terms = weights.iter().zip(&surprises).filter(|(weight, _)| **weight > 0.0);
    let entropy: f64 = terms.map(|(weight, surprise)| weight / total * surprise).sum();
    let mut order: Vec<(f64, usize)> =
        surprises.iter().enumerate().map(|(i, surprise)| ((surprise - entropy).abs(), i)).collect();
    let nearest = |a: &(f64, usize), b: &(f64, usize)| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1));
    let mut keep = vec![false; weights.len()];
    let (mut taken, mut sum) = (0, 0.0);
    'taking: while taken < order.len() {
        let rest = &mut order[taken..];
        let n = rest.len().min(taken * 7 + FIRST_TYPICAL);
        if n < rest.len() {
            rest.select_nth_unstable_by(n - 1, nearest);
        }
        rest[..n].sort_unstable_by(nearest);
        for (_, i) in &rest[..n] {
            keep[*i] = true;
            sum += weights[*i] / total;
            if sum > f64::from(mass) {
                break 'taking;
            }
        }
        taken += n;
    }
    let mut kept = keep.iter();
    candidates.retain(|_| *kept.next().expect("one flag a candidate"));
}

/// All stages behind top-k but the draw; leaves at least one candidate, sorted.
pub(super) fn after_top_k(candidates: &mut Vec<Candidate>, params: &SamplingParams) {
    typical(candidates, params.typical_p);
    candidates.sort_unstable_by(by_likelihood);
    let total = total_weight(candidates);
    top_p(candidates, params.top_p, total);
    min_p(candidates, params.min_p);
}

/// Keeps the most likely tokens until their probabilities reach `mass` (nucleus sampling). `total` is the sum of exp(logit -
/// largest) over all tokens that the candidates were taken from. Returns false if the candidates do not reach it and more are
/// needed.
pub(super) fn top_p(candidates: &mut Vec<Candidate>, mass: f32, total: f64) -> bool {
    let largest = candidates[0].logit;
    let mut sum = 0.0;
    for i in 0..candidates.len() {
        sum += f64::from((candidates[i].logit - largest).exp());
        if sum >= f64::from(mass) * total {
            candidates.truncate(i + 1);
            return true;
        }
    }
    false
}

/// Sum of exp(logit - largest) over the candidates.
fn total_weight(candidates: &[Candidate]) -> f64 {
    weights(candidates).1
}

/// Drops tokens with a probability below `share` of the most likely one's.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, share: f32) {
    if share > 0.0 {
        let least = candidates[0].logit + share.ln();
        let kept = candidates.partition_point(|c| c.logit >= least);
        candidates.truncate(kept.max(1));
    }
}

/// Draws by probability at `temperature` (> 0). `random` is uniform in [0, 1). Returns the index drawn. Candidates need not be
/// sorted, but `largest` must be their largest logit.
pub(super) fn draw(candidates: &[Candidate], largest: f32, temperature: f32, random: f64) -> usize {
    // Divide the difference, not the logits, so that a tiny temperature cannot overflow.
    let weight = |c: &Candidate| f64::from(((c.logit - largest) / temperature).exp());
    let total: f64 = candidates.iter().map(weight).sum();
    let mut left = random * total;
    let mut last = 0;
    for (i, candidate) in candidates.iter().enumerate() {
        let weight = weight(candidate);
        if weight > 0.0 {
            last = i;
            left -= weight;
            if left < 0.0 {
                break;
            }
        }
    }
    last // rounding can leave a remainder: take the last possible token
}
