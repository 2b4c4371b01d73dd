//! Everything that can be wrong with a GGUF, each as one line for users who never heard of the format.
//!
//! Messages do not name the file: whoever opened it prepends its name. Names and keys from the file are shortened and escaped, so
//! that a hostile one cannot break the line or the terminal.

use thiserror::Error;

/// Why a file is refused, or a metadata value is unavailable.
#[derive(Clone, Debug, Error, PartialEq)]
#[non_exhaustive]
pub enum Error {
    /// The first bytes are not GGUF's.
    #[error("not a GGUF file: {0}")]
    NotGguf(String),
    /// The format of August 2023, version 1.
    #[error(
        "GGUF version 1, which was only written in 2023 and is not read here: download a newer file of this model \
         or convert it again"
    )]
    Version1,
    /// The version is valid if byte-swapped.
    #[error("a big-endian GGUF (version {0}), which is not read here: use the little-endian file of this model")]
    BigEndian(u32),
    /// Neither 2 nor 3.
    #[error("GGUF version {0} is not known here (versions 2 and 3 are): a newer satchel may read it")]
    UnknownVersion(u32),
    /// The file ends inside its own header.
    #[error("the file ends at byte {file_bytes}, inside {place}: it is cut off or damaged; download or copy it again")]
    Ended {
        /// Size of the file.
        file_bytes: u64,
        /// What was being read.
        place: String,
    },
    /// The tensor table is complete and shows how long the file should be.
    #[error(
        "the file is cut off: it has {file_bytes} of {expected_bytes} bytes, {} are missing (first in {tensor}); \
         download or copy it again",
        expected_bytes.saturating_sub(*file_bytes)
    )]
    CutOff {
        /// Size of the file.
        file_bytes: u64,
        /// Size implied by the tensor table.
        expected_bytes: u64,
        /// The first truncated tensor.
        tensor: String,
    },
    /// Metadata and tensor table are longer than any model's.
    #[error("metadata and tensor table are longer than {max} bytes, in {place}: the file is damaged")]
    HeaderTooLong {
        /// [`crate::limits::HEADER_BYTES`].
        max: usize,
        /// What was being read.
        place: String,
    },
    /// A count or a length beyond its limit.
    #[error("{place} claims {count} {what}, at most {max} are accepted: the file is damaged")]
    TooMany {
        /// Where the claim is.
        place: String,
        /// What is counted.
        what: &'static str,
        /// The claimed count.
        count: u64,
        /// The limit.
        max: u64,
    },
    /// Arrays nested too deep.
    #[error("{place} nests arrays more than {max} deep: the file is damaged")]
    TooDeep {
        /// Where.
        place: String,
        /// [`crate::limits::ARRAY_DEPTH`].
        max: usize,
    },
    /// Text that is not UTF-8.
    #[error("{place} is not valid UTF-8 text: the file is damaged")]
    NotUtf8 {
        /// Where.
        place: String,
    },
    /// A boolean other than 0 and 1.
    #[error("{place} is a truth value of {found}, where only 0 and 1 exist: the file is damaged")]
    BadBool {
        /// Where.
        place: String,
        /// The byte.
        found: u8,
    },
    /// A metadata type that GGUF does not have.
    #[error("{place} has the unknown type {id}: the file is damaged, or newer than this program")]
    UnknownValueType {
        /// Where.
        place: String,
        /// The type id.
        id: u32,
    },
    /// A duplicate key.
    #[error("the metadata key {0} is there twice: the file is damaged")]
    DuplicateKey(String),
    /// A duplicate tensor name.
    #[error("two tensors are called {0}: the file is damaged")]
    DuplicateTensor(String),
    /// An invalid `general.alignment`.
    #[error("general.alignment is {0}, which is no power of two of at least 8: the file is damaged")]
    BadAlignment(u64),
    /// Too many dimensions.
    #[error("{tensor} has {count} dimensions, at most {max} are possible: the file is damaged")]
    TooManyDimensions {
        /// The tensor.
        tensor: String,
        /// The claimed count.
        count: u32,
        /// [`crate::limits::DIMENSIONS`].
        max: u32,
    },
    /// A dimension of zero.
    #[error("{tensor} has no elements (its shape is {dimensions:?}): the file is damaged")]
    EmptyTensor {
        /// The tensor.
        tensor: String,
        /// Its shape.
        dimensions: Vec<u64>,
    },
    /// Size exceeds 63 bits.
    #[error("{tensor} has the impossible shape {dimensions:?}: the file is damaged")]
    ShapeOverflow {
        /// The tensor.
        tensor: String,
        /// Its shape.
        dimensions: Vec<u64>,
    },
    /// An unknown block type.
    #[error("{tensor} has block type {id}, {}", removed_type(*id))]
    UnknownTensorType {
        /// The tensor.
        tensor: String,
        /// The type id.
        id: u32,
    },
    /// A row that is not whole blocks.
    #[error(
        "{tensor} has rows of {columns} elements, which is no multiple of the {block} that a block of {ty} holds: the file is damaged"
    )]
    PartialBlock {
        /// The tensor.
        tensor: String,
        /// Elements per row.
        columns: u64,
        /// Elements per block.
        block: usize,
        /// The type's name.
        ty: &'static str,
    },
    /// Misaligned tensor data.
    #[error(
        "{tensor} starts at offset {offset}, which is no multiple of the file's alignment {alignment}: the file is damaged"
    )]
    Misaligned {
        /// The tensor.
        tensor: String,
        /// Its offset within the tensor data.
        offset: u64,
        /// The file's alignment.
        alignment: u64,
    },
    /// Tensor data beyond the end of an otherwise complete file.
    #[error(
        "{tensor} lies past the end: {bytes} bytes at byte {offset} of a file of {file_bytes}; the file is damaged"
    )]
    PastEnd {
        /// The tensor.
        tensor: String,
        /// Its first byte in the file.
        offset: u64,
        /// Size of the tensor.
        bytes: u64,
        /// Size of the file.
        file_bytes: u64,
    },
    /// Two tensors share bytes.
    #[error("{first} and {second} overlap in the file: it is damaged")]
    Overlap {
        /// The one that starts first.
        first: String,
        /// The one that starts inside it.
        second: String,
    },
    /// A required key is missing.
    #[error("the metadata has no {0}")]
    Missing(String),
    /// A value of the wrong type.
    #[error("the metadata key {key} should be {expected}, but is {found}")]
    WrongType {
        /// The key.
        key: String,
        /// The expected type.
        expected: &'static str,
        /// The type found.
        found: String,
    },
    /// An array of the wrong length.
    #[error("the metadata array {key} has {found} elements where {expected} are needed")]
    WrongLength {
        /// The key.
        key: String,
        /// The expected length.
        expected: usize,
        /// The length found.
        found: usize,
    },
    /// The parts of a split model do not fit together.
    #[error("split model: {0}")]
    Split(String),
    /// What [`crate::GgufWriter`] was given is not a valid GGUF.
    #[error("cannot write this GGUF: {0}")]
    Unwritable(String),
}

