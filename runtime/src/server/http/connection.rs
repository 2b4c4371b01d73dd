//! One connection: requests in, one after the other, and the `Exchange` through which each is answered.
//!
//! Bytes beyond the current request stay in `Wire::received` for the next one (pipelining), also those found while
//! looking whether the client has left.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{Shutdown, TcpStream};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use super::body::ChunkedDecoder;
use super::head::{BodyLength, Head, Method, parse_head};
use super::response::{Framing, Response, write_head};
use super::{Handler, Refusal, Request};
use crate::server::limits::Limits;

/// Received bytes that may wait behind the request being answered.
const MAX_PIPELINED_BYTES: usize = 64 << 10;
/// A refused client gets this long to read why, while what it still sends is dropped.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one connection until either side ends it.
pub(super) fn serve(stream: TcpStream, limits: &Limits, handler: &dyn Handler, stopping: &AtomicBool) {
    // Tokens are small writes; waiting to fill a segment would add up to 40 ms to each.
    let _ = stream.set_nodelay(true);
    let _ = stream.set_write_timeout(Some(limits.write_timeout));
    let mut wire = Wire { stream, received: Vec::new(), left: false };
    // A new connection that says nothing is given less time than one that has shown what it is for.
    let mut patience = limits.head_timeout;
    while !stopping.load(Ordering::Relaxed) {
        match read_request(&mut wire, limits, patience) {
            Ok(Some(request)) => {
                if !answer(&mut wire, &request, handler, stopping) {
                    break;
                }
                patience = limits.idle_timeout;
            }
            Ok(None) => break,
            Err(refusal) => {
                let mut exchange = Exchange::new(&mut wire, None, true);
                let _ = exchange.respond(&handler.refuse(&refusal));
                wire.linger();
                return;
            }
        }
    }
    let _ = wire.stream.shutdown(Shutdown::Both);
}

/// Refuses a connection before anything is read from it.
pub(super) fn turn_away(stream: TcpStream, response: &Response) {
    let _ = stream.set_write_timeout(Some(Duration::from_millis(100)));
    let mut wire = Wire { stream, received: Vec::new(), left: false };
    let _ = Exchange::new(&mut wire, None, true).respond(response);
    // What has already arrived must be read, or the close becomes a reset that overtakes the response.
    wire.look();
    let _ = wire.stream.shutdown(Shutdown::Write);
}

/// Runs the handler; true when the connection can take another request.
fn answer(wire: &mut Wire, request: &Request, handler: &dyn Handler, stopping: &AtomicBool) -> bool {
    let close = !request.head.keep_alive || stopping.load(Ordering::Relaxed);
    let mut exchange = Exchange::new(wire, Some(&request.head), close);
    let outcome = catch_unwind(AssertUnwindSafe(|| handler.handle(request, &mut exchange)));
    let written = match outcome {
        Ok(written) => written,
        Err(_) if exchange.state == State::Waiting => {
            let refusal = Refusal::new(500, "this request hit a bug in the server; the others go on");
            exchange.respond(&handler.refuse(&refusal))
        }
        // The stream has begun: closing without its end is the only honest sign left.
        Err(_) => return false,
    };
    written.is_ok() && exchange.state == State::Done && !exchange.close
}

/// Reads a request; `None` when the client has none to send within its `patience`.
fn read_request(wire: &mut Wire, limits: &Limits, patience: Duration) -> Result<Option<Request>, Refusal> {
    if wire.received.is_empty() && !matches!(wire.fill(Instant::now() + patience), Ok(1..)) {
        return Ok(None);
    }
    let deadline = Instant::now() + limits.head_timeout;
    let head = loop {
        if let Some((head, length)) = parse_head(&wire.received, limits)? {
            wire.received.drain(..length);
            break head;
        }
        match wire.fill(deadline) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return timed_out(&error, "headers", limits.head_timeout),
        }
    };
    if let BodyLength::Exact(length) = head.body
        && length > limits.max_body_bytes as u64
    {
        return Err(Refusal::body_too_large(limits.max_body_bytes));
    }
    if head.expects_continue
        && wire.received.is_empty()
        && head.body != BodyLength::Exact(0)
        && wire.stream.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err()
    {
        return Ok(None);
    }
    let deadline = Instant::now() + limits.body_timeout;
    let mut body = Vec::new();
    let mut decoder = ChunkedDecoder::new(limits.max_body_bytes);
    loop {
        let whole = match head.body {
            BodyLength::Chunked => decoder.decode(&mut wire.received, &mut body)?,
            BodyLength::Exact(length) => {
                let missing = (length as usize).saturating_sub(body.len()).min(wire.received.len());
                body.extend(wire.received.drain(..missing));
                body.len() as u64 == length
            }
        };
        if whole {
            return Ok(Some(Request { head, body }));
        }
        match wire.fill(deadline) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return timed_out(&error, "body", limits.body_timeout),
        }
    }
}

fn timed_out(error: &io::Error, part: &str, limit: Duration) -> Result<Option<Request>, Refusal> {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            Err(Refusal::new(408, format!("the request's {part} did not arrive within {} s", limit.as_secs_f32())))
        }
        _ => Ok(None),
    }
}

/// A socket and what was read from it ahead of need.
struct Wire {
    stream: TcpStream,
    received: Vec<u8>,
    left: bool,
}

