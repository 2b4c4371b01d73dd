//! Anthropic's Messages API over the same engine, requests and streams as OpenAI's.
//!
//! `request` checks a body, `messages` turns its blocks into messages as templates read them, `tools` its tools; `dialect`
//! encodes answers as blocks, whole or as events; `handlers` ties them to the server. Requests fail closed, as in the other
//! APIs: a field that would change the answer and is not supported is an error with its path. What only concerns accounts,
//! caching or routing passes.

mod blocks;
mod dialect;
mod error;
pub(super) mod handlers;
mod messages;
mod request;
#[cfg(test)]
mod tests;
mod thought;
mod tools;

pub(super) use error::error_response;
