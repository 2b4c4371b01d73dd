//! Asks a conversation questions.

use std::sync::atomic::Ordering;

use serde_json::{Map, Value, json};

use super::question::{Question, probabilities};
use crate::chat::RenderRequest;
use crate::chat::thinking::Thinking;
use crate::plan::AdapterSet;
use crate::server::App;
use crate::server::describe::no_model;
use crate::server::generate::admit;
use crate::server::openai::ApiError;
use crate::server::routes::Call;
use crate::session::SubmitError;
use crate::session::labels::LikelyError;

/// What questions took.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Used {
    pub(super) prompt_tokens: usize,
    pub(super) cached_tokens: usize,
    pub(super) questions: usize,
}

/// A conversation to ask about.
pub(super) struct About {
    /// In the form of `chat::message`.
    pub(super) messages: Vec<Value>,
    /// The requested model.
    pub(super) model: Option<String>,
    /// What the API calls the parameter that has the text.
    pub(super) parameter: &'static str,
}

/// Probabilities of the answers of each question, and the model's name.
///
/// # Errors
/// 400 if the text does not fit, 503 if the engine cannot go on.
pub(super) fn ask(
    app: &App,
    call: &mut Call<'_>,
    about: &About,
    questions: &[Question],
) -> Result<(Vec<Vec<f64>>, Used, String), ApiError> {
    let _running = app.gauges.begin();
    let named = app.session.adapters_named(about.model.as_deref());
    let adapters = named.ok_or_else(|| no_model(app, about.model.as_deref().unwrap_or_default()))?;
    let (mut all, mut used) = (Vec::with_capacity(questions.len()), Used::default());
    for question in questions {
        admit(app)?;
        all.push(ask_one(app, call, (about, adapters), question, &mut used)?);
    }
    app.gauges.finished.fetch_add(1, Ordering::Relaxed);
    app.gauges.prompt_tokens.fetch_add(used.prompt_tokens as u64, Ordering::Relaxed);
    app.gauges.cached_tokens.fetch_add(used.cached_tokens as u64, Ordering::Relaxed);
    Ok((all, used, app.session.name_with(adapters)))
}

fn ask_one(
    app: &App,
    call: &mut Call<'_>,
    (about, adapters): (&About, AdapterSet),
    question: &Question,
    used: &mut Used,
) -> Result<Vec<f64>, ApiError> {
    let session = &app.session;
    let refused = |line: String| ApiError::parameter(about.parameter, line);
    let mut messages = about.messages.clone();
    append(&mut messages, &question.prompt());
    session.output.history(&mut messages);
    let mut extra = Map::new();
    Thinking::of_effort("none".to_owned()).put_into(&mut extra);
    let render = RenderRequest { messages, tools: None, add_generation_prompt: true, extra };
    let mut prompt = session
        .chat_prompt_until(&render, call.client_left)
        .map_err(|error| refused(error.to_string()).code("chat_template"))?;
    let encode = |text: &str, special| {
        let tokens = session.tokenizer.encode(text, false, special);
        tokens.map_err(|error| refused(error.to_string()))
    };
    // The answer is asked for at once, so reasoning that would come first is ended; a model that reasons has a token for it.
    if let Some(marks) = session.output.reasoning(&session.tail(&prompt)) {
        let open = marks.open.unwrap_or_default();
        if open.is_empty() || encode(&open, true)?.len() == 1 {
            prompt.extend(encode(&format!("{open}{}", marks.forced), true)?);
        }
    }
    let labels = question.labels().iter().map(|label| encode(label, false)).collect::<Result<Vec<_>, _>>()?;
    let mut cancelled = || (call.client_left)() || app.ending.load(Ordering::Relaxed);
    let likely =
        session.likely(&prompt, &labels, (call.who.caller.0, adapters), &mut cancelled).map_err(
            |error| match error {
                LikelyError::Submit(SubmitError::PromptTooLong { .. }) => {
                    refused(error.to_string()).code("context_length_exceeded")
                }
                LikelyError::Submit(SubmitError::ShuttingDown) | LikelyError::Cancelled => {
                    ApiError::new(503, "the server is stopping").code("shutting_down")
                }
                LikelyError::Submit(_) => refused(error.to_string()),
                LikelyError::Unavailable(_) => ApiError::new(503, error.to_string()).code("overloaded"),
                LikelyError::Failed(_) => ApiError::new(500, error.to_string()),
            },
        )?;
    used.prompt_tokens += likely.prompt_tokens;
    used.cached_tokens += likely.cached_tokens;
    used.questions += 1;
    Ok(probabilities(&likely.logprobs))
}

/// Puts the question behind the text, in the user's turn: questions share what is before it.
fn append(messages: &mut Vec<Value>, question: &str) {
    match messages.last_mut() {
        Some(last) if last["role"] == "user" => {
            let text = last["content"].as_str().unwrap_or_default();
            last["content"] = format!("{text}\n\n{question}").into();
        }
        _ => messages.push(json!({"role": "user", "content": question})),
    }
}
