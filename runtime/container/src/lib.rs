//! The bundle: how one executable carries a model.
//!
//! ```text
//! 0             program        a copy of the executable, byte for byte
//! ...           model parts    zip entries, stored, data on a 64 KiB boundary; zeros fill the gap before a header
//!               other entries  licence texts, a page that replaces the built-in one; stored or deflated
//!               states         what the engine has computed of the system prompt; stored
//!               manifest.json  last entry, stored: names, SHA-256 and size of every entry, model facts, defaults
//!               directory      zip central directory, zip64 records, and a comment of fixed length: the seal
//! ```
//!
//! All offsets count from the start of the file, so that any zip tool can list and extract it. The one idea to know:
//! there is exactly one way to write a given bundle. The reader re-encodes the records it parsed and compares bytes, so
//! it rejects anything that another zip tool might read differently.
//!
//! This crate does no file-system work; it reads from `Read + Seek` or a slice and returns bytes to write. [`directory`]
//! says why it writes zip records itself instead of using the `zip` crate.
#![forbid(unsafe_code)]

pub mod bundle;
pub mod digest;
pub mod directory;
mod error;
pub mod layout;
pub mod manifest;
pub mod name;
pub mod parameters;
mod program;
pub mod settings;

pub use bundle::{Bundle, Entry};
pub use digest::Digest;
pub use error::Error;
pub use manifest::{Beside, Defaults, EntryKind, EntryRecord, Manifest, ModelFacts};
pub use program::is_executable;
pub use settings::Settings;

/// Format version written, and the newest one read.
pub const FORMAT: u32 = 1;
/// Model data begins on a multiple of this: the largest page size of any platform (macOS 16 KiB, some ARM 64 KiB) and
/// the allocation granularity of mapped files on Windows.
pub const ALIGNMENT_BYTES: u64 = 64 * 1024;
/// Name of the Mach-O segment that holds a bundle in the form that can be signed.
pub const MACHO_SEGMENT: &[u8] = b"__SATCHEL";
/// Name of the manifest's entry.
pub const MANIFEST_NAME: &str = "manifest.json";
/// Largest manifest read or written.
pub const MANIFEST_MAX_BYTES: u64 = 4 << 20;
/// Largest central directory read or written.
pub const DIRECTORY_MAX_BYTES: u64 = 4 << 20;
/// Most bytes of the page and the licences together, decompressed: they are held in memory.
pub const SMALL_ENTRIES_MAX_BYTES: u64 = 64 << 20;
/// Most bytes of one carried runtime, decompressed.
pub const RUNTIME_MAX_BYTES: u64 = 256 << 20;
/// Most bytes of computed states together.
pub const STATES_MAX_BYTES: u64 = 1 << 30;
/// Most entries of a bundle, including the manifest.
pub const ENTRIES_MAX: usize = 10_000;
