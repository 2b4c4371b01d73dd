//! Extracts entries of a packed file, each verified against its hash before it gets its name.
//!
//! Opening the bundle has checked that names stay below the folder. Links that already exist in the folder are not
//! followed.

use std::io::Write;
use std::path::{Path, PathBuf};

use satchel_container::Entry;
use satchel_container::directory::Method;

use crate::copy::{Range, Stopped, copy};
use crate::files::{read_exact_at, write_all_at};
use crate::output::{Output, folder_of};
use crate::verify::PackedFile;
use crate::{Error, Observer};

const BLOCK_BYTES: usize = 1 << 20;

impl PackedFile {
    /// Writes `entries` below `folder`, which is created if missing. Returns the files written.
    ///
    /// # Errors
    /// The first entry that is damaged or cannot be written; those extracted before it are kept.
    pub fn extract(
        &self,
        entries: &[&Entry],
        folder: &Path,
        force: bool,
        observer: &dyn Observer,
    ) -> Result<Vec<PathBuf>, Error> {
        // Report existing files before anything is written.
        let targets: Vec<_> = entries.iter().map(|entry| folder.join(&entry.name)).collect();
        if !force && let Some(target) = targets.iter().find(|target| target.symlink_metadata().is_ok()) {
            return Err(Error::Exists(target.clone()));
        }
        observer.begin(entries.iter().map(|entry| entry.stored_bytes).sum());
        std::fs::create_dir_all(folder).map_err(Error::file(folder))?;
        for (entry, target) in entries.iter().zip(&targets) {
            observer.at(&entry.name);
            make_folders(folder, &entry.name)?;
            let output = Output::create_unlinked(target, force)?;
            self.extract_one(entry, &output, target, observer)?;
            output.commit()?;
        }
        Ok(targets)
    }

    fn extract_one(&self, entry: &Entry, output: &Output, target: &Path, observer: &dyn Observer) -> Result<(), Error> {
        let path = &self.path;
        let failed = |stopped| match stopped {
            Stopped::Read(source) => Error::File { path: path.to_owned(), source },
            Stopped::Write(source) => Error::File { path: target.to_owned(), source },
            Stopped::Interrupted => Error::Interrupted,
        };
        if entry.method == Method::Deflated {
            let stored = self.stored(entry).map_err(Error::file(path))?;
            let content = entry.decode(&stored).map_err(Error::bundle(path))?;
            observer.advance(entry.stored_bytes);
            return write_all_at(output.file(), &content, 0).map_err(Error::file(target));
        }
        output.file().set_len(entry.size).map_err(Error::file(target))?;
        let range = Range { file: &self.file, offset: entry.offset, bytes: entry.size };
        let hashes = copy(range, output.file(), 0, observer).map_err(failed)?;
        if hashes.sha256 != entry.sha256 {
            return Err(damaged(path, entry));
        }
        Ok(())
    }

    /// Writes one entry to `out`. Uncompressed entries are streamed, so a hash mismatch is reported only after the bytes.
    ///
    /// # Errors
    /// Reading or writing failed, or the entry is damaged.
    pub fn extract_to(&self, entry: &Entry, out: &mut dyn Write) -> Result<(), Error> {
        let path = &self.path;
        let cannot = |source| Error::File { path: PathBuf::from("standard output"), source };
        if entry.method == Method::Deflated {
            let stored = self.stored(entry).map_err(Error::file(path))?;
            let content = entry.decode(&stored).map_err(Error::bundle(path))?;
            return out.write_all(&content).and_then(|()| out.flush()).map_err(cannot);
        }
        use sha2::Digest as _;
        let mut hasher = sha2::Sha256::new();
        let mut block = vec![0; BLOCK_BYTES];
        let mut done = 0;
        while done < entry.size {
            let part = (entry.size - done).min(BLOCK_BYTES as u64) as usize;
            let block = &mut block[..part];
            read_exact_at(&self.file, block, entry.offset + done).map_err(Error::file(path))?;
            hasher.update(&*block);
            out.write_all(block).map_err(cannot)?;
            done += part as u64;
        }
        out.flush().map_err(cannot)?;
        if hasher.finalize()[..] != entry.sha256.0 {
            return Err(damaged(path, entry));
        }
        Ok(())
    }

    /// The entries of these names, without duplicates; all entries if `names` is empty. `manifest.json` is an entry, too.
    ///
    /// # Errors
    /// An unknown name, with the list of known ones.
    pub fn select(&self, names: &[String]) -> Result<Vec<&Entry>, Error> {
        let all = || self.bundle.entries().iter().chain([&self.bundle.manifest_entry]);
        if names.is_empty() {
            return Ok(all().collect());
        }
        if let Some(name) = names.iter().find(|name| all().all(|entry| entry.name != **name)) {
            let known: Vec<_> = all().map(|entry| entry.name.as_str()).take(12).collect();
            return Err(Error::unfit(&self.path, format!("has no entry {name}; it has {}", known.join(", "))));
        }
        Ok(all().filter(|entry| names.contains(&entry.name)).collect())
    }
}

fn damaged(path: &Path, entry: &Entry) -> Error {
    let what = format!("entry {} does not match its SHA-256, it is damaged: get the file again", entry.name);
    Error::unfit(path, what)
}

/// Creates the folders of an entry's name below `folder`; existing ones must be folders, not links.
fn make_folders(folder: &Path, name: &str) -> Result<(), Error> {
    let mut below = folder.to_owned();
    let Some((folders, _)) = name.rsplit_once('/') else { return Ok(()) };
    for part in folders.split('/') {
        below.push(part);
        match below.symlink_metadata() {
            Ok(facts) if facts.is_dir() => {}
            Ok(_) => return Err(Error::unfit(&below, "is not a folder, and links are not followed: remove it")),
            Err(_) => std::fs::create_dir(&below).map_err(Error::file(folder_of(&below)))?,
        }
    }
    Ok(())
}
