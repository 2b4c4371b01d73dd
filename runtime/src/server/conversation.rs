//! A checked conversation, whichever API it came by, to work for the engine.
//!
//! Here an answer gets its prompt, the tools its model is told of, and the grammar that keeps its calls whole. The API that the
//! request came by adds its dialect.

use serde_json::{Map, Value};

use super::App;
use super::access::Caller;
use super::openai::{ApiError, Asked, Common};
use crate::TokenId;
use crate::chat::thinking::Thinking;
use crate::chat::tools::{ToolChoice, Tools};
use crate::chat::verbosity::Verbosity;
use crate::grammar::{Calls, Grammar};
use crate::plan::AdapterSet;
use crate::session::{Overflow, Reading, TextRequest};

/// A conversation that the model is to continue.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    /// In the form of `chat::message`.
    pub(super) messages: Vec<Value>,
    pub(super) tools: Tools,
    pub(super) thinking: Thinking,
    pub(super) verbosity: Option<Verbosity>,
    /// More variables of the template.
    pub(super) variables: Map<String, Value>,
    /// Alternatives to report with each token; `None`: no log-probabilities.
    pub(super) logprobs: Option<usize>,
    pub(super) common: Common,
    /// The API's names of the parameters that have messages and tools, for errors.
    pub(super) names: Names,
}

/// What an API calls its parameters.
#[derive(Clone, Copy, Debug)]
pub(super) struct Names {
    pub(super) messages: &'static str,
    pub(super) tools: &'static str,
}

/// Requests for the engine, one a choice, and how their answers are read.
pub(super) struct Prepared {
    pub(super) requests: Vec<TextRequest>,
    pub(super) reading: Reading,
}

/// Renders the conversation and compiles what its answer must follow.
///
/// # Errors
/// 400, by the template or by a schema that cannot be enforced.
pub(super) fn prepare(
    app: &App,
    conversation: Conversation,
    (caller, adapters): (Caller, AdapterSet),
    client_left: &mut dyn FnMut() -> bool,
) -> Result<Prepared, ApiError> {
    let session = &app.session;
    let Conversation { mut messages, tools, thinking, verbosity, mut variables, logprobs, common, names } =
        conversation;
    let format = format_beside(&tools, common.format.as_ref());
    thinking.put_into(&mut variables);
    session.put_system(&mut messages);
    if let Some(text) = verbosity.and_then(Verbosity::instruction) {
        session.output.instruct(text, &mut messages);
    }
    let render = session.conversation(messages, &tools, true, variables);
    let prompt = session
        .chat_prompt_until(&render, client_left)
        .map_err(|error| ApiError::parameter(names.messages, error.to_string()).code("chat_template"))?;
    let overflow = session.chat_overflow(&render, &prompt);
    let tail = session.tail(&prompt);
    let reading = Reading::new(session, tools.clone(), &prompt);
    let calls = calls(app, &tools, names)?;
    let grammar = format.map(|asked| grammar(app, asked)).transpose()?;
    let budget = thinking.budget;
    let mut requests = Choices { common: &common, logprobs, grammar, is_answer: true, caller, adapters }
        .requests(vec![(prompt, overflow)]);
    let reasoning = session.output.reasoning(&tail);
    for request in &mut requests {
        (request.reasoning, request.reasoning_budget) = (reasoning.clone(), budget);
        request.calls.clone_from(&calls);
    }
    Ok(Prepared { requests, reading })
}

/// What an answer must follow beside calls: the format, unless it has to be a call.
fn format_beside<'a>(tools: &Tools, format: Option<&'a Asked>) -> Option<&'a Asked> {
    let is_call = tools.are_offered() && matches!(tools.choice, ToolChoice::Required | ToolChoice::Named(_));
    format.filter(|_| !is_call)
}

/// Puts the beginning of the answer behind the prompt, as if the model had written it. `refused` is the error where the template
/// begins answers with reasoning.
pub(super) fn begin_with(
    app: &App,
    prepared: &mut Prepared,
    (text, may_call): (&str, bool),
    parameter: &str,
    refused: impl Fn() -> ApiError,
) -> Result<(), ApiError> {
    let tokens = app.session.tokenizer.encode(text, false, false);
    let tokens = tokens.map_err(|error| ApiError::parameter(parameter, error.to_string()))?;
    for request in &mut prepared.requests {
        if request.reasoning.take().is_some_and(|marks| marks.open.is_none()) {
            return Err(refused());
        }
        request.prompt.extend(&tokens);
        // What follows goes on within a text, so the space before its first word counts.
        request.is_answer = may_call;
    }
    Ok(())
}

/// What calls of the tools must follow.
fn calls(app: &App, tools: &Tools, names: Names) -> Result<Option<Calls>, ApiError> {
    if !tools.are_offered() {
        return Ok(None);
    }
    app.session.calls(tools).map(Some).map_err(|(index, line)| {
        let at = index.map_or(names.tools.to_owned(), |index| format!("{}[{index}]", names.tools));
        ApiError::parameter(at.clone(), format!("`{at}`: {line}"))
    })
}

/// The compiled form of what an answer must follow.
///
/// # Errors
/// 400 naming the parameter.
pub(super) fn grammar(app: &App, asked: &Asked) -> Result<Grammar, ApiError> {
    let compiled = app.session.grammars.compile(&asked.format);
    compiled.map_err(|error| ApiError::parameter(asked.parameter, format!("`{}`: {error}", asked.parameter)))
}

/// What the choices of a request have in common.
pub(super) struct Choices<'a> {
    pub(super) common: &'a Common,
    pub(super) logprobs: Option<usize>,
    pub(super) grammar: Option<Grammar>,
    pub(super) is_answer: bool,
    pub(super) caller: Caller,
    pub(super) adapters: AdapterSet,
}

impl Choices<'_> {
    /// `n` generations for each prompt. With a fixed seed, choice `j` of a prompt uses `seed + j`: the answers differ, and the
    /// first equals that of `n: 1`.
    pub(super) fn requests(&self, prompts: Vec<(Vec<TokenId>, Overflow)>) -> Vec<TextRequest> {
        let mut requests = Vec::with_capacity(prompts.len() * self.common.n);
        for (prompt, overflow) in prompts {
            for copy in 0..self.common.n {
                let mut sampling = self.common.sampling.clone();
                sampling.seed = sampling.seed.map(|seed| seed.wrapping_add(copy as u64));
                requests.push(TextRequest {
                    prompt: prompt.clone(),
                    sampling,
                    max_tokens: self.common.max_tokens,
                    stop: self.common.stop.clone(),
                    time_limit: self.common.time_limit,
                    least_indent: self.common.least_indent,
                    logprobs: self.logprobs,
                    ignore_end: self.common.ignore_end,
                    is_answer: self.is_answer,
                    grammar: self.grammar.clone(),
                    caller: self.caller.0,
                    adapters: self.adapters,
                    overflow,
                    ..TextRequest::default()
                });
            }
        }
        requests
    }
}
