//! kernels

pub mod threads;
