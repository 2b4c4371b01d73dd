//! One connection: reads requests one after the other, and answers each through an `Exchange`.
//!
//! Bytes beyond the current request stay in `Wire::received` for the next one (pipelining), including those read while
//! checking whether the client has disconnected.

use std::io::{self, ErrorKind, Read, Write};
use std::net::Shutdown;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::body::ChunkedDecoder;
use super::budget::{Budget, Reservation};
use super::head::{BodyLength, Head, Method, parse_head};
use super::listener::{Phase, Place};
use super::response::{Framing, Headers, Response, write_head};
use super::socket::Socket;
use super::{Body, Handler, Peer, Refusal};
use crate::server::limits::{Limits, MAX_PIPELINED_BYTES};

/// How long a refused client may take to read the error; whatever it still sends is discarded.
const LINGER: Duration = Duration::from_secs(1);

/// Serves one connection until either side ends it.
pub(super) fn serve(socket: Socket, limits: &Limits, budget: &Arc<Budget>, handler: &dyn Handler, place: &Place) {
    socket.send_at_once();
    let _ = socket.set_write_timeout(limits.write_timeout);
    let mut wire = Wire { socket, received: Vec::new(), left: false };
    // A connection that has sent no request yet gets a shorter timeout than one between requests.
    let mut patience = limits.head_timeout;
    while !place.stopping() && place.enter(Phase::Idle) {
        match next_request(&mut wire, limits, budget, patience, handler, place) {
            Ok(Some(request)) => {
                if !place.enter(Phase::Answering) || !answer(&mut wire, request, handler, place) {
                    break;
                }
                patience = limits.idle_timeout;
            }
            Ok(None) => break,
            Err(response) => {
                let _ = Exchange::new(&mut wire, None, place.peer, true).respond(&response);
                wire.linger();
                return;
            }
        }
    }
    wire.socket.shutdown(Shutdown::Both);
}

/// Refuses a connection before anything is read from it.
pub(super) fn turn_away(socket: Socket, response: &Response) {
    let _ = socket.set_write_timeout(Duration::from_millis(100));
    let mut wire = Wire { socket, received: Vec::new(), left: false };
    let nobody = Peer { connection: 0, address: None };
    let _ = Exchange::new(&mut wire, None, nobody, true).respond(response);
    // Closing with unread bytes would send a reset, which can overtake the response.
    wire.look();
    wire.socket.shutdown(Shutdown::Write);
}

/// Runs the handler; true if the connection can take another request.
fn answer(wire: &mut Wire, request: Request, handler: &dyn Handler, place: &Place) -> bool {
    let Request { head, common, body } = request;
    let close = !head.keep_alive || place.stopping();
    let mut exchange = Exchange { common, ..Exchange::new(wire, Some(&head), place.peer, close) };
    let outcome = catch_unwind(AssertUnwindSafe(|| handler.handle(&head, body, &mut exchange)));
    let written = match outcome {
        Ok(written) => written,
        Err(_) if exchange.state == State::Waiting => {
            let refusal = Refusal::new(500, "this request hit a bug in the server; others are not affected");
            exchange.respond(&handler.refuse(Some(&head), &refusal))
        }
        // The stream has begun: closing it unterminated is the only way left to signal an error.
        Err(_) => return false,
    };
    written.is_ok() && exchange.state == State::Done && !exchange.close
}

/// A complete, admitted request.
struct Request {
    head: Head,
    /// Headers for its response, whatever that is.
    common: Headers,
    body: Body,
}

