//! Limits on what a client may use: bytes, seconds and connections.
//!
//! The defaults suit one machine that serves a few users. Every deadline and every buffer cap of `http` is here; memory is
//! allocated as bytes arrive, never because a header announces them.

use std::time::Duration;

/// Caps and deadlines of the HTTP layer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line and headers together; above it 431 (414 if the request line alone is too long).
    pub max_head_bytes: usize,
    /// The request target; above it 414.
    pub max_target_bytes: usize,
    /// Body, after chunked decoding; above it 413.
    pub max_body_bytes: usize,
    /// Bytes held by all requests together, including the cost of parsing them; above it 503.
    pub max_bytes_in_flight: usize,
    /// Open connections. At the limit a new one evicts one that is waiting for its client; if none is, it gets a 503.
    pub max_connections: usize,
    /// Open connections per remote address, likewise; loopback addresses are exempt.
    pub max_connections_per_address: usize,
    /// From the first byte of a request to the end of its head; above it 408.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body; above it 408.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request; then it is closed without a response.
    pub idle_timeout: Duration,
    /// How long a write may make no progress; then the client counts as disconnected.
    pub write_timeout: Duration,
    /// How often an idle stream sends a comment, so that proxies keep it open.
    pub keep_alive_interval: Duration,
    /// How long running answers may continue after a stop signal.
    pub shutdown_grace: Duration,
}

/// Upper bound on a connection thread's memory besides the request: its stack and kernel structures.
const BYTES_PER_THREAD: usize = 64 << 10;
/// Pipelined bytes buffered while a request is being answered.
pub(super) const MAX_PIPELINED_BYTES: usize = 64 << 10;

impl Limits {
    /// Upper bound on memory that clients can make this server use, for the summary at startup.
    pub fn memory_bytes(&self) -> u64 {
        let connection = self.max_head_bytes + MAX_PIPELINED_BYTES + BYTES_PER_THREAD;
        (self.max_bytes_in_flight + self.max_connections * connection) as u64
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 32 << 10,
            max_target_bytes: 8 << 10,
            max_body_bytes: 4 << 20,
            max_bytes_in_flight: 160 << 20,
            max_connections: 128,
            max_connections_per_address: 32,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(2),
        }
    }
}
