//! The generations of one request, driven by the thread that answers it.
//!
//! All choices run in the engine at once; this waits for whichever has news, in slices short enough that the answering
//! thread can look whether its client is still there. Dropping it cancels what still runs.

use std::time::Duration;

use crate::session::{Session, SubmitError, TextEvent, TextGeneration, TextRequest};

/// How long one look for news may wait, with one choice and with several (which are looked at in turn).
const SLICE: Duration = Duration::from_millis(20);
const SLICE_OF_MANY: Duration = Duration::from_millis(2);

/// Running generations; their places are the choices' indices.
pub(super) struct Choices {
    running: Vec<Option<TextGeneration>>,
    first: usize,
}

/// What a look for news found.
pub(super) enum News {
    /// An event of this choice.
    Event(usize, TextEvent),
    /// None yet.
    Nothing,
    /// Every choice has finished.
    Ended,
}

impl Choices {
    /// Starts a generation for each request.
    pub(super) fn start(session: &Session, requests: Vec<TextRequest>) -> Result<Self, SubmitError> {
        let running =
            requests.into_iter().map(|request| session.generate(request).map(Some)).collect::<Result<_, _>>()?;
        Ok(Self { running, first: 0 })
    }

    /// Waits a moment for the next event.
    pub(super) fn next(&mut self) -> News {
        let count = self.running.len();
        let active = self.running.iter().flatten().count();
        if active == 0 {
            return News::Ended;
        }
        let slice = if active == 1 { SLICE } else { SLICE_OF_MANY };
        for step in 0..count {
            let index = (self.first + step) % count;
            let Some(generation) = &mut self.running[index] else { continue };
            match generation.next_timeout(slice) {
                Ok(Some(event)) => {
                    // The others go first next time, so that none is starved by a fast one.
                    self.first = (index + 1) % count;
                    if matches!(event, TextEvent::Finished(_)) {
                        self.running[index] = None;
                    }
                    return News::Event(index, event);
                }
                Ok(None) => self.running[index] = None,
                Err(_) => {}
            }
        }
        News::Nothing
    }
}
