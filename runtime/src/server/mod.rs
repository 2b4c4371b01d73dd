//! server

pub mod http;
pub mod limits;
pub mod openai;
pub mod page;
