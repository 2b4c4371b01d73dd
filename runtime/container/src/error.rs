//! What can be wrong with a bundle. A file without a bundle is not an error: [`crate::Bundle::open`] returns `None`.

/// Why a bundle cannot be used. Messages do not name the file; the caller adds it.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// There is a bundle, but its bytes are not those that were written.
    #[error("the bundle is damaged: {0}; get the file again")]
    Damaged(String),
    /// Written by a later version.
    #[error(
        "the bundle has format {found}, and this program knows formats up to {known}: use a newer satchel, or run the file itself"
    )]
    Newer {
        /// Format of the file.
        found: u32,
        /// Newest format known here.
        known: u32,
    },
    /// The requested bundle cannot be written.
    #[error("{0}")]
    Unwritable(String),
    /// Reading failed.
    #[error("cannot read: {0}")]
    Io(#[from] std::io::Error),
}

impl Error {
    pub(crate) fn damaged(what: impl Into<String>) -> Self {
        Self::Damaged(what.into())
    }
}
