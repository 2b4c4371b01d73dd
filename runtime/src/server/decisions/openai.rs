//! OpenAI's `POST /v1/decisions`: predicates, choices and scores about a text or a conversation.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

use super::question::{Kind, Question, likeliest, mean};
use super::run::{About, ask};
use crate::server::App;
use crate::server::http::Response;
use crate::server::openai::{ApiError, Fields, shown, wrong_type};
use crate::server::prepare::weigh;
use crate::server::responses::messages_of_items;
use crate::server::routes::Call;

const MAX_QUESTIONS: usize = 400;
const MAX_CHOICES: usize = 255;

/// Parameters that change nothing.
const HARMLESS: [&str; 4] = ["prompt_cache_key", "prompt_cache_options", "safety_identifier", "metadata"];

/// A checked request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) model: Option<String>,
    pub(super) messages: Vec<Value>,
    pub(super) questions: Vec<Asked>,
}

/// A question with what its answer repeats.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    name: Option<String>,
    /// The values of a choice, the labels of a score.
    values: Vec<Value>,
}

/// Answers a request.
///
/// # Errors
/// 400 with the path of the first invalid value.
pub(in crate::server) fn work(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    weigh(&mut call.body)?;
    let Request { model, messages, questions } = Request::parse(&call.body.bytes)?;
    let about = About { messages, model, parameter: "input" };
    let asked: Vec<Question> = questions.iter().map(|asked| asked.question.clone()).collect();
    let (all, used, model) = ask(app, &mut call, &about, &asked)?;
    let answers: Vec<Value> = questions.iter().zip(&all).map(|(asked, likely)| asked.answer(likely)).collect();
    let usage = json!({
        "input_tokens": used.prompt_tokens,
        "input_tokens_details": {"cached_tokens": used.cached_tokens, "cache_write_tokens": 0},
        "output_tokens": used.questions,
        "output_tokens_details": {"reasoning_tokens": 0},
        "total_tokens": used.prompt_tokens + used.questions,
    });
    Ok(Response::json(200, &json!({"object": "decision", "model": model, "answers": answers, "usage": usage})))
}

impl Request {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.take_string("model")?;
        let messages = match fields.take("input") {
            Some(Value::String(text)) => vec![json!({"role": "user", "content": text})],
            Some(Value::Array(items)) => messages_of_items("input", &items)?,
            Some(other) => return Err(wrong_type("input", "a string or an array of items", &other)),
            None => Vec::new(),
        };
        if messages.is_empty() {
            return Err(ApiError::parameter("input", "`input` is missing or empty"));
        }
        let items = match fields.take("questions") {
            Some(Value::Array(items)) if (1..=MAX_QUESTIONS).contains(&items.len()) => items,
            Some(Value::Array(_)) | None => {
                let message = format!("`questions` must have 1 to {MAX_QUESTIONS} questions");
                return Err(ApiError::parameter("questions", message));
            }
            Some(other) => return Err(wrong_type("questions", "an array of questions", &other)),
        };
        let read = |(index, item): (usize, &Value)| Asked::read(&format!("questions[{index}]"), item);
        let questions = items.iter().enumerate().map(read).collect::<Result<_, _>>()?;
        fields.ignore(&HARMLESS);
        fields.finish()?;
        Ok(Self { model, messages, questions })
    }
}

impl Asked {
    fn read(at: &str, item: &Value) -> Result<Self, ApiError> {
        let Value::Object(map) = item else { return Err(wrong_type(at, "an object with `type`", item)) };
        let (kind, list) = match map.get("type").and_then(Value::as_str) {
            Some("predicate") => (Kind::Truth, None),
            Some("choice") => (Kind::Choice, Some("choices")),
            Some("score") => (Kind::Score, Some("levels")),
            other => {
                let here = format!("{at}.type");
                let found = shown(other.unwrap_or_default());
                let message = format!("`{here}` must be `predicate`, `choice` or `score`, not `{found}`");
                return Err(ApiError::parameter(here, message));
            }
        };
        only(at, map, &["type", "name", "instructions", list.unwrap_or("type")])?;
        let instructions = instructions(&format!("{at}.instructions"), map.get("instructions"))?;
        let name = optional(at, map, "name")?;
        let (values, answers) = match list {
            None => (Vec::new(), vec![Default::default(), Default::default()]),
            Some(list) => answers(&format!("{at}.{list}"), kind, map.get(list))?,
        };
        Ok(Self { question: Question { kind, instructions, answers }, name, values })
    }

