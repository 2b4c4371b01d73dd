//! Verifies every hash of a packed file: program, manifest, and each entry.

use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use satchel_container::directory::Method;
use satchel_container::{Beside, Bundle, Digest, Entry};

use crate::copy::{Range, Stopped, hash};
use crate::files::{open_regular, read_exact_at};
use crate::parallel::on_threads;
use crate::{Error, Observer};

/// Result for one piece of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `program`, or the entry's name.
    pub name: String,
    /// Uncompressed size in bytes.
    pub size: u64,
    /// Hash from the bundle.
    pub expected: Digest,
    /// Computed hash; `None` if a compressed entry does not decompress to the packed content.
    pub actual: Option<Digest>,
}

impl Checked {
    /// Whether the hash matches.
    pub fn is_good(&self) -> bool {
        self.actual == Some(self.expected)
    }
}

/// A packed file, opened for verification or extraction.
#[derive(Debug)]
pub struct PackedFile {
    /// The file that holds the payload.
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Its bundle.
    pub bundle: Bundle,
    /// The program, if it is a separate file.
    program: Option<Box<PackedFile>>,
}

impl PackedFile {
    /// Opens the packed file at `path`. If that is a program whose payload is a separate file, both are opened.
    ///
    /// # Errors
    /// The file cannot be read, or holds no bundle or one that is damaged or too new; a separate payload is missing or
    /// belongs to another program.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let program = Self::open_one(path)?;
        let Some(beside) = program.bundle.manifest.beside.clone() else { return Ok(program) };
        let payload = Self::open_one(&Beside::path(path)).map_err(|error| match error {
            Error::File { path: missing, source } if source.kind() == std::io::ErrorKind::NotFound => {
                Error::unfit(path, Beside::missing(&missing))
            }
            other => other,
        })?;
        beside.check(&payload.bundle).map_err(|line| Error::unfit(&payload.path, line))?;
        Ok(Self { program: Some(Box::new(program)), ..payload })
    }

    fn open_one(path: &Path) -> Result<Self, Error> {
        let mut file = open_regular(path, "give a file that satchel packed")?;
        let bundle = Bundle::open_from(&mut file).map_err(Error::bundle(path))?;
        let Some(bundle) = bundle else {
            return Err(Error::unfit(path, "carries no model: give a file that `satchel pack` made"));
        };
        Ok(Self { path: path.to_owned(), file, bundle, program: None })
    }

    /// The file that holds the payload: the one that was opened, or the one beside it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Its files: the payload's, preceded by the program if that is separate.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.program.iter().flat_map(|program| program.files()).chain([self.path.clone()]).collect()
    }

    /// Hashes everything, pieces in parallel. Rows are in file order.
    ///
    /// # Errors
    /// Reading failed, or the observer cancelled. A hash mismatch is not an error; see [`Checked::is_good`].
    pub fn verify(&self, observer: &dyn Observer) -> Result<Vec<Checked>, Error> {
        let mut rows = match &self.program {
            None => Vec::new(),
            Some(program) => {
                let name = program.path.file_name().unwrap_or_default().to_string_lossy();
                let rows = program.verify(observer)?;
                rows.into_iter().map(|row| Checked { name: format!("{name}: {}", row.name), ..row }).collect()
            }
        };
        rows.extend(self.verify_one(observer)?);
        Ok(rows)
    }

    fn verify_one(&self, observer: &dyn Observer) -> Result<Vec<Checked>, Error> {
        let bundle = &self.bundle;
        let entries = || bundle.entries().iter().chain([&bundle.manifest_entry]);
        observer.begin(entries().fold(bundle.program_bytes, |total, entry| total.saturating_add(entry.stored_bytes)));
        let program = Range { file: &self.file, offset: 0, bytes: bundle.program_bytes };
        let pieces: Vec<Option<&Entry>> = std::iter::once(None).chain(entries().map(Some)).collect();
        let row = |piece: &Option<&Entry>| match piece {
            None => Ok(Checked {
                name: "program".to_owned(),
                size: bundle.program_bytes,
                expected: bundle.program_sha256,
                actual: Some(hash(program, observer)?.sha256),
            }),
            Some(entry) => self.check(entry, observer),
        };
        let rows: Result<Vec<_>, Stopped> = on_threads(|| pieces.par_iter().map(row).collect());
        rows.map_err(|stopped| match stopped {
            Stopped::Read(error) | Stopped::Write(error) => Error::File { path: self.path.clone(), source: error },
            Stopped::Interrupted => Error::Interrupted,
        })
    }

    fn check(&self, entry: &Entry, observer: &dyn Observer) -> Result<Checked, Stopped> {
        let range = Range { file: &self.file, offset: entry.offset, bytes: entry.stored_bytes };
        let actual = match entry.method {
            Method::Stored => Some(hash(range, observer)?.sha256),
            Method::Deflated => {
                let stored = self.stored(entry).map_err(Stopped::Read)?;
                observer.advance(entry.stored_bytes);
                entry.decode(&stored).ok().map(|_| entry.sha256)
            }
        };
        Ok(Checked { name: entry.name.clone(), size: entry.size, expected: entry.sha256, actual })
    }

    /// An entry's stored bytes; for small entries.
    pub(crate) fn stored(&self, entry: &Entry) -> std::io::Result<Vec<u8>> {
        let bytes = usize::try_from(entry.stored_bytes).map_err(std::io::Error::other)?;
        let mut stored = vec![0; bytes];
        read_exact_at(&self.file, &mut stored, entry.offset)?;
        Ok(stored)
    }
}
