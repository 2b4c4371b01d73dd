//! Turns a request body into work for the engine: weighs, parses, checks and tokenizes it.

use std::sync::Arc;

use serde_json::json;

use super::App;
use super::conversation::{self, Choices, Conversation, Names, Prepared};
use super::describe::no_model;
use super::dialect::Dialect;
use super::generate::Work;
use super::http::{Body, Response};
use super::json::{MAX_VALUES, Weight};
use super::lora;
use super::openai::{Answer, ApiError, Baseline, ChatRequest, Common, CompletionRequest, Endpoint, OpenAi, Prompt};
use super::routes::Call;
use crate::TokenId;
use crate::plan::AdapterSet;
use crate::session::{PromptError, Reading};

/// Reserves the memory that parsing the body will take, before parsing it.
pub(super) fn weigh(body: &mut Body) -> Result<(), ApiError> {
    let weight = Weight::of(&body.bytes);
    if weight.values > MAX_VALUES {
        let message = format!("the request body has more than {MAX_VALUES} values, the most this server accepts");
        return Err(ApiError::new(413, message));
    }
    body.hold(weight.bytes).map_err(|refusal| ApiError::from(&refusal).code("overloaded"))
}

/// What a request's parameters are where it sets none.
pub(super) fn baseline(app: &App) -> Baseline {
    let defaults = &app.session.defaults;
    Baseline {
        sampling: defaults.sampling.clone(),
        max_tokens: defaults.max_tokens,
        vocabulary: app.vocabulary,
        tokenizer: Some(Arc::clone(&app.session.tokenizer)),
    }
}

/// The adapters of a request: those in its `lora`, else the one that its model's name selects, else those that `/lora-adapters` was
/// told.
pub(super) fn adapters(app: &App, common: &Common) -> Result<AdapterSet, ApiError> {
    let named = app.session.adapters_named(common.model.as_deref());
    let named = named.ok_or_else(|| no_model(app, common.model.as_deref().unwrap_or_default()))?;
    match &common.lora {
        Some(wanted) => lora::set_of(&app.session, "lora", wanted),
        None if named.is_empty() => Ok(lora::usual(app)),
        None => Ok(named),
    }
}

/// The work for a chat.
pub(super) fn chat(app: &App, mut call: Call<'_>) -> Result<Work, ApiError> {
    weigh(&mut call.body)?;
    let ChatRequest { messages, template_variables: variables, tools, thinking, prefill, verbosity, logprobs, common } =
        ChatRequest::parse(&call.body.bytes, &baseline(app))?;
    let adapters = adapters(app, &common)?;
    let (n, stream, include_usage, progress) = (common.n, common.stream, common.include_usage, common.progress);
    let (native, may_call) = (is_native(&call), tools.are_offered());
    let names = Names { messages: "messages", tools: "tools" };
    let conversation = Conversation { messages, tools, thinking, verbosity, variables, logprobs, common, names };
    let mut prepared = conversation::prepare(app, conversation, (call.who.caller, adapters), call.client_left)?;
    if let Some(text) = prefill {
        let line = "`continue_final_message`: this model's template begins each answer with reasoning: \
                    end with the user's message, or set `reasoning_effort` to `none`";
        let refused = || ApiError::parameter("continue_final_message", line);
        conversation::begin_with(app, &mut prepared, (&text, may_call), "messages", refused)?;
    }
    let Prepared { requests, reading } = prepared;
    let shape = Shape { endpoint: Endpoint::Chat, choices: requests.len(), include_usage, progress, native };
    let dialect = dialect(app, adapters, shape);
    Ok(Work { requests, n, stream, prompt_parameter: names.messages, reading, dialect })
}

/// How many tokens a chat's prompt has.
pub(super) fn count(app: &App, call: Call<'_>) -> Result<Response, ApiError> {
    let Work { requests, .. } = chat(app, call)?;
    let tokens = requests.first().map_or(0, |request| request.prompt.len());
    Ok(Response::json(200, &json!({"object": "response.input_tokens", "input_tokens": tokens})))
}

/// The work for a continued text.
pub(super) fn completion(app: &App, mut call: Call<'_>) -> Result<Work, ApiError> {
    weigh(&mut call.body)?;
    let session = &app.session;
    let CompletionRequest { prompts, suffix, logprobs, common } =
        CompletionRequest::parse(&call.body.bytes, &baseline(app))?;
    let with_overflow = |prompt: Vec<TokenId>| {
        let overflow = session.text_overflow(&prompt);
        (prompt, overflow)
    };
    let prompts = prompts.into_iter().map(|prompt| tokens(app, prompt, suffix.as_deref()).map(with_overflow));
    let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
    let adapters = adapters(app, &common)?;
    let grammar = common.format.as_ref().map(|asked| conversation::grammar(app, asked)).transpose()?;
    let choices = Choices { common: &common, logprobs, grammar, is_answer: false, caller: call.who.caller, adapters };
    let requests = choices.requests(prompts);
    let shape = Shape {
        endpoint: Endpoint::Completions,
        choices: requests.len(),
        include_usage: common.include_usage,
        progress: common.progress,
        native: is_native(&call),
    };
    let dialect = dialect(app, adapters, shape);
    let (n, stream) = (common.n, common.stream);
    Ok(Work { requests, n, stream, prompt_parameter: "prompt", reading: Reading::default(), dialect })
}

/// What an answer's form depends on.
struct Shape {
    endpoint: Endpoint,
    choices: usize,
    include_usage: bool,
    progress: bool,
    native: bool,
}

/// Whether the path is llama.cpp's, not OpenAI's.
fn is_native(call: &Call<'_>) -> bool {
    !call.head.path.starts_with("/v1/")
}

fn dialect(app: &App, adapters: AdapterSet, shape: Shape) -> Box<dyn Dialect> {
    let answer = Answer::new(shape.endpoint, &app.session.name_with(adapters), super::unix_seconds());
    let dialect = OpenAi::new(answer, shape.choices, shape.include_usage, app.session.facts.context_length);
    Box::new(dialect.with_progress(shape.progress).for_native(shape.native))
}

fn tokens(app: &App, prompt: Prompt, suffix: Option<&str>) -> Result<Vec<TokenId>, ApiError> {
    match (prompt, suffix) {
        (Prompt::Tokens(tokens), _) => Ok(tokens),
        (Prompt::Text(text), None) => {
            app.session.text_prompt(&text).map_err(|error| ApiError::parameter("prompt", error.to_string()))
        }
        (Prompt::Text(text), Some(suffix)) => {
            let refused = |error: PromptError| {
                ApiError::parameter("suffix", format!("`suffix`: {error}")).code("unsupported_parameter")
            };
            app.session.infill_prompt(&text, suffix).map_err(refused)
        }
    }
}
