//! Ollama's API: newline-delimited JSON over the same engine, requests and streams as OpenAI's.
//!
//! `request` and `options` check bodies, `dialect` encodes answers, `describe` shows the model, `handlers` ties them to the
//! generating server and `embedding` to that of an embedding model. Requests fail closed, as with OpenAI's API: a field that
//! would change the answer and is not supported is an error that names it; what concerns loading and hardware is ignored.
//! There is one model, so what manages models is refused.

mod describe;
mod dialect;
pub(super) mod embedding;
mod error;
pub(super) mod handlers;
mod options;
mod request;
#[cfg(test)]
mod tests;

pub(super) use error::{embeds_nothing, error_response, is_managing, manages_nothing};
pub(super) use request::Endpoint;
