//! The bundle format.
#![forbid(unsafe_code)]
