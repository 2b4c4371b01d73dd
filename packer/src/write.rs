//! Writes a program followed by a planned payload: entries, manifest, directory and tail, at the offsets that the layout
//! computed.
//!
//! Windows does not start an executable of 4 GiB or more. If a file for it would be that large, two are written: the
//! program with a bundle that names the payload's hash, and the payload beside it.

use std::fs::File;
use std::path::{Path, PathBuf};

use satchel_container::directory::{self, Method, Record};
use satchel_container::{Beside, Defaults, Digest, FORMAT, Manifest, layout};

use crate::copy::{Hashes, Range, Stopped, copy};
use crate::files::{same_file, write_all_at};
use crate::output::{Output, folder_of, without_links};
use crate::plan::{Plan, written_wrong};
use crate::program::{Program, Source};
use crate::{Error, Observer, macho};

/// The Windows loader refuses executable files of this size or larger.
const PE_MAX_BYTES: u64 = u32::MAX as u64;

/// Takes the program's place in a separate payload file, for a reader of its first bytes.
const PAYLOAD_NOTE: &[u8] =
    b"This file is the payload of the Satchel program of the same name: keep both in one folder, and start that one.\n";

/// Where the bundle is written.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// The file.
    pub path: &'a Path,
    /// Whether it may replace an existing file.
    pub force: bool,
}

/// A bundle that was written.
#[derive(Clone, Debug)]
pub struct Packed {
    /// The file to start.
    pub path: PathBuf,
    /// The file that holds the payload, if it is separate.
    pub beside: Option<PathBuf>,
    /// Total size of the files.
    pub bytes: u64,
    /// Hash of everything but the program.
    pub payload_sha256: Digest,
    /// Hashes of the model's parts and of the adapters, in order.
    pub model_sha256: Vec<Digest>,
}

impl Plan {
    /// Checks before packing that `target` can be written, is not an input, and has enough space.
    ///
    /// # Errors
    /// The first check that fails; nothing was written.
    pub fn check_target(&self, program: &Program, target: Target<'_>) -> Result<(), Error> {
        for path in [Some(target.path.to_owned()), self.payload_path(program, target)?].into_iter().flatten() {
            let mut inputs = self.inputs().iter().chain([&program.path]);
            if let Some(input) = inputs.find(|input| same_file(input, &path)) {
                return Err(Error::OutputIsInput { output: path, input: input.clone() });
            }
            let trial = Output::create(&path, true, target.force)?;
            let folder = folder_of(&path);
            let free_bytes = fs4::available_space(folder).map_err(Error::file(folder))?;
            // If the file system can share blocks between files, the model takes no extra space. Tested only when space is
            // short.
            if self.needed_bytes(program) > free_bytes
                && !self.parts.iter().all(|part| shares_blocks(&part.file, trial.file()))
            {
                return Err(self.no_space(program, &path, free_bytes));
            }
        }
        Ok(())
    }

    /// Writes the bundle. The target appears only when it is complete; after a failure nothing is left.
    ///
    /// # Errors
    /// An input cannot be read or has changed, the target cannot be written, or the observer cancelled.
    pub fn write(&self, program: &Program, target: Target<'_>, observer: &dyn Observer) -> Result<Packed, Error> {
        if program.signable {
            let made = macho::with_segment(program, self.bundle_end(macho::program_bytes(program)?)?)?;
            return self.write(&made, target, observer);
        }
        self.check_target(program, target)?;
        let Some(payload_path) = self.payload_path(program, target)? else {
            let (output, packed) = self.write_one(program, target, true, observer)?;
            observer.flushing();
            output.commit()?;
            return Ok(packed);
        };
        let note = Program::in_memory(&program.path, PAYLOAD_NOTE.to_vec());
        let payload_target = Target { path: &payload_path, ..target };
        let (payload, written) = self.write_one(&note, payload_target, false, observer)?;
        let pointer = self.pointer(written.payload_sha256);
        let (output, started) = pointer.write_one(program, target, true, &Unwatched(observer))?;
        observer.flushing();
        payload.commit()?;
        output.commit().inspect_err(|_| {
            // A payload without its program is of no use.
            let _ = std::fs::remove_file(&payload_path);
        })?;
        Ok(Packed { path: started.path, beside: Some(payload_path), bytes: started.bytes + written.bytes, ..written })
    }

