//! Memory-mapped files: the only module that maps, and why that is sound.
//!
//! A mapping is shared and read-only, so two processes on the same file share one page cache and the weights are never copied.
//! A file truncated while mapped faults beyond its end: `fault.rs` turns that into a line that names it. Nothing here knows
//! what the bytes mean.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

#[cfg(unix)]
mod fault;

#[cfg(unix)]
pub use fault::{damaged, go_on_when_damaged};

/// A whole file, mapped read-only. Cloning shares the mapping.
#[derive(Clone, Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Arc<Mapping>,
}

#[derive(Debug)]
struct Mapping {
    /// Dropped first: faults must not be attributed to this file once another mapping may have the address.
    #[cfg(unix)]
    _watched: fault::Watched,
    bytes: Mmap,
}

impl MappedFile {
    /// Maps the file at `path`. Empty files, folders and pipes get their own errors.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let irregular = || std::io::Error::other("not a regular file");
        // Before opening: opening a pipe would block until somebody writes to it.
        if !path.metadata()?.is_file() {
            return Err(irregular());
        }
        let file = File::open(path)?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Err(irregular());
        }
        if facts.len() == 0 {
            return Err(std::io::Error::other("the file is empty"));
        }
        // SAFETY: the mapping is read-only and private to readers. Another process that truncates or rewrites the file while it
        // is mapped can make reads fault or change; no memory-mapped program can rule that out, and every length is checked
        // against the size mapped here, so no read leaves the mapping.
        let bytes = unsafe { Mmap::map(&file)? };
        read_in_huge_pages(&bytes);
        let map = Mapping {
            #[cfg(unix)]
            _watched: fault::watch(&bytes, path),
            bytes,
        };
        Ok(Self { path: path.to_owned(), map: Arc::new(map) })
    }

    /// The path it was opened with.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map.bytes
    }
}

/// Asks for pages of 2 MiB, where kernel and file system have them for files (ext4, XFS and others, from Linux 6.16 or so on): weights
/// are read from end to end for each token, and looking up addresses by pages of 4 KiB took a fifth of the time of that in a
/// virtual machine. Elsewhere nothing changes.
fn read_in_huge_pages(bytes: &Mmap) {
    #[cfg(target_os = "linux")]
    let _ = bytes.advise(memmap2::Advice::HugePage);
    #[cfg(not(target_os = "linux"))]
    let _ = bytes;
}

/// The message for a mapped file in which a read failed.
pub fn damage() -> Option<String> {
    damaged().map(|path| format!("{}: {DAMAGE}", path.display()))
}

/// What happened to such a file.
const DAMAGE: &str = "the file was cut short, or cannot be read any more, while it was in use: get it again";

/// The mapped file in which a read failed: never, on systems that do not let mapped files be truncated.
#[cfg(not(unix))]
pub fn damaged() -> Option<&'static Path> {
    None
}

/// A no-op on systems that do not let mapped files be truncated.
#[cfg(not(unix))]
pub fn go_on_when_damaged() {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[cfg(unix)]
    fn a_pipe_is_refused_without_blocking() {
        let folder = tempfile::tempdir().unwrap();
        let pipe = folder.path().join("pipe");
        assert!(std::process::Command::new("mkfifo").arg(&pipe).status().unwrap().success());
        assert_eq!(MappedFile::open(&pipe).unwrap_err().to_string(), "not a regular file");
        assert_eq!(MappedFile::open(folder.path()).unwrap_err().to_string(), "not a regular file");
    }
}
