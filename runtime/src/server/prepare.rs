//! Turns a request body into work for the engine: weighs, parses, checks and tokenizes it.

use super::App;
use super::access::Caller;
use super::describe::no_model;
use super::generate::Work;
use super::http::Body;
use super::json::{MAX_VALUES, Weight};
use super::openai::{
    Answer, ApiError, Asked, Baseline, ChatRequest, Common, CompletionRequest, Endpoint, OpenAi, Prompt,
};
use super::routes::Call;
use crate::TokenId;
use crate::chat::RenderRequest;
use crate::grammar::Grammar;
use crate::plan::AdapterSet;
use crate::session::{Overflow, TextRequest};

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

/// The work for a request.
pub(super) fn work(app: &App, endpoint: Endpoint, mut call: Call<'_>) -> Result<Work, ApiError> {
    weigh(&mut call.body)?;
    let session = &app.session;
    let baseline = baseline(app);
    let (prompts, common, logprobs) = match endpoint {
        Endpoint::Chat => {
            let request = ChatRequest::parse(&call.body.bytes, &baseline)?;
            let render = RenderRequest {
                messages: request.messages,
                tools: None,
                add_generation_prompt: true,
                extra: request.template_variables,
            };
            let prompt = session
                .chat_prompt_until(&render, call.client_left)
                .map_err(|error| ApiError::parameter("messages", error.to_string()).code("chat_template"))?;
            let overflow = session.chat_overflow(&render, &prompt);
            (vec![(prompt, overflow)], request.common, request.logprobs)
        }
        Endpoint::Completions => {
            let request = CompletionRequest::parse(&call.body.bytes, &baseline)?;
            let with_overflow = |prompt: Vec<TokenId>| {
                let overflow = session.text_overflow(&prompt);
                (prompt, overflow)
            };
            let prompts = request.prompts.into_iter().map(|prompt| tokens(app, prompt).map(with_overflow));
            let prompts = prompts.collect::<Result<Vec<_>, _>>()?;
            (prompts, request.common, request.logprobs)
        }
    };
    let named = session.adapters_named(common.model.as_deref());
    let adapters = named.ok_or_else(|| no_model(app, common.model.as_deref().unwrap_or_default()))?;
    let grammar = common.format.as_ref().map(|asked| grammar(app, asked)).transpose()?;
    let requests = requests(endpoint, prompts, &common, (logprobs, grammar), (call.who.caller, adapters));
    let facts = &session.facts;
    let answer = Answer::new(endpoint, &session.name_with(adapters), super::unix_seconds());
    Ok(Work {
        n: common.n,
        stream: common.stream,
        prompt_parameter: if endpoint == Endpoint::Chat { "messages" } else { "prompt" },
        dialect: Box::new(OpenAi::new(answer, requests.len(), common.include_usage, facts.context_length)),
        requests,
    })
}

fn tokens(app: &App, prompt: Prompt) -> Result<Vec<TokenId>, ApiError> {
    match prompt {
        Prompt::Tokens(tokens) => Ok(tokens),
        Prompt::Text(text) => {
            app.session.text_prompt(&text).map_err(|error| ApiError::parameter("prompt", error.to_string()))
        }
    }
}

/// The compiled form of what the answer must follow.
fn grammar(app: &App, asked: &Asked) -> Result<Grammar, ApiError> {
    let compiled = app.session.grammars.compile(&asked.format);
    compiled.map_err(|error| ApiError::parameter(asked.parameter, format!("`{}`: {error}", asked.parameter)))
}

/// `n` generations for each prompt. With a fixed seed, choice `j` of a prompt uses `seed + j`: the answers differ, and the
/// first equals that of `n: 1`.
fn requests(
    endpoint: Endpoint,
    prompts: Vec<(Vec<TokenId>, Overflow)>,
    common: &Common,
    (logprobs, grammar): (Option<usize>, Option<Grammar>),
    (caller, adapters): (Caller, AdapterSet),
) -> Vec<TextRequest> {
    let mut requests = Vec::with_capacity(prompts.len() * common.n);
    for (prompt, overflow) in prompts {
        for copy in 0..common.n {
            let mut sampling = common.sampling.clone();
            sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(copy as u64));
            requests.push(TextRequest {
                prompt: prompt.clone(),
                sampling,
                max_tokens: common.max_tokens,
                stop: common.stop.clone(),
                logprobs,
                ignore_end: common.ignore_end,
                is_answer: endpoint == Endpoint::Chat,
                grammar: grammar.clone(),
                caller: caller.0,
                adapters,
                overflow,
            });
        }
    }
    requests
}
