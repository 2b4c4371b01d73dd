//! Copies a range of one file into another and hashes the copy.
//!
//! One thread copies; a second reads back the copy and hashes it, so that the hash is that of the bytes in the new file. On
//! Linux the kernel copies (`copy_file_range`): blocks are shared where the file system supports it, holes are kept, and
//! the data does not pass through this process. Otherwise blocks are read and written.

use std::fs::File;
use std::io;
use std::sync::mpsc;

use satchel_container::Digest;
use sha2::{Digest as _, Sha256};

use crate::Observer;
use crate::files::{read_exact_at, write_all_at};

/// Bytes copied between two checks for cancellation.
const STEP_BYTES: u64 = 8 << 20;
/// How many steps copying may run ahead of hashing; bounded so that hashing reads from the page cache.
const STEPS_AHEAD: usize = 8;
/// Block size of read/write copies and of hashing.
const BLOCK_BYTES: usize = 1 << 20;

/// What was copied, in order.
#[derive(Clone, Copy)]
enum Piece {
    /// Bytes to read back.
    Data(u64),
    /// A hole in both files: zeros, hashed without reading.
    Hole(u64),
}

/// A range of a file.
#[derive(Clone, Copy)]
pub(crate) struct Range<'a> {
    pub(crate) file: &'a File,
    pub(crate) offset: u64,
    pub(crate) bytes: u64,
}

/// Hashes of a range.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Hashes {
    pub(crate) sha256: Digest,
    pub(crate) crc32: u32,
}

/// Why a copy stopped.
#[derive(Debug)]
pub(crate) enum Stopped {
    /// Reading the source.
    Read(io::Error),
    /// Writing or reading back the copy.
    Write(io::Error),
    /// Cancelled by the observer.
    Interrupted,
}

/// Copies `from` to `offset` of `to`; reported progress is that of the hashing.
pub(crate) fn copy(from: Range<'_>, to: &File, offset: u64, observer: &dyn Observer) -> Result<Hashes, Stopped> {
    std::thread::scope(|scope| {
        let (sender, pieces) = mpsc::sync_channel::<Piece>(STEPS_AHEAD);
        let thread = std::thread::Builder::new().name("hash".to_owned());
        let hashing = thread.spawn_scoped(scope, move || {
            let mut hashing = Hashing::new(to, offset);
            pieces.into_iter().try_for_each(|piece| hashing.take(piece, observer))?;
            Ok(hashing.hasher.finish())
        });
        let Ok(hashing) = hashing else {
            // The thread could not be started: hash each piece before copying the next.
            let mut hashing = Hashing::new(to, offset);
            copy_steps(from, to, offset, observer, |piece| hashing.take(piece, observer).map(|()| true))?;
            return Ok(hashing.hasher.finish());
        };
        // If sending fails, the hashing thread has stopped, and joining it gives the error.
        let copied = copy_steps(from, to, offset, observer, |piece| Ok(sender.send(piece).is_ok()));
        drop(sender);
        let hashes = hashing.join().map_err(|_| Stopped::Write(io::Error::other("the hashing thread ended")))?;
        copied.and(hashes)
    })
}

/// Hashes a range of a file.
pub(crate) fn hash(range: Range<'_>, observer: &dyn Observer) -> Result<Hashes, Stopped> {
    let mut hasher = Hasher::new();
    let mut done = 0;
    while done < range.bytes {
        let step = (range.bytes - done).min(STEP_BYTES);
        hasher.read(range.file, range.offset + done, step, observer).map_err(|stopped| match stopped {
            Stopped::Write(error) => Stopped::Read(error),
            other => other,
        })?;
        done += step;
    }
    Ok(hasher.finish())
}

/// Copies step by step; `give` receives each copied piece and returns whether to continue.
fn copy_steps(
    from: Range<'_>,
    to: &File,
    offset: u64,
    observer: &dyn Observer,
    mut give: impl FnMut(Piece) -> Result<bool, Stopped>,
) -> Result<(), Stopped> {
    let mut copier = Copier::default();
    let mut done = 0;
    while done < from.bytes {
        if observer.interrupted() {
            return Err(Stopped::Interrupted);
        }
        let step = (from.bytes - done).min(STEP_BYTES);
        let piece =
            copier.step(Range { file: from.file, offset: from.offset + done, bytes: step }, to, offset + done)?;
        done += match piece {
            Piece::Data(bytes) | Piece::Hole(bytes) => bytes,
        };
        if !give(piece)? {
            return Ok(());
        }
    }
    Ok(())
}

/// Reads back the copied pieces, in order, and hashes them.
struct Hashing<'a> {
    file: &'a File,
    offset: u64,
    hasher: Hasher,
}

impl<'a> Hashing<'a> {
    fn new(file: &'a File, offset: u64) -> Self {
        Self { file, offset, hasher: Hasher::new() }
    }

    fn take(&mut self, piece: Piece, observer: &dyn Observer) -> Result<(), Stopped> {
        self.offset += match piece {
            Piece::Data(bytes) => {
                self.hasher.read(self.file, self.offset, bytes, observer)?;
                bytes
            }
            Piece::Hole(bytes) => {
                self.hasher.zeros(bytes, observer)?;
                bytes
            }
        };
        Ok(())
    }
}

