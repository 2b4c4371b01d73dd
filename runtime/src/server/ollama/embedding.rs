//! Ollama's endpoints of an embedding model: `/api/embed` and its predecessor `/api/embeddings`, and what describes the model.

use std::time::Instant;

use serde_json::{Value, json};

use super::describe::{self, Shown, tagged};
use super::dialect::nanoseconds;
use super::error::{error_response, is_managing, manages_nothing};
use super::handlers::{running, shown_model, version};
use super::options::{self, Context};
use crate::sampling::SamplingParams;
use crate::server::embeddings::EmbeddingApp;
use crate::server::http::{Body, Method, Response};
use crate::server::openai::{ApiError, Baseline, Fields, Input, short};
use crate::server::prepare::weigh;

/// Most texts in a request, as with OpenAI's API.
const MAX_TEXTS: usize = 2048;

/// An endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Spot {
    Root,
    Version,
    Tags,
    Running,
    Show,
    Embed,
    /// The older endpoint: one text, and a vector that is not normalised.
    Embeddings,
    /// What only a model that generates can do.
    Generates,
    /// What manages models.
    Manages,
}

impl Spot {
    pub(in crate::server) fn of(path: &str) -> Option<Self> {
        Some(match path {
            "/" => Self::Root,
            "/api/version" => Self::Version,
            "/api/tags" => Self::Tags,
            "/api/ps" => Self::Running,
            "/api/show" => Self::Show,
            "/api/embed" => Self::Embed,
            "/api/embeddings" => Self::Embeddings,
            "/api/chat" | "/api/generate" => Self::Generates,
            _ if is_managing(path) => Self::Manages,
            _ => return None,
        })
    }

    /// The method it takes; `Method::Other` is any.
    pub(in crate::server) fn method(self) -> Method {
        match self {
            Self::Root | Self::Version | Self::Tags | Self::Running => Method::Get,
            Self::Show | Self::Embed | Self::Embeddings | Self::Generates => Method::Post,
            Self::Manages => Method::Other,
        }
    }

    /// Why it is refused before the body is read, if it is.
    pub(in crate::server) fn unmet(self) -> Option<ApiError> {
        match self {
            Self::Generates => {
                Some(ApiError::new(400, "this is an embedding model, which does not support chat or generate"))
            }
            Self::Manages => Some(manages_nothing()),
            _ => None,
        }
    }
}

/// Answers a request; `None` if the client disconnected.
pub(in crate::server) fn answer(
    app: &EmbeddingApp,
    spot: Spot,
    body: Body,
    client_left: &mut dyn FnMut() -> bool,
) -> Option<Response> {
    let names = [tagged(&app.facts.name)];
    let answer = match spot {
        Spot::Root => return Some(running()),
        Spot::Version => return Some(version()),
        Spot::Tags => Ok(Some(describe::tags(&app.facts, &names))),
        Spot::Running => Ok(Some(describe::running(&app.facts, &names))),
        Spot::Show => shown_model(body).map(|_| {
            let shown = Shown { name: &names[0], template: "", defaults: None, known: false };
            Some(describe::show(&app.facts, &shown))
        }),
        Spot::Embed | Spot::Embeddings => embed(app, spot, body, client_left),
        // `admit` has refused these.
        Spot::Generates | Spot::Manages => Err(manages_nothing()),
    };
    match answer {
        Ok(answer) => answer.map(|answer| Response::json(200, &answer)),
        Err(error) => Some(error_response(&error)),
    }
}

fn embed(
    app: &EmbeddingApp,
    spot: Spot,
    mut body: Body,
    client_left: &mut dyn FnMut() -> bool,
) -> Result<Option<Value>, ApiError> {
    let begun = Instant::now();
    weigh(&mut body)?;
    let texts = parse(spot, &body.bytes, app.width, app.facts.context_length)?;
    let sequences = texts.into_iter().map(|text| app.tokens(Input::Text(text))).collect::<Result<Vec<_>, _>>()?;
    let Some(vectors) = app.vectors("input", &sequences, spot == Spot::Embed, client_left)? else { return Ok(None) };
    let vectors: Vec<Value> = vectors.iter().map(|vector| vector.iter().map(|&value| short(value)).collect()).collect();
    Ok(Some(match spot {
        Spot::Embed => json!({
            "model": tagged(&app.facts.name),
            "embeddings": vectors,
            "total_duration": nanoseconds(begun.elapsed().as_secs_f64()),
            "load_duration": 0,
            "prompt_eval_count": sequences.iter().map(Vec::len).sum::<usize>(),
        }),
        _ => json!({"embedding": vectors.into_iter().next().unwrap_or_else(|| json!([]))}),
    }))
}

