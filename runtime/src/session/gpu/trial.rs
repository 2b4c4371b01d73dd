//! The trial of a model on a GPU: for a short prompt and an answer, its predictions must match the CPU's.
//!
//! The probe's products have neither the model's shapes nor its block types, and a driver may miscompile a single shader. The CPU
//! computes while the weights are uploaded. The verdict is kept (`cache`), so that later starts need no trial.

use std::sync::Arc;
use std::thread::JoinHandle;

use sha2::{Digest as _, Sha256};

use super::{Adapter, Asked, cache};
use crate::TokenId;
use crate::device::{DeviceError, Program};
use crate::engine::{EvaluateError, Evaluator, Loaded, Wanted};
use crate::environment::{self, faults};
use crate::session::available::Available;

/// Tokens of the prompt, and of the answer. Where products are made by tiles at all, 48 tokens are (`choose_shapes` in `gpu/src/measure.rs`
/// tries no larger number), so that both of a product's shapes are in the trial.
const PROMPT: usize = 48;
const ANSWER: usize = 3;
/// The largest mean KL divergence of a GPU's predictions from the CPU's, in nats. Rounding of activations and another order of sums
/// make some 0.002; a wrong shader makes ones.
const MOST: f64 = 0.1;

/// A trial in progress.
pub(super) struct Trial {
    adapter: Adapter,
    what: String,
    state: State,
}

enum State {
    /// The mean KL divergence, computed now or in an earlier start.
    Known(f64),
    /// The CPU computes.
    Begun(JoinHandle<Result<Predictions, String>>),
    /// The CPU could not.
    Failed(String),
    /// Skipped, and why.
    LeftOut(&'static str),
}

/// Logits, `(predictions, vocabulary)`.
type Predictions = Vec<f32>;

impl Trial {
    /// Starts the CPU's part, unless the verdict is known.
    pub(super) fn begin(asked: &Arc<Asked>, adapter: &Adapter, matrices: bool) -> Self {
        let what = fingerprint(asked, matrices);
        let state = match cache::agreement(adapter, &what) {
            Some(divergence) => State::Known(divergence),
            None if !fits(asked) => State::LeftOut("the model is larger than the memory that is left"),
            None => {
                let asked = Arc::clone(asked);
                let compute = move || {
                    let program = asked.on_cpu().map_err(|error| error.to_string())?;
                    let predicted = predictions(&asked, program, &tokens(&asked, 0));
                    predicted.map(|(_, predicted)| predicted).map_err(|error| error.to_string())
                };
                let thread = std::thread::Builder::new().name("trial".to_owned()).spawn(compute);
                thread.map_or(State::LeftOut("no thread could be started"), State::Begun)
            }
        };
        Self { adapter: adapter.clone(), what, state }
    }

    /// Computes the GPU's part and compares; returns the program, and what is said of the trial. May be called again, with another
    /// program of the same plan, if the device fails.
    ///
    /// # Errors
    /// The device fails, or its predictions are wrong.
    pub(super) fn judge(
        &mut self,
        asked: &Asked,
        program: Box<dyn Program>,
    ) -> Result<(Box<dyn Program>, String), DeviceError> {
        if let State::LeftOut(why) = self.state {
            return Ok((program, format!("; not compared with the CPU: {why}")));
        }
        let program = match self.state {
            State::Known(_) => program,
            _ => self.compare(asked, program)?,
        };
        match &self.state {
            State::Known(divergence) if *divergence <= MOST => {
                Ok((program, format!("; its predictions are the CPU's (KL divergence {divergence:.4})")))
            }
            State::Known(divergence) => Err(DeviceError::Unsupported(format!(
                "its predictions of this model are not the CPU's (KL divergence {divergence:.2}), which another driver may mend"
            ))),
            State::Failed(why) => {
                Err(DeviceError::Failed(format!("the CPU could not compute its part of a trial: {why}")))
            }
            State::Begun(_) | State::LeftOut(_) => unreachable!("they have been compared"),
        }
    }

