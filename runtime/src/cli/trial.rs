//! The trial before packing: opens the model as the packed file will and generates a few tokens, so that errors surface
//! here and warnings come while the input can still be changed.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use satchel_container::Settings;
use serde_json::{Value, json};

use super::Failure;
use super::template_args::built_in_notice;
use crate::chat::RenderRequest;
use crate::plan::CacheType;
use crate::session::embedding::{EmbeddingModel, is_embedding_model};
use crate::session::{AdapterOption, ModelSource, OpenOptions, Session, StopReason, TextEvent, TextRequest};

/// Tokens to generate.
const ANSWER_TOKENS: usize = 4;
/// Deadline for the answer: a model larger than memory is read from disk again for each token.
const ANSWER_WITHIN: Duration = Duration::from_secs(15);
/// Larger models generate nothing: a step cannot be cancelled, and the first could outlast the deadline.
const ANSWER_MOST_BYTES: u64 = 4 << 30;
/// Trained on fewer positions, a model is a toy or its metadata is wrong.
const LEAST_CONTEXT: usize = 128;

/// Opens the model as the packed file will, and tries it. Returns warnings for the user.
pub(super) fn try_model(
    model: PathBuf,
    adapters: Vec<AdapterOption>,
    settings: &Settings,
) -> Result<Vec<String>, Failure> {
    let options = as_packed(model, adapters, settings)?;
    let source = ModelSource::of(&options)?;
    if is_embedding_model(&source) {
        EmbeddingModel::open(&source, &options, None)?;
        return Ok(vec!["this is an embedding model: the file serves /v1/embeddings and has no chat".into()]);
    }
    let session = Session::from_source(source, &options)?;
    let mut notes: Vec<String> = Vec::new();
    notes.extend(session.template.as_ref().err().cloned());
    notes.extend(session.built_in_template.map(built_in_notice));
    notes.extend(context_note(&session));
    if session.tokenizer.require_text().is_ok() {
        notes.extend(stop_note(&session));
        if session.facts.file_bytes <= ANSWER_MOST_BYTES {
            notes.extend(answer_note(&session)?);
        }
    }
    Ok(notes)
}

/// The options with which the packed file will open the model.
pub(super) fn as_packed(
    model: PathBuf,
    adapters: Vec<AdapterOption>,
    settings: &Settings,
) -> Result<OpenOptions, Failure> {
    Ok(OpenOptions {
        model: Some(model),
        adapters,
        context: settings.context.map(|tokens| tokens as usize),
        threads: settings.threads.map(|threads| threads as usize),
        cache_type_k: cache_type(&settings.cache_type_k)?,
        cache_type_v: cache_type(&settings.cache_type_v)?,
        parallel: Some(1),
        ..OpenOptions::default()
    })
}

fn cache_type(name: &Option<String>) -> Result<Option<CacheType>, Failure> {
    name.as_deref().map(str::parse).transpose().map_err(Failure::usage)
}

fn context_note(session: &Session) -> Option<String> {
    let trained = session.facts.trained_context;
    (trained < LEAST_CONTEXT).then(|| format!("the model says it was trained on {trained} tokens only; is that right?"))
}

fn message(role: &str, content: &str) -> Value {
    json!({"role": role, "content": content})
}

/// The template must end an answer with an end token: otherwise the model goes on and writes the user's turn, too.
fn stop_note(session: &Session) -> Option<String> {
    const ANSWER: &str = "Fine.";
    let ends = session.tokenizer.end_tokens();
    if ends.is_empty() {
        return Some(
            "the model names no token that ends an answer, so each goes on to the longest length allowed".into(),
        );
    }
    let template = session.template.as_ref().ok()?;
    let messages = vec![message("user", "How are you?"), message("assistant", ANSWER)];
    let request = RenderRequest { messages, ..RenderRequest::default() };
    let text = match template.render(&request) {
        Ok(text) => text,
        Err(error) => return Some(format!("a short conversation cannot be rendered: {error}")),
    };
    let behind = text.rfind(ANSWER).map(|at| &text[at + ANSWER.len()..])?;
    let tokens = session.tokenizer.encode(behind, false, true).ok()?;
    let ended = tokens.iter().any(|token| ends.contains(token));
    (!ended).then(|| {
        let known: Vec<&str> = ends.iter().map(|id| session.tokenizer.token_text(*id)).collect();
        format!(
            "the chat template ends an answer with {behind:?}, which is not an end token (those are {}), so answers may not \
             end; check tokenizer.ggml.eos_token_id",
            known.join(", ")
        )
    })
}

/// Generates a few tokens.
fn answer_note(session: &Session) -> Result<Option<String>, Failure> {
    let messages = vec![message("user", "Hello!")];
    let request = RenderRequest { messages, add_generation_prompt: true, ..RenderRequest::default() };
    let prompt = match session.chat_prompt(&request) {
        Ok(prompt) => prompt,
        Err(_) => session.text_prompt("Hello")?,
    };
    let mut sampling = session.defaults.sampling.clone();
    sampling.temperature = 0.0;
    let max_tokens = Some(ANSWER_TOKENS);
    let adapters = session.all_adapters();
    let request = TextRequest { prompt, sampling, max_tokens, adapters, ..TextRequest::default() };
    let Ok(mut answer) = session.generate(request) else {
        return Ok(Some("the context is too small for a prompt of a few words".into()));
    };
    let mut tokens = 0;
    let until = Instant::now() + ANSWER_WITHIN;
    loop {
        let event = match answer.next_timeout(until.saturating_duration_since(Instant::now())) {
            Ok(Some(event)) => event,
            Ok(None) => break,
            Err(_) => return Ok(None),
        };
        match event {
            TextEvent::Text(piece) => tokens += piece.tokens.len(),
            TextEvent::Finished(finished) => {
                if let StopReason::Failed(line) = finished.reason {
                    return Err(Failure::new(format!("the model cannot answer: {line}")));
                }
            }
            TextEvent::Prompt { .. } => {}
        }
    }
    Ok((tokens == 0).then(|| "the model ends its answer to \"Hello!\" before the first word".into()))
}
