//! GGUF: bytes in, typed metadata and a validated tensor table out.
//!
//! No I/O and no unsafe code. A file that passes here can be mapped and used without a further bounds check on
//! offsets or sizes; what a tensor means to a model is checked by whoever builds the model.
#![forbid(unsafe_code)]

mod tensor_type;

pub use tensor_type::TensorType;
