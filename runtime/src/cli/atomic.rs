//! Output files that appear whole or not at all: written beside the target, renamed at the end.

use std::fs::File;
use std::path::{Path, PathBuf};

use super::Failure;

/// A file being written; dropped without [`AtomicFile::commit`] it leaves nothing behind.
pub struct AtomicFile {
    target: PathBuf,
    temporary: tempfile::NamedTempFile,
}

impl AtomicFile {
    /// Begins to write `target`, which may exist.
    pub fn create(target: &Path) -> Result<Self, Failure> {
        let folder = match target.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        let temporary = tempfile::Builder::new()
            .prefix(".satchel-")
            .tempfile_in(folder)
            .map_err(|error| Failure::new(format!("cannot write in {}: {error}", folder.display())))?;
        Ok(Self { target: target.to_owned(), temporary })
    }

    /// The file to write to.
    pub fn file(&self) -> &File {
        self.temporary.as_file()
    }

    /// A failure to write, as the person is told of it.
    pub fn failure(&self, error: &std::io::Error) -> Failure {
        Failure::new(format!("cannot write {}: {error}", self.target.display()))
    }

    /// Puts the file in place, where no other may be.
    pub fn commit_new(self) -> Result<(), Failure> {
        let target = self.target;
        self.temporary
            .persist_noclobber(&target)
            .map_err(|error| Failure::new(format!("cannot write {}: {}", target.display(), error.error)))?;
        Ok(())
    }

    /// Puts the file in place.
    pub fn commit(self) -> Result<(), Failure> {
        let target = self.target;
        self.temporary
            .persist(&target)
            .map_err(|error| Failure::new(format!("cannot write {}: {}", target.display(), error.error)))?;
        Ok(())
    }
}
