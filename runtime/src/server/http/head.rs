//! Parses the request line and headers into `Head`. Pure, no I/O.
//!
//! `httparse` checks the grammar; this file decides which well-formed requests are accepted. It is strict wherever two
//! parsers could disagree on where a request ends (RFC 9112 section 6): both `Content-Length` and `Transfer-Encoding`,
//! two different lengths, or a transfer coding other than `chunked` are refused.

use percent_encoding::percent_decode_str;

use super::Refusal;
use crate::server::limits::Limits;

/// Most headers in a request; more is a 431.
const MAX_HEADERS: usize = 100;

/// Request method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)] // HTTP's own names
pub enum Method {
    Get,
    Head,
    Post,
    Delete,
    Options,
    /// Any other method; no route accepts it.
    Other,
}

/// How the body's length is determined.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BodyLength {
    /// This many bytes follow the head (0: no body).
    Exact(u64),
    /// Chunked transfer coding.
    Chunked,
}

/// A request's validated head.
#[derive(Clone, Debug)]
pub struct Head {
    /// The method.
    pub method: Method,
    /// Path of the target, percent-decoded, without the query. Begins with `/`, or is `*` for OPTIONS.
    pub path: String,
    /// 0 for HTTP/1.0, 1 for HTTP/1.1.
    pub minor_version: u8,
    /// How the body's length is determined.
    pub body: BodyLength,
    /// Whether the connection may take another request after this one.
    pub keep_alive: bool,
    /// The client waits for `100 Continue` before it sends the body.
    pub expects_continue: bool,
    /// The authority of an absolute target, else `Host`.
    pub host: Option<String>,
    headers: Vec<(String, String)>,
}

impl Head {
    /// Value of the first header with that name (ignoring case), trimmed.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }
}

/// Parses a head at the start of `bytes`; returns it with its length in bytes, or `None` while it is incomplete.
///
/// # Errors
/// 400, 414, 417, 431, 501 or 505, with a message that says what is wrong.
pub fn parse_head(bytes: &[u8], limits: &Limits) -> Result<Option<(Head, usize)>, Refusal> {
    let mut storage = [httparse::EMPTY_HEADER; MAX_HEADERS];
    let mut parsed = httparse::Request::new(&mut storage);
    let status = parsed.parse(bytes).map_err(|error| match error {
        httparse::Error::TooManyHeaders => Refusal::new(431, format!("more than {MAX_HEADERS} headers")),
        httparse::Error::Version => Refusal::new(505, "only HTTP/1.0 and HTTP/1.1 are supported"),
        other => Refusal::new(400, format!("this is not an HTTP/1.1 request: {other}")),
    })?;
    let target = parsed.path.unwrap_or_default();
    if target.len() > limits.max_target_bytes || (parsed.path.is_none() && bytes.len() > limits.max_target_bytes) {
        return Err(Refusal::new(414, format!("the request target is longer than {} bytes", limits.max_target_bytes)));
    }
    let httparse::Status::Complete(length) = status else {
        if bytes.len() >= limits.max_head_bytes {
            return Err(Refusal::new(431, format!("the headers are longer than {} bytes", limits.max_head_bytes)));
        }
        return Ok(None);
    };
    if length > limits.max_head_bytes {
        return Err(Refusal::new(431, format!("the headers are longer than {} bytes", limits.max_head_bytes)));
    }
    if has_bare_line_feed(&bytes[..length]) {
        return Err(Refusal::new(400, "a line ends in a line feed without a carriage return"));
    }
    let headers: Vec<(String, String)> = parsed
        .headers
        .iter()
        .map(|header| (header.name.to_string(), trimmed(&String::from_utf8_lossy(header.value)).to_string()))
        .collect();
    let method = match parsed.method.unwrap_or_default() {
        "GET" => Method::Get,
        "HEAD" => Method::Head,
        "POST" => Method::Post,
        "DELETE" => Method::Delete,
        "OPTIONS" => Method::Options,
        _ => Method::Other,
    };
    build(method, target, parsed.version.unwrap_or(0), headers).map(|head| Some((head, length)))
}

