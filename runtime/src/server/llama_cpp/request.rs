//! The body of `/completion` and `/infill`, checked.

use serde_json::Value;

use crate::TokenId;
use crate::server::openai::{ApiError, Baseline, Common, Fields, MAX_CHOICES, refuse_foreign, token_ids, wrong_type};
use crate::session::{Gap, Session};
use crate::tokenizer::TokenizerError;

/// Most alternatives to report with a token.
const MAX_PROBABILITIES: i64 = 100;

/// The endpoint, which determines what is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::server) enum Endpoint {
    /// Continue a text.
    Completion,
    /// Fill a gap in a text.
    Infill,
}

/// What the model is to read.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Input {
    Texts(Prompts),
    Gap(Gap),
}

/// Prompts, each continued on its own.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompts {
    pub(super) list: Vec<Prompt>,
    /// There were several, so the answer is an array, too.
    pub(super) is_array: bool,
}

/// One prompt: texts and tokens in any order.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Prompt(Vec<Piece>);

#[derive(Clone, Debug, PartialEq)]
enum Piece {
    Text(String),
    Token(TokenId),
}

/// What the answer is to contain.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Answer {
    /// Alternatives to report with each token; `None`: no log-probabilities.
    pub(super) probabilities: Option<usize>,
    /// Whether they are those of what sampling left to draw from.
    pub(super) after_sampling: bool,
    /// Whether the context had no room for all of the prompt.
    pub(super) is_cut: bool,
    /// Whether a whole answer lists its tokens; a stream always does.
    pub(super) tokens: bool,
    /// Paths of the only fields to answer with; empty: all.
    pub(super) fields: Vec<String>,
}

/// A checked request.
#[derive(Clone, Debug)]
pub(super) struct Request {
    pub(super) input: Input,
    pub(super) answer: Answer,
    /// Parameters shared with OpenAI's API.
    pub(super) common: Common,
}

impl Request {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 naming the field.
    pub(super) fn parse(endpoint: Endpoint, body: &[u8], baseline: &Baseline) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let input = match endpoint {
            Endpoint::Completion => Input::Texts(take_prompts(&mut fields, baseline.vocabulary)?),
            Endpoint::Infill => take_gap(&mut fields)?,
        };
        let probabilities = fields.take_integer("n_probs", 0..=MAX_PROBABILITIES)?.filter(|count| *count > 0);
        let answer = Answer {
            probabilities: probabilities.map(|count| count as usize),
            after_sampling: fields.take_bool("post_sampling_probs")?.unwrap_or(false),
            tokens: fields.take_bool("return_tokens")?.unwrap_or(false),
            fields: take_names(&mut fields)?,
            ..Answer::default()
        };
        let common = Common::take(&mut fields, baseline)?;
        refuse_foreign(&mut fields)?;
        fields.finish()?;
        Ok(Self { input, answer, common })
    }
}

fn take_names(fields: &mut Fields) -> Result<Vec<String>, ApiError> {
    let name = "response_fields";
    match fields.take(name) {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => items
            .into_iter()
            .map(|item| item.as_str().map(str::to_owned).ok_or_else(|| wrong_type(name, "an array of strings", &item)))
            .collect(),
        Some(other) => Err(wrong_type(name, "an array of strings", &other)),
    }
}

/// A text, an array of texts and tokens, or an array of these.
fn take_prompts(fields: &mut Fields, vocabulary: usize) -> Result<Prompts, ApiError> {
    let value = fields.take("prompt").unwrap_or(Value::Null);
    let items = match &value {
        Value::Array(items) => items,
        _ => return Ok(Prompts { list: vec![prompt("prompt", &value, vocabulary)?], is_array: false }),
    };
    // Several prompts, unless a token says that this is one.
    if items.iter().any(Value::is_number) || items.is_empty() {
        return Ok(Prompts { list: vec![prompt("prompt", &value, vocabulary)?], is_array: false });
    }
    if items.len() > MAX_CHOICES {
        let message = format!("`prompt` has {} prompts; {MAX_CHOICES} is the most for one request", items.len());
        return Err(ApiError::parameter("prompt", message));
    }
    let read = |(index, item)| prompt(&format!("prompt[{index}]"), item, vocabulary);
    Ok(Prompts { list: items.iter().enumerate().map(read).collect::<Result<_, _>>()?, is_array: true })
}

fn prompt(at: &str, value: &Value, vocabulary: usize) -> Result<Prompt, ApiError> {
    let piece = |at: &str, value: &Value| match value {
        Value::String(text) => Ok(Piece::Text(text.clone())),
        Value::Number(_) => Ok(Piece::Token(token_ids(at, std::slice::from_ref(value), vocabulary)?[0])),
        other => Err(wrong_type(at, "a string, or an array of strings and token ids", other)),
    };
    match value {
        // A text on its own, in the form that takes images beside it.
        Value::Object(object) if object.len() == 1 && object.contains_key("prompt_string") => {
            prompt(at, &object["prompt_string"], vocabulary)
        }
        Value::Array(items) if items.is_empty() => {
            Err(ApiError::parameter(at.to_owned(), format!("`{at}` is an empty array")))
        }
        Value::Array(items) => items.iter().map(|item| piece(at, item)).collect::<Result<_, _>>().map(Prompt),
        other => Ok(Prompt(vec![piece(at, other)?])),
    }
}

impl Prompt {
    /// Its tokens, behind the begin token where it begins with text and the model wants one.
    pub(super) fn tokens(&self, session: &Session) -> Result<Vec<TokenId>, TokenizerError> {
        let mut tokens = Vec::new();
        for piece in &self.0 {
            match piece {
                Piece::Text(text) if tokens.is_empty() => tokens = session.text_prompt(text)?,
                Piece::Text(text) => tokens.extend(session.tokenizer.encode(text, false, true)?),
                Piece::Token(id) => tokens.push(*id),
            }
        }
        Ok(tokens)
    }
}