/// Reads a request; `None` if none begins within `patience` or the connection ends. The error is the response to a refused
/// request.
fn next_request(
    wire: &mut Wire,
    limits: &Limits,
    budget: &Arc<Budget>,
    patience: Duration,
    handler: &dyn Handler,
    place: &Place,
) -> Result<Option<Request>, Response> {
    if wire.received.is_empty() && !matches!(wire.fill(Instant::now() + patience), Ok(1..)) {
        return Ok(None);
    }
    if !place.enter(Phase::Head) {
        return Ok(None);
    }
    let Some(head) = read_head(wire, limits).map_err(|refusal| handler.refuse(None, &refusal))? else {
        return Ok(None);
    };
    // Before any of the body is read.
    let common = handler.admit(&head, &place.peer)?;
    if !place.enter(Phase::Body) {
        return Ok(None);
    }
    let body = read_body(wire, &head, limits, budget.reserve());
    let body = body.map_err(|refusal| handler.refuse(Some(&head), &refusal))?;
    Ok(body.map(|body| Request { head, common, body }))
}

fn read_head(wire: &mut Wire, limits: &Limits) -> Result<Option<Head>, Refusal> {
    let deadline = Instant::now() + limits.head_timeout;
    loop {
        if let Some((head, length)) = parse_head(&wire.received, limits)? {
            wire.received.drain(..length);
            return Ok(Some(head));
        }
        match wire.fill(deadline) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return timed_out(&error, "headers", limits.head_timeout),
        }
    }
}

fn read_body(wire: &mut Wire, head: &Head, limits: &Limits, held: Reservation) -> Result<Option<Body>, Refusal> {
    if let BodyLength::Exact(length) = head.body
        && length > limits.max_body_bytes as u64
    {
        return Err(Refusal::body_too_large(limits.max_body_bytes));
    }
    if head.expects_continue
        && wire.received.is_empty()
        && head.body != BodyLength::Exact(0)
        && wire.socket.write_all(b"HTTP/1.1 100 Continue\r\n\r\n").is_err()
    {
        return Ok(None);
    }
    let deadline = Instant::now() + limits.body_timeout;
    let mut body = Body { bytes: Vec::new(), held };
    let mut decoder = ChunkedDecoder::new(limits.max_body_bytes);
    loop {
        let whole = match head.body {
            BodyLength::Chunked => decoder.decode(&mut wire.received, &mut body.bytes)?,
            BodyLength::Exact(length) => {
                let missing = (length as usize).saturating_sub(body.bytes.len()).min(wire.received.len());
                body.bytes.extend(wire.received.drain(..missing));
                body.bytes.len() as u64 == length
            }
        };
        body.hold(body.bytes.capacity())?;
        if whole {
            return Ok(Some(body));
        }
        match wire.fill(deadline) {
            Ok(0) => return Ok(None),
            Ok(_) => {}
            Err(error) => return timed_out(&error, "body", limits.body_timeout),
        }
    }
}

fn timed_out<T>(error: &io::Error, part: &str, limit: Duration) -> Result<Option<T>, Refusal> {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            Err(Refusal::new(408, format!("the request's {part} did not arrive within {} s", limit.as_secs_f32())))
        }
        _ => Ok(None),
    }
}

/// A socket with a buffer of bytes read ahead.
struct Wire {
    socket: Socket,
    received: Vec<u8>,
    /// The client has closed the connection.
    left: bool,
}

impl Wire {
    /// Waits for bytes until `deadline` and appends them to `received`; returns their number, 0 at end of stream.
    fn fill(&mut self, deadline: Instant) -> io::Result<usize> {
        let mut piece = [0; 16 << 10];
        loop {
            let remaining = deadline.saturating_duration_since(Instant::now());
            if remaining.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            self.socket.set_read_timeout(remaining)?;
            match self.socket.read(&mut piece) {
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
                Ok(length) => {
                    self.received.extend_from_slice(&piece[..length]);
                    return Ok(length);
                }
            }
        }
    }

    /// Non-blocking read of whatever has arrived; sets `left` if the client has closed its side.
    fn look(&mut self) {
        if self.left || self.received.len() >= MAX_PIPELINED_BYTES {
            return;
        }
        let mut piece = [0; 4 << 10];
        let outcome = self.socket.set_nonblocking(true).and_then(|()| self.socket.read(&mut piece));
        let restored = self.socket.set_nonblocking(false);
        match outcome {
            Ok(0) => self.left = true,
            Ok(length) => self.received.extend_from_slice(&piece[..length]),
            Err(error) => self.left = !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted),
        }
        self.left |= restored.is_err();
    }

    /// Lingering close: the last response arrives even if the client is still sending.
    fn linger(mut self) {
        self.socket.shutdown(Shutdown::Write);
        let deadline = Instant::now() + LINGER;
        while matches!(self.fill(deadline), Ok(1..)) {
            self.received.clear();
        }
        self.socket.shutdown(Shutdown::Both);
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// Nothing has been written.
    Waiting,
    /// A stream's head has been written, its end not yet.
    Streaming,
    /// The response is complete.
    Done,
}

