//! `POST /v1/rerank`: documents in the order in which they answer a query. The shape is Jina's and Cohere's, which llama.cpp's server
//! and vLLM have, too; with `texts` in place of `documents` it is that of Hugging Face's text-embeddings-inference.

use serde_json::{Value, json};

use super::embeddings::short;
use super::error::ApiError;
use super::fields::{Fields, wrong_type};

/// Most documents in a request.
const MAX_DOCUMENTS: usize = 2048;

/// A checked request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RerankRequest {
    /// What the documents are to answer.
    pub query: String,
    /// One or more.
    pub documents: Vec<String>,
    /// How many of the best are wanted.
    top: usize,
    /// Whether the answer repeats the documents.
    repeats: bool,
    /// Whether it was asked as of text-embeddings-inference.
    of_texts: bool,
}

impl RerankRequest {
    /// Parses and checks a body.
    ///
    /// # Errors
    /// 400 naming the parameter.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        let mut fields = Fields::parse(body)?;
        let Some(query) = fields.take_string("query")? else {
            return Err(ApiError::parameter("query", "`query` is missing; it must be a string"));
        };
        let of_texts = fields.peek("documents").is_none() && fields.peek("texts").is_some();
        let name = name(of_texts);
        let documents = documents(name, fields.take(name))?;
        let most = documents.len();
        let top = fields.take_integer("top_n", 1..=i64::MAX)?.map_or(most, |top| most.min(top as usize));
        let repeats = fields.take_bool(if of_texts { "return_text" } else { "return_documents" })?.unwrap_or(false);
        // What is given is as the model computes it.
        fields
            .refuse_unless("raw_scores", "scores are always as the model gives them", |value| *value == json!(true))?;
        fields.refuse_unless("truncate", "what does not fit is an error", |value| *value == json!(false))?;
        fields.ignore(&["model", "user"]);
        fields.finish()?;
        Ok(Self { query, documents, top, repeats, of_texts })
    }

    /// The parameter that the documents came in.
    pub fn name(&self) -> &'static str {
        name(self.of_texts)
    }

    /// The response to scores in the order of the documents; `tokens` is how many all pairs had.
    pub fn answer(&self, model: &str, scores: &[f32], tokens: usize) -> Value {
        let mut order: Vec<usize> = (0..scores.len()).collect();
        order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
        order.truncate(self.top);
        let (score, document) = if self.of_texts { ("score", "text") } else { ("relevance_score", "document") };
        let result = |index: usize| {
            let mut result = json!({"index": index, score: short(scores[index])});
            if self.repeats {
                let text = &self.documents[index];
                result[document] = if self.of_texts { json!(text) } else { json!({"text": text}) };
            }
            result
        };
        let results: Value = order.into_iter().map(result).collect();
        if self.of_texts {
            return results;
        }
        let usage = json!({"prompt_tokens": tokens, "total_tokens": tokens});
        json!({"object": "list", "model": model, "results": results, "usage": usage})
    }
}

fn name(of_texts: bool) -> &'static str {
    if of_texts { "texts" } else { "documents" }
}

/// Strings, or objects with a `text`.
fn documents(name: &str, value: Option<Value>) -> Result<Vec<String>, ApiError> {
    let items = match value {
        None => return Err(ApiError::parameter(name, format!("`{name}` is missing; it must be an array of strings"))),
        Some(Value::Array(items)) => items,
        Some(other) => return Err(wrong_type(name, "an array of strings", &other)),
    };
    if items.is_empty() || items.len() > MAX_DOCUMENTS {
        let message = format!("`{name}` must have 1 to {MAX_DOCUMENTS} texts, not {}", items.len());
        return Err(ApiError::parameter(name, message));
    }
    let text = |(index, mut item): (usize, Value)| {
        // An object with more than a text may mean something else.
        if let Some(object) = item.as_object_mut().filter(|object| object.len() == 1)
            && let Some(text) = object.get_mut("text")
        {
            item = text.take();
        }
        match item {
            Value::String(text) => Ok(text),
            other => Err(wrong_type(&format!("{name}[{index}]"), "a string", &other)),
        }
    };
    items.into_iter().enumerate().map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(body: Value) -> Result<RerankRequest, ApiError> {
        RerankRequest::parse(body.to_string().as_bytes())
    }

    #[test]
    fn the_best_come_first_in_the_shape_that_was_asked_for() {
        let asked = parse(json!({"model": "x", "query": "q", "documents": ["a", {"text": "b"}, "c"], "top_n": 2}));
        let answer = asked.expect("it is taken").answer("m", &[-1.5, 2.0, 0.25], 9);
        assert_eq!(
            answer,
            json!({"object": "list", "model": "m", "usage": {"prompt_tokens": 9, "total_tokens": 9},
                "results": [{"index": 1, "relevance_score": 2.0}, {"index": 2, "relevance_score": 0.25}]})
        );
        let asked = parse(json!({"query": "q", "texts": ["a", "b"], "return_text": true})).expect("it is taken");
        assert_eq!(
            asked.answer("m", &[0.5, 1.5], 9),
            json!([{"index": 1, "score": 1.5, "text": "b"}, {"index": 0, "score": 0.5, "text": "a"}])
        );
        let asked = parse(json!({"query": "q", "documents": ["a"], "return_documents": true, "top_n": 9}));
        assert_eq!(asked.expect("it is taken").answer("m", &[1.0], 1)["results"][0]["document"], json!({"text": "a"}));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, name) in [
            (json!({"documents": ["a"]}), "query"),
            (json!({"query": 1, "documents": ["a"]}), "query"),
            (json!({"query": "q"}), "documents"),
            (json!({"query": "q", "documents": "a"}), "documents"),
            (json!({"query": "q", "documents": []}), "documents"),
            (json!({"query": "q", "documents": ["a", 1]}), "documents[1]"),
            (json!({"query": "q", "documents": ["a", {"text": "b", "more": 1}]}), "documents[1]"),
            (json!({"query": "q", "texts": [null]}), "texts[0]"),
            (json!({"query": "q", "documents": ["a"], "top_n": 0}), "top_n"),
            (json!({"query": "q", "documents": ["a"], "truncate": true}), "truncate"),
            (json!({"query": "q", "documents": ["a"], "max_chunks_per_doc": 3}), "max_chunks_per_doc"),
        ] {
            let error = parse(body).expect_err(name);
            assert_eq!((error.status, error.param.as_deref()), (400, Some(name)));
        }
    }
}