impl Wire {
    /// Waits for bytes until `deadline` and appends them to `received`: their number, 0 when the client has closed.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut piece = [0; 16 << 10];
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.stream.set_read_timeout(Some(remaining))?;
            match self.stream.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(length) => {
                    self.received.extend_from_slice(&piece[..length]);
                    return Ok(length);
                }
            }
        }
    }

    /// Takes what has arrived without waiting; notes when the client has closed its side.
    fn look(&mut self) {
        if self.left || self.received.len() >= MAX_PIPELINED_BYTES {
            return;
        }
        let mut piece = [0; 4 << 10];
        let outcome = self.stream.set_nonblocking(true).and_then(|()| self.stream.read(&mut piece));
        let restored = self.stream.set_nonblocking(false);
        match outcome {
            Ok(0) => self.left = true,
            Ok(length) => self.received.extend_from_slice(&piece[..length]),
            Err(error) => self.left = !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        self.left |= restored.is_err();
    }

    /// Ends the connection so that the last response arrives although the client may still be sending.
    fn linger(mut self) {
        let _ = self.stream.shutdown(Shutdown::Write);
        let deadline = Instant::now() + LINGER;
        while matches!(self.fill(deadline), Ok(1..)) {
            self.received.clear();
        }
        let _ = self.stream.shutdown(Shutdown::Both);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing is written yet.
    Waiting,
    /// A stream's head is written, its end not.
    Streaming,
    /// The answer is whole.
    Done,
}

/// The answering side of one request.
pub struct Exchange<'a> {
    wire: &'a mut Wire,
    /// `None`: the request could not be read.
    head: Option<&'a Head>,
    common: Vec<(&'static str, String)>,
    close: bool,
    state: State,
}

impl<'a> Exchange<'a> {
    fn new(wire: &'a mut Wire, head: Option<&'a Head>, close: bool) -> Self {
        Self { wire, head, common: Vec::new(), close, state: State::Waiting }
    }

    /// Adds a header to whatever response this request gets.
    pub fn add_header(&mut self, name: &'static str, value: impl Into<String>) {
        self.common.push((name, value.into()));
    }

    /// Writes the whole response.
    ///
    /// # Errors
    /// The socket's, or `InvalidInput` when this request was answered already.
    pub fn respond(&mut self, response: &Response) -> io::Result<()> {
        self.begin()?;
        let mut out = Vec::with_capacity(512 + response.body.len());
        let framing = Framing::Length(response.body.len());
        write_head(&mut out, response.status, &[&self.common, &response.headers], framing, self.close);
        let silent = self.is_head() || matches!(response.status, 204 | 304);
        if !silent {
            out.extend_from_slice(&response.body);
        }
        self.wire.stream.write_all(&out)?;
        self.state = State::Done;
        Ok(())
    }

    /// Writes a stream's head with this content type; the content follows through the returned `Stream`.
    ///
    /// # Errors
    /// The socket's, or `InvalidInput` when this request was answered already.
    pub fn stream(&mut self, content_type: &str) -> io::Result<Stream<'_, 'a>> {
        self.begin()?;
        let framing = match self.head {
            Some(head) if head.minor_version == 1 => Framing::Chunked,
            _ => Framing::UntilClose,
        };
        self.close |= framing == Framing::UntilClose;
        let headers = [
            ("Content-Type", content_type.to_string()),
            ("Cache-Control", "no-store".to_string()),
            // nginx would otherwise hold the stream back until its buffer is full.
            ("X-Accel-Buffering", "no".to_string()),
        ];
        let mut out = Vec::with_capacity(512);
        write_head(&mut out, 200, &[&self.common, &headers], framing, self.close);
        self.wire.stream.write_all(&out)?;
        self.state = State::Streaming;
        Ok(Stream { exchange: self, framing })
    }

    /// Whether the client has closed the connection (or its sending half: nobody who wants an answer does that).
    pub fn client_left(&mut self) -> bool {
        self.wire.look();
        self.wire.left
    }

    fn is_head(&self) -> bool {
        self.head.is_some_and(|head| head.method == Method::Head)
    }

    fn begin(&mut self) -> io::Result<()> {
        match self.state {
            State::Waiting => Ok(()),
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "this request was answered already")),
        }
    }
}

/// A streamed answer. Dropped before `finish`, it leaves the content without its end, and the connection is closed.
pub struct Stream<'e, 'a> {
    exchange: &'e mut Exchange<'a>,
    framing: Framing,
}

impl Stream<'_, '_> {
    /// Sends one piece, at once.
    ///
    /// # Errors
    /// The socket's; `TimedOut` or `WouldBlock` when the client has not taken anything for the write timeout.
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(()); // an empty chunk would be the end
        }
        let stream = &mut self.exchange.wire.stream;
        if self.framing == Framing::UntilClose {
            return stream.write_all(piece);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk)
    }

    /// Writes the end.
    ///
    /// # Errors
    /// The socket's.
    pub fn finish(self) -> io::Result<()> {
        if self.framing == Framing::Chunked {
            self.exchange.wire.stream.write_all(b"0\r\n\r\n")?;
        }
        self.exchange.state = State::Done;
        Ok(())
    }

    /// See `Exchange::client_left`.
    pub fn client_left(&mut self) -> bool {
        self.exchange.client_left()
    }
}
