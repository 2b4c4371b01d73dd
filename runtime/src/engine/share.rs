//! How a step's rows are shared out: who decodes comes first, prompts share what is left evenly, and a step stays short.
//!
//! Sizes of pieces change no result, only who waits for whom.

use std::time::Duration;

/// While others are at work, prompts go in pieces of at most this many tokens together, so that streams go on.
const SHARED_PREFILL_TOKENS: usize = 64;

/// Fewest tokens of a prompt in a step where nobody else is at work.
const LEAST_PREFILL_TOKENS: usize = 128;

/// How long a step of prefill may take where nobody else is at work: whoever comes in the meantime waits that long.
const STEP: Duration = Duration::from_millis(500);

/// `budget` rows among sequences that want `pending` each: no one gets more than another who could use it, and what one
/// leaves the others get. The shortest are through first.
pub(super) fn shares(pending: &[usize], mut budget: usize) -> Vec<usize> {
    let mut order: Vec<usize> = (0..pending.len()).collect();
    order.sort_by_key(|&index| pending[index]);
    let mut shares = vec![0; pending.len()];
    for (at, &index) in order.iter().enumerate() {
        // What is left of the division goes to the longest.
        let share = budget / (order.len() - at);
        shares[index] = pending[index].min(share);
        budget -= shares[index];
    }
    shares
}

/// How fast prompts are read here.
#[derive(Debug, Default)]
pub(super) struct Pace {
    tokens_per_second: Option<f64>,
}

impl Pace {
    /// Rows of prompts in the next step, of at most `most`; `alone`: nobody else waits for it.
    pub(super) fn prefill_tokens(&self, alone: bool, most: usize) -> usize {
        if !alone {
            return SHARED_PREFILL_TOKENS.min(most);
        }
        let in_time = self.tokens_per_second.map_or(0, |speed| (speed * STEP.as_secs_f64()) as usize);
        in_time.clamp(LEAST_PREFILL_TOKENS.min(most), most)
    }

    /// Notes how long a step took that was mostly a prompt's.
    pub(super) fn note(&mut self, tokens: usize, took: Duration) {
        if tokens < SHARED_PREFILL_TOKENS {
            return;
        }
        let speed = tokens as f64 / took.as_secs_f64().max(1e-6);
        // Half of what was known: a machine that becomes busy shows within a few steps.
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
