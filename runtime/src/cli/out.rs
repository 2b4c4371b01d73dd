//! Lines on stdout and notices on stderr. The one place that writes to either, since `println!` and `eprintln!` panic on
//! a broken pipe or a full disk.
//!
//! A broken pipe on stdout is not a failure: further output is dropped, and the exit status still reports the work. A
//! full disk is a failure, and named. Errors writing to stderr are ignored.

use std::fmt::Arguments;
use std::io::{self, ErrorKind, Write};
use std::sync::atomic::{AtomicBool, Ordering};

use super::Failure;

/// Writes a line to stdout: `println!` that returns a result.
macro_rules! outln {
    ($($argument:tt)*) => { $crate::cli::out::line(format_args!($($argument)*)) };
}

/// Writes a line to stderr: `eprintln!` that cannot fail.
macro_rules! notice {
    ($($argument:tt)*) => { $crate::cli::out::tell(format_args!($($argument)*)) };
}

pub(super) use {notice, outln};

/// Stdout is a broken pipe.
static GONE: AtomicBool = AtomicBool::new(false);

/// Whether stdout is a broken pipe, so that work which only prints can end.
pub(super) fn is_gone() -> bool {
    GONE.load(Ordering::Relaxed)
}

/// Writes a line to stdout and flushes.
pub(super) fn line(text: Arguments<'_>) -> Result<(), Failure> {
    bytes(format!("{text}\n").as_bytes())
}

/// Writes to stdout and flushes.
pub(super) fn bytes(bytes: &[u8]) -> Result<(), Failure> {
    write_to(&mut io::stdout().lock(), bytes)
}

fn write_to(out: &mut impl Write, bytes: &[u8]) -> Result<(), Failure> {
    outcome(out.write_all(bytes).and_then(|()| out.flush()))
}

/// Turns the result of writing to stdout into the command's: a broken pipe is remembered, not an error.
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

/// Writes a line to stderr; errors are ignored.
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
    fn a_full_disk_is_a_failure_and_a_broken_pipe_is_not() {
        assert!(write_to(&mut Failing(ErrorKind::BrokenPipe), b"x").is_ok());
        assert!(is_gone());
        let failure = write_to(&mut Failing(ErrorKind::StorageFull), b"x").unwrap_err();
        assert_eq!((failure.code, failure.message.as_str()), (1, "cannot write to stdout: no storage space"));
    }
}
