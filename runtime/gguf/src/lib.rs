//! GGUF: bytes in, typed metadata and a validated tensor table out.
//!
//! No I/O and no unsafe code. A file that passes here can be mapped and used without a further bounds check on
//! offsets or sizes; what a tensor means to a model is checked by whoever builds the model.
//!
//! Start at [`Gguf::parse`]. [`Gguf::join`] makes one model of a split one, [`PartName`] knows how its files are
//! called, and [`GgufWriter`] goes the other way.
#![forbid(unsafe_code)]

pub mod build;
mod error;
mod metadata;
mod names;
mod other_files;
mod parse;
mod read;
mod split;
mod tensor_type;
#[cfg(test)]
mod tests;
mod value;
mod writer;

pub use error::Error;
pub use metadata::Metadata;
pub use parse::{Gguf, TensorInfo};
pub use split::{PartName, Split};
pub use tensor_type::TensorType;
pub use value::{Array, StringArray, Value, ValueType};
pub use writer::{Counted, GgufWriter, Layout};

/// What a file may claim before it is taken for damaged. Each is several times what the largest known model needs,
/// so that memory stays flat whatever a file says.
pub mod limits {
    /// Metadata entries of one file.
    pub const ENTRIES: u64 = 65_536;
    /// Tensors of one file (a mixture of experts stored expert by expert has some 50,000).
    pub const TENSORS: u64 = 262_144;
    /// Bytes of one string in the metadata: a chat template has up to 100,000.
    pub const STRING_BYTES: u64 = 16 << 20;
    /// Bytes of a metadata key or a tensor's name.
    pub const NAME_BYTES: u64 = 65_535;
    /// Elements of one array: the largest vocabularies have 300,000 tokens and 600,000 merges.
    pub const ARRAY_ELEMENTS: u64 = 16 << 20;
    /// Arrays inside arrays, counted over one metadata entry.
    pub const INNER_ARRAYS: u64 = 65_536;
    /// How deep arrays may nest.
    pub const ARRAY_DEPTH: usize = 4;
    /// Dimensions of a tensor.
    pub const DIMENSIONS: u32 = 4;
    /// Metadata and tensor table together: 250,000 tokens and their merges take about 20 MB.
    pub const HEADER_BYTES: usize = 256 << 20;
    /// Layers that a file may have numbers for, one each: the deepest models have some 130.
    pub const LAYERS: usize = 65_536;
    /// Parts of a split model.
    pub const PARTS: u32 = 65_535;
}
