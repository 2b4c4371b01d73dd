//! `POST /v1/systemone` as TypeSafe's SDK has it: nouls, choices and scores about a state.
//!
//! Its server validates with Pydantic, so an invalid value is a 422 whose `detail` has a location and a message.

use serde_json::{Map, Value, json};

use super::question::{Kind, Question, likeliest, mean};
use super::run::{About, ask};
use crate::server::App;
use crate::server::http::Response;
use crate::server::openai::{ApiError, Fields, shown, wrong_type};
use crate::server::prepare::weigh;
use crate::server::routes::{Answer, Call};

/// Most choices or levels.
const MAX_ANSWERS: usize = 255;
/// Most questions of a request.
const MAX_QUESTIONS: usize = 400;

/// A checked request.
#[derive(Debug)]
pub(super) struct Request {
    pub(super) model: Option<String>,
    pub(super) state: String,
    pub(super) questions: Vec<Asked>,
}

/// A question with what its answer repeats.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) question: Question,
    name: String,
    /// What the levels of a score mean.
    legend: Vec<Value>,
}

/// An error in this API's form.
pub(in crate::server) fn error_response(error: &ApiError) -> Response {
    let plain = error.response();
    let (status, detail) = match &error.param {
        Some(param) if error.status == 400 => {
            let location = std::iter::once(json!("body")).chain(location(param)).collect::<Vec<_>>();
            let kind = error.code.unwrap_or("value_error");
            (422, json!([{"loc": location, "msg": error.message, "type": kind}]))
        }
        _ => (error.status, json!(error.message)),
    };
    Response { headers: plain.headers, ..Response::json(status, &json!({ "detail": detail })) }
}

/// A path such as `a.b[2]` in parts.
fn location(path: &str) -> impl Iterator<Item = Value> + '_ {
    path.split(['.', '[', ']']).filter(|part| !part.is_empty()).map(|part| match part.parse::<u32>() {
        Ok(index) => json!(index),
        Err(_) => json!(part),
    })
}

/// Answers a request.
pub(in crate::server) fn work(app: &App, call: Call<'_>) -> Answer {
    Answer::Whole(answered(app, call).unwrap_or_else(|error| error_response(&error)))
}

fn answered(app: &App, mut call: Call<'_>) -> Result<Response, ApiError> {
    weigh(&mut call.body)?;
    let Request { model, state, questions } = Request::parse(&call.body.bytes)?;
    let about = About { messages: vec![json!({"role": "user", "content": state})], model, parameter: "state" };
    let asked: Vec<Question> = questions.iter().map(|asked| asked.question.clone()).collect();
    let (all, used, model) = ask(app, &mut call, &about, &asked)?;
    let each = questions.iter().zip(&all);
    let answers: Map<String, Value> = each.map(|(asked, likely)| (asked.name.clone(), asked.answer(likely))).collect();
    let usage = json!({"input_tokens": used.prompt_tokens, "output_tokens": used.questions});
    Ok(Response::json(200, &json!({"model": model, "answers": answers, "usage": usage})))
}

impl Request {
    pub(super) fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let model = fields.take_string("model")?;
        let state = match fields.take("state") {
            None => return Err(ApiError::parameter("state", "`state` is missing")),
            Some(state @ (Value::String(_) | Value::Object(_) | Value::Array(_))) => content(&state),
            Some(other) => return Err(wrong_type("state", "a string, an object or an array", &other)),
        };
        let list = fields.take_object("questions")?.unwrap_or_default();
        if list.is_empty() || list.len() > MAX_QUESTIONS {
            let message = format!("`questions` must have 1 to {MAX_QUESTIONS} questions");
            return Err(ApiError::parameter("questions", message));
        }
        let questions = list.into_iter().map(|(name, item)| Asked::read(name, &item)).collect::<Result<_, _>>()?;
        fields.refuse_unless("assets", "this model reads text only", Value::is_null)?;
        fields.finish()?;
        Ok(Self { model, state, questions })
    }
}

