//! OpenAI's API as data: checks request bodies, encodes answers and errors.
//!
//! No sockets and no engine here. Requests fail closed: an unsupported parameter that would change the answer is a 400
//! naming it (`fields`).

mod answer;
mod chat;
mod common;
mod completions;
mod dialect;
mod embeddings;
mod error;
mod fields;
mod foreign;
mod format;
mod progress;
mod rerank;
mod samplers;
#[cfg(test)]
mod tests;
mod tools;

pub use answer::{Answer, Endpoint, LogProbs, Tally};
pub(super) use answer::{chat_token as token_logprob, finite};
pub use chat::{ChatRequest, messages_of, refuse_reserved, take_thinking};
pub(super) use chat::{thinking_of, verbosity_of};
pub use common::{Baseline, Common, MAX_CHOICES, Scaled, scaled_adapters};
pub use completions::{CompletionRequest, Prompt, token_ids};
pub use dialect::OpenAi;
pub use embeddings::{EmbeddingRequest, Input, embeddings_answer, native_embeddings, short};
pub use error::{ApiError, shown};
pub use fields::Fields;
pub(super) use fields::wrong_type;
pub(super) use foreign::{is_empty, refuse_foreign};
pub use format::Asked;
pub use progress::Progress;
pub use rerank::RerankRequest;
pub use tools::take_tools;
pub(super) use tools::{check_names, read_choice, read_custom, read_function, take_array};
