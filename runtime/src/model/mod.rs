//! A model's plan, from GGUF metadata and tensor table.
//!
//! An architecture (`arch/`) is a small file that composes blocks (`blocks/`); blocks find tensors by their GGUF names and add
//! operations to the plan. Nothing here reads a weight or knows a device.

pub mod arch;
pub mod blocks;
mod error;
pub(crate) mod file_type;
mod hyperparameters;
mod keys;
mod purpose;
mod tensors;

pub use error::ModelError;
pub use hyperparameters::{DEFAULT_CONTEXT_MOST, Hyperparameters};
pub use keys::Keys;
pub use purpose::{PoolingKind, Purpose};
pub use tensors::TensorTable;