/// Names the type that GGML removed under this id.
fn removed_type(id: u32) -> String {
    let was = match id {
        4 => "Q4_2",
        5 => "Q4_3",
        9 => "Q8_1",
        15 => "Q8_K",
        31 => "Q4_0_4_4",
        32 => "Q4_0_4_8",
        33 => "Q4_0_8_8",
        36 => "IQ4_NL_4_4",
        37 => "IQ4_NL_4_8",
        38 => "IQ4_NL_8_8",
        _ => {
            return "which is not known here: the file is damaged, or newer than this program".to_owned();
        }
    };
    if matches!(id, 9 | 15) {
        return format!("which is {was}: a type for intermediate results, not for files");
    }
    format!("which was {was} and is gone from GGML: download a newer file of this model or quantise it again")
}

/// Quotes a name from a file for a message: escaped, cut after 80 characters.
pub(crate) fn shown(name: &str) -> String {
    const MAX_CHARS: usize = 80;
    let mut text: String = name.chars().take(MAX_CHARS).flat_map(char::escape_debug).collect();
    if name.chars().nth(MAX_CHARS).is_some() {
        text.push('…');
    }
    format!("'{text}'")
}

/// "tensor 'name'", the start of most messages.
pub(crate) fn tensor_named(name: &str) -> String {
    format!("tensor {}", shown(name))
}