impl Asked {
    fn read(name: String, item: &Value) -> Result<Self, ApiError> {
        let at = format!("questions.{}", shown(&name));
        let Value::Object(map) = item else { return Err(wrong_type(&at, "an object with `type`", item)) };
        let known = ["type", "instructions", "criteria"];
        if let Some((other, _)) = map.iter().find(|(name, value)| !known.contains(&name.as_str()) && !value.is_null()) {
            let here = format!("{at}.{}", shown(other));
            return Err(ApiError::parameter(here.clone(), format!("unknown parameter `{here}`; leave it out")));
        }
        let instructions = map.get("instructions").map(content).unwrap_or_default();
        let criteria = map.get("criteria").unwrap_or(&Value::Null);
        let here = format!("{at}.criteria");
        let (kind, answers, legend) = match map.get("type").and_then(Value::as_str) {
            Some("noul") => (Kind::Truth, truth(&here, criteria)?, Vec::new()),
            Some("choice") => (Kind::Choice, choices(&here, criteria)?, Vec::new()),
            Some("score") => {
                let levels = levels(&here, criteria)?;
                (Kind::Score, levels.iter().map(|level| (content(level), String::new())).collect(), levels)
            }
            other => {
                let found = shown(other.unwrap_or_default());
                let message =
                    format!("`{at}.type` must be `noul`, `choice` or `score`, not `{found}`: images are not read");
                return Err(ApiError::parameter(format!("{at}.type"), message));
            }
        };
        let undescribed =
            answers.iter().all(|(name, meaning): &(String, String)| name.is_empty() && meaning.is_empty());
        if kind == Kind::Truth && instructions.is_empty() && undescribed {
            let message = format!("`{at}` has neither `instructions` nor `criteria`; it needs one of them");
            return Err(ApiError::parameter(at, message));
        }
        Ok(Self { question: Question { kind, instructions, answers }, name, legend })
    }

    /// The answer that the probabilities give.
    fn answer(&self, probabilities: &[f64]) -> Value {
        let best = likeliest(probabilities);
        let confidence = probabilities[best];
        match self.question.kind {
            Kind::Truth => json!({"type": "noul", "noul": probabilities[0]}),
            Kind::Choice => {
                let names = self.question.answers.iter().map(|(name, _)| name.clone());
                let choice = &self.question.answers[best].0;
                let each: Map<String, Value> = names.zip(probabilities.iter().map(|p| json!(p))).collect();
                json!({"type": "choice", "choice": choice, "confidence": confidence, "probabilities": each})
            }
            Kind::Score => {
                let levels = |values: Vec<Value>| {
                    values
                        .into_iter()
                        .enumerate()
                        .map(|(level, value)| (level.to_string(), value))
                        .collect::<Map<_, _>>()
                };
                let each = levels(probabilities.iter().map(|p| json!(p)).collect());
                let legend = levels(self.legend.clone());
                let score = mean(probabilities);
                json!({"type": "score", "score": score, "confidence": confidence, "legend": legend,
                       "probabilities": each})
            }
        }
    }
}

/// What yes and what no mean.
fn truth(at: &str, criteria: &Value) -> Result<Vec<(String, String)>, ApiError> {
    let map = match criteria {
        Value::Null => return Ok(vec![Default::default(), Default::default()]),
        Value::Object(map) if map.keys().all(|name| name == "true" || name == "false") => map,
        other => return Err(wrong_type(at, "an object with `true` and `false`", other)),
    };
    let meaning = |name: &str| (map.get(name).map(content).unwrap_or_default(), String::new());
    Ok(vec![meaning("true"), meaning("false")])
}

fn choices(at: &str, criteria: &Value) -> Result<Vec<(String, String)>, ApiError> {
    match criteria {
        Value::Object(map) if (1..=MAX_ANSWERS).contains(&map.len()) => {
            Ok(map.iter().map(|(name, meaning)| (name.clone(), content(meaning))).collect())
        }
        _ => Err(ApiError::parameter(at, format!("`{at}` must be an object of 1 to {MAX_ANSWERS} choices"))),
    }
}

fn levels(at: &str, criteria: &Value) -> Result<Vec<Value>, ApiError> {
    match criteria {
        Value::Array(levels) if (1..=MAX_ANSWERS).contains(&levels.len()) => Ok(levels.clone()),
        _ => Err(ApiError::parameter(at, format!("`{at}` must be an array of 1 to {MAX_ANSWERS} levels"))),
    }
}

/// A text as it is, anything else as JSON.
fn content(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => text.clone(),
        other => other.to_string(),
    }
}
