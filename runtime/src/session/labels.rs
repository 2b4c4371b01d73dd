//! How likely a model finds each of some answers: the sum of the log-probabilities of an answer's tokens after a prompt.
//!
//! One prefill of the prompt gives those of all first tokens at once. Answers of several tokens share what they have in common:
//! each distinct beginning is read once, and only its own tokens, since the prompt's are still cached. Nothing is sampled, so
//! the numbers are the same to the bit every time.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::{Session, SubmitError};
use crate::TokenId;
use crate::engine::{Event, FinishReason, Overflow, Request};
use crate::plan::AdapterSet;
use crate::sampling::SamplingParams;

/// How often a wait looks for a cancellation.
const SLICE: Duration = Duration::from_millis(20);

/// How likely each label is, and what it took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Likely {
    /// Natural log-probability of each label, in their order.
    pub logprobs: Vec<f64>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Of these, tokens that were still cached.
    pub cached_tokens: usize,
}

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[allow(missing_docs)] // the messages explain them
pub enum LikelyError {
    #[error(transparent)]
    Submit(#[from] SubmitError),
    #[error("{0}")]
    Failed(String),
    #[error("{0}")]
    Unavailable(String),
    #[error("cancelled")]
    Cancelled,
}

impl Session {
    /// How likely each of `labels`, none of them empty, is to follow `prompt`.
    ///
    /// # Errors
    /// If the prompt does not fit, the engine fails, or `cancelled` says so, which is polled.
    pub fn likely(
        &self,
        prompt: &[TokenId],
        labels: &[Vec<TokenId>],
        (caller, adapters): (u64, AdapterSet),
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<Likely, LikelyError> {
        let mut likely = Likely { logprobs: vec![0.0; labels.len()], ..Likely::default() };
        for beginning in beginnings(labels) {
            let prompt = [prompt, beginning].concat();
            let (next, used) = self.next_logprobs(prompt, (caller, adapters), cancelled)?;
            if beginning.is_empty() {
                (likely.prompt_tokens, likely.cached_tokens) = used;
            }
            for (label, sum) in labels.iter().zip(&mut likely.logprobs) {
                if let Some((&token, _)) = label.strip_prefix(beginning).and_then(<[_]>::split_first) {
                    *sum += next[token as usize];
                }
            }
        }
        Ok(likely)
    }

    /// Log-probabilities of all tokens after a prompt, by id, and how many tokens it has and were cached.
    fn next_logprobs(
        &self,
        prompt: Vec<TokenId>,
        (caller, adapters): (u64, AdapterSet),
        cancelled: &mut dyn FnMut() -> bool,
    ) -> Result<(Vec<f64>, (usize, usize)), LikelyError> {
        let vocabulary = self.tokenizer.vocab_size();
        let sampling = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        let request = Request {
            caller,
            adapters,
            prompt,
            sampling,
            overflow: Overflow::Stop,
            max_tokens: Some(1),
            end_tokens: Arc::default(),
            logprobs: Some(vocabulary),
            after_sampling: false,
            infill: None,
            constraint: None,
        };
        let mut generation = self.engine.submit(request)?;
        let mut all = vec![f64::NEG_INFINITY; vocabulary];
        loop {
            if cancelled() {
                return Err(LikelyError::Cancelled);
            }
            let Ok(event) = generation.recv_timeout(SLICE) else { continue };
            match event {
                Some(Event::Prompt { .. }) => {}
                Some(Event::Token(token)) => {
                    token.top.into_iter().for_each(|(id, logprob)| all[id as usize] = f64::from(logprob));
                }
                Some(Event::Finished(finished)) => {
                    if let Some(line) = crate::mapping::damage() {
                        return Err(LikelyError::Failed(line));
                    }
                    return match finished.reason {
                        FinishReason::Failed(line) | FinishReason::Refused(line) => Err(LikelyError::Failed(line)),
                        FinishReason::Unavailable(line) => Err(LikelyError::Unavailable(line)),
                        FinishReason::Cancelled => Err(LikelyError::Cancelled),
                        _ => Ok((all, (finished.prompt_tokens, finished.cached_tokens))),
                    };
                }
                None => return Err(LikelyError::Cancelled),
            }
        }
    }
}

/// All that labels begin with and go on from, shortest first.
fn beginnings(labels: &[Vec<TokenId>]) -> Vec<&[TokenId]> {
    let of = |label: &'_ Vec<TokenId>| 0..label.len();
    let all: BTreeSet<&[TokenId]> = labels.iter().flat_map(|label| of(label).map(|end| &label[..end])).collect();
    let mut all: Vec<&[TokenId]> = all.into_iter().collect();
    all.sort_by_key(|beginning| beginning.len());
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_beginning_that_labels_share_is_read_once() {
        let labels = [vec![1], vec![2, 3], vec![2, 4], vec![2, 4, 5]];
        let empty: &[TokenId] = &[];
        assert_eq!(beginnings(&labels), [empty, &[2], &[2, 4]]);
        assert!(beginnings(&[]).is_empty());
    }
}
