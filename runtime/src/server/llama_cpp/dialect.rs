//! Answers in the format of llama.cpp's `/completion`: a stream of server-sent events, or a whole answer.
//!
//! Each event has `stop`; the last of a prompt has the counts, the reason and the parameters, too, as a whole answer does. Several
//! prompts give an array.

use satchel_container::parameters::{PARAMETERS, Value as Given};
use serde_json::{Map, Value, json};

use super::request::Answer;
use crate::TokenId;
use crate::server::dialect::{Choice, Delta, Dialect};
use crate::server::http::Response;
use crate::server::openai::{ApiError, Common, Progress, Tally, finite};
use crate::session::{StopReason, TextToken};

/// One answer in llama.cpp's format.
pub(super) struct LlamaCpp {
    answer: Answer,
    settings: Value,
    model: String,
    /// Length and text of each choice's prompt.
    prompts: Vec<(usize, String)>,
    is_array: bool,
    context_length: usize,
    /// What the choices have said so far; their last events wait for the counts.
    choices: Vec<Choice>,
    /// How much of each prompt has been read, if that is to be told.
    progress: Vec<Progress>,
}

impl LlamaCpp {
    pub(super) fn new(
        answer: Answer,
        common: &Common,
        model: String,
        prompts: Vec<(usize, String)>,
        is_array: bool,
        context_length: usize,
        ends: &[TokenId],
    ) -> Self {
        let settings = settings(common, answer.probabilities.unwrap_or(0), ends);
        let choices = vec![Choice::default(); prompts.len()];
        let progress = vec![Progress::default(); if common.progress { prompts.len() } else { 0 }];
        Self { answer, settings, model, prompts, is_array, context_length, choices, progress }
    }

    fn last(&self, index: usize, choice: &Choice, tally: &Tally, streamed: bool) -> Value {
        let (evaluated, prompt) = &self.prompts[index];
        let listed: Vec<u32> = match self.answer.tokens && !streamed {
            true => choice.tokens.iter().map(|token| token.id).collect(),
            false => Vec::new(),
        };
        let (kind, word) = stop(choice.reason.as_ref());
        let mut object = json!({
            "index": index,
            "content": if streamed { "" } else { choice.text.as_str() },
            "tokens": listed,
            "id_slot": -1,
            "stop": true,
            "model": self.model,
            "tokens_predicted": choice.tokens.len(),
            "tokens_evaluated": evaluated,
            "generation_settings": self.settings,
            "prompt": prompt,
            "has_new_line": choice.text.contains('\n'),
            "truncated": self.answer.is_cut
                || choice.reason == Some(StopReason::ContextFull)
                // The shifts of all prompts are counted together.
                || tally.shifted_tokens > 0,
            "stop_type": kind,
            "stopping_word": word,
            "tokens_cached": evaluated + choice.tokens.len(),
            "timings": tally.timings(self.context_length),
        });
        if self.answer.probabilities.is_some() && !streamed {
            object["completion_probabilities"] = self.probabilities(&choice.tokens);
        }
        self.chosen(object)
    }

    fn probabilities(&self, tokens: &[TextToken]) -> Value {
        tokens.iter().map(|token| probability(token, self.answer.after_sampling)).collect()
    }

    /// The fields that were asked for, by their paths.
    fn chosen(&self, object: Value) -> Value {
        if self.answer.fields.is_empty() {
            return object;
        }
        let found = |path: &String| Some((path.clone(), object.pointer(&format!("/{path}"))?.clone()));
        self.answer.fields.iter().filter_map(found).collect::<Map<_, _>>().into()
    }
}

impl Dialect for LlamaCpp {
    fn open(&mut self, _: &mut Vec<u8>) {}

    fn progress(&mut self, out: &mut Vec<u8>, index: usize, done: usize, total: usize) {
        if let Some(progress) = self.progress.get_mut(index) {
            send_progress(out, index, &progress.of(done, total));
        }
    }

    fn delta(&mut self, out: &mut Vec<u8>, index: usize, delta: &Delta) {
        if let Some(shown) = self.progress.get_mut(index).and_then(Progress::end) {
            send_progress(out, index, &shown);
        }
        if let Delta::Text { text, tokens } = delta
            && !(text.is_empty() && tokens.is_empty())
        {
            let ids: Vec<u32> = tokens.iter().map(|token| token.id).collect();
            let mut object = json!({
                "index": index,
                "content": text,
                "tokens": ids,
                "stop": false,
                "id_slot": -1,
                "tokens_predicted": self.choices[index].tokens.len() + tokens.len(),
                "tokens_evaluated": self.prompts[index].0,
            });
            if self.answer.probabilities.is_some() {
                object["completion_probabilities"] = self.probabilities(tokens);
            }
            event(out, "data", &object);
        }
        self.choices[index].push(delta.clone());
    }

