//! Why a file cannot be packed, verified or extracted: one line each, naming the file.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the packer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// An I/O error on a file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// The file or folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// A file that cannot be used for its purpose.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// The file.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The GGUF, or a part of it, is refused.
    #[error("{}: {source}", path.display())]
    Model {
        /// The GGUF.
        path: PathBuf,
        /// The reason.
        source: satchel_gguf::Error,
    },
    /// The bundle of a packed file cannot be used.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// The packed file.
        path: PathBuf,
        /// The reason.
        source: satchel_container::Error,
    },
    /// The request cannot be expressed as a bundle.
    #[error("{0}")]
    Unwritable(String),
    /// The output exists already.
    #[error("{} exists: choose another name, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The output is one of the inputs.
    #[error("{} would replace its own input {}: choose another name", output.display(), input.display())]
    OutputIsInput {
        /// The output.
        output: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// The file system is too full.
    #[error(
        "no space for {}: it needs {}, but {} are free in {}",
        output.display(), shown_bytes(*needed_bytes), shown_bytes(*free_bytes), folder.display()
    )]
    NoSpace {
        /// The output.
        output: PathBuf,
        /// Its folder.
        folder: PathBuf,
        /// Size of the output on disk.
        needed_bytes: u64,
        /// Free bytes on the file system.
        free_bytes: u64,
    },
    /// The user pressed Ctrl-C, or the process was asked to end.
    #[error("interrupted: nothing was left behind")]
    Interrupted,
}

impl Error {
    /// For `map_err`: adds the path to an I/O error.
    pub(crate) fn file(path: &Path) -> impl FnOnce(io::Error) -> Self + '_ {
        |source| Self::File { path: path.to_owned(), source }
    }

    pub(crate) fn unfit(path: &Path, what: impl Into<String>) -> Self {
        Self::Unfit { path: path.to_owned(), what: what.into() }
    }

    pub(crate) fn bundle(path: &Path) -> impl FnOnce(satchel_container::Error) -> Self + '_ {
        |source| Self::Bundle { path: path.to_owned(), source }
    }
}

/// A size for display: `92.1 MB`, in powers of 1000 as disks and downloads are labelled.
pub fn shown_bytes(bytes: u64) -> String {
    let mut value = bytes as f64;
    for unit in ["B", "kB", "MB", "GB", "TB"] {
        if value < 999.95 || unit == "TB" {
            return if unit == "B" { format!("{bytes} B") } else { format!("{value:.1} {unit}") };
        }
        value /= 1000.0;
    }
    unreachable!("the last unit returns")
}

#[cfg(test)]
mod tests {
    use super::shown_bytes;

    #[test]
    fn sizes_are_shown_in_decimal_units() {
        for (bytes, text) in [
            (0, "0 B"),
            (999, "999 B"),
            (1000, "1.0 kB"),
            (999_949, "999.9 kB"),
            (999_950, "1.0 MB"),
            (92_100_000, "92.1 MB"),
            (u64::MAX, "18446744.1 TB"),
        ] {
            assert_eq!(shown_bytes(bytes), text);
        }
    }
}