/// The response side of one request.
pub struct Exchange<'a> {
    wire: &'a mut Wire,
    /// `None`: the request could not be read.
    head: Option<&'a Head>,
    common: Headers,
    peer: Peer,
    close: bool,
    state: State,
}

impl<'a> Exchange<'a> {
    fn new(wire: &'a mut Wire, head: Option<&'a Head>, peer: Peer, close: bool) -> Self {
        Self { wire, head, common: Vec::new(), peer, close, state: State::Waiting }
    }

    /// The client's end of the connection.
    pub fn peer(&self) -> Peer {
        self.peer
    }

    /// Writes the whole response.
    ///
    /// # Errors
    /// The socket's, or `InvalidInput` if this request has already been answered.
    pub fn respond(&mut self, response: &Response) -> io::Result<()> {
        self.begin()?;
        let mut out = Vec::with_capacity(512 + response.body.len());
        let framing = Framing::Length(response.body.len());
        write_head(&mut out, response.status, &[&self.common, &response.headers], framing, self.close);
        let silent = self.is_head() || matches!(response.status, 204 | 304);
        if !silent {
            out.extend_from_slice(&response.body);
        }
        self.wire.socket.write_all(&out)?;
        self.state = State::Done;
        Ok(())
    }

    /// Writes the head of a streamed response with this content type; the content goes through the returned `Stream`.
    ///
    /// # Errors
    /// The socket's, or `InvalidInput` if this request has already been answered.
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
            // nginx would otherwise buffer the stream.
            ("X-Accel-Buffering", "no".to_string()),
        ];
        let mut out = Vec::with_capacity(512);
        write_head(&mut out, 200, &[&self.common, &headers], framing, self.close);
        self.wire.socket.write_all(&out)?;
        self.state = State::Streaming;
        Ok(Stream { exchange: self, framing })
    }

    /// Whether the client has closed the connection. A half-close counts, too: clients that want the answer do not do that.
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
            _ => Err(io::Error::new(ErrorKind::InvalidInput, "this request has already been answered")),
        }
    }
}

/// A streamed response. Dropping it before `finish` leaves the content unterminated and closes the connection.
pub struct Stream<'e, 'a> {
    exchange: &'e mut Exchange<'a>,
    framing: Framing,
}

impl Stream<'_, '_> {
    /// Sends one piece at once.
    ///
    /// # Errors
    /// The socket's; `TimedOut` or `WouldBlock` if the client has read nothing for the write timeout (backpressure).
    pub fn send(&mut self, piece: &[u8]) -> io::Result<()> {
        if piece.is_empty() {
            return Ok(()); // an empty chunk would end the stream
        }
        let stream = &mut self.exchange.wire.socket;
        if self.framing == Framing::UntilClose {
            return stream.write_all(piece);
        }
        let mut chunk = format!("{:x}\r\n", piece.len()).into_bytes();
        chunk.extend_from_slice(piece);
        chunk.extend_from_slice(b"\r\n");
        stream.write_all(&chunk)
    }

    /// Terminates the stream.
    ///
    /// # Errors
    /// The socket's.
    pub fn finish(self) -> io::Result<()> {
        if self.framing == Framing::Chunked {
            self.exchange.wire.socket.write_all(b"0\r\n\r\n")?;
        }
        self.exchange.state = State::Done;
        Ok(())
    }

    /// See `Exchange::client_left`.
    pub fn client_left(&mut self) -> bool {
        self.exchange.client_left()
    }
}
