//! `POST /v1/embeddings`: the request body, checked, and the response.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use super::error::ApiError;
use super::fields::{Fields, integer, wrong_type};
use crate::TokenId;

/// Most texts in a request.
const MAX_INPUTS: usize = 2048;

/// A text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// Text, to tokenize with the model's begin and end tokens.
    Text(String),
    /// Tokens, used as they are.
    Tokens(Vec<TokenId>),
}

/// A checked embeddings request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EmbeddingRequest {
    /// One or more.
    pub inputs: Vec<Input>,
    /// Vectors as base64 of little-endian f32, in place of arrays.
    pub base64: bool,
}

impl EmbeddingRequest {
    /// Parses and checks a body for a model whose vectors have `width` elements.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn parse(body: &[u8], width: usize) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let content = fields.take("content"); // llama.cpp's older name
        let Some(input) = fields.take("input").or(content) else {
            let message = "`input` is missing; it must be a string, an array of strings, or an array of tokens";
            return Err(ApiError::parameter("input", message));
        };
        let inputs = inputs(input)?;
        let base64 = match fields.take_string("encoding_format")?.as_deref() {
            None | Some("float") => false,
            Some("base64") => true,
            Some(_) => {
                return Err(ApiError::parameter("encoding_format", "`encoding_format` must be `float` or `base64`"));
            }
        };
        let advice = format!("this model's embeddings have {width} dimensions and cannot be shortened");
        fields.refuse_unless("dimensions", &advice, |value| integer(value) == Some(width as i128))?;
        // There is only one model, and users are not tracked.
        fields.ignore(&["model", "user"]);
        fields.finish()?;
        Ok(Self { inputs, base64 })
    }
}

/// A string, an array of tokens, an object with either, or an array of these.
fn inputs(value: Value) -> Result<Vec<Input>, ApiError> {
    let items = match value {
        Value::Array(items) => items,
        other => return Ok(vec![input("input", other)?]),
    };
    match items.first() {
        None => return Err(ApiError::parameter("input", "`input` is an empty array")),
        Some(Value::Number(_)) => return Ok(vec![Input::Tokens(tokens("input", &items)?)]),
        Some(_) => {}
    }
    if items.len() > MAX_INPUTS {
        let message = format!("`input` has {} texts, the most one request may have is {MAX_INPUTS}", items.len());
        return Err(ApiError::parameter("input", message));
    }
    items.into_iter().enumerate().map(|(index, item)| input(&format!("input[{index}]"), item)).collect()
}

/// One text. llama.cpp's clients put it into an object, too: `{"prompt_string": "…"}`, or `{"content": [parts]}`.
fn input(at: &str, item: Value) -> Result<Input, ApiError> {
    match item {
        Value::String(text) => Ok(Input::Text(text)),
        Value::Array(ids) => tokens(at, &ids).map(Input::Tokens),
        Value::Object(mut object) => match (object.remove("prompt_string"), object.remove("content")) {
            (Some(Value::String(text)), None) => Ok(Input::Text(text)),
            (None, Some(Value::Array(parts))) => text_of(&format!("{at}.content"), &parts).map(Input::Text),
            _ => Err(ApiError::parameter(at, format!("`{at}` must be a string, or an array of tokens"))),
        },
        other => Err(wrong_type(at, "a string or an array of tokens", &other)),
    }
}

fn text_of(at: &str, parts: &[Value]) -> Result<String, ApiError> {
    let text = |(index, part): (usize, &Value)| {
        let text = part["text"].as_str().filter(|_| part["type"] == "text").map(str::to_owned);
        let here = format!("{at}[{index}]");
        text.ok_or_else(|| ApiError::parameter(here.clone(), format!("`{here}` must be a part with text")))
    };
    parts.iter().enumerate().map(text).collect()
}

