//! The executable that precedes a payload, in a file or in memory.

use std::fs::File;
use std::path::{Path, PathBuf};

use satchel_container::{Bundle, Digest};

use crate::files::{disk_bytes, open_regular, read_at, read_exact_at};
use crate::{Error, macho};

/// Enough of a program's start to hold the headers of every format.
pub(crate) const HEAD_BYTES: usize = 64 * 1024;
/// Largest program that is read into memory: several times the size of any runtime.
const IN_MEMORY_MAX_BYTES: u64 = 512 << 20;

/// An executable without a payload.
#[derive(Debug)]
pub struct Program {
    /// The file it comes from, for messages.
    pub(crate) path: PathBuf,
    pub(crate) source: Source,
    pub(crate) bytes: u64,
    pub(crate) disk_bytes: u64,
    /// Expected hash, if known.
    pub(crate) sha256: Option<Digest>,
    /// A PE image, which Windows limits in size.
    pub(crate) is_pe: bool,
    /// For a Mach-O with the payload in a segment: what follows the payload.
    pub(crate) ending: Option<macho::Ending>,
    /// A Mach-O that gets such a segment once the payload's length is known.
    pub(crate) signable: bool,
}

/// Where a program's bytes are.
#[derive(Debug)]
pub(crate) enum Source {
    /// The first bytes of a file.
    File(File),
    Memory(Vec<u8>),
}

impl Program {
    /// The executable at `path`; for a packed file, its program without the payload.
    ///
    /// # Errors
    /// The file cannot be read, is not an executable, or its bundle is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = open_regular(path, "give a satchel, or a file that satchel packed")?;
        let facts = file.metadata().map_err(Error::file(path))?;
        let mut head = vec![0; HEAD_BYTES];
        let read = read_at(&file, &mut head, 0).map_err(Error::file(path))?;
        if !satchel_container::is_executable(&head[..read]) {
            return Err(Error::unfit(path, "is not an executable: give a satchel, or a file that satchel packed"));
        }
        let bundle = Bundle::open_from(&mut file).map_err(Error::bundle(path))?;
        if bundle.as_ref().is_some_and(|bundle| bundle.in_segment) {
            let what =
                "is in the signable form, whose program only works with its own payload: name another with --engine";
            return Err(Error::unfit(path, what));
        }
        let (bytes, sha256) = match &bundle {
            Some(bundle) => (bundle.program_bytes, Some(bundle.program_sha256)),
            None => (facts.len(), None),
        };
        Self::in_file(path, file, bytes, sha256)
    }

    /// The first `bytes` bytes of a file.
    pub(crate) fn in_file(path: &Path, file: File, bytes: u64, sha256: Option<Digest>) -> Result<Self, Error> {
        let disk_bytes = disk_bytes(&file).map_err(Error::file(path))?.min(bytes);
        let mut magic = [0; 2];
        let is_pe = read_at(&file, &mut magic, 0).map_err(Error::file(path))? == 2 && &magic == b"MZ";
        Ok(Self {
            path: path.to_owned(),
            source: Source::File(file),
            bytes,
            disk_bytes,
            sha256,
            is_pe,
            ending: None,
            signable: false,
        })
    }

    /// A program that is in memory; `path` is the file it came from.
    pub(crate) fn in_memory(path: &Path, content: Vec<u8>) -> Self {
        let bytes = content.len() as u64;
        let is_pe = content.starts_with(b"MZ");
        let sha256 = Some(Digest::of(&content));
        Self {
            path: path.to_owned(),
            source: Source::Memory(content),
            bytes,
            disk_bytes: bytes,
            sha256,
            is_pe,
            ending: None,
            signable: false,
        }
    }

    /// All of its bytes.
    pub(crate) fn content(&self) -> Result<Vec<u8>, Error> {
        match &self.source {
            Source::Memory(content) => Ok(content.clone()),
            Source::File(_) if self.bytes > IN_MEMORY_MAX_BYTES => {
                Err(Error::unfit(&self.path, "is too large to be a satchel: give another program"))
            }
            Source::File(file) => {
                let mut content = vec![0; self.bytes as usize];
                read_exact_at(file, &mut content, 0).map_err(Error::file(&self.path))?;
                match self.sha256 {
                    Some(expected) if Digest::of(&content) != expected => Err(self.damaged()),
                    _ => Ok(content),
                }
            }
        }
    }

    pub(crate) fn damaged(&self) -> Error {
        Error::unfit(&self.path, "the program before its bundle is damaged: get the file again")
    }
}
