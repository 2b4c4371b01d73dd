//! The generations of one request, polled by the thread that answers it.
//!
//! All choices run in the engine at once; `next` waits for an event of any, in slices short enough for the answering
//! thread to check whether its client is still connected. Dropping `Choices` cancels unfinished generations.

use std::time::Duration;

use crate::session::{Session, SubmitError, TextEvent, TextGeneration, TextRequest};

/// Longest wait for one generation's event, with one choice and with several (which are polled in turn).
const SLICE: Duration = Duration::from_millis(20);
const SLICE_OF_MANY: Duration = Duration::from_millis(2);

/// Running generations, by choice index.
pub(super) struct Choices {
    running: Vec<Option<TextGeneration>>,
    first: usize,
}

/// The result of one poll.
pub(super) enum News {
    /// An event of this choice.
    Event(usize, TextEvent),
    /// No event yet.
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

    /// Waits up to a slice per choice for the next event.
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
                    // Round robin, so that a fast choice does not starve the others.
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
