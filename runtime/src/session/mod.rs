//! session

pub mod text;