    /// The bundle of a program whose payload is a separate file.
    fn pointer(&self, payload_sha256: Digest) -> Self {
        let mut pointer = Self::of_runtimes(Vec::new(), &self.manifest(&[]).packed_by);
        pointer.set_manifest(Manifest {
            format: FORMAT,
            name: self.name().to_owned(),
            defaults: Defaults::default(),
            beside: Some(Beside { payload_sha256 }),
            ..pointer.manifest(&[])
        });
        pointer
    }

    /// Path of a separate payload file; `None` if the payload goes into the program's file.
    fn payload_path(&self, program: &Program, target: Target<'_>) -> Result<Option<PathBuf>, Error> {
        let beside = program.is_pe && self.file_bytes(program)? >= PE_MAX_BYTES;
        // Beside the file that a link resolves to: the program looks for it there, whichever link started it.
        Ok(beside.then(|| Beside::path(&without_links(target.path))))
    }

    /// Size of the packed file with this program.
    ///
    /// # Errors
    /// It would exceed the largest possible file.
    pub fn file_bytes(&self, program: &Program) -> Result<u64, Error> {
        self.bundle_end(program.bytes)
    }

    /// End offset of the bundle after a program of this length.
    fn bundle_end(&self, program_bytes: u64) -> Result<u64, Error> {
        let items = self.items();
        let offsets = layout::place(program_bytes, &items).map_err(written_wrong)?;
        let end = offsets.iter().zip(&items).next_back().map_or(program_bytes, |(offset, item)| {
            offset.saturating_add(directory::local_header_bytes(&item.name)).saturating_add(item.stored_bytes)
        });
        // The closing records' length does not depend on the hashes.
        let unknown = Digest([0; 32]);
        let records = self.records(&offsets, &vec![(unknown, 0); self.parts.len()]);
        let manifest = self.manifest(&vec![unknown; self.parts.len()]);
        let closing = layout::closing(&manifest, records, end, unknown, program_bytes).map_err(written_wrong)?;
        Ok(end.saturating_add(closing.len() as u64))
    }

    /// Records of all entries, in file order; `hashes` are those of the weights.
    fn records(&self, offsets: &[u64], hashes: &[(Digest, u32)]) -> Vec<Record> {
        let parts = self.parts.iter().zip(hashes).zip(offsets).map(|((part, (_, crc32)), offset)| Record {
            name: part.entry_name.clone(),
            method: Method::Stored,
            crc32: *crc32,
            stored_bytes: part.bytes,
            size: part.bytes,
            header_offset: *offset,
        });
        let small = self.small.iter().zip(offsets.iter().skip(self.parts.len())).map(|(small, at)| small.placed(*at));
        parts.chain(small).collect()
    }

    fn write_one(
        &self,
        program: &Program,
        target: Target<'_>,
        executable: bool,
        observer: &dyn Observer,
    ) -> Result<(Output, Packed), Error> {
        let output = Output::create(target.path, executable, target.force)?;
        let packed = Writing { plan: self, program, file: output.file(), target: target.path, observer }.run()?;
        Ok((output, packed))
    }

    /// Bytes that the file will occupy on disk: less than its size if the model's file is sparse.
    fn needed_bytes(&self, program: &Program) -> u64 {
        let parts = self.parts.iter().map(|part| part.disk_bytes.saturating_add(satchel_container::ALIGNMENT_BYTES));
        let small = self.small.iter().map(|small| small.stored.len() as u64 + 1024);
        let closing = 64 * 1024;
        parts.chain(small).fold(program.disk_bytes + closing, u64::saturating_add)
    }

    fn no_space(&self, program: &Program, output: &Path, free_bytes: u64) -> Error {
        Error::NoSpace {
            output: output.to_owned(),
            folder: folder_of(output).to_owned(),
            needed_bytes: self.needed_bytes(program),
            free_bytes,
        }
    }
}

/// Forwards cancellation but not progress: for the second, small file of one job.
struct Unwatched<'a>(&'a dyn Observer);

impl Observer for Unwatched<'_> {
    fn begin(&self, _total_bytes: u64) {}
    fn at(&self, _name: &str) {}
    fn advance(&self, _bytes: u64) {}
    fn interrupted(&self) -> bool {
        self.0.interrupted()
    }
}

/// Whether the empty file `to` can share the blocks of `from`. On success `to` holds them.
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
    program: &'a Program,
    file: &'a File,
    target: &'a Path,
    observer: &'a dyn Observer,
}

