//! The stages that cut the candidates down: typical, top-p, min-p, and the final draw.
//!
//! Each takes candidates sorted most likely first and keeps at least one. Probabilities are those of the candidates
//! that are left, renormalised at each stage, as llama.cpp does; sums are f64, so that 250,000 small ones still add up.

use super::select::Candidate;

/// exp(logit - largest) of each candidate, and their sum. `candidates` is sorted and not empty.
fn weights(candidates: &[Candidate]) -> (Vec<f64>, f64) {
    let largest = candidates[0].logit;
    let weights: Vec<f64> = candidates.iter().map(|c| f64::from((c.logit - largest).exp())).collect();
    let total = weights.iter().sum();
    (weights, total)
}

/// Keeps the tokens whose surprise is nearest to the entropy, until their probabilities pass `mass` (Meister et al.,
/// "Locally Typical Sampling", 2022). Order by likelihood is kept.
pub(super) fn typical(candidates: &mut Vec<Candidate>, mass: f32) {
    if mass >= 1.0 || candidates.len() < 2 {
        return;
    }
    let (weights, total) = weights(candidates);
    let surprise = |i: usize| -(weights[i] / total).ln();
    let entropy: f64 = (0..weights.len()).filter(|&i| weights[i] > 0.0).map(|i| weights[i] / total * surprise(i)).sum();
    let mut order: Vec<(f64, usize)> = (0..weights.len()).map(|i| ((surprise(i) - entropy).abs(), i)).collect();
    order.sort_unstable_by(|a, b| a.0.total_cmp(&b.0).then(a.1.cmp(&b.1)));
    let mut sum = 0.0;
    let mut keep = vec![false; weights.len()];
    for (_, i) in order {
        keep[i] = true;
        sum += weights[i] / total;
        if sum > f64::from(mass) {
            break;
        }
    }
    let mut kept = keep.iter();
    candidates.retain(|_| *kept.next().expect("one flag a candidate"));
}

/// Keeps the most likely tokens until their probabilities reach `mass` (nucleus sampling). `total` is the sum of
/// exp(logit - largest) over everything that the candidates were taken from. False: they do not reach it, and more
/// candidates are needed.
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
pub(super) fn total_weight(candidates: &[Candidate]) -> f64 {
    weights(candidates).1
}

/// Drops tokens whose probability is under `share` of the most likely one's.
pub(super) fn min_p(candidates: &mut Vec<Candidate>, share: f32) {
    if share > 0.0 {
        let least = candidates[0].logit + share.ln();
        let kept = candidates.partition_point(|c| c.logit >= least);
        candidates.truncate(kept.max(1));
    }
}

/// Draws by probability at `temperature` (> 0). `random` is uniform in [0, 1). Gives the index drawn. The candidates
/// need no order, but `largest` is their largest logit.
pub(super) fn draw(candidates: &[Candidate], largest: f32, temperature: f32, random: f64) -> usize {
    // Divide the difference, not the logits: a tiny temperature cannot overflow then.
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
    last // rounding can leave a hair: the last possible one then
}