/// `httparse` accepts a bare line feed as a line ending; a proxy in front of this server may not.
fn has_bare_line_feed(head: &[u8]) -> bool {
    head.iter().enumerate().any(|(at, &byte)| byte == b'\n' && (at == 0 || head[at - 1] != b'\r'))
}

/// Trims HTTP's white space. `str::trim` would also remove a no-break space, which is part of the value.
fn trimmed(value: &str) -> &str {
    value.trim_matches([' ', '\t'])
}

/// Headers that may occur only once: parsers disagree on which of two counts.
const SINGLE: [&str; 5] = ["host", "origin", "authorization", "x-api-key", "content-type"];

fn build(method: Method, target: &str, minor_version: u8, headers: Vec<(String, String)>) -> Result<Head, Refusal> {
    let (authority, path) = split_target(target, method)?;
    let hosts: Vec<&str> = values(&headers, "host").collect();
    if hosts.len() > 1 || (hosts.is_empty() && minor_version == 1) {
        return Err(Refusal::new(400, "a request needs exactly one Host header"));
    }
    if let Some(name) = SINGLE.iter().find(|name| values(&headers, name).count() > 1) {
        return Err(Refusal::new(400, format!("more than one `{name}` header")));
    }
    for host in authority.iter().chain(&hosts) {
        // RFC 9112 lets a client without an authority send an empty Host; the guard does not accept it.
        if !host.is_empty() && split_authority(host).is_none() {
            return Err(Refusal::new(400, "the host is not a name or an address with a port"));
        }
    }
    let host = authority.or(hosts.first().copied()).map(str::to_string);
    let body = body_length(&headers, minor_version)?;
    let tokens = |name| values(&headers, name).flat_map(|value| value.split(',')).map(trimmed).collect::<Vec<_>>();
    let connection = tokens("connection");
    let names = |word: &str| connection.iter().any(|token| token.eq_ignore_ascii_case(word));
    let keep_alive = !names("close") && (minor_version == 1 || names("keep-alive"));
    let expects_continue = match tokens("expect").as_slice() {
        [] => false,
        [word] if word.eq_ignore_ascii_case("100-continue") => minor_version == 1,
        _ => {
            return Err(Refusal::new(417, "the only expectation supported is 100-continue"));
        }
    };
    Ok(Head { method, path, minor_version, body, keep_alive, expects_continue, host, headers })
}

fn values<'a>(headers: &'a [(String, String)], name: &'a str) -> impl Iterator<Item = &'a str> {
    headers.iter().filter(move |(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
}

/// Splits a target into its authority (absolute form) and its decoded path, without query and fragment.
fn split_target(target: &str, method: Method) -> Result<(Option<&str>, String), Refusal> {
    if target == "*" && method == Method::Options {
        return Ok((None, target.to_string()));
    }
    let (authority, rest) = match target.split_once("://") {
        Some((scheme, rest)) if !target.starts_with('/') && scheme.eq_ignore_ascii_case("http") => {
            let end = rest.find(['/', '?']).unwrap_or(rest.len());
            (Some(&rest[..end]), &rest[end..])
        }
        _ => (None, target),
    };
    let path = rest.split(['?', '#']).next().unwrap_or_default();
    let path = if path.is_empty() && authority.is_some() { "/" } else { path };
    if !path.starts_with('/') {
        return Err(Refusal::new(400, "the request target must be a path that begins with `/`"));
    }
    let decoded = percent_decode_str(path)
        .decode_utf8()
        .map_err(|_| Refusal::new(400, "the path is not valid UTF-8 after percent-decoding"))?;
    Ok((authority, decoded.into_owned()))
}

/// Splits `name`, `name:port`, `[address]` or `[address]:port` into name or address and port; `None` for any other text.
pub fn split_authority(text: &str) -> Option<(&str, Option<u16>)> {
    let (name, rest) = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, rest) = rest.split_once(']')?;
            (address.parse::<std::net::Ipv6Addr>().ok().map(|_| address)?, rest)
        }
        None => {
            let (name, rest) = text.split_at(text.find(':').unwrap_or(text.len()));
            let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_');
            if name.is_empty() || !name.bytes().all(plain) {
                return None;
            }
            (name, rest)
        }
    };
    let Some(port) = rest.strip_prefix(':') else { return rest.is_empty().then_some((name, None)) };
    let digits = !port.is_empty() && port.bytes().all(|byte| byte.is_ascii_digit());
    Some((name, Some(port.parse().ok().filter(|_| digits)?)))
}

