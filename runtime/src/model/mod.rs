//! A model: hyperparameters, weights, and one forward pass composed of blocks.
//!
//! An architecture (`arch/`) is data: it reads hyperparameters, finds tensors by their GGUF names and chooses blocks.
//! What runs is the same for all of them: [`Model::forward`] walks the blocks and calls the backend's operations.

pub mod arch;
mod blocks;
mod error;
mod forward;
mod hyperparameters;
pub mod rope;
mod tensors;

pub use blocks::{Attention, FeedForward, Layer, Linear, Mixer, Norm};
pub use error::ModelError;
pub use forward::{Model, SlotColumns};
pub use hyperparameters::{DEFAULT_CONTEXT_MOST, Hyperparameters};
pub use tensors::{MappedPart, TensorSource};
