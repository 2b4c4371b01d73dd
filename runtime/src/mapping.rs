//! Files mapped into memory: the one place that maps, and the reason it may.
//!
//! A mapping is shared and read-only, so two processes on the same file share one page cache and the weights are
//! never copied. What is not here: any knowledge of what the bytes mean.
#![allow(unsafe_code)]

use std::fs::File;
use std::ops::Deref;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use memmap2::Mmap;

/// A whole file, mapped read-only. Cloning shares the mapping.
#[derive(Clone, Debug)]
pub struct MappedFile {
    path: PathBuf,
    map: Arc<Mmap>,
}

impl MappedFile {
    /// Maps the file at `path`. An empty file, a folder or a pipe is an error of its own.
    pub fn open(path: &Path) -> std::io::Result<Self> {
        let file = File::open(path)?;
        let facts = file.metadata()?;
        if !facts.is_file() {
            return Err(std::io::Error::other("not a regular file"));
        }
        if facts.len() == 0 {
            return Err(std::io::Error::other("the file is empty"));
        }
        // SAFETY: the mapping is read-only and private to readers. Another process that truncates or rewrites the
        // file while it is mapped can make reads fault or change; no memory-mapped program can rule that out, and
        // every length is checked against the size mapped here, so no read leaves the mapping.
        let map = unsafe { Mmap::map(&file)? };
        Ok(Self { path: path.to_owned(), map: Arc::new(map) })
    }

    /// The path it was opened by.
    pub fn path(&self) -> &Path {
        &self.path
    }
}

impl Deref for MappedFile {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.map
    }
}