    /// The answer that the probabilities give.
    fn answer(&self, probabilities: &[f64]) -> Value {
        let best = likeliest(probabilities);
        let confidence = probabilities[best];
        let mut answer = match self.question.kind {
            Kind::Truth => json!({"type": "predicate", "probability": probabilities[0]}),
            Kind::Choice => {
                let each = self.values.iter().zip(probabilities);
                let each: Vec<Value> = each.map(|(value, p)| json!({"value": value, "probability": p})).collect();
                json!({"type": "choice", "choice": self.values[best], "confidence": confidence, "probabilities": each})
            }
            Kind::Score => {
                let each = self.values.iter().zip(probabilities).enumerate();
                let each: Vec<Value> =
                    each.map(|(level, (label, p))| json!({"label": label, "value": level, "probability": p})).collect();
                let score = mean(probabilities);
                json!({"type": "score", "score": score, "confidence": confidence, "probabilities": each})
            }
        };
        answer["name"] = json!(self.name);
        answer
    }
}

/// Values and descriptions of a choice's or score's answers.
#[allow(clippy::type_complexity)]
fn answers(at: &str, kind: Kind, list: Option<&Value>) -> Result<(Vec<Value>, Vec<(String, String)>), ApiError> {
    let least = if kind == Kind::Choice { 2 } else { 1 };
    let items = match list {
        Some(Value::Array(items)) if (least..=MAX_CHOICES).contains(&items.len()) => items,
        _ => {
            let message = format!("`{at}` must have {least} to {MAX_CHOICES} entries");
            return Err(ApiError::parameter(at, message));
        }
    };
    let field = if kind == Kind::Choice { "value" } else { "label" };
    let (mut values, mut answers, mut seen) = (Vec::new(), Vec::new(), HashSet::new());
    for (index, item) in items.iter().enumerate() {
        let at = format!("{at}[{index}]");
        let Value::Object(map) = item else { return Err(wrong_type(&at, &format!("an object with `{field}`"), item)) };
        only(&at, map, &[field, "description"])?;
        let name = match map.get(field) {
            Some(Value::String(text)) => text.clone(),
            Some(Value::Bool(flag)) if kind == Kind::Choice => flag.to_string(),
            Some(other) => return Err(wrong_type(&format!("{at}.{field}"), "a string", other)),
            None => return Err(ApiError::parameter(format!("{at}.{field}"), format!("`{at}.{field}` is missing"))),
        };
        // A string and a boolean of the same text are distinct.
        if kind == Kind::Choice && !seen.insert(map[field].to_string()) {
            return Err(ApiError::parameter(&at, format!("`{at}` is there already; each choice must be unique")));
        }
        values.push(map[field].clone());
        answers.push((name, optional(&at, map, "description")?.unwrap_or_default()));
    }
    Ok((values, answers))
}

/// A text, or parts of text and JSON.
fn instructions(at: &str, value: Option<&Value>) -> Result<String, ApiError> {
    match value {
        None | Some(Value::Null) => Err(ApiError::parameter(at, format!("`{at}` is missing"))),
        Some(value) => crate::server::responses::parts(at, value),
    }
}

fn optional(at: &str, map: &Map<String, Value>, name: &str) -> Result<Option<String>, ApiError> {
    match map.get(name) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(wrong_type(&format!("{at}.{name}"), "a string", other)),
    }
}

/// Refuses fields other than these.
fn only(at: &str, map: &Map<String, Value>, known: &[&str]) -> Result<(), ApiError> {
    match map.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
        None => Ok(()),
        Some((name, _)) => {
            let here = format!("{at}.{}", shown(name));
            let message = format!("unknown parameter `{here}`; leave it out");
            Err(ApiError::parameter(here, message).code("unknown_parameter"))
        }
    }
}
