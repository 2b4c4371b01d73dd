//! HTTP/1.1 on std's sockets: a thread per connection, a deadline for every wait, a cap for every buffer.
//!
//! This layer knows nothing of models or JSON. It reads a head, asks the `Handler` whether to go on, reads the body and
//! lets the handler respond through an `Exchange`: once, or as a stream. The one idea to know: the thread that answers
//! is the only one that touches its socket, so between two tokens it can check whether the client is still connected
//! (`Exchange::client_left`), without a second thread and without unsafe code.

mod body;
mod budget;
mod connection;
mod head;
mod listener;
mod response;
mod socket;
#[cfg(test)]
mod tests;

pub use body::ChunkedDecoder;
pub use budget::{Budget, Reservation};
pub use connection::{Exchange, Stream};
pub use head::{BodyLength, Head, Method, parse_head, split_authority};
use listener::reachable;
pub use listener::{Listener, Stopper};
pub use response::{Headers, Response};

use std::net::IpAddr;

/// A request's content, with the transfer coding decoded.
#[derive(Debug)]
pub struct Body {
    /// The content.
    pub bytes: Vec<u8>,
    held: Reservation,
}

impl Body {
    /// Reserves memory for this request, body included, from the budget shared by all.
    ///
    /// # Errors
    /// 503 if the budget is exhausted.
    pub fn hold(&mut self, bytes: usize) -> Result<(), Refusal> {
        if self.held.grow_to(bytes) {
            return Ok(());
        }
        Err(Refusal::new(503, "other requests use all the memory that this server has for them; try again soon"))
    }
}

/// The other end of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// The connection's number, unique within this server.
    pub connection: u64,
    /// `None` for a Unix socket.
    pub address: Option<IpAddr>,
}

/// Why a request is refused: the status and a one-line message.
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
        Self::new(413, format!("the request body is larger than {max_bytes} bytes, the most this server accepts"))
    }
}

/// Answers requests; called from many threads at once.
pub trait Handler: Send + Sync + 'static {
    /// Admits a request, returning headers for its response, or refuses it before the body is read. A refusal closes the
    /// connection.
    ///
    /// # Errors
    /// The response to a refused request.
    fn admit(&self, head: &Head, peer: &Peer) -> Result<Headers, Response>;

    /// Answers one request. An error means that the client has disconnected.
    ///
    /// # Errors
    /// The socket's, if the response cannot be written.
    fn handle(&self, head: &Head, body: Body, exchange: &mut Exchange<'_>) -> std::io::Result<()>;

    /// The response for a request that never reached `handle`, or whose handling panicked; `head` as far as it was read.
    fn refuse(&self, head: Option<&Head>, refusal: &Refusal) -> Response;
}
