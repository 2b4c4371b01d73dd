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
    /// Connections at once; above it 503 and a close.
    pub max_connections: usize,
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

impl Default for Limits {
    fn default() -> Self {
        Self {
            max_head_bytes: 32 << 10,
            max_target_bytes: 8 << 10,
            max_body_bytes: 4 << 20,
            max_connections: 128,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(75),
            write_timeout: Duration::from_secs(30),
            keep_alive_interval: Duration::from_secs(10),
            shutdown_grace: Duration::from_secs(2),
        }
    }
}