fn body_length(headers: &[(String, String)], minor_version: u8) -> Result<BodyLength, Refusal> {
    let codings: Vec<&str> = values(headers, "transfer-encoding").collect();
    let mut lengths = values(headers, "content-length");
    let first = lengths.next();
    if lengths.any(|other| Some(other) != first) {
        return Err(Refusal::new(400, "two different Content-Length headers"));
    }
    match (codings.as_slice(), first) {
        ([], None) => Ok(BodyLength::Exact(0)),
        ([], Some(digits)) => {
            let valid = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
            let length = if valid { digits.parse().ok() } else { None };
            length.map(BodyLength::Exact).ok_or_else(|| Refusal::new(400, "Content-Length is not a byte count"))
        }
        ([_, ..], Some(_)) => Err(Refusal::new(400, "Content-Length and Transfer-Encoding exclude each other")),
        ([_, ..], None) if minor_version == 0 => {
            Err(Refusal::new(400, "HTTP/1.0 has no Transfer-Encoding; send Content-Length"))
        }
        ([coding], None) if coding.eq_ignore_ascii_case("chunked") => Ok(BodyLength::Chunked),
        _ => Err(Refusal::new(501, "the only transfer coding supported is `chunked`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Option<(Head, usize)>, Refusal> {
        parse_head(text.as_bytes(), &Limits::default())
    }

    fn status(text: &str) -> u16 {
        parse(text).expect_err(text).status
    }

    #[test]
    fn reads_a_request() {
        let text = "POST /v1/x%20y?q=1 HTTP/1.1\r\nHost: localhost:8080\r\nContent-Length: 12\r\n\r\nrest";
        let (head, length) = parse(text).unwrap().unwrap();
        assert_eq!(length, text.len() - 4);
        assert_eq!((head.method, head.path.as_str()), (Method::Post, "/v1/x y"));
        assert_eq!(head.host.as_deref(), Some("localhost:8080"));
        assert_eq!(head.body, BodyLength::Exact(12));
        assert!(head.keep_alive);
    }

    #[test]
    fn every_truncated_head_is_incomplete() {
        let text = "GET /a HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
        for end in 0..text.len() {
            assert!(parse(&text[..end]).unwrap().is_none(), "cut at {end}");
        }
        assert!(!parse(text).unwrap().unwrap().0.keep_alive);
    }

    #[test]
    fn refuses_ambiguous_requests() {
        let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
        assert_eq!(status(&head("Content-Length: 1\r\nTransfer-Encoding: chunked")), 400);
        assert_eq!(status(&head("Content-Length: 1\r\nContent-Length: 2")), 400);
        assert_eq!(status(&head("Content-Length: +1")), 400);
        assert_eq!(status(&head("Content-Length: 1, 1")), 400);
        assert_eq!(status(&head("Content-Length: 99999999999999999999999")), 400);
        assert_eq!(status(&head("Transfer-Encoding: gzip, chunked")), 501);
        assert_eq!(status(&head("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked")), 501);
        assert_eq!(status(&head("Host: y")), 400);
        assert_eq!(status("GET / HTTP/1.1\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost : x\r\n\r\n"), 400);
    }

    #[test]
    fn refuses_other_versions_targets_and_expectations() {
        assert_eq!(status("GET / HTTP/2.0\r\nHost: x\r\n\r\n"), 505);
        assert_eq!(status("GET x HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET /%ff HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: x\r\nExpect: miracles\r\n\r\n"), 417);
        assert_eq!(status("\x00\x01\x02\x03 nonsense\r\n\r\n"), 400);
    }

    #[test]
    fn an_absolute_target_names_the_host() {
        let (head, _) = parse("GET http://127.0.0.1:9/health?x HTTP/1.1\r\nHost: other\r\n\r\n").unwrap().unwrap();
        assert_eq!((head.host.as_deref(), head.path.as_str()), (Some("127.0.0.1:9"), "/health"));
    }

    #[test]
    fn sizes_have_caps() {
        let limits = Limits::default();
        let long = "a".repeat(limits.max_target_bytes + 1);
        assert_eq!(status(&format!("GET /{long}")), 414);
        assert_eq!(status(&format!("GET /{long} HTTP/1.1\r\nHost: x\r\n\r\n")), 414);
        let wide = "a".repeat(limits.max_head_bytes);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\nHost: x\r\nx: {wide}")), 431);
        let many = "x: y\r\n".repeat(MAX_HEADERS + 1);
        assert_eq!(status(&format!("GET / HTTP/1.1\r\n{many}\r\n")), 431);
    }

    #[test]
    fn white_space_line_endings_and_versions_follow_http() {
        let head = |lines: &str| format!("POST / HTTP/1.1\r\nHost: x\r\n{lines}\r\n\r\n");
        for (lines, wanted) in [
            ("Content-Length: \u{a0}29", 400),
            ("Content-Length: 29\u{a0}", 400),
            ("Content-Length: \u{2003}29", 400),
            ("Content-Length: 2 9", 400),
            ("Transfer-Encoding: \u{a0}chunked", 501),
            ("Transfer-Encoding: chunked\u{3000}", 501),
            ("Expect: \u{a0}100-continue", 417),
            ("Origin: http://a\r\nOrigin: http://b", 400),
            ("Authorization: Bearer a\r\nAuthorization: Bearer b", 400),
        ] {
            assert_eq!(status(&head(lines)), wanted, "{lines:?}");
        }
        let parsed = parse(&head("Content-Length: \t 29 \t")).unwrap().unwrap().0;
        assert_eq!(parsed.body, BodyLength::Exact(29));
        assert!(parse(&head("Connection: \u{a0}close")).unwrap().unwrap().0.keep_alive);
        assert_eq!(status("GET / HTTP/1.1\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: x\n\n"), 400);
        assert_eq!(status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"), 400);
    }

    #[test]
    fn a_host_is_a_name_or_an_address_and_a_port() {
        for (text, split) in [
            ("localhost", Some(("localhost", None))),
            ("LocalHost:8080", Some(("LocalHost", Some(8080)))),
            ("127.0.0.1:1", Some(("127.0.0.1", Some(1)))),
            ("[::1]:80", Some(("::1", Some(80)))),
            ("[::1]", Some(("::1", None))),
            ("my_box.local.", Some(("my_box.local.", None))),
            ("[::1]evil.com", None),
            ("[::1", None),
            ("[evil.com]:80", None),
            ("::1", None),
            ("127.0.0.1:x:evil", None),
            ("127.0.0.1:80:81", None),
            ("127.0.0.1:+80", None),
            ("127.0.0.1:", None),
            ("127.0.0.1:65536", None),
            ("localhost, evil.com", None),
            ("user@localhost", None),
            ("evil.com/localhost", None),
            ("localhost\u{a0}", None),
            ("", None),
        ] {
            assert_eq!(split_authority(text), split, "{text}");
            let in_header = parse(&format!("GET / HTTP/1.1\r\nHost: {text}\r\n\r\n"));
            assert_eq!(in_header.is_ok(), split.is_some() || text.is_empty(), "{text}");
        }
        assert_eq!(status("GET http://[::1]evil.com/ HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
        assert_eq!(status("GET http://127.0.0.1:x:evil/ HTTP/1.1\r\nHost: x\r\n\r\n"), 400);
    }
}
