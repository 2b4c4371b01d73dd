//! The programs available in one file: its own, and those it carries for other platforms.
//!
//! A release of satchel carries the runtimes of other platforms as entries of its own bundle, `runtimes/PLATFORM`; a
//! universal file carries them in its program's bundle, before the payload. A development build has only itself.

use std::fs::File;
use std::path::{Path, PathBuf};

use satchel_container::{Bundle, Entry, EntryKind};

use crate::files::{open_regular, read_at, read_exact_at};
use crate::parallel::on_threads;
use crate::plan::Small;
use crate::platform::Platform;
use crate::program::HEAD_BYTES;
use crate::{Error, Program};

/// The programs available in one file.
#[derive(Debug)]
pub struct Runtimes {
    path: PathBuf,
    file: File,
    /// The file's own program, if it is for a single platform.
    own: Option<(Platform, Program)>,
    carried: Vec<(Platform, Entry)>,
}

impl Runtimes {
    /// The programs in the executable at `path`: a satchel, or a packed file.
    ///
    /// # Errors
    /// The file cannot be read, or its bundle is damaged.
    pub fn open(path: &Path) -> Result<Self, Error> {
        let mut file = open_regular(path, "give a satchel, or a file that satchel packed")?;
        let file_bytes = file.metadata().map_err(Error::file(path))?.len();
        let bundle = Bundle::open_from(&mut file).map_err(Error::bundle(path))?;
        let program_bytes = bundle.as_ref().map_or(file_bytes, |bundle| bundle.program_bytes);
        let mut carried: Vec<_> = bundle.iter().flat_map(carried).collect();
        let mut sha256 = bundle.as_ref().map(|bundle| bundle.program_sha256);
        let mut own_bytes = program_bytes;
        // A universal file's program ends with a bundle of its own, before the payload.
        let inner = match &bundle {
            Some(_) => Bundle::open_within(&mut file, program_bytes).map_err(Error::bundle(path))?,
            None => None,
        };
        if let Some(inner) = inner {
            carried.extend(self::carried(&inner));
            (own_bytes, sha256) = (inner.program_bytes, Some(inner.program_sha256));
        }
        let mut head = vec![0; HEAD_BYTES];
        let read = read_at(&file, &mut head, 0).map_err(Error::file(path))?;
        let platform = Platform::detect(&head[..read]);
        // If the file also carries a runtime for the platform that its head shows, the head is that of a universal program.
        let in_front = platform
            .filter(|platform| carried.iter().all(|(other, _)| other != platform))
            .filter(|_| bundle.as_ref().is_none_or(|bundle| !bundle.in_segment));
        let own = match in_front {
            Some(platform) => {
                let copy = file.try_clone().map_err(Error::file(path))?;
                Some((platform, Program::in_file(path, copy, own_bytes, sha256)?))
            }
            None => None,
        };
        Ok(Self { path: path.to_owned(), file, own, carried })
    }

    /// Path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Platforms with a program, in the order of [`Platform::ALL`].
    pub fn platforms(&self) -> Vec<Platform> {
        let has = |platform: &Platform| {
            self.own.as_ref().is_some_and(|(own, _)| own == platform)
                || self.carried.iter().any(|(other, _)| other == platform)
        };
        Platform::ALL.into_iter().filter(has).collect()
    }

    /// The program for `platform`. A carried one is verified against its hash and headers.
    ///
    /// # Errors
    /// There is no program for `platform`, or it is damaged.
    pub fn program(&self, platform: Platform) -> Result<Program, Error> {
        if let Some((_, entry)) = self.carried.iter().find(|(carried, _)| *carried == platform) {
            return Ok(Program::in_memory(&self.path, self.inflate(platform, entry)?));
        }
        match &self.own {
            Some((own, program)) if *own == platform => Program::in_file(
                &self.path,
                self.file.try_clone().map_err(Error::file(&self.path))?,
                program.bytes,
                program.sha256,
            ),
            _ => Err(self.missing(platform)),
        }
    }

    fn inflate(&self, platform: Platform, entry: &Entry) -> Result<Vec<u8>, Error> {
        // Opening the bundle has limited the size.
        let mut stored = vec![0; entry.stored_bytes as usize];
        read_exact_at(&self.file, &mut stored, entry.offset).map_err(Error::file(&self.path))?;
        let content = entry.decode(&stored).map_err(Error::bundle(&self.path))?.into_owned();
        if Platform::detect(&content) != Some(platform) {
            return Err(Error::unfit(&self.path, format!("entry {} is not a program for {platform}", entry.name)));
        }
        Ok(content)
    }

    fn missing(&self, platform: Platform) -> Error {
        let has: Vec<_> = self.platforms().iter().map(|platform| platform.name()).collect();
        let has = if has.is_empty() { "none".to_owned() } else { has.join(", ") };
        let advice =
            "a release of satchel carries all of them, a development build only itself: name a release with --engine";
        Error::unfit(&self.path, format!("carries no program for {platform}, only for: {has}; {advice}"))
    }

    /// `programs` as entries for the bundle of a release or of a universal file.
    pub(crate) fn entries(programs: &[(Platform, Vec<u8>)]) -> Vec<Small> {
        use rayon::prelude::*;
        let one = |(platform, content): &(Platform, Vec<u8>)| {
            Small::new(entry_name(*platform), EntryKind::Runtime, content.clone())
        };
        on_threads(|| programs.par_iter().map(one).collect())
    }
}

fn entry_name(platform: Platform) -> String {
    format!("runtimes/{platform}")
}

/// Runtimes in a bundle; those of unknown platforms, from another version of satchel, are skipped.
fn carried(bundle: &Bundle) -> impl Iterator<Item = (Platform, Entry)> {
    bundle.runtime_entries().filter_map(|entry| {
        let platform = Platform::ALL.into_iter().find(|platform| entry.name == entry_name(*platform))?;
        Some((platform, entry.clone()))
    })
}
