//! The HTTP layer over real sockets, with a small handler and short timeouts.

use std::io::{self, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use super::{Body, Exchange, Handler, Head, Headers, Listener, Peer, Refusal, Response, Stopper};
use crate::server::limits::Limits;

/// `/refused` is not admitted, `/echo` returns the body, `/panic` panics, `/late-panic` panics within a stream, `/stream`
/// sends three pieces, `/wait` waits until the client disconnects.
#[derive(Default)]
struct Probe {
    waiting: AtomicUsize,
    left: AtomicUsize,
}

impl Handler for Probe {
    fn admit(&self, head: &Head, _: &Peer) -> Result<Headers, Response> {
        match head.path.as_str() {
            "/refused" => Err(Response::empty(403)),
            _ => Ok(vec![("X-Common", "yes".to_string())]),
        }
    }

    fn handle(&self, head: &Head, body: Body, exchange: &mut Exchange<'_>) -> io::Result<()> {
        match head.path.as_str() {
            "/panic" => panic!("on purpose"),
            "/late-panic" => {
                exchange.stream("text/plain")?.send(b"begun")?;
                panic!("on purpose");
            }
            "/stream" => {
                let mut stream = exchange.stream("text/plain")?;
                for piece in ["one ", "two ", "three"] {
                    stream.send(piece.as_bytes())?;
                }
                stream.finish()
            }
            "/wait" => {
                self.waiting.fetch_add(1, Ordering::SeqCst);
                let end = Instant::now() + Duration::from_secs(30);
                while !exchange.client_left() && Instant::now() < end {
                    thread::sleep(Duration::from_millis(5));
                }
                self.left.fetch_add(usize::from(exchange.client_left()), Ordering::SeqCst);
                Ok(())
            }
            _ => exchange.respond(&Response { body: body.bytes.into(), ..Response::empty(200) }),
        }
    }

    fn refuse(&self, _: Option<&Head>, refusal: &Refusal) -> Response {
        let body = refusal.message.clone().into_bytes();
        Response { body: body.into(), ..Response::empty(refusal.status) }
    }
}

struct Running {
    address: SocketAddr,
    probe: Arc<Probe>,
    stopper: Stopper,
    thread: Option<JoinHandle<()>>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap();
    }
}

fn start(limits: Limits) -> Running {
    let listener = Listener::bind("127.0.0.1:0".parse().unwrap(), limits).unwrap();
    let (address, stopper) = (listener.local_addr().unwrap().unwrap(), listener.stopper().unwrap());
    let probe = Arc::new(Probe::default());
    let handler = probe.clone();
    let thread = thread::spawn(move || listener.run(handler, |_| ()));
    Running { address, probe, stopper, thread: Some(thread) }
}

fn short() -> Limits {
    let brief = Duration::from_millis(200);
    Limits { max_body_bytes: 1000, head_timeout: brief, body_timeout: brief, idle_timeout: brief, ..Limits::default() }
}

fn connect(running: &Running) -> TcpStream {
    let stream = TcpStream::connect(running.address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    stream
}

/// Sends `text`, reads until the server closes.
fn exchange(running: &Running, text: &str) -> String {
    let mut stream = connect(running);
    stream.write_all(text.as_bytes()).unwrap();
    read_all(&mut stream)
}

fn read_all(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).unwrap();
    String::from_utf8(answer).unwrap()
}

fn eventually(mut holds: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < end, "the condition did not hold within 10 s");
        thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn keep_alive_pipelining_and_close() {
    let running = start(short());
    let answer = exchange(
        &running,
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\n\r\noneHEAD / HTTP/1.1\r\nHost: x\r\n\r\n\
         POST /echo HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n3\r\ntwo\r\n0\r\n\r\n",
    );
    assert_eq!(answer.matches("HTTP/1.1 200 OK\r\n").count(), 3, "{answer}");
    assert_eq!(answer.matches("X-Common: yes\r\n").count(), 3, "{answer}");
    assert!(answer.contains("\r\n\r\noneHTTP/1.1"), "{answer}");
    assert!(answer.ends_with("Connection: close\r\n\r\ntwo"), "{answer}");
}

