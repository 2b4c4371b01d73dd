//! Bounds-checked little-endian reading from a byte slice.
//!
//! A count is trusted only once the bytes it implies are known to exist: call [`Reader::room_for`] before allocating.

use crate::error::{Error, shown};
use crate::limits;

/// The reader's place, for messages; formatted only on error.
#[derive(Clone, Copy)]
pub(crate) enum Place<'a> {
    /// A fixed name.
    Fixed(&'static str),
    /// The nth metadata entry, before its key is known.
    Entry(u64),
    /// The value of a metadata key.
    Value(&'a str),
    /// An element of an array in the value of a metadata key.
    Element(&'a str, u64),
    /// The nth tensor table row, before its name is known.
    Row(u64),
    /// The row of a named tensor.
    Tensor(&'a str),
}

impl std::fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Fixed(name) => f.write_str(name),
            Self::Entry(number) => write!(f, "metadata entry {number}"),
            Self::Value(key) => write!(f, "the value of the metadata key {}", shown(key)),
            Self::Element(key, at) => {
                write!(f, "element {at} of the metadata array {}", shown(key))
            }
            Self::Row(number) => write!(f, "row {number} of the tensor table"),
            Self::Tensor(name) => write!(f, "the tensor table's row of {}", shown(name)),
        }
    }
}

/// A cursor over a file's header.
pub(crate) struct Reader<'a> {
    /// The file's first bytes, at most [`limits::HEADER_BYTES`].
    bytes: &'a [u8],
    position: usize,
    file_bytes: u64,
}

impl<'a> Reader<'a> {
    pub(crate) fn new(file: &'a [u8]) -> Self {
        let head = file.len().min(limits::HEADER_BYTES);
        Self { bytes: &file[..head], position: 0, file_bytes: file.len() as u64 }
    }

    /// Bytes read so far.
    pub(crate) fn position(&self) -> u64 {
        self.position as u64
    }

    #[cold]
    fn ended(&self, place: Place<'_>) -> Error {
        let place = place.to_string();
        if (self.bytes.len() as u64) < self.file_bytes {
            Error::HeaderTooLong { max: limits::HEADER_BYTES, place }
        } else {
            Error::Ended { file_bytes: self.file_bytes, place }
        }
    }

    /// The next `count` bytes.
    #[inline]
    pub(crate) fn take(&mut self, count: u64, place: Place<'_>) -> Result<&'a [u8], Error> {
        let rest = &self.bytes[self.position..];
        match usize::try_from(count) {
            Ok(count) if count <= rest.len() => {
                self.position += count;
                Ok(&rest[..count])
            }
            _ => Err(self.ended(place)),
        }
    }

    /// Fails unless at least `count` items of `bytes_each` remain; `count` then fits a `usize`.
    pub(crate) fn room_for(&self, count: u64, bytes_each: u64, place: Place<'_>) -> Result<usize, Error> {
        let rest = (self.bytes.len() - self.position) as u64;
        match (count.checked_mul(bytes_each), usize::try_from(count)) {
            (Some(bytes), Ok(count)) if bytes <= rest => Ok(count),
            _ => Err(self.ended(place)),
        }
    }

    /// A fixed number of bytes, for numbers.
    #[inline]
    pub(crate) fn array<const N: usize>(&mut self, place: Place<'_>) -> Result<[u8; N], Error> {
        let mut out = [0; N];
        out.copy_from_slice(self.take(N as u64, place)?);
        Ok(out)
    }

    pub(crate) fn u32(&mut self, place: Place<'_>) -> Result<u32, Error> {
        self.array(place).map(u32::from_le_bytes)
    }

    #[inline]
    pub(crate) fn u64(&mut self, place: Place<'_>) -> Result<u64, Error> {
        self.array(place).map(u64::from_le_bytes)
    }

    /// A string: a 64-bit length, then its bytes without a terminator.
    #[inline]
    pub(crate) fn text_bytes(&mut self, max: u64, place: Place<'_>) -> Result<&'a [u8], Error> {
        let count = self.u64(place)?;
        if count > max {
            return Err(Error::TooMany { place: place.to_string(), what: "bytes of text", count, max });
        }
        self.take(count, place)
    }

    /// A string that must be UTF-8.
    pub(crate) fn text(&mut self, max: u64, place: Place<'_>) -> Result<&'a str, Error> {
        let bytes = self.text_bytes(max, place)?;
        std::str::from_utf8(bytes).map_err(|_| Error::NotUtf8 { place: place.to_string() })
    }
}
