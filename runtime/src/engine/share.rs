//! Distributes a step's rows: decoding sequences first, prompts share the rest evenly, and a step stays short.
//!
//! Chunk sizes affect no result, only who waits for whom.

use std::time::Duration;

/// While other sequences run, prompts get at most this many tokens per step together, so that streams keep going.
const SHARED_PREFILL_TOKENS: usize = 64;

/// Minimum prompt tokens per step when nothing else runs.
const LEAST_PREFILL_TOKENS: usize = 128;

/// Target duration of a prefill step when nothing else runs: a new request may wait this long.
const STEP: Duration = Duration::from_millis(500);

/// Shares `budget` rows among sequences that want `pending` each: max-min fair, with unused shares passed on. The shortest finish
/// first.
pub(super) fn shares(pending: &[usize], mut budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pending.len()).collect();
    order.sort_by_key(|&index| pending[index]);
    let mut shares = vec![0; pending.len()];
    for (at, &index) in order.iter().enumerate() {
        // The division's remainder goes to the longest.
        let share = budget / (order.len() - at);
        shares[index] = pending[index].min(share);
        budget -= shares[index];
    }
    shares
}

/// Measured prefill speed.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tokens_per_second: Option<f64>,
}

impl Pace {
    /// Prompt rows in the next step, at most `most`; `alone`: no other request waits for it.
    pub(super) fn prefill_tokens(&self, alone: bool, most: usize) -> usize {
        if !alone {
            return SHARED_PREFILL_TOKENS.min(most);
        }
        let in_time = self.tokens_per_second.map_or(0, |speed| (speed * STEP.as_secs_f64()) as usize);
        in_time.clamp(LEAST_PREFILL_TOKENS.min(most), most)
    }

    /// Records how long a step took that was mostly prefill.
    pub(super) fn note(&mut self, tokens: usize, took: Duration) {
        if tokens < SHARED_PREFILL_TOKENS {
            return;
        }
        let speed = tokens as f64 / took.as_secs_f64().max(1e-6);
        // Averaged with the previous estimate: a machine that becomes busy shows within a few steps.
        self.tokens_per_second = Some(self.tokens_per_second.map_or(speed, |known| (known + speed) / 2.0));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_prompts_are_through_and_long_ones_share_the_rest() {
        assert_eq!(shares(&[2000, 3, 500], 64), [31, 3, 30]);
        assert_eq!(shares(&[10, 20], 64), [10, 20]);
        assert_eq!(shares(&[100, 100, 100], 2), [0, 1, 1], "fewer rows than prompts: someone gets on");
        assert_eq!(shares(&[], 64), [0; 0]);
    }

    #[test]
    fn a_step_is_as_long_as_the_machine_allows() {
        let mut pace = Pace::default();
        assert_eq!(pace.prefill_tokens(true, 512), 128, "nothing is known yet");
        pace.note(128, Duration::from_millis(100));
        assert_eq!(pace.prefill_tokens(true, 512), 512);
        assert_eq!(pace.prefill_tokens(false, 512), 64);
        for _ in 0..8 {
            pace.note(512, Duration::from_secs(2));
        }
        let slow = pace.prefill_tokens(true, 512);
        assert!((128..150).contains(&slow), "{slow}");
        assert_eq!(pace.prefill_tokens(true, 48), 48);
    }
}