    fn heartbeat(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(b": still working\n\n");
    }

    fn close(&mut self, out: &mut Vec<u8>, tally: &Tally) {
        for (index, choice) in self.choices.iter().enumerate() {
            event(out, "data", &self.last(index, choice, tally, true));
        }
    }

    fn fail(&mut self, out: &mut Vec<u8>, error: &ApiError) {
        event(out, "error", &error.body()["error"]);
    }

    fn whole(&mut self, choices: &[Choice], tally: &Tally) -> Value {
        let mut all: Vec<Value> =
            choices.iter().enumerate().map(|(index, choice)| self.last(index, choice, tally, false)).collect();
        if self.is_array { all.into() } else { all.pop().unwrap_or_default() }
    }

    fn refuse(&self, error: &ApiError) -> Response {
        error.native_response()
    }
}

fn send_progress(out: &mut Vec<u8>, index: usize, shown: &Value) {
    let object = json!({"index": index, "content": "", "tokens": [], "stop": false, "prompt_progress": shown});
    event(out, "data", &object);
}

fn event(out: &mut Vec<u8>, kind: &str, data: &Value) {
    out.extend_from_slice(format!("{kind}: {data}\n\n").as_bytes());
}

/// The kind of stop, and the stop string.
fn stop(reason: Option<&StopReason>) -> (&'static str, &str) {
    match reason {
        Some(StopReason::EndToken | StopReason::Complete) => ("eos", ""),
        Some(StopReason::StopString(word)) => ("word", word),
        _ => ("limit", ""),
    }
}

/// A token's log-probability and those of its alternatives; `after_sampling` has probabilities there.
fn probability(token: &TextToken, after_sampling: bool) -> Value {
    let entry = |id: u32, bytes: &[u8], logprob: f32| {
        let mut entry = json!({"id": id, "token": String::from_utf8_lossy(bytes), "bytes": bytes});
        match after_sampling {
            true => entry["prob"] = f64::from(logprob).exp().into(),
            false => entry["logprob"] = finite(logprob).into(),
        }
        entry
    };
    let mut object = entry(token.id, &token.bytes, token.logprob.unwrap_or(f32::NEG_INFINITY));
    let top = if after_sampling { "top_probs" } else { "top_logprobs" };
    object[top] = token.top.iter().map(|(id, bytes, logprob)| entry(*id, bytes, *logprob)).collect();
    object
}

/// The parameters that this answer was made with. `ends` are the model's end tokens, which `ignore_eos` bans.
fn settings(common: &Common, probabilities: usize, ends: &[TokenId]) -> Value {
    let mut settings = Map::new();
    for parameter in PARAMETERS.iter().filter(|parameter| parameter.name != "max_tokens") {
        let value = match common.sampling.get(parameter) {
            Some(Given::Real(value)) => json!(value),
            Some(Given::Whole(value)) => i64::try_from(value).map_or(Value::Null, Value::from),
            None => Value::Null,
        };
        settings.insert(parameter.name.into(), value);
    }
    let limit = common.max_tokens.map_or(json!(-1), |tokens| json!(tokens));
    settings.insert("n_predict".into(), limit.clone());
    settings.insert("max_tokens".into(), limit);
    settings.insert("stop".into(), json!(common.stop));
    settings.insert("samplers".into(), common.stages.iter().map(|stage| stage.name()).collect());
    let time = common.time_limit.map_or(-1, |limit| i64::try_from(limit.as_millis()).unwrap_or(i64::MAX));
    settings.insert("t_max_predict_ms".into(), time.into());
    settings.insert("n_indent".into(), common.least_indent.into());
    let ends = ends.iter().filter(|_| common.ignore_end).map(|&id| (id, f32::NEG_INFINITY));
    let biases = common.sampling.logit_bias.iter().copied().chain(ends);
    // JSON has no infinity: a banned token's is null.
    let bias = |bias: f32| bias.is_finite().then(|| finite(bias));
    let biases: Vec<Value> = biases.map(|(id, value)| json!({"token": id, "bias": bias(value)})).collect();
    settings.insert("logit_bias".into(), biases.into());
    settings.insert("ignore_eos".into(), common.ignore_end.into());
    settings.insert("stream".into(), common.stream.into());
    settings.insert("n_probs".into(), probabilities.into());
    settings.into()
}
