//! Why a file cannot be packed, checked or taken apart: one line each, with the file it is about.

use std::io;
use std::path::{Path, PathBuf};

/// A failure of the packer.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder that the work needs.
    #[error("{}: {source}", path.display())]
    File {
        /// Which one.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// A file that is not what it should be.
    #[error("{}: {what}", path.display())]
    Unfit {
        /// Which one.
        path: PathBuf,
        /// What is wrong, and what to do.
        what: String,
    },
    /// The GGUF, or a part of it, is refused.
    #[error("{}: {source}", path.display())]
    Model {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: satchel_gguf::Error,
    },
    /// The bundle of a packed file cannot be used.
    #[error("{}: {source}", path.display())]
    Bundle {
        /// Which one.
        path: PathBuf,
        /// Why.
        source: satchel_container::Error,
    },
    /// What was asked for does not fit into a bundle.
    #[error("{0}")]
    Unwritable(String),
    /// The output is there.
    #[error("{} exists: choose another name, or replace it with --force", .0.display())]
    Exists(PathBuf),
    /// The output is one of the inputs.
    #[error("{} would replace {}, which it is made from: choose another name", output.display(), input.display())]
    OutputIsInput {
        /// The output.
        output: PathBuf,
        /// The input.
        input: PathBuf,
    },
    /// The file system is too full.
    #[error(
        "no space for {}: it needs {}, and {} are free in {}",
        output.display(), shown_bytes(*needed_bytes), shown_bytes(*free_bytes), folder.display()
    )]
    NoSpace {
        /// The output.
        output: PathBuf,
        /// Where it was to go.
        folder: PathBuf,
        /// Bytes the output takes.
        needed_bytes: u64,
        /// Bytes that are free.
        free_bytes: u64,
    },
    /// Ctrl-C, or a signal to end.
    #[error("interrupted: nothing was left behind")]
    Interrupted,
}

impl Error {
    /// For `map_err`: the file and what the system said.
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

/// Bytes for people: `92.1 MB`, in powers of 1000 as disks and downloads are labelled.
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
    fn sizes_read_like_a_file_manager_s() {
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
