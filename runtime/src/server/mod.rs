//! server

pub mod http;
pub mod limits;
pub mod page;