impl Writing<'_> {
    fn run(&self) -> Result<Packed, Error> {
        let plan = self.plan;
        let offsets = layout::place(self.program.bytes, &plan.items()).map_err(written_wrong)?;
        let total = plan.parts.iter().fold(self.program.bytes, |total, part| total.saturating_add(part.bytes));
        self.observer.begin(total);
        let program = self.put_program()?;
        let mut hashes = Vec::new();
        for (part, record) in plan.parts.iter().zip(plan.records(&offsets, &vec![(program, 0); plan.parts.len()])) {
            self.observer.at(&part.entry_name);
            let from = Range { file: &part.file, offset: part.offset, bytes: part.bytes };
            let copied = self.copy(from, &part.path, record.data_offset())?;
            part.check_unchanged()?;
            if part.sha256.is_some_and(|expected| expected != copied.sha256) {
                let name = &part.entry_name;
                let what = format!("entry {name} does not match its SHA-256, it is damaged: get the file again");
                return Err(Error::unfit(&part.path, what));
            }
            hashes.push((copied.sha256, copied.crc32));
        }
        let records = plan.records(&offsets, &hashes);
        for record in &records {
            self.put(&directory::local_header(record), record.header_offset)?;
        }
        for (small, record) in plan.small.iter().zip(&records[plan.parts.len()..]) {
            self.put(&small.stored, record.data_offset())?;
        }
        self.close(records, program, hashes.into_iter().map(|(sha256, _)| sha256).collect())
    }

    fn close(&self, records: Vec<Record>, program: Digest, model_sha256: Vec<Digest>) -> Result<Packed, Error> {
        let end = records.last().map_or(self.program.bytes, |last| last.data_offset() + last.stored_bytes);
        let manifest = self.plan.manifest(&model_sha256);
        let closing = layout::closing(&manifest, records, end, program, self.program.bytes).map_err(written_wrong)?;
        self.put(&closing, end)?;
        let payload_sha256 = Digest::of(&manifest.to_bytes().map_err(written_wrong)?);
        debug_assert!(self.plan.kept_sha256().is_none_or(|kept| kept == payload_sha256), "entries kept their hashes");
        let mut bytes = end + closing.len() as u64;
        if let Some(ending) = &self.program.ending {
            bytes = ending.write(self.file, self.observer).map_err(|stopped| self.stopped(stopped, self.target))?;
        }
        Ok(Packed { path: self.target.to_owned(), beside: None, bytes, payload_sha256, model_sha256 })
    }

    fn put_program(&self) -> Result<Digest, Error> {
        let program = self.program;
        self.observer.at("program");
        match &program.source {
            Source::Memory(content) => {
                self.put(content, 0)?;
                self.observer.advance(program.bytes);
                Ok(Digest::of(content))
            }
            Source::File(file) => {
                let copied = self.copy(Range { file, offset: 0, bytes: program.bytes }, &program.path, 0)?;
                if program.sha256.is_some_and(|expected| expected != copied.sha256) {
                    return Err(program.damaged());
                }
                Ok(copied.sha256)
            }
        }
    }

    fn copy(&self, from: Range<'_>, path: &Path, offset: u64) -> Result<Hashes, Error> {
        // Extend the file first, so that holes of the source can stay holes.
        self.file.set_len(offset + from.bytes).map_err(|error| self.write_failed(error))?;
        copy(from, self.file, offset, self.observer).map_err(|stopped| self.stopped(stopped, path))
    }

    fn stopped(&self, stopped: Stopped, path: &Path) -> Error {
        match stopped {
            Stopped::Read(error) => Error::File { path: path.to_owned(), source: error },
            Stopped::Write(error) => self.write_failed(error),
            Stopped::Interrupted => Error::Interrupted,
        }
    }

    fn put(&self, bytes: &[u8], offset: u64) -> Result<(), Error> {
        write_all_at(self.file, bytes, offset).map_err(|error| self.write_failed(error))
    }

    fn write_failed(&self, error: std::io::Error) -> Error {
        use std::io::ErrorKind;
        if matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded) {
            let free_bytes = fs4::available_space(folder_of(self.target)).unwrap_or(0);
            return self.plan.no_space(self.program, self.target, free_bytes);
        }
        Error::File { path: self.target.to_owned(), source: error }
    }
}