fn tokens(at: &str, ids: &[Value]) -> Result<Vec<TokenId>, ApiError> {
    let token = |(index, id): (usize, &Value)| {
        let token = integer(id).and_then(|id| TokenId::try_from(id).ok());
        let here = format!("{at}[{index}]");
        token.ok_or_else(|| ApiError::parameter(here.clone(), format!("`{here}` must be a token id")))
    };
    ids.iter().enumerate().map(token).collect()
}

/// The response: vectors in the order of the inputs; `tokens` is the inputs' total token count.
pub fn embeddings_answer(model: &str, vectors: &[Vec<f32>], base64: bool, tokens: usize) -> Value {
    let data = vectors.iter().enumerate().map(|(index, vector)| {
        let embedding = if base64 { as_base64(vector) } else { vector.iter().map(|&value| short(value)).collect() };
        json!({"object": "embedding", "index": index, "embedding": embedding})
    });
    json!({
        "object": "list",
        "data": data.collect::<Vec<_>>(),
        "model": model,
        "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
    })
}

/// The same as llama.cpp's server has it on paths of its own: an array, and each text's vector in another.
pub fn native_embeddings(vectors: &[Vec<f32>]) -> Value {
    let row = |(index, vector): (usize, &Vec<f32>)| {
        let values: Vec<Value> = vector.iter().map(|&value| short(value)).collect();
        json!({"index": index, "embedding": [values]})
    };
    vectors.iter().enumerate().map(row).collect()
}

fn as_base64(vector: &[f32]) -> Value {
    let bytes: Vec<u8> = vector.iter().flat_map(|value| value.to_le_bytes()).collect();
    STANDARD.encode(bytes).into()
}

/// Shortest decimal that round-trips as f32; converting to f64 directly would print spurious digits.
pub fn short(value: f32) -> Value {
    value.to_string().parse::<f64>().map_or(Value::Null, Value::from)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<EmbeddingRequest, ApiError> {
        EmbeddingRequest::parse(body.to_string().as_bytes(), 3)
    }

    #[test]
    fn inputs_are_texts_or_tokens() {
        let inputs = |input: Value| parse(json!({"input": input, "model": "x"})).expect("is taken").inputs;
        assert_eq!(inputs(json!("a")), [Input::Text("a".into())]);
        assert_eq!(inputs(json!(["a", "b"])), [Input::Text("a".into()), Input::Text("b".into())]);
        assert_eq!(inputs(json!([1, 2])), [Input::Tokens(vec![1, 2])]);
        assert_eq!(inputs(json!([[1, 2], "a"])), [Input::Tokens(vec![1, 2]), Input::Text("a".into())]);
        let many = vec!["a"; MAX_INPUTS + 1];
        for bad in
            [json!([]), json!(1), json!({}), json!([1, "a"]), json!([-1]), json!([[1.5]]), json!([true]), json!(many)]
        {
            let error = parse(json!({"input": bad})).expect_err("is refused");
            assert!(error.status == 400 && error.param.as_deref().is_some_and(|name| name.starts_with("input")));
        }
    }

    #[test]
    fn parameters_that_would_change_the_answer_are_refused() {
        assert!(
            parse(json!({"input": "a", "dimensions": 3, "user": "x", "encoding_format": "base64"}))
                .expect("taken")
                .base64
        );
        for (name, value) in [("dimensions", json!(2)), ("encoding_format", json!("int8")), ("truncate", json!(true))] {
            let error = parse(json!({"input": "a", name: value})).expect_err("is refused");
            assert_eq!((error.status, error.param.as_deref()), (400, Some(name)));
        }
    }

    #[test]
    fn vectors_are_numbers_or_base64() {
        let answer = embeddings_answer("m", &[vec![0.1, -2.0], vec![1.0, 0.0]], false, 7);
        assert_eq!(answer["data"][0]["embedding"].to_string(), "[0.1,-2.0]");
        assert_eq!((&answer["data"][1]["index"], &answer["usage"]["total_tokens"]), (&json!(1), &json!(7)));
        let answer = embeddings_answer("m", &[vec![1.0, -2.0]], true, 7);
        assert_eq!(answer["data"][0]["embedding"], "AACAPwAAAMA=");
    }
}
