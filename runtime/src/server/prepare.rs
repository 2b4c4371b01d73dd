//! Turns a request body into work for the engine: weighs, parses, checks and tokenizes it.

use super::App;
use super::conversation::{self, Choices, Conversation, Names, Prepared};
use super::describe::no_model;
use super::dialect::Dialect;
use super::generate::Work;
use super::http::Body;
use super::json::{MAX_VALUES, Weight};
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
    Baseline { sampling: defaults.sampling.clone(), max_tokens: defaults.max_tokens, vocabulary: app.vocabulary }
}

/// The adapters that a request's model name selects.
pub(super) fn adapters(app: &App, common: &Common) -> Result<AdapterSet, ApiError> {
    let named = app.session.adapters_named(common.model.as_deref());
    named.ok_or_else(|| no_model(app, common.model.as_deref().unwrap_or_default()))
}

/// The work for a chat.
pub(super) fn chat(app: &App, mut call: Call<'_>) -> Result<Work, ApiError> {
    weigh(&mut call.body)?;
    let ChatRequest { messages, template_variables: variables, tools, thinking, logprobs, common } =
        ChatRequest::parse(&call.body.bytes, &baseline(app))?;
    let adapters = adapters(app, &common)?;
    let (n, stream, include_usage) = (common.n, common.stream, common.include_usage);
    let names = Names { messages: "messages", tools: "tools" };
    let conversation = Conversation { messages, tools, thinking, variables, logprobs, common, names };
    let Prepared { requests, reading } =
        conversation::prepare(app, conversation, (call.who.caller, adapters), call.client_left)?;
    let dialect = dialect(app, Endpoint::Chat, adapters, requests.len(), include_usage);
    Ok(Work { requests, n, stream, prompt_parameter: names.messages, reading, dialect })
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
    let dialect = dialect(app, Endpoint::Completions, adapters, requests.len(), common.include_usage);
    let (n, stream) = (common.n, common.stream);
    Ok(Work { requests, n, stream, prompt_parameter: "prompt", reading: Reading::default(), dialect })
}

fn dialect(
    app: &App,
    endpoint: Endpoint,
    adapters: AdapterSet,
    choices: usize,
    include_usage: bool,
) -> Box<dyn Dialect> {
    let answer = Answer::new(endpoint, &app.session.name_with(adapters), super::unix_seconds());
    Box::new(OpenAi::new(answer, choices, include_usage, app.session.facts.context_length))
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
