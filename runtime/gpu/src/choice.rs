//! What is chosen at run time for a device: shapes where several give the same bits, and how much is submitted at once.

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use crate::kernel::{ROWS, THREADS, TOKENS};
use crate::product::Shape;

/// Multiplications that are submitted at once before anything was measured: a tenth of a second on a small integrated GPU.
const FIRST_SUBMISSION: u64 = 20_000_000_000;
/// What a submission should take, in milliseconds: short enough for watchdogs and for a display that shares the GPU.
const SPAN: u64 = 150;
/// Steps of less work say nothing about speed.
const LEAST_WORK: u64 = 1_000_000_000;

/// The choices.
#[derive(Debug)]
pub(crate) struct Choice {
    /// From so many tokens on, products have a prompt's shape: those with block types, and plain ones.
    tile_from: [AtomicUsize; 2],
    /// Multiplications that are submitted at once.
    submission: AtomicU64,
    /// What a submission should take, in milliseconds.
    span: AtomicU64,
    /// Whether shapes were tried, likewise.
    tried: [AtomicBool; 2],
}

impl Default for Choice {
    fn default() -> Self {
        let most = TOKENS[TOKENS.len() - 1] as usize;
        Self {
            tile_from: [2 * most + 1; 2].map(AtomicUsize::new),
            submission: AtomicU64::new(FIRST_SUBMISSION),
            span: AtomicU64::new(SPAN),
            tried: [false; 2].map(AtomicBool::new),
        }
    }
}

impl Choice {
    /// The shape of a product with so many tokens.
    pub(crate) fn shape(&self, is_plain: bool, tokens: usize) -> Shape {
        if tokens >= self.tile_from[usize::from(is_plain)].load(Ordering::Relaxed) {
            return Shape::Tile;
        }
        let together = TOKENS.into_iter().find(|together| tokens <= *together as usize);
        Shape::Lanes { tokens: together.unwrap_or(TOKENS[TOKENS.len() - 1]), rows: ROWS, threads: THREADS }
    }

    /// Whether shapes are to be tried, which is asked once.
    pub(crate) fn begin(&self, is_plain: bool) -> bool {
        !self.tried[usize::from(is_plain)].swap(true, Ordering::Relaxed)
    }

    /// Takes a prompt's shape from so many tokens on.
    pub(crate) fn tile_from(&self, is_plain: bool, tokens: usize) {
        self.tile_from[usize::from(is_plain)].store(tokens, Ordering::Relaxed);
    }

    /// Multiplications that are submitted at once.
    pub(crate) fn submission(&self) -> u64 {
        self.submission.load(Ordering::Relaxed)
    }

    /// Submits a tenth at once of what it does otherwise.
    pub(crate) fn submit_less(&self) {
        self.span.store(SPAN / 10, Ordering::Relaxed);
        self.submission.store(FIRST_SUBMISSION / 10, Ordering::Relaxed);
    }

    /// Notes how long work took: no less than the device needed, so what follows is rather too short than too long.
    pub(crate) fn note(&self, work: u64, took: Duration) {
        if work >= LEAST_WORK {
            let fitting = work as f64 / took.as_secs_f64().max(1e-6) * self.span.load(Ordering::Relaxed) as f64 / 1e3;
            // By no more than twice at once: a first step may have waited for pipelines.
            let before = self.submission();
            let fitting = (fitting as u64).clamp(before / 2, 2 * before);
            let least = LEAST_WORK * self.span.load(Ordering::Relaxed) / SPAN;
            self.submission.store(fitting.max(least), Ordering::Relaxed);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn submissions_follow_the_measured_speed_step_by_step() {
        let choice = Choice::default();
        choice.note(FIRST_SUBMISSION, Duration::from_millis(100));
        assert_eq!(choice.submission(), FIRST_SUBMISSION * 3 / 2);
        choice.note(FIRST_SUBMISSION, Duration::from_millis(1));
        assert_eq!(choice.submission(), FIRST_SUBMISSION * 3);
        choice.note(10, Duration::from_secs(1));
        assert_eq!(choice.submission(), FIRST_SUBMISSION * 3);
        for _ in 0..20 {
            choice.note(LEAST_WORK, Duration::from_secs(60));
        }
        assert_eq!(choice.submission(), LEAST_WORK);
    }

    #[test]
    fn a_prompt_has_its_own_shape() {
        let choice = Choice::default();
        assert!(matches!(choice.shape(false, 3), Shape::Lanes { tokens: 4, .. }));
        assert!(matches!(choice.shape(false, 16), Shape::Lanes { tokens: 8, .. }));
        assert_eq!(choice.shape(false, 17), Shape::Tile);
        choice.tile_from(false, 1);
        assert_eq!(choice.shape(false, 1), Shape::Tile);
        assert!(matches!(choice.shape(true, 16), Shape::Lanes { tokens: 8, .. }));
        assert_eq!(choice.shape(true, 500), Shape::Tile);
    }
}
