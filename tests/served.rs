//! A running server for tests, and a minimal HTTP client that exposes the raw bytes.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "one binary: each behaviour uses what it needs")]

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::SATCHEL;

/// Deadline for anything that should happen, even on a busy machine.
const DEADLINE: Duration = Duration::from_secs(60);

/// A server with a model on its own port; killed when dropped.
pub struct Served {
    child: Child,
    /// The block it printed when ready.
    pub block: String,
    pub port: u16,
    /// The secret of the link to the page.
    pub launch: String,
}

/// A response, with the transfer coding decoded.
#[derive(Debug)]
pub struct Answer {
    pub status: u16,
    pub head: String,
    pub body: Vec<u8>,
}

impl Answer {
    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let mut lines = self.head.lines().filter_map(|line| line.split_once(": "));
        lines.find(|(found, _)| found.eq_ignore_ascii_case(name)).map(|(_, value)| value)
    }

    /// Checks status, `param` and `code` of an error response, and returns its message.
    #[track_caller]
    pub fn error(&self, status: u16, param: Option<&str>, code: Option<&str>) -> String {
        let body = self.json();
        let error = &body["error"];
        assert_eq!(self.status, status, "{body}");
        assert_eq!(error["param"].as_str(), param, "{body}");
        assert_eq!(error["code"].as_str(), code, "{body}");
        assert!(error["type"].is_string(), "{body}");
        let message = error["message"].as_str().expect("a message").to_owned();
        assert!(!message.is_empty() && !message.contains('\n'), "one line: {message:?}");
        message
    }

    /// The `data` of each server-sent event.
    pub fn events(&self) -> Vec<String> {
        self.text().split("\n\n").filter_map(|event| event.strip_prefix("data: ")).map(str::to_owned).collect()
    }
}

impl Served {
    /// Starts `satchel serve` on a free port and waits until it is ready.
    #[track_caller]
    pub fn start(model: &Path, flags: &[&str]) -> Self {
        let mut command = Command::new(SATCHEL);
        command.arg("serve").arg("-m").arg(model).args(["--no-browser", "--port", "0", "-t", "2"]).args(flags);
        Self::run(&mut command)
    }

    /// Starts a server and waits until it is ready.
    #[track_caller]
    pub fn run(command: &mut Command) -> Self {
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().expect("the server starts");
        let mut lines = BufReader::new(child.stdout.take().expect("stdout is piped")).lines();
        let mut block = String::new();
        let (mut port, mut launch) = (None, None);
        for line in lines.by_ref().map_while(Result::ok) {
            block.push_str(&line);
            block.push('\n');
            if let Some((_, rest)) = line.split_once("http://")
                && ["chat ", "API "].iter().any(|begin| line.trim_start().starts_with(begin))
            {
                let (address, fragment) = rest.split_once('/').expect("a path");
                port = address.rsplit(':').next().and_then(|port| port.parse().ok());
                // The API line, without a fragment, follows the page's.
                launch = launch.or_else(|| fragment.strip_prefix("#launch=").map(str::to_owned));
            }
            if line.contains("Ctrl-C") {
                break;
            }
        }
        let port = port.unwrap_or_else(|| panic!("no address in: {block}"));
        Self { child, block, port, launch: launch.unwrap_or_default() }
    }