/// The two sides of a gap, and the files that are given beside it.
fn take_gap(fields: &mut Fields) -> Result<Input, ApiError> {
    let side = |fields: &mut Fields, name: &str| {
        let text = fields.take_string(name)?;
        text.ok_or_else(|| ApiError::parameter(name, format!("`{name}` is missing; it must be a string")))
    };
    let mut files = Vec::new();
    for (index, extra) in take_extra(fields)?.iter().enumerate() {
        let at = format!("input_extra[{index}]");
        let text = extra.get("text").and_then(Value::as_str);
        let name = extra.get("filename").map_or(Some("tmp"), Value::as_str);
        let (Some(text), Some(name)) = (text, name) else {
            let message = format!("`{at}` must be an object with `text` and `filename`, both strings");
            return Err(ApiError::parameter(at, message));
        };
        files.push((name.to_owned(), text.to_owned()));
    }
    let mut before = side(fields, "input_prefix")?;
    let after = side(fields, "input_suffix")?;
    before += &fields.take_string("prompt")?.unwrap_or_default();
    Ok(Input::Gap(Gap { files, before, after }))
}

fn take_extra(fields: &mut Fields) -> Result<Vec<Value>, ApiError> {
    match fields.take("input_extra") {
        None => Ok(Vec::new()),
        Some(Value::Array(items)) => Ok(items),
        Some(other) => Err(wrong_type("input_extra", "an array of files", &other)),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::sampling::SamplingParams;

    fn parse(endpoint: Endpoint, body: &Value) -> Result<Request, ApiError> {
        let baseline =
            Baseline { sampling: SamplingParams::for_answers(), max_tokens: Some(9), vocabulary: 100, tokenizer: None };
        Request::parse(endpoint, body.to_string().as_bytes(), &baseline)
    }

    #[test]
    fn prompts_come_in_every_shape() {
        let prompts = |value: Value| match parse(Endpoint::Completion, &json!({ "prompt": value })).unwrap().input {
            Input::Texts(prompts) => (prompts.list.len(), prompts.list[0].0.len(), prompts.is_array),
            Input::Gap(_) => panic!("a text"),
        };
        assert_eq!(prompts(json!("a")), (1, 1, false));
        assert_eq!(prompts(json!([1, 2])), (1, 2, false));
        assert_eq!(prompts(json!([1, "a", 2])), (1, 3, false));
        assert_eq!(prompts(json!([[1, 2, 3], "a"])), (2, 3, true));
        assert_eq!(prompts(json!(["a"])), (1, 1, true));
        assert_eq!(prompts(json!({"prompt_string": "a"})), (1, 1, false));
        assert_eq!(prompts(json!([[1, 2], {"prompt_string": "a"}])), (2, 2, true));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, name) in [
            (json!({}), "prompt"),
            (json!({"prompt": []}), "prompt"),
            (json!({"prompt": [1, 100]}), "prompt[0]"),
            (json!({"prompt": ["a", {}]}), "prompt[1]"),
            (json!({"prompt": vec!["a"; 9]}), "prompt"),
            (json!({"prompt": "a", "n_predict": -3}), "n_predict"),
            (json!({"prompt": "a", "n_probs": -1}), "n_probs"),
            (json!({"prompt": "a", "n_probs": 2, "post_sampling_probs": 1}), "post_sampling_probs"),
            (json!({"prompt": "a", "response_fields": [1]}), "response_fields"),
            (json!({"prompt": "a", "samplers": ["mirostat"]}), "samplers[0]"),
            (json!({"prompt": "a", "samplers": ["top_p", "top_k"]}), "samplers"),
            (json!({"prompt": "a", "n_indent": "4"}), "n_indent"),
            (json!({"prompt": "a", "t_max_predict_ms": 0.5}), "t_max_predict_ms"),
            (json!({"prompt": "a", "n_cmpl": 99}), "n_cmpl"),
            (json!({"prompt": "a", "n_cmpl": 2, "n": 3}), "n_cmpl"),
            (json!({"prompt": "a", "made_up": 1}), "made_up"),
        ] {
            let error = parse(Endpoint::Completion, &body).expect_err(name);
            assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{body}: {}", error.message);
        }
        for (body, name) in [
            (json!({"input_suffix": "b"}), "input_prefix"),
            (json!({"input_prefix": "a"}), "input_suffix"),
            (json!({"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": "a"}]}), "input_extra[0]"),
            (
                json!({"input_prefix": "a", "input_suffix": "b", "input_extra": [{"filename": 1, "text": "a"}]}),
                "input_extra[0]",
            ),
        ] {
            assert_eq!(parse(Endpoint::Infill, &body).expect_err(name).param.as_deref(), Some(name));
        }
    }

    #[test]
    fn limits_and_files_are_read() {
        let limit = |tokens: i64| {
            parse(Endpoint::Completion, &json!({"prompt": "a", "n_predict": tokens})).unwrap().common.max_tokens
        };
        assert_eq!((limit(5), limit(-1), limit(0)), (Some(5), None, Some(0)));
        let extra = json!([{"filename": "a.h", "text": "int a;"}]);
        let body = json!({"input_prefix": "b", "prompt": "c", "input_suffix": "d", "input_extra": extra});
        let gap = Gap { files: vec![("a.h".into(), "int a;".into())], before: "bc".into(), after: "d".into() };
        assert_eq!(parse(Endpoint::Infill, &body).unwrap().input, Input::Gap(gap));
    }
}
