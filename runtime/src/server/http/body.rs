//! Chunked transfer coding (RFC 9112 section 7.1), decoded as bytes arrive. Pure, no I/O.
//!
//! Chunk extensions and trailers are parsed and discarded, each with a size cap.

use super::Refusal;

/// Longest chunk-size line (with its extension) or trailer line.
const MAX_LINE_BYTES: usize = 1024;
/// Most trailer lines in a body.
const MAX_TRAILERS: usize = 32;

enum State {
    Size,
    Data { remaining: u64 },
    DataEnd,
    Trailers { seen: usize },
    Done,
}

/// Decodes one chunked body.
pub struct ChunkedDecoder {
    state: State,
    max_bytes: usize,
}

impl ChunkedDecoder {
    /// A decoder that refuses bodies above `max_bytes` with 413.
    pub fn new(max_bytes: usize) -> Self {
        Self { state: State::Size, max_bytes }
    }

    /// Consumes bytes from the front of `received` and appends the content to `body`; true when the body is complete.
    ///
    /// # Errors
    /// 400 for a malformed chunk, 413 for a body above the cap.
    pub fn decode(&mut self, received: &mut Vec<u8>, body: &mut Vec<u8>) -> Result<bool, Refusal> {
        let mut used = 0;
        loop {
            let rest = &received[used..];
            match &mut self.state {
                State::Size => {
                    let Some(line) = take_line(rest)? else { break };
                    let size =
                        chunk_size(&rest[..line - 2]).ok_or_else(|| Refusal::new(400, "a chunk has no valid size"))?;
                    if size > (self.max_bytes - body.len()) as u64 {
                        return Err(Refusal::body_too_large(self.max_bytes));
                    }
                    used += line;
                    self.state = if size == 0 { State::Trailers { seen: 0 } } else { State::Data { remaining: size } };
                }
                State::Data { remaining } => {
                    if rest.is_empty() {
                        break;
                    }
                    let now = (rest.len() as u64).min(*remaining);
                    body.extend_from_slice(&rest[..now as usize]);
                    used += now as usize;
                    *remaining -= now;
                    if *remaining == 0 {
                        self.state = State::DataEnd;
                    }
                }
                State::DataEnd => {
                    if rest.len() < 2 {
                        break;
                    }
                    if &rest[..2] != b"\r\n" {
                        return Err(Refusal::new(400, "a chunk is longer than its size"));
                    }
                    used += 2;
                    self.state = State::Size;
                }
                State::Trailers { seen } => {
                    let Some(line) = take_line(rest)? else { break };
                    used += line;
                    *seen += 1;
                    if line == 2 {
                        self.state = State::Done;
                    } else if !is_field(&rest[..line - 2]) {
                        return Err(Refusal::new(400, "what follows the body is not a trailer"));
                    } else if *seen > MAX_TRAILERS {
                        return Err(Refusal::new(400, "too many trailers after the body"));
                    }
                }
                State::Done => break,
            }
        }
        received.drain(..used);
        Ok(matches!(self.state, State::Done))
    }
}

/// A chunk's size: hexadecimal digits, then nothing or an extension. Stricter than `httparse`, which accepts no digits as 0
/// and a bare line feed within an extension, where another parser may end the line.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let end = line.iter().position(|byte| !byte.is_ascii_hexdigit()).unwrap_or(line.len());
    let (digits, extension) = line.split_at(end);
    let extension = extension.trim_ascii_start();
    let valid = extension.is_empty() || (extension[0] == b';' && extension.iter().all(|&byte| is_text(byte)));
    if !valid || digits.is_empty() || digits.len() > 16 {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

/// Whether a line is a header field: a name, a colon, and text.
fn is_field(line: &[u8]) -> bool {
    let Some(colon) = line.iter().position(|&byte| byte == b':') else { return false };
    let name = |byte: &u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(byte);
    colon > 0 && line[..colon].iter().all(name) && line[colon..].iter().all(|&byte| is_text(byte))
}

/// Whether a byte may occur in a line: any but control characters, except tab.
fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// Length of the first line with its CRLF; `None` while it is incomplete.
fn take_line(bytes: &[u8]) -> Result<Option<usize>, Refusal> {
    let window = &bytes[..bytes.len().min(MAX_LINE_BYTES)];
    match window.windows(2).position(|pair| pair == b"\r\n") {
        Some(at) => Ok(Some(at + 2)),
        None if bytes.len() >= MAX_LINE_BYTES => Err(Refusal::new(400, "a chunk header or trailer is too long")),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"4\r\nWiki\r\n5;ext=1\r\npedia\r\n0\r\nTrailer: x\r\n\r\nNEXT";

    #[test]
    fn decodes_in_one_piece_and_leaves_the_next_request() {
        let (mut received, mut body) = (WHOLE.to_vec(), Vec::new());
        assert!(ChunkedDecoder::new(100).decode(&mut received, &mut body).unwrap());
        assert_eq!((body.as_slice(), received.as_slice()), (&b"Wikipedia"[..], &b"NEXT"[..]));
    }

    #[test]
    fn decodes_byte_by_byte() {
        let (mut decoder, mut received, mut body) = (ChunkedDecoder::new(9), Vec::new(), Vec::new());
        let mut done = false;
        for &byte in &WHOLE[..WHOLE.len() - 4] {
            assert!(!done);
            received.push(byte);
            done = decoder.decode(&mut received, &mut body).unwrap();
        }
        assert!(done);
        assert_eq!(body, b"Wikipedia");
    }

    #[test]
    fn refuses_bad_chunks() {
        let status = |bytes: &[u8]| {
            ChunkedDecoder::new(8).decode(&mut bytes.to_vec(), &mut Vec::new()).expect_err("refused").status
        };
        assert_eq!(status(b"zz\r\n"), 400);
        assert_eq!(status(b"2\r\nabc\r\n"), 400);
        assert_eq!(status(b"9\r\n"), 413);
        assert_eq!(status(b"ffffffffffffffff\r\n"), 413);
        assert_eq!(status(b"5\r\nabcde\r\n4\r\n"), 413);
        assert_eq!(status(&vec![b'1'; 4000]), 400);
    }

    #[test]
    fn ambiguous_chunks_are_refused() {
        for body in [
            &b"3;a\nb\r\nabc\r\n0\r\n\r\n"[..],
            b"3;a\rb\r\nabc\r\n0\r\n\r\n",
            b";a\r\n\r\n",
            b"\r\n\r\n",
            b" 3\r\nabc\r\n0\r\n\r\n",
            b"3 x\r\nabc\r\n0\r\n\r\n",
            b"0x3\r\nabc\r\n0\r\n\r\n",
            b"+3\r\nabc\r\n0\r\n\r\n",
            b"00000000000000003\r\nabc\r\n0\r\n\r\n",
            b"0\r\njunk\r\n\r\n",
            b"0\r\n: x\r\n\r\n",
            b"0\r\nA B: x\r\n\r\n",
            b"0\r\nA: \x00\r\n\r\n",
            b"0\r\nA: x\ny\r\n\r\n",
        ] {
            let mut received = body.to_vec();
            let refused = ChunkedDecoder::new(100).decode(&mut received, &mut Vec::new());
            assert_eq!(refused.map_err(|refusal| refusal.status), Err(400), "{}", body.escape_ascii());
        }
        let mut received = b"3 ; a=b\r\nabc\r\n0\r\nA: x\r\nB-c:\r\n\r\n".to_vec();
        assert_eq!(ChunkedDecoder::new(100).decode(&mut received, &mut Vec::new()), Ok(true));
    }
}
