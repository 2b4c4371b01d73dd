//! The arithmetic of the engine: block types of weights ([`quant`]) and what works on them ([`kernels`]).
//!
//! A crate of its own, since its code is all that is worth the compiler's highest level of optimisation, and so that its
//! tests can be built for an emulated processor without the rest. Nothing here knows of files, models or tokens.

pub mod kernels;
pub mod quant;
