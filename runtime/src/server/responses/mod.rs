//! OpenAI's Responses API: items in, items out, and streams of events.
//!
//! `request` checks bodies, `items` turns input items into messages, `tools` reads tools and remembers what the caller calls
//! them, `dialect` encodes answers over the stream of deltas that all APIs share, `object` is the response itself, and
//! `store` keeps responses for `previous_response_id`. Requests fail closed, as in the other APIs.

mod dialect;
pub(super) mod handlers;
mod items;
mod object;
mod request;
mod store;
#[cfg(test)]
mod tests;
mod text;
mod tools;

pub(super) use items::{messages_of_items, parts};
pub(super) use store::Store;