#[test]
fn http_1_0_closes_and_its_streams_end_with_the_connection() {
    let running = start(short());
    let answer = exchange(&running, "GET /stream HTTP/1.0\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\none two three"), "{answer}");
    assert!(!answer.contains("chunked"));
}

#[test]
fn streams_are_chunked() {
    let running = start(short());
    let answer = exchange(&running, "GET /stream HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    assert!(answer.ends_with("\r\n\r\n4\r\none \r\n4\r\ntwo \r\n5\r\nthree\r\n0\r\n\r\n"), "{answer}");
}

#[test]
fn slow_heads_and_bodies_get_408() {
    let running = start(short());
    for beginning in ["GET / HT", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nabc"] {
        let begun = Instant::now();
        let answer = exchange(&running, beginning);
        assert!(answer.starts_with("HTTP/1.1 408 "), "{answer}");
        assert!(begun.elapsed() < Duration::from_secs(9), "the default timeout applied, not the short one");
    }
}

#[test]
fn trickled_bytes_do_not_extend_the_deadline() {
    let running = start(short());
    let mut stream = connect(&running);
    let begun = Instant::now();
    for byte in "GET / HTTP/1.1\r\nHost: x\r\nX-Long: aaaaaaaaaaaaaaaaaaaaaaaaaaaaaa".bytes() {
        if stream.write_all(&[byte]).is_err() {
            break;
        }
        thread::sleep(Duration::from_millis(20));
        if begun.elapsed() > Duration::from_millis(600) {
            break;
        }
    }
    let mut answer = [0; 12];
    stream.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 408");
}

#[test]
fn a_silent_connection_is_closed_without_a_response() {
    let running = start(short());
    assert_eq!(exchange(&running, ""), "");
}

#[test]
fn bodies_above_the_cap_get_413() {
    let running = start(short());
    let declared = "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 70368744177664\r\n\r\nx";
    let chunked = format!(
        "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3e8\r\n{}\r\n1\r\nx\r\n0\r\n\r\n",
        "a".repeat(1000)
    );
    for request in [declared, &chunked] {
        let answer = exchange(&running, request);
        assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
        assert!(answer.contains("Connection: close\r\n") && answer.contains("1000 bytes"), "{answer}");
    }
}

#[test]
fn a_client_that_sends_too_much_still_gets_the_error() {
    let running = start(short());
    let mut stream = connect(&running);
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3000000\r\n\r\n").unwrap();
    let _ = stream.write_all(&vec![b'a'; 3_000_000]);
    assert!(read_all(&mut stream).starts_with("HTTP/1.1 413 "));
}

#[test]
fn expect_100_continue_is_answered() {
    let running = start(short());
    let mut stream = connect(&running);
    let head =
        "POST /echo HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nExpect: 100-continue\r\nConnection: close\r\n\r\n";
    stream.write_all(head.as_bytes()).unwrap();
    let mut interim = [0; 25];
    stream.read_exact(&mut interim).unwrap();
    assert_eq!(&interim, b"HTTP/1.1 100 Continue\r\n\r\n");
    stream.write_all(b"ok").unwrap();
    assert!(read_all(&mut stream).ends_with("\r\n\r\nok"));
}

#[test]
fn a_panic_is_a_500_and_the_server_goes_on() {
    let running = start(short());
    assert!(
        exchange(&running, "GET /panic HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 500 ")
    );
    let cut = exchange(&running, "GET /late-panic HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(cut.ends_with("begun\r\n"), "a broken stream must stay unterminated: {cut}");
    assert!(exchange(&running, "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").starts_with("HTTP/1.1 200 "));
}

/// Whether the server has closed this connection.
fn is_closed(stream: &mut TcpStream) -> bool {
    match stream.read(&mut [0; 1000]) {
        Ok(read) => read == 0,
        Err(error) => error.kind() == io::ErrorKind::ConnectionReset,
    }
}

/// A connection that is being answered until it is dropped.
fn busy(running: &Running, which: usize) -> TcpStream {
    let mut stream = connect(running);
    stream.write_all(b"GET /wait HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    eventually(|| running.probe.waiting.load(Ordering::SeqCst) == which);
    stream
}

const PLAIN: &str = "GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";

#[test]
fn waiting_connections_are_evicted_and_busy_ones_are_not() {
    let running = start(Limits { max_connections: 3, ..Limits::default() });
    let first = busy(&running, 1);
    let mut silent = connect(&running);
    let mut half_a_head = connect(&running);
    half_a_head.write_all(b"GET / HT").unwrap();
    let mut silent_too = connect(&running);
    assert!(is_closed(&mut silent), "the oldest silent one first");
    thread::sleep(Duration::from_millis(200));
    assert!(exchange(&running, PLAIN).starts_with("HTTP/1.1 200 "));
    assert!(is_closed(&mut silent_too), "silent ones before one with a partial head");
    let second = busy(&running, 2);
    let third = busy(&running, 3);
    assert!(is_closed(&mut half_a_head), "then the one with a partial head");
    assert_eq!(running.probe.left.load(Ordering::SeqCst), 0, "busy connections are never evicted");
    drop([first, second, third]);
    eventually(|| running.probe.left.load(Ordering::SeqCst) == 3);
}

#[test]
fn a_connection_is_refused_only_if_all_are_busy() {
    let running = start(Limits { max_connections: 2, ..Limits::default() });
    let held = [busy(&running, 1), busy(&running, 2)];
    let answer = exchange(&running, PLAIN);
    assert!(answer.starts_with("HTTP/1.1 503 ") && answer.contains("2 connections are busy"), "{answer}");
    drop(held);
    eventually(|| exchange(&running, PLAIN).starts_with("HTTP/1.1 200 "));
}

#[test]
fn a_refusal_comes_before_the_body_and_closes() {
    let running = start(short());
    let answer = exchange(&running, "POST /refused HTTP/1.1\r\nHost: x\r\nContent-Length: 900\r\n\r\n");
    assert!(answer.starts_with("HTTP/1.1 403 ") && answer.contains("Connection: close\r\n"), "{answer}");
}

#[test]
fn bodies_share_a_budget() {
    let brief = Limits { max_body_bytes: 100_000, max_bytes_in_flight: 150_000, ..Limits::default() };
    let running = start(brief);
    let head = "POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 90000\r\n\r\n";
    let mut first = connect(&running);
    first.write_all(format!("{head}{}", "a".repeat(80_000)).as_bytes()).unwrap();
    thread::sleep(Duration::from_millis(200));
    let refused = exchange(&running, &format!("{head}{}", "b".repeat(90_000)));
    assert!(refused.starts_with("HTTP/1.1 503 ") && refused.contains("try again"), "{refused}");
    drop(first);
    eventually(|| exchange(&running, &format!("{head}{}", "b".repeat(90_000))).ends_with('b'));
}

#[cfg(unix)]
#[test]
fn a_unix_socket_is_private_and_removed_on_stop() {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("s");
    let listener = Listener::bind_unix(&path, short()).unwrap();
    assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(Listener::bind_unix(&path, short()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    let stopper = listener.stopper().unwrap();
    let thread = thread::spawn(move || listener.run(Arc::new(Probe::default()), |_| ()));
    let mut stream = UnixStream::connect(&path).unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 2\r\n\r\nok").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nok"), "{answer}");
    stopper.stop();
    thread.join().unwrap();
    assert!(!path.exists());
    std::fs::write(&path, "mine").unwrap();
    assert_eq!(Listener::bind_unix(&path, short()).err().unwrap().kind(), io::ErrorKind::AddrInUse);
    assert_eq!(std::fs::read_to_string(&path).unwrap(), "mine");
}

#[test]
fn a_disconnect_is_noticed_even_behind_pipelined_bytes() {
    let running = start(short());
    for tail in ["", "GET /echo HTTP/1.1\r\n"] {
        let mut stream = connect(&running);
        stream.write_all(format!("GET /wait HTTP/1.1\r\nHost: x\r\n\r\n{tail}").as_bytes()).unwrap();
        let before = running.probe.left.load(Ordering::SeqCst);
        drop(stream);
        eventually(|| running.probe.left.load(Ordering::SeqCst) == before + 1);
    }
}

#[test]
fn stopping_closes_idle_connections() {
    let running = start(Limits::default());
    let mut idle = connect(&running);
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").unwrap();
    let mut answer = [0; 16];
    idle.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"HTTP/1.1 200 OK\r");
    drop(running);
    read_all(&mut idle);
}
