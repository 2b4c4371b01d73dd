//! What one client may take: bytes, seconds and connections.
//!
//! The defaults suit one machine that serves a few people. Every wait in `http` has its deadline here, and every buffer
//! its cap; nothing is allocated because a header says so, only as bytes arrive.

use std::time::Duration;

/// Caps and deadlines of the HTTP layer.
#[derive(Clone, Debug)]
pub struct Limits {
    /// Request line and headers together; above it 431 (or 414 when the request line alone is at fault).
    pub max_head_bytes: usize,
    /// The request target; above it 414.
    pub max_target_bytes: usize,
    /// Body, after chunked decoding; above it 413.
    pub max_body_bytes: usize,
    /// Bytes that all requests together may hold, with what parsing them costs; above it 503.
    pub max_bytes_in_flight: usize,
    /// Connections at once. A new one takes the place of one that waits for its client; where none does, 503 and a close.
    pub max_connections: usize,
    /// Connections of one address of a network, in the same way.
    pub max_connections_per_address: usize,
    /// From the first byte of a request to the end of its head; above it 408.
    pub head_timeout: Duration,
    /// From the end of the head to the end of the body; above it 408.
    pub body_timeout: Duration,
    /// How long a connection may stay open without a request; then it is closed without a word.
    pub idle_timeout: Duration,
    /// How long one write may make no progress; then the client counts as gone.
    pub write_timeout: Duration,
    /// How often a stream without news sends a comment, so that proxies keep it open.
    pub keep_alive_interval: Duration,
    /// After a stop signal, how long running answers may still go on before they are ended.
    pub shutdown_grace: Duration,
}

/// What a connection's thread takes at most beside the request: its stack, and what the system keeps for it.
const BYTES_PER_THREAD: usize = 64 << 10;
/// Received bytes that may wait behind the request being answered.
pub(super) const MAX_PIPELINED_BYTES: usize = 64 << 10;

impl Limits {
    /// What clients can make this server take at most, for the line that says how much memory there must be.
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
