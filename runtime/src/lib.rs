//! Satchel: an inference engine, a server and a command line around one GGUF model.
//!
//! Dependencies point one way: `cli`, `server` -> `session` -> `engine` -> `state`, `device` -> `plan`; `model` makes plans;
//! `device/cpu` stands on `kernels` -> `quant`.
//! ARCHITECTURE.md has the map.

pub use satchel_compute::{kernels, quant};

pub mod chat;
pub mod cli;
pub mod device;
pub mod engine;
mod environment;
pub mod grammar;
pub mod mapping;
pub mod model;
pub mod own_file;
pub mod plan;
pub mod sampling;
pub mod server;
pub mod session;
pub mod state;
pub mod tokenizer;

/// A token's number in the model's vocabulary.
pub type TokenId = u32;
