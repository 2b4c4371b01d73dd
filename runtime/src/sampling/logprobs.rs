//! Log-probabilities as the API reports them: of the model's own distribution, before any sampling setting.

use super::select::select_top;
use crate::TokenId;
use crate::kernels::scan;

/// Natural logarithm of the sum of exp(logit), the reference point of log-probabilities.
fn log_sum_exp(logits: &[f32]) -> f64 {
    let largest = scan::largest(logits);
    if largest == f32::NEG_INFINITY {
        return f64::NEG_INFINITY;
    }
    let sum: f64 = logits.iter().map(|l| f64::from((l - largest).exp())).sum();
    f64::from(largest) + sum.ln()
}

/// Log-probability of token `id` under softmax of `logits`; negative infinity if `id` is out of range.
pub fn log_softmax_at(logits: &[f32], id: TokenId) -> f32 {
    match logits.get(id as usize) {
        Some(&logit) if logit > f32::NEG_INFINITY => (f64::from(logit) - log_sum_exp(logits)) as f32,
        _ => f32::NEG_INFINITY,
    }
}

/// The `n` most likely tokens with their log-probabilities, most likely first; ties by token id.
pub fn top_logprobs(logits: &[f32], n: usize) -> Vec<(TokenId, f32)> {
    let base = log_sum_exp(logits);
    let mut top = Vec::new();
    select_top(logits, n, &mut top);
    top.into_iter().map(|c| (c.token, (f64::from(c.logit) - base) as f32)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_distribution() {
        // Probabilities 1/10, 2/10, 3/10, 4/10, and one token of probability 0.
        let logits: Vec<f32> = [1.0f32, 2.0, 3.0, 4.0, 0.0].iter().map(|p| p.ln() + 50.0).collect();
        for (id, p) in [(0, 0.1f32), (1, 0.2), (2, 0.3), (3, 0.4)] {
            assert!((log_softmax_at(&logits, id) - p.ln()).abs() < 1e-5);
        }
        assert_eq!(log_softmax_at(&logits, 4), f32::NEG_INFINITY);
        assert_eq!(log_softmax_at(&logits, 5), f32::NEG_INFINITY);
        let top = top_logprobs(&logits, 2);
        assert_eq!(top.iter().map(|t| t.0).collect::<Vec<_>>(), [3, 2]);
        assert_eq!(top[1].1, log_softmax_at(&logits, 2));
        assert_eq!(top_logprobs(&logits, 100).len(), 4);
        assert!(top_logprobs(&[], 3).is_empty());
    }
}
