//! Positioned reads and writes, and file identity, behind one interface for all platforms.
//!
//! Positioned access lets one thread copy into a file while another reads and hashes it.

use std::fs::File;
use std::io;
use std::path::Path;

use crate::Error;

/// Opens a regular file for reading. Opening a pipe could block, and opening a device can have side effects, so neither is
/// opened. `advice` completes the error message: what to give instead.
pub(crate) fn open_regular(path: &Path, advice: &str) -> Result<File, Error> {
    let unfit = || Error::unfit(path, format!("is not a regular file: {advice}"));
    if !path.metadata().map_err(Error::file(path))?.is_file() {
        return Err(unfit());
    }
    let file = File::open(path).map_err(Error::file(path))?;
    if !file.metadata().map_err(Error::file(path))?.is_file() {
        return Err(unfit()); // replaced between the two checks
    }
    Ok(file)
}

/// Reads at `offset`; the file's cursor is unspecified afterwards.
pub(crate) fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::read_at(file, buffer, offset);
    #[cfg(windows)]
    return std::os::windows::fs::FileExt::seek_read(file, buffer, offset);
}

/// Fills `buffer` from `offset`.
pub(crate) fn read_exact_at(file: &File, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
    while !buffer.is_empty() {
        match read_at(file, buffer, offset) {
            Ok(0) => return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "the file ends too early")),
            Ok(read) => {
                buffer = &mut buffer[read..];
                offset += read as u64;
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(())
}

/// Writes all of `bytes` at `offset`.
pub(crate) fn write_all_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    #[cfg(unix)]
    return std::os::unix::fs::FileExt::write_all_at(file, bytes, offset);
    #[cfg(windows)]
    {
        let mut written = 0;
        while written < bytes.len() {
            written += std::os::windows::fs::FileExt::seek_write(file, &bytes[written..], offset + written as u64)?;
        }
        Ok(())
    }
}

/// Bytes that a file occupies on disk: fewer than its length if it is sparse.
pub(crate) fn disk_bytes(file: &File) -> io::Result<u64> {
    let facts = file.metadata()?;
    #[cfg(unix)]
    return Ok(facts.len().min(std::os::unix::fs::MetadataExt::blocks(&facts).saturating_mul(512)));
    #[cfg(windows)]
    return Ok(facts.len());
}

/// Whether both paths resolve to the same file, following links.
pub fn same_file(a: &Path, b: &Path) -> bool {
    #[cfg(unix)]
    {
        use std::os::unix::fs::MetadataExt;
        if let (Ok(a), Ok(b)) = (a.metadata(), b.metadata()) {
            return (a.dev(), a.ino()) == (b.dev(), b.ino());
        }
    }
    matches!((a.canonicalize(), b.canonicalize()), (Ok(a), Ok(b)) if a == b)
}
