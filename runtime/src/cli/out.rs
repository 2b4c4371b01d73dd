//! Everything that commands say: lines on stdout and notices on stderr. The one place that writes to either, since
//! `println!` and `eprintln!` end the program with a backtrace where nobody reads any more or the disk is full.
//!
//! A reader of stdout that has gone is no failure: what it would have read is dropped, and the exit status still tells how
//! the work went. A full disk is a failure, and named. Notices go where stderr goes, and stop nothing when that is nowhere.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;

/// Writes a line to stdout: `println!` with a result.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::cli::out::line(format_args!($($argument)*)) };
}

/// Writes a line to stderr: `eprintln!` that cannot fail.
macro_rules! notice {
    ($($argument:tt)*) => { $crate::cli::out::tell(format_args!($($argument)*)) };
}

pub(super) use {notice, outln};

/// The reader of stdout has gone.
static GONE: AtomicBool = AtomicBool::new(false);

/// Whether nobody reads stdout any more, so that work which only prints can end.
pub(super) fn is_gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// Writes a line to stdout, at once.
pub(super) fn line(text: Arguments<'_>) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes to stdout, at once.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    write_to(&mut io::stdout().lock(), bytes)
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    outcome(out.write_all(bytes).and_then(|()| out.flush()))
}

/// What it means that writing to stdout ended so.
pub(super) fn outcome(written: io::Result<()>) -> Result<(), Failure> {
    match written {
        Ok(()) => Ok(()),
        Err(error) if error.kind() == ErrorKind::BrokenPipe => {
            GONE.store(true, Ordering::Relaxed);
            Ok(())
        }
        Err(error) => Err(Failure::new(format!("cannot write to stdout: {error}"))),
    }
}

/// Writes a line to stderr, where anybody can read it.
pub(super) fn tell(text: Arguments<'_>) {
    let _ = io::stderr().lock().write_all(format!("{text}\n").as_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Failing(ErrorKind);

    impl Write for Failing {
        fn write(&mut self, _bytes: &[u8]) -> io::Result<usize> {
            Err(self.0.into())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_reader_that_has_gone_is_no_failure_and_a_full_disk_is_one() {
        assert!(write_to(&mut Failing(ErrorKind::BrokenPipe), b"x").is_ok());
        assert!(is_gone());
        let failure = write_to(&mut Failing(ErrorKind::StorageFull), b"x").unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (1, "cannot write to stdout: no storage space"));
    }
}