/// The texts of a request for a model whose vectors have `width` elements. An empty text asks for none: clients load a model
/// that way.
fn parse(spot: Spot, body: &[u8], width: usize, context_length: usize) -> Result<Vec<String>, ApiError> {
    let mut fields = Fields::parse(body)?;
    let texts = match spot {
        Spot::Embed => take_input(&mut fields)?,
        _ => fields.take_string("prompt")?.into_iter().filter(|text| !text.is_empty()).collect(),
    };
    let advice = format!("this model's embeddings have {width} dimensions and cannot be shortened");
    fields.refuse_unless("dimensions", &advice, |value| value.as_u64() == Some(width as u64))?;
    // Nothing is sampled, but a wrong option is still an error, and so is too long a context.
    let baseline = Baseline { sampling: SamplingParams::default(), max_tokens: None, vocabulary: 0, tokenizer: None };
    options::take(&mut fields, &baseline, Context { length: context_length, shifts: false })?;
    // There is one model, which stays loaded; a text that is too long is an error, and never cut.
    fields.ignore(&["model", "keep_alive", "truncate"]);
    fields.finish()?;
    Ok(texts)
}

fn take_input(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let wrong = || ApiError::parameter("input", "`input` must be a string or an array of strings");
    let texts: Vec<String> = match fields.take("input") {
        None => Vec::new(),
        Some(Value::String(text)) => Some(text).filter(|text| !text.is_empty()).into_iter().collect(),
        Some(Value::Array(items)) => {
            let text = |item| if let Value::String(text) = item { Ok(text) } else { Err(wrong()) };
            items.into_iter().map(text).collect::<Result<_, _>>()?
        }
        Some(_) => return Err(wrong()),
    };
    if texts.len() > MAX_TEXTS {
        let message = format!("`input` has {} texts, the most one request may have is {MAX_TEXTS}", texts.len());
        return Err(ApiError::parameter("input", message));
    }
    Ok(texts)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(spot: Spot, body: Value) -> Result<Vec<String>, ApiError> {
        parse(spot, body.to_string().as_bytes(), 3, 512)
    }

    #[test]
    fn a_text_or_several_are_taken() {
        let input = |input: Value| texts(Spot::Embed, json!({"model": "m", "input": input, "truncate": true})).unwrap();
        assert_eq!(input(json!("a")), ["a"]);
        assert_eq!(input(json!(["a", "b"])), ["a", "b"]);
        assert_eq!((input(json!("")).len(), input(json!([])).len(), input(Value::Null).len()), (0, 0, 0));
        let prompt =
            json!({"model": "m", "prompt": "a", "keep_alive": "5m", "options": {"num_ctx": 512, "num_thread": 2}});
        assert_eq!(texts(Spot::Embeddings, prompt).unwrap(), ["a"]);
    }

    #[test]
    fn what_would_change_a_vector_is_refused_by_name() {
        for (body, name) in [
            (json!({"input": 1}), "input"),
            (json!({"input": ["a", 1]}), "input"),
            (json!({"input": vec!["a"; MAX_TEXTS + 1]}), "input"),
            (json!({"input": "a", "dimensions": 2}), "dimensions"),
            (json!({"input": "a", "options": {"num_ctx": 513}}), "num_ctx"),
            (json!({"input": "a", "prompt": "b"}), "prompt"),
        ] {
            let error = texts(Spot::Embed, body).expect_err(name);
            assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{}", error.message);
        }
    }

    #[test]
    fn generating_and_managing_are_refused() {
        for (path, status) in
            [("/api/chat", 400), ("/api/generate", 400), ("/api/pull", 501), ("/api/blobs/sha256:0", 501)]
        {
            assert_eq!(Spot::of(path).unwrap().unmet().unwrap().status, status, "{path}");
        }
        assert!(Spot::of("/v1/embeddings").is_none() && Spot::of("/api/embed").unwrap().unmet().is_none());
    }
}
