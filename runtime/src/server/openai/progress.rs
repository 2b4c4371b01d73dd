//! How much of a prompt has been read, as llama.cpp's server tells it in a stream (`return_progress`).

use std::time::Instant;

use serde_json::{Value, json};

/// The progress of one prompt.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// When the first report came, and the tokens that had been kept from before.
    begun: Option<(Instant, usize)>,
    /// Tokens that are still to be read.
    left: usize,
    total: usize,
}

impl Progress {
    /// The report of `done` tokens of `total`.
    pub fn of(&mut self, done: usize, total: usize) -> Value {
        (self.left, self.total) = (total.saturating_sub(done), total);
        let (begun, cached) = *self.begun.get_or_insert_with(|| (Instant::now(), done));
        json!({"total": total, "cache": cached, "processed": done, "time_ms": begun.elapsed().as_millis() as u64})
    }

    /// The last report, once the answer begins: the engine's own come before a step, not behind it.
    pub fn end(&mut self) -> Option<Value> {
        (self.left > 0).then(|| self.of(self.total, self.total))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_report_is_of_what_was_kept() {
        let mut progress = Progress::default();
        let first = progress.of(4, 10);
        assert_eq!((&first["cache"], &first["processed"], &first["total"]), (&json!(4), &json!(4), &json!(10)));
        let second = progress.of(8, 10);
        assert_eq!((&second["cache"], &second["processed"]), (&json!(4), &json!(8)));
        let last = progress.end().expect("two tokens are left");
        assert_eq!((&last["cache"], &last["processed"]), (&json!(4), &json!(10)));
        assert!(progress.end().is_none() && Progress::default().end().is_none());
    }
}
