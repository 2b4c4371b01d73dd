//! The engine's arithmetic: weight block types ([`quant`]) and the operations on them ([`kernels`]).
//!
//! A separate crate, since only this code is worth the compiler's highest optimisation level, and so that its tests can be built
//! for an emulated processor without the rest. Nothing here knows about files, models or tokens.

pub mod kernels;
pub mod quant;
