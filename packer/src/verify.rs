//! Checks every hash of a packed file: its program's, its manifest's, and each entry's.

use std::fs::File;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use satchel_container::directory::Method;
use satchel_container::{Beside, Bundle, Digest, Entry};

use crate::copy::{Range, Stopped, hash};
use crate::files::{open_regular, read_exact_at};
use crate::parallel::on_threads;
use crate::{Error, Observer};

/// What was found of one piece of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    /// `program`, or the entry's name.
    pub name: String,
    /// Its size in bytes.
    pub size: u64,
    /// The hash it should have.
    pub expected: Digest,
    /// The hash it has; `None` where it cannot be inflated to what was packed.
    pub actual: Option<Digest>,
}

impl Checked {
    /// Whether it is as it was packed.
    pub fn is_good(&self) -> bool {
        self.actual == Some(self.expected)
    }
}

/// A packed file, opened for checking or for taking out entries.
#[derive(Debug)]
pub struct PackedFile {
    /// The file that holds the payload.
    pub(crate) path: PathBuf,
    pub(crate) file: File,
    /// Its bundle.
    pub bundle: Bundle,
    /// The program whose payload lies beside it: that file was named.
    program: Option<Box<PackedFile>>,
}

impl PackedFile {
    /// Opens the packed file at `path`. A program whose payload lies beside it stands for both.
    ///
    /// # Errors
    /// It cannot be read, holds no bundle, or one that is damaged or newer than this program; the payload beside it is
    /// missing, or another.
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

    /// The file that holds the payload: the one that was named, or the one beside it.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Every file it is made of.
    pub(crate) fn files(&self) -> Vec<PathBuf> {
        self.program.iter().flat_map(|program| program.files()).chain([self.path.clone()]).collect()
    }

    /// Hashes everything, pieces in parallel. The rows come in the file's order.
    ///
    /// # Errors
    /// Reading failed, or the observer stopped it. A wrong hash is no error but a row that is not good.
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

    /// The bytes that the file holds of an entry; for small ones.
    pub(crate) fn stored(&self, entry: &Entry) -> std::io::Result<Vec<u8>> {
        let bytes = usize::try_from(entry.stored_bytes).map_err(std::io::Error::other)?;
        let mut stored = vec![0; bytes];
        read_exact_at(&self.file, &mut stored, entry.offset)?;
        Ok(stored)
    }
}