struct Hasher {
    sha256: Sha256,
    crc32: crc32fast::Hasher,
    block: Vec<u8>,
}

impl Hasher {
    fn new() -> Self {
        Self { sha256: Sha256::new(), crc32: crc32fast::Hasher::new(), block: vec![0; BLOCK_BYTES] }
    }

    fn read(&mut self, file: &File, offset: u64, bytes: u64, observer: &dyn Observer) -> Result<(), Stopped> {
        self.blocks(bytes, observer, |block, at| read_exact_at(file, block, offset + at).map_err(Stopped::Write))
    }

    fn zeros(&mut self, bytes: u64, observer: &dyn Observer) -> Result<(), Stopped> {
        self.block.fill(0);
        self.blocks(bytes, observer, |_, _| Ok(()))
    }

    /// Hashes `bytes` in blocks; `fill` gets each block and its offset from the first byte.
    fn blocks(
        &mut self,
        bytes: u64,
        observer: &dyn Observer,
        fill: impl Fn(&mut [u8], u64) -> Result<(), Stopped>,
    ) -> Result<(), Stopped> {
        let mut done = 0;
        while done < bytes {
            if observer.interrupted() {
                return Err(Stopped::Interrupted);
            }
            let part = (bytes - done).min(BLOCK_BYTES as u64) as usize;
            let block = &mut self.block[..part];
            fill(block, done)?;
            self.sha256.update(&*block);
            self.crc32.update(block);
            observer.advance(part as u64);
            done += part as u64;
        }
        Ok(())
    }

    fn finish(self) -> Hashes {
        Hashes { sha256: Digest(self.sha256.finalize().into()), crc32: self.crc32.finalize() }
    }
}

/// Copies ranges in the kernel if possible; after a failure, by read and write.
#[derive(Default)]
struct Copier {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    not_in_kernel: bool,
    block: Vec<u8>,
}

impl Copier {
    /// Copies the hole or the data at the start of `from`.
    fn step(&mut self, from: Range<'_>, to: &File, offset: u64) -> Result<Piece, Stopped> {
        let end = from.offset + from.bytes;
        let data = next_data(from.file, from.offset).min(end);
        if data > from.offset {
            // The new file was extended beforehand, so it has a hole there already.
            return Ok(Piece::Hole(data - from.offset));
        }
        let bytes = next_hole(from.file, data).clamp(data + 1, end) - data;
        self.copy_data(Range { bytes, ..from }, to, offset)?;
        Ok(Piece::Data(bytes))
    }

    #[cfg(any(target_os = "linux", target_os = "android"))]
    fn copy_data(&mut self, from: Range<'_>, to: &File, offset: u64) -> Result<(), Stopped> {
        use rustix::io::Errno;
        let (mut from_at, mut to_at) = (from.offset, offset);
        let end = from.offset + from.bytes;
        while from_at < end && !self.not_in_kernel {
            let rest = usize::try_from(end - from_at).unwrap_or(usize::MAX);
            match rustix::fs::copy_file_range(from.file, Some(&mut from_at), to, Some(&mut to_at), rest) {
                // Some file systems (procfs, some FUSE) return 0 before the end of file; a read tells which it is.
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(Errno::NOSPC | Errno::DQUOT) => {
                    return Err(Stopped::Write(io::ErrorKind::StorageFull.into()));
                }
                // Different file systems, an old kernel, FUSE without support, a seccomp filter: fall back to read and
                // write, which reports a real error if there is one.
                Err(_) => self.not_in_kernel = true,
            }
        }
        self.read_and_write(Range { file: from.file, offset: from_at, bytes: end - from_at }, to, to_at)
    }

    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    fn copy_data(&mut self, from: Range<'_>, to: &File, offset: u64) -> Result<(), Stopped> {
        self.read_and_write(from, to, offset)
    }

    fn read_and_write(&mut self, from: Range<'_>, to: &File, offset: u64) -> Result<(), Stopped> {
        if from.bytes > 0 {
            self.block.resize(BLOCK_BYTES, 0);
        }
        let mut done = 0;
        while done < from.bytes {
            let part = (from.bytes - done).min(BLOCK_BYTES as u64) as usize;
            let block = &mut self.block[..part];
            read_exact_at(from.file, block, from.offset + done).map_err(Stopped::Read)?;
            write_all_at(to, block, offset + done).map_err(Stopped::Write)?;
            done += part as u64;
        }
        Ok(())
    }
}

/// Offset of the first data at or after `at`; `at` itself if the platform cannot report holes.
#[cfg(any(target_os = "linux", target_os = "android"))]
fn next_data(file: &File, at: u64) -> u64 {
    match rustix::fs::seek(file, rustix::fs::SeekFrom::Data(at)) {
        Ok(data) => data,
        Err(rustix::io::Errno::NXIO) => u64::MAX, // a hole up to the end of file
        Err(_) => at,
    }
}

#[cfg(any(target_os = "linux", target_os = "android"))]
fn next_hole(file: &File, at: u64) -> u64 {
    rustix::fs::seek(file, rustix::fs::SeekFrom::Hole(at)).unwrap_or(u64::MAX)
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn next_data(_file: &File, at: u64) -> u64 {
    at
}

#[cfg(not(any(target_os = "linux", target_os = "android")))]
fn next_hole(_file: &File, _at: u64) -> u64 {
    u64::MAX
}
