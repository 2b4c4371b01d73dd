//! Reads text and token ids from a file or from stdin.
//!
//! A leading byte-order mark, as Windows editors write it, is not part of the text.

use std::io::Read;
use std::path::Path;

use super::Failure;
use crate::TokenId;
use crate::tokenizer::MAX_TEXT_BYTES;

/// The whole text of a file, without a byte-order mark; `-` is stdin.
pub fn read_text(path: &Path) -> Result<String, Failure> {
    let text = read_exact_text(path)?;
    Ok(without_mark(&text).map(str::to_owned).unwrap_or(text))
}

/// The text after a byte-order mark; `None` without a mark.
pub(super) fn without_mark(text: &str) -> Option<&str> {
    text.strip_prefix('\u{feff}')
}

/// The whole text of a file, byte-order mark included; `-` is stdin.
pub fn read_exact_text(path: &Path) -> Result<String, Failure> {
    let (name, bytes) = if path == Path::new("-") {
        ("stdin".to_owned(), read_at_most(std::io::stdin().lock(), MAX_TEXT_BYTES))
    } else {
        (path.display().to_string(), std::fs::File::open(path).and_then(|file| read_file(file, MAX_TEXT_BYTES)))
    };
    let bytes = bytes.map_err(|error| Failure::new(format!("cannot read {name}: {error}")))?;
    as_text(&name, bytes)
}

/// A file's bytes. One that says that it is too long is not read at all.
fn read_file(file: std::fs::File, most: usize) -> std::io::Result<Vec<u8>> {
    if file.metadata()?.len() > most as u64 {
        return Err(too_long(most));
    }
    read_at_most(file, most)
}

/// All bytes there are to read: a device without an end must not fill the memory.
fn read_at_most(reader: impl Read, most: usize) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    reader.take(most as u64 + 1).read_to_end(&mut bytes)?;
    if bytes.len() > most { Err(too_long(most)) } else { Ok(bytes) }
}

fn too_long(most: usize) -> std::io::Error {
    std::io::Error::other(format!("a text has {most} bytes at most"))
}

fn as_text(name: &str, bytes: Vec<u8>) -> Result<String, Failure> {
    String::from_utf8(bytes).map_err(|error| {
        let is_utf16 = matches!(error.as_bytes(), [0xff, 0xfe, ..] | [0xfe, 0xff, ..]);
        Failure::new(match is_utf16 {
            true => format!("{name} is UTF-16 text: save it as UTF-8"),
            false => {
                format!("{name} is not UTF-8 text: byte {} cannot stand there", error.utf8_error().valid_up_to())
            }
        })
    })
}

/// Parses token ids separated by white space, each below `vocabulary`; at least one.
pub fn parse_tokens(text: &str, vocabulary: usize) -> Result<Vec<TokenId>, Failure> {
    let mut tokens = Vec::new();
    for (index, word) in text.split_whitespace().enumerate() {
        match word.parse::<TokenId>() {
            Ok(token) if (token as usize) < vocabulary => tokens.push(token),
            Ok(token) => {
                let place = index + 1;
                return Err(Failure::new(format!(
                    "token {place} is {token}, but there are {vocabulary} tokens, numbered from 0"
                )));
            }
            Err(_) => {
                let shown: String = word.chars().take(40).collect();
                return Err(Failure::new(format!("token {} is not a number: {shown:?}", index + 1)));
            }
        }
    }
    if tokens.is_empty() {
        return Err(Failure::new("there are no token ids to read; they are numbers separated by white space"));
    }
    Ok(tokens)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_byte_order_mark_is_stripped() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("text");
        let read = |bytes: &[u8]| {
            std::fs::write(&path, bytes).unwrap();
            read_text(&path).map_err(|failure| failure.message)
        };
        assert_eq!(read("\u{feff}é\u{feff}".as_bytes()).as_deref(), Ok("é\u{feff}"));
        assert_eq!(read(b"plain").as_deref(), Ok("plain"));
        assert!(read(b"\xff\xfea\0").unwrap_err().ends_with("is UTF-16 text: save it as UTF-8"));
        assert!(read(b"a\xff").unwrap_err().ends_with("byte 1 cannot stand there"));
        std::fs::write(&path, "\u{feff}x").unwrap();
        assert_eq!(read_exact_text(&path).unwrap(), "\u{feff}x");
    }

    #[test]
    fn what_is_too_long_is_not_read_to_its_end() {
        assert_eq!(read_at_most(&b"four"[..], 4).unwrap(), b"four");
        let endless = read_at_most(std::io::repeat(b'a'), 4).unwrap_err().to_string();
        assert_eq!(endless, "a text has 4 bytes at most");
        let mut file = tempfile::tempfile().unwrap();
        std::io::Write::write_all(&mut file, b"fives").unwrap();
        assert_eq!(read_file(file, 4).unwrap_err().to_string(), endless);
    }
}
