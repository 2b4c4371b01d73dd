//! Satchel: an inference engine, a server and a command line around one GGUF model.
//!
//! Dependencies point one way: `cli`, `server` -> `session` -> `engine` -> `model` -> `backend` -> `kernels` -> `quant`.
//! ARCHITECTURE.md has the map.

pub use satchel_compute::{kernels, quant};

pub mod backend;
pub mod chat;
pub mod cli;
pub mod engine;
pub mod kv;
pub mod mapping;
pub mod model;
pub mod own_file;
pub mod sampling;
pub mod server;
pub mod session;
pub mod tokenizer;

/// A token's number in the model's vocabulary.
pub type TokenId = u32;
