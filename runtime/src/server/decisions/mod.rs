//! Decisions: questions about a text, answered with probabilities instead of words.
//!
//! A question becomes the end of a prompt and a label for each answer; the labels' log-probabilities after the prompt, made to
//! sum to 1, are the answer (`session/labels.rs`). `question` has what both APIs share; `systemone` and `openai` read their
//! requests and shape their answers.

mod openai;
mod question;
mod run;
mod systemone;
#[cfg(test)]
mod tests;

pub(super) use openai::work as openai_decisions;
pub(super) use systemone::{error_response, work as system_one};
