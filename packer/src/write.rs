//! Writes a planned bundle: program, entries, and what closes the file, each at the offset that the layout gives it.

use std::fs::File;
use std::path::{Path, PathBuf};

use satchel_container::directory::{self, Method, Record};
use satchel_container::{Digest, layout};

use crate::copy::{Hashes, Range, Stopped, copy};
use crate::files::{same_file, write_all_at};
use crate::output::{Output, folder_of};
use crate::plan::{Plan, written_wrong};
use crate::{Error, Observer};

/// Where the bundle goes.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The file.
    pub path: &'a Path,
    /// Whether it may replace one that is there.
    pub force: bool,
}

/// A bundle that was written.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The file.
    pub path: PathBuf,
    /// Its size.
    pub bytes: u64,
    /// Hash of everything but the program.
    pub payload_sha256: Digest,
    /// Hashes of the model's parts, in order.
    pub model_sha256: Vec<Digest>,
}

impl Plan {
    /// Checks what can be checked of `target` before the work: it may be written, is no input, and has room.
    ///
    /// # Errors
    /// One line; nothing was written.
    pub fn check_target(&self, target: Target<'_>) -> Result<(), Error> {
        if let Some(input) = self.inputs().iter().find(|input| same_file(input, target.path)) {
            return Err(Error::OutputIsInput { output: target.path.to_owned(), input: input.clone() });
        }
        let trial = Output::create(target.path, true, target.force)?;
        let folder = folder_of(target.path);
        let free_bytes = fs4::available_space(folder).map_err(Error::file(folder))?;
        // Where the file system lets two files share blocks, the model takes no room. To find out costs little, but is
        // only of use when there is not enough.
        if self.needed_bytes() > free_bytes && !self.parts.iter().all(|part| shares_blocks(&part.file, trial.file())) {
            return Err(self.no_space(target.path, free_bytes));
        }
        Ok(())
    }

    /// Writes the bundle. It has its name only when it is whole; until then, and after any failure, nothing is there.
    ///
    /// # Errors
    /// One line: an input cannot be read or changed meanwhile, the target cannot be written, or the observer stopped it.
    pub fn write(self, target: Target<'_>, observer: &dyn Observer) -> Result<Packed, Error> {
        self.check_target(target)?;
        let output = Output::create(target.path, true, target.force)?;
        let writing = Writing { plan: &self, file: output.file(), target: target.path, observer };
        let packed = writing.run()?;
        observer.flushing();
        output.commit(target.force)?;
        Ok(packed)
    }

    /// Bytes that the file will take: less than its size where the model's file has holes.
    fn needed_bytes(&self) -> u64 {
        let parts = self.parts.iter().map(|part| part.disk_bytes.saturating_add(satchel_container::ALIGNMENT_BYTES));
        let small = self.small.iter().map(|small| small.stored.len() as u64 + 1024);
        let closing = 64 * 1024;
        parts.chain(small).fold(self.program.disk_bytes + closing, u64::saturating_add)
    }

    fn no_space(&self, output: &Path, free_bytes: u64) -> Error {
        Error::NoSpace {
            output: output.to_owned(),
            folder: folder_of(output).to_owned(),
            needed_bytes: self.needed_bytes(),
            free_bytes,
        }
    }
}

/// Whether the file system lets `to`, which is empty, share the blocks of `from`. Leaves `to` with them.
fn shares_blocks(from: &File, to: &File) -> bool {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    return rustix::fs::ioctl_ficlone(to, from).is_ok();
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    {
        let _ = (from, to);
        false
    }
}

struct Writing<'a> {
    plan: &'a Plan,
    file: &'a File,
    target: &'a Path,
    observer: &'a dyn Observer,
}

impl Writing<'_> {
    fn run(&self) -> Result<Packed, Error> {
        let plan = self.plan;
        let offsets = layout::place(plan.program.bytes, &plan.items()).map_err(written_wrong)?;
        let total = plan.parts.iter().fold(plan.program.bytes, |total, part| total.saturating_add(part.bytes));
        self.observer.begin(total);
        let program = self.program()?;
        let mut records = Vec::new();
        let mut hashes = Vec::new();
        let mut offsets = offsets.into_iter();
        for (part, header_offset) in plan.parts.iter().zip(offsets.by_ref()) {
            let mut record = Record {
                name: part.entry_name.clone(),
                method: Method::Stored,
                crc32: 0,
                stored_bytes: part.bytes,
                size: part.bytes,
                header_offset,
            };
            self.observer.at(&record.name);
            let from = Range { file: &part.file, offset: 0, bytes: part.bytes };
            let copied = self.copy(from, &part.path, record.data_offset())?;
            part.check_unchanged()?;
            record.crc32 = copied.crc32;
            hashes.push(copied.sha256);
            self.put(&directory::local_header(&record), header_offset)?;
            records.push(record);
        }
        for (small, header_offset) in plan.small.iter().zip(offsets) {
            let record = Record {
                name: small.record.name.clone(),
                method: small.method,
                crc32: small.crc32,
                stored_bytes: small.stored.len() as u64,
                size: small.record.size,
                header_offset,
            };
            self.put(&directory::local_header(&record), header_offset)?;
            self.put(&small.stored, record.data_offset())?;
            records.push(record);
        }
        self.close(records, program, hashes)
    }

    fn close(&self, records: Vec<Record>, program: Digest, model_sha256: Vec<Digest>) -> Result<Packed, Error> {
        let end = records.last().map_or(self.plan.program.bytes, |last| last.data_offset() + last.stored_bytes);
        let manifest = self.plan.manifest(&model_sha256);
        let closing =
            layout::closing(&manifest, records, end, program, self.plan.program.bytes).map_err(written_wrong)?;
        self.put(&closing, end)?;
        let payload_sha256 = Digest::of(&manifest.to_bytes().map_err(written_wrong)?);
        Ok(Packed { path: self.target.to_owned(), bytes: end + closing.len() as u64, payload_sha256, model_sha256 })
    }

    fn program(&self) -> Result<Digest, Error> {
        let program = &self.plan.program;
        self.observer.at("program");
        let from = Range { file: &program.file, offset: 0, bytes: program.bytes };
        let copied = self.copy(from, &program.path, 0)?;
        if program.sha256.is_some_and(|expected| expected != copied.sha256) {
            let what = "the program in front of its bundle is damaged: get the file again";
            return Err(Error::unfit(&program.path, what));
        }
        Ok(copied.sha256)
    }

    fn copy(&self, from: Range<'_>, path: &Path, offset: u64) -> Result<Hashes, Error> {
        // The file gets its length first, so that holes of the source can stay holes.
        self.file.set_len(offset + from.bytes).map_err(|error| self.write_failed(error))?;
        copy(from, self.file, offset, self.observer).map_err(|stopped| match stopped {
            Stopped::Read(error) => Error::File { path: path.to_owned(), source: error },
            Stopped::Write(error) => self.write_failed(error),
            Stopped::Interrupted => Error::Interrupted,
        })
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        write_all_at(self.file, bytes, offset).map_err(|error| self.write_failed(error))
    }

    fn write_failed(&self, error: std::io::Error) -> Error {
        use std::io::ErrorKind;
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            return self.plan.no_space(self.target, fs4::available_space(folder_of(self.target)).unwrap_or(0));
        }
        Error::File { path: self.target.to_owned(), source: error }
    }
}