    /// Makes the verdict known.
    fn compare(&mut self, asked: &Asked, program: Box<dyn Program>) -> Result<Box<dyn Program>, DeviceError> {
        let shift = TokenId::from(environment::text(faults::WRONG).is_some());
        let (program, found) = predictions(asked, program, &tokens(asked, shift)).map_err(as_device_error)?;
        let broke_down = || "its thread broke down".to_owned();
        let right = match std::mem::replace(&mut self.state, State::Failed(broke_down())) {
            State::Begun(thread) => thread.join().unwrap_or_else(|_| Err(broke_down())),
            state => {
                self.state = state;
                return Ok(program);
            }
        };
        self.state = match right {
            Err(why) => State::Failed(why),
            Ok(right) => {
                let divergence = mean_divergence(&right, &found, asked.plan.vocabulary);
                cache::keep_agreement(&self.adapter, &self.what, divergence);
                State::Known(divergence)
            }
        };
        Ok(program)
    }
}

fn as_device_error(error: EvaluateError) -> DeviceError {
    match error {
        EvaluateError::Device(error) => error,
        other => DeviceError::Failed(other.to_string()),
    }
}

/// Identifies everything that decides which shaders run, and on what.
fn fingerprint(asked: &Asked, matrices: bool) -> String {
    let Asked { plan, compute, .. } = asked;
    let all = format!("{plan:?} {:?} {matrices}", compute.cache);
    Sha256::digest(all).iter().take(16).map(|byte| format!("{byte:02x}")).collect()
}

/// Whether the CPU can read the weights without reading some of them from the disk for each token.
fn fits(asked: &Asked) -> bool {
    let bytes: usize = asked.parts.iter().map(|part| part.length).sum();
    Available::now().is_none_or(|available| bytes as u64 <= available.bytes)
}

/// A prompt and an answer; other ones for another `shift`.
fn tokens(asked: &Asked, shift: TokenId) -> Vec<TokenId> {
    let count = (PROMPT + ANSWER).min(asked.plan.trained_context);
    // Fibonacci hashing: spread over the vocabulary, the same each time.
    let spread = |at: usize| (at as u32 + 1).wrapping_mul(0x9e37_79b9);
    (0..count).map(|at| (spread(at) ^ shift) % asked.plan.vocabulary as TokenId).collect()
}

/// Predictions behind a prompt, and behind each token of the answer to it.
fn predictions(
    asked: &Asked,
    program: Box<dyn Program>,
    tokens: &[TokenId],
) -> Result<(Box<dyn Program>, Predictions), EvaluateError> {
    let mut evaluator = Evaluator::new(Loaded { plan: asked.plan.clone(), program }, tokens.len());
    let (prompt, answer) = tokens.split_at(tokens.len().min(PROMPT));
    let mut logits = evaluator.append(prompt, Wanted::Last)?.to_vec();
    for token in answer {
        logits.extend(evaluator.answer(*token)?);
    }
    Ok((evaluator.into_loaded().program, logits))
}

/// Mean over rows of the KL divergence of `found` from `right`, in nats; infinite if one of the logits is NaN or infinite.
fn mean_divergence(right: &[f32], found: &[f32], columns: usize) -> f64 {
    if right.len() != found.len() || !found.iter().all(|logit| logit.is_finite()) {
        return f64::INFINITY;
    }
    let rows = right.chunks(columns).zip(found.chunks(columns));
    let sum: f64 = rows.map(|(right, found)| divergence(right, found)).sum();
    sum / (right.len() / columns) as f64
}

/// KL divergence of one distribution from another, both as logits.
fn divergence(right: &[f32], found: &[f32]) -> f64 {
    /// Logits, less the logarithm of the sum of their exponentials.
    fn normaliser(logits: &[f32]) -> f64 {
        let most = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
        most + logits.iter().map(|logit| (f64::from(*logit) - most).exp()).sum::<f64>().ln()
    }
    let (of_right, of_found) = (normaliser(right), normaliser(found));
    let terms = right.iter().zip(found).map(|(right, found)| {
        let (right, found) = (f64::from(*right) - of_right, f64::from(*found) - of_found);
        right.exp() * (right - found)
    });
    terms.sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_predictions_do_not_diverge() {
        let logits = [1.0f32, -2.0, 0.5, 3.0, 2.0, 1.0];
        let shifted = logits.map(|logit| logit + 7.0);
        assert!(mean_divergence(&logits, &shifted, 3).abs() < 1e-6, "softmax does not see a shift");
        // Of (1/2, 1/2) from (1/4, 3/4): (ln 2 + ln (2/3)) / 2.
        let quarter = [0.0, 3.0f32.ln()];
        let expected = (2.0f64.ln() + (2.0f64 / 3.0).ln()) / 2.0;
        assert!((mean_divergence(&[0.0, 0.0], &quarter, 2) - expected).abs() < 1e-6);
    }

    #[test]
    fn nan_is_infinitely_wrong() {
        assert_eq!(mean_divergence(&[0.0, 1.0], &[0.0, f32::NAN], 2), f64::INFINITY);
        assert_eq!(mean_divergence(&[0.0, 1.0], &[0.0], 2), f64::INFINITY, "a row is missing");
    }
}
