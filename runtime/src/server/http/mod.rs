//! HTTP/1.1 on std's sockets: a thread a connection, every wait under a deadline, every buffer under a cap.
//!
//! This layer knows nothing of models or JSON. It reads a whole request (`head`, `body`), gives it to a `Handler`, and
//! lets the handler answer through an `Exchange`: once, or as a stream. The one idea to know: the thread that answers
//! is the only one that touches its socket, so between two tokens it can also look whether the client is still there
//! (`Exchange::client_left`), without a second thread and without unsafe code.

mod body;
mod connection;
mod head;
mod listener;
mod response;
#[cfg(test)]
mod tests;

pub use body::ChunkedDecoder;
pub use connection::{Exchange, Stream};
pub use head::{BodyLength, Head, Method, parse_head};
pub use listener::{Listener, Stopper};
pub use response::Response;

/// A whole request.
#[derive(Debug)]
pub struct Request {
    /// Its head.
    pub head: Head,
    /// Its content, transfer coding undone.
    pub body: Vec<u8>,
}

/// Why a request cannot be taken: the status and one line for the person.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// A 4xx or 5xx status.
    pub status: u16,
    /// What is wrong and what to do.
    pub message: String,
}

impl Refusal {
    /// A refusal.
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        Self { status, message: message.into() }
    }

    pub(crate) fn body_too_large(max_bytes: usize) -> Self {
        Self::new(413, format!("the request body is larger than {max_bytes} bytes, the most this server takes"))
    }
}

/// What answers requests; called from many threads at once.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request. An error means that the client is gone; there is nobody to tell.
    ///
    /// # Errors
    /// What the socket said when the answer could not be written.
    fn handle(&self, request: &Request, exchange: &mut Exchange<'_>) -> std::io::Result<()>;

    /// The response for a request that never reached `handle`, or whose handling panicked.
    fn refuse(&self, refusal: &Refusal) -> Response;
}
