//! The file that keeps conversations across restarts: read before the first request, written whole at a clean shutdown.
//!
//! What is in it is as private as the conversations are: only its owner may read it. A file that cannot be used is said in one
//! line, and the engine begins without it.

use std::fs::File;
use std::io::{BufReader, BufWriter, ErrorKind, Write};
use std::path::{Path, PathBuf};

use satchel_packer::Output;

use crate::device::Program;
use crate::state::{FileError, Identity, StateCache};

/// Where kept prefixes outlive the process, and whose.
pub struct Store {
    /// The file.
    pub path: PathBuf,
    /// What the states are bound to.
    pub identity: Identity,
    /// Callers that are the same after a restart. A page's session or a connection is not: nobody could ever find what it left.
    pub owners: Vec<u64>,
    /// Told in one line what did not work.
    pub tell: Box<dyn Fn(&str) + Send>,
}

impl std::fmt::Debug for Store {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Store").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Store {
    /// Fills an empty cache with what the file has kept.
    pub(super) fn load(&self, state: &mut StateCache, program: &mut dyn Program) {
        let open = || File::open(&self.path).map(BufReader::new);
        match state.load(program, &self.identity, open) {
            Ok(_) => {}
            // The first time there is none.
            Err(FileError::Io(error)) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => {
                (self.tell)(&format!("{}: {error}; nothing of it is used", self.path.display()));
            }
        }
    }

    /// Writes the file in place of what is there.
    pub(super) fn save(&self, state: &StateCache, program: &dyn Program) {
        if let Err(error) = self.write(state, program) {
            (self.tell)(&format!("{}: conversations cannot be kept: {error}", self.path.display()));
        }
    }

    fn write(&self, state: &StateCache, program: &dyn Program) -> Result<(), FileError> {
        let refused = |error: satchel_packer::Error| FileError::Io(std::io::Error::other(error.to_string()));
        if !is_ours(&self.path)? {
            return Err(FileError::Foreign);
        }
        let output = Output::create(&self.path, false, true).map_err(refused)?;
        make_private(output.file())?;
        let mut out = BufWriter::new(output.file());
        state.save(program, &self.identity, &self.owners, &mut out)?;
        out.flush()?;
        drop(out);
        output.commit().map_err(refused)
    }
}

/// Whether a file may be replaced: there is none, or it is one of these.
fn is_ours(path: &Path) -> std::io::Result<bool> {
    match File::open(path) {
        Ok(mut file) => crate::state::is_state_file(&mut file),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(true),
        Err(error) => Err(error),
    }
}

#[cfg(unix)]
fn make_private(file: &File) -> std::io::Result<()> {
    use std::os::unix::fs::PermissionsExt;
    file.set_permissions(std::fs::Permissions::from_mode(0o600))
}

/// Files of a user's folders are private already.
#[cfg(not(unix))]
fn make_private(_: &File) -> std::io::Result<()> {
    Ok(())
}
