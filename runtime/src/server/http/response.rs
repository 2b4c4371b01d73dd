//! Responses: status, headers, body, and their encoding. Pure, no I/O.

use std::borrow::Cow;
use std::time::SystemTime;

/// Headers as (name, value).
pub type Headers = Vec<(&'static str, String)>;

/// A whole response.
#[derive(Clone, Debug)]
pub struct Response {
    /// The status code.
    pub status: u16,
    /// Headers; the connection adds `Content-Length`, `Connection` and `Date`.
    pub headers: Headers,
    /// The content; not sent for HEAD, 204 and 304.
    pub body: Cow<'static, [u8]>,
}

impl Response {
    /// A response without content.
    pub fn empty(status: u16) -> Self {
        Self { status, headers: Vec::new(), body: Cow::Borrowed(&[]) }
    }

    /// A JSON response.
    pub fn json(status: u16, value: &serde_json::Value) -> Self {
        let body = Cow::Owned(value.to_string().into_bytes());
        Self { status, headers: vec![("Content-Type", "application/json".to_string())], body }
    }

    /// Adds a header.
    pub fn with(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.headers.push((name, value.into()));
        self
    }
}

/// How the content after a head is delimited.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Framing {
    Length(usize),
    Chunked,
    /// Until the connection closes (HTTP/1.0 streams).
    UntilClose,
}

/// Writes status line and headers.
pub(super) fn write_head(
    out: &mut Vec<u8>,
    status: u16,
    headers: &[&[(&'static str, String)]],
    framing: Framing,
    close: bool,
) {
    let status_line = format!("HTTP/1.1 {status} {}\r\n", reason(status));
    out.extend_from_slice(status_line.as_bytes());
    let mut line = |name: &str, value: &str| {
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b": ");
        // No header injection, whatever a model's name or an asset's path contains.
        out.extend(value.bytes().filter(|&byte| byte >= b' ' && byte != 0x7f));
        out.extend_from_slice(b"\r\n");
    };
    line("Date", &httpdate::fmt_http_date(SystemTime::now()));
    for (name, value) in headers.iter().copied().flatten() {
        line(name, value);
    }
    match framing {
        Framing::Length(_) if status == 204 || status == 304 => {}
        Framing::Length(bytes) => line("Content-Length", &bytes.to_string()),
        Framing::Chunked => line("Transfer-Encoding", "chunked"),
        Framing::UntilClose => {}
    }
    line("Connection", if close { "close" } else { "keep-alive" });
    out.extend_from_slice(b"\r\n");
}

fn reason(status: u16) -> &'static str {
    match status {
        100 => "Continue",
        200 => "OK",
        204 => "No Content",
        304 => "Not Modified",
        400 => "Bad Request",
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        408 => "Request Timeout",
        413 => "Content Too Large",
        414 => "URI Too Long",
        415 => "Unsupported Media Type",
        417 => "Expectation Failed",
        431 => "Request Header Fields Too Large",
        500 => "Internal Server Error",
        501 => "Not Implemented",
        503 => "Service Unavailable",
        505 => "HTTP Version Not Supported",
        _ => "Unknown",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_value_cannot_break_out_of_its_line() {
        let mut out = Vec::new();
        let headers = [("X-Name", "a\r\nSet-Cookie: b".to_string())];
        write_head(&mut out, 200, &[&headers], Framing::Length(3), false);
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("X-Name: aSet-Cookie: b\r\n"), "{text}");
        assert!(text.contains("Content-Length: 3\r\nConnection: keep-alive\r\n\r\n"), "{text}");
    }

    #[test]
    fn not_modified_has_no_length() {
        let mut out = Vec::new();
        write_head(&mut out, 304, &[], Framing::Length(0), true);
        let text = String::from_utf8(out).unwrap();
        assert!(text.starts_with("HTTP/1.1 304 Not Modified\r\n"));
        assert!(!text.contains("Content-Length"));
    }
}