    /// Starts a server that is to listen on this port, and does not wait until it has printed its block.
    #[track_caller]
    pub fn unready(command: &mut Command, port: u16) -> Self {
        command.args(["--no-browser", "--port", &port.to_string()]).stdin(Stdio::null()).stdout(Stdio::null());
        let child = command.spawn().expect("the server starts");
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(begun.elapsed() < DEADLINE, "it does not listen");
            std::thread::sleep(Duration::from_millis(10));
        }
        Self { child, block: String::new(), port, launch: String::new() }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    #[track_caller]
    pub fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the server takes connections");
        stream.set_read_timeout(Some(DEADLINE)).expect("a read timeout");
        stream
    }

    /// Sends these bytes and reads the response until the server closes.
    #[track_caller]
    pub fn raw(&self, bytes: &[u8]) -> Answer {
        let mut stream = self.connect();
        // The server may close before reading everything; its response can still be read.
        let _ = stream.write_all(bytes);
        read_answer(stream)
    }

    /// A request with these header lines (each ending in CRLF) and body.
    #[track_caller]
    pub fn request(&self, method: &str, path: &str, lines: &str, body: &[u8]) -> Answer {
        let mut bytes = self.head(method, path, &format!("Connection: close\r\n{lines}"), body.len()).into_bytes();
        bytes.extend_from_slice(body);
        self.raw(&bytes)
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.request("GET", path, "", b"")
    }

    /// The page, as a browser asks for it; `lines` are more headers.
    #[track_caller]
    pub fn page(&self, method: &str, lines: &str) -> Answer {
        self.request(method, "/", &format!("Accept: text/html,application/xhtml+xml;q=0.9,*/*;q=0.8\r\n{lines}"), b"")
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.request("POST", path, "Content-Type: application/json\r\n", body.to_string().as_bytes())
    }

    /// Sends a request and returns the socket, with the response unread.
    #[track_caller]
    pub fn begin(&self, path: &str, body: &Value) -> TcpStream {
        let body = body.to_string();
        let mut stream = self.connect();
        stream.write_all((self.head("POST", path, "", body.len()) + &body).as_bytes()).expect("the server reads");
        stream
    }

    fn head(&self, method: &str, path: &str, lines: &str, length: usize) -> String {
        format!("{method} {path} HTTP/1.1\r\nHost: localhost:{}\r\nContent-Length: {length}\r\n{lines}\r\n", self.port)
    }

    /// The header line that authenticates a page opened with the link.
    #[track_caller]
    pub fn page_session(&self) -> String {
        let answer = self.post("/api/session", &serde_json::json!({"launch": self.launch})).json();
        format!("Authorization: Bearer {}\r\n", answer["session"].as_str().expect("a session"))
    }

    #[track_caller]
    pub fn health(&self) -> Value {
        self.get("/health").json()
    }

    /// Waits until `holds` is true of `/health`.
    #[track_caller]
    pub fn until(&self, what: &str, holds: impl Fn(&Value) -> bool) -> Value {
        let begun = Instant::now();
        loop {
            let health = self.health();
            if holds(&health) {
                return health;
            }
            assert!(begun.elapsed() < DEADLINE, "{what}: did not happen in time: {health}");
            std::thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a signal by its name.
    pub fn signal(&self, name: &str) {
        let status = Command::new("kill").args(["-s", name, &self.pid().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }

    /// Waits until the server exits by itself.
    #[track_caller]
    pub fn ended(&mut self) -> ExitStatus {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait().expect("the server can be waited for") {
                return status;
            }
            assert!(begun.elapsed() < DEADLINE, "the server does not exit");
            std::thread::sleep(Duration::from_millis(10));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads a whole response from a connection that the server closes after it.
#[track_caller]
pub fn read_answer(mut stream: TcpStream) -> Answer {
    let mut bytes = Vec::new();
    // A reset after the response is due to the client sending too much.
    let _ = stream.read_to_end(&mut bytes);
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n");
    let end = end.unwrap_or_else(|| panic!("no response: {}", String::from_utf8_lossy(&bytes)));
    let head = String::from_utf8_lossy(&bytes[..end]).into_owned();
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    let body = bytes[end + 4..].to_vec();
    let chunked = head.to_ascii_lowercase().contains("transfer-encoding: chunked");
    Answer { status, head, body: if chunked { unchunk(&body) } else { body } }
}

/// Decodes chunked transfer coding; panics if it is not terminated.
#[track_caller]
fn unchunk(mut rest: &[u8]) -> Vec<u8> {
    let mut body = Vec::new();
    loop {
        let line = rest.windows(2).position(|pair| pair == b"\r\n").expect("a chunk's size");
        let size = usize::from_str_radix(std::str::from_utf8(&rest[..line]).expect("text"), 16).expect("a size");
        if size == 0 {
            assert_eq!(&rest[line..], b"\r\n\r\n", "the end of the stream");
            return body;
        }
        body.extend_from_slice(&rest[line + 2..line + 2 + size]);
        rest = &rest[line + 4 + size..];
    }
}
