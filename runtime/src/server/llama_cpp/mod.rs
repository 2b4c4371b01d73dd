//! The endpoints of llama.cpp's server that are like nobody else's: `/completion`, by which front ends continue a text, and
//! `/infill`, by which editors fill a gap in one.

mod dialect;
mod request;

use dialect::LlamaCpp;
use request::{Input, Request};

use super::App;
use super::conversation::{self, Choices};
use super::generate::Work;
use super::openai::ApiError;
use super::prepare::{adapters, baseline, weigh};
use super::routes::Call;
use crate::TokenId;
use crate::session::{PromptError, Reading};

pub(super) use request::Endpoint;

/// The work for a request.
pub(super) fn work(app: &App, endpoint: Endpoint, mut call: Call<'_>) -> Result<Work, ApiError> {
    weigh(&mut call.body)?;
    let session = &app.session;
    let Request { input, common, mut answer } = Request::parse(endpoint, &call.body.bytes, &baseline(app))?;
    let is_array = common.n > 1 || matches!(&input, Input::Texts(prompts) if prompts.is_array);
    let (prompts, is_cut) = tokens(app, input)?;
    answer.is_cut = is_cut;
    let adapters = adapters(app, &common)?;
    let grammar = common.format.as_ref().map(|asked| conversation::grammar(app, asked)).transpose()?;
    let logprobs = answer.probabilities;
    let choices = Choices { common: &common, logprobs, grammar, is_answer: false, caller: call.who.caller, adapters };
    let with_overflow = |prompt: Vec<TokenId>| {
        let overflow = session.text_overflow(&prompt);
        (prompt, overflow)
    };
    let mut requests = choices.requests(prompts.into_iter().map(with_overflow).collect());
    requests.iter_mut().for_each(|request| request.after_sampling = answer.after_sampling);
    let shown =
        |request: &crate::session::TextRequest| (request.prompt.len(), session.tokenizer.decode(&request.prompt, true));
    let prompts = requests.iter().map(shown).collect();
    let name = session.name_with(adapters);
    let ends = session.tokenizer.end_tokens();
    let dialect = LlamaCpp::new(answer, &common, name, prompts, is_array, session.facts.context_length, &ends);
    Ok(Work {
        n: common.n,
        stream: common.stream,
        prompt_parameter: "prompt",
        reading: Reading::default(),
        requests,
        dialect: Box::new(dialect),
    })
}

/// The prompts, and whether they had to be cut.
fn tokens(app: &App, input: Input) -> Result<(Vec<Vec<TokenId>>, bool), ApiError> {
    let refused = |error: PromptError| ApiError::parameter("prompt", error.to_string());
    match input {
        Input::Texts(prompts) => {
            let tokens = prompts.list.iter().map(|prompt| prompt.tokens(&app.session));
            Ok((tokens.collect::<Result<_, _>>().map_err(|error| refused(error.into()))?, false))
        }
        Input::Gap(gap) => {
            let (prompt, is_cut) = app.session.gap_prompt(&gap).map_err(refused)?;
            Ok((vec![prompt], is_cut))
        }
    }
}
