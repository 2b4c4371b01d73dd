//! How much of a prompt has been read, as llama.cpp's server tells it in a stream (`return_progress`).

use std::time::Instant;

use serde_json::{Value, json};

/// The progress of one prompt.
#[derive(Clone, Debug, Default)]
pub struct Progress {
    /// When the first report came, and the tokens that had been kept from before.
    begun: Option<(Instant, usize)>,
}

impl Progress {
    /// The report of `done` tokens of `total`.
    pub fn of(&mut self, done: usize, total: usize) -> Value {
        let (begun, cached) = *self.begun.get_or_insert_with(|| (Instant::now(), done));
        json!({"total": total, "cache": cached, "processed": done, "time_ms": begun.elapsed().as_millis() as u64})
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
        let second = progress.of(10, 10);
        assert_eq!((&second["cache"], &second["processed"]), (&json!(4), &json!(10)));
    }
}
