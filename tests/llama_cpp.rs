//! `/completion`, `/infill` and the other names of llama.cpp's server, over raw HTTP.

use serde_json::{Value, json};

use crate::served::{Answer, Served};
use crate::support::stories;

/// The objects of a stream of server-sent events.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = answer.text();
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[test]
fn a_text_is_continued_whole_and_streamed() {
    let server = Served::start(&stories(), &[]);
    let ask =
        json!({"prompt": "Once upon a time", "n_predict": 8, "temperature": 0, "return_tokens": true, "n_probs": 2});
    let whole = server.post("/completion", &ask).json();
    assert_eq!(
        (&whole["content"], &whole["stop_type"]),
        (&json!(", there was a little girl"), &json!("limit")),
        "{whole}"
    );
    assert_eq!((&whole["tokens_predicted"], &whole["truncated"]), (&json!(8), &json!(false)));
    assert_eq!(whole["tokens"].as_array().map(Vec::len), Some(8));
    assert!(whole["prompt"].as_str().unwrap().ends_with("Once upon a time"), "{whole}");
    assert_eq!((&whole["timings"]["predicted_n"], &whole["generation_settings"]["n_predict"]), (&json!(8), &json!(8)));
    let probabilities = whole["completion_probabilities"].as_array().unwrap();
    assert!(probabilities.len() == 8 && probabilities.iter().all(|token| token["top_logprobs"][1]["id"].is_u64()));
    let mut streaming = ask.clone();
    streaming["stream"] = true.into();
    let events = events(&server.post("/completions", &streaming));
    let (last, pieces) = events.split_last().unwrap();
    let said: String = pieces.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert!(pieces.iter().all(|event| event["stop"] == false) && last["stop"] == true);
    assert_eq!(
        (json!(said), &last["stop_type"], &last["content"]),
        (whole["content"].clone(), &json!("limit"), &json!(""))
    );
    let chosen = server.post("/completion", &{
        let mut ask = ask;
        ask["response_fields"] = json!(["content", "generation_settings/n_predict"]);
        ask
    });
    assert_eq!(chosen.json(), json!({"content": whole["content"], "generation_settings/n_predict": 8}));
}

#[test]
fn several_prompts_give_an_array_and_tokens_stand_for_text() {
    let server = Served::start(&stories(), &[]);
    let tokens =
        &server.post("/tokenize", &json!({"content": "Once upon a time", "add_special": true})).json()["tokens"];
    let ask = |prompt: Value| json!({"prompt": prompt, "n_predict": 4, "temperature": 0});
    let all = server.post("/completion", &ask(json!([tokens, "Once upon a time"]))).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all[0]["content"], all[1]["content"]);
    let mixed = server.post("/completion", &ask(json!([1, "Once upon", 2, " a time"]))).json();
    assert!(mixed["content"].is_string(), "{mixed}");
}

#[test]
fn errors_and_other_names() {
    let server = Served::start(&stories(), &[]);
    server.post("/completion", &json!({})).error(400, Some("prompt"), None);
    let long = json!({"prompt": "word ".repeat(600)});
    server.post("/completion", &long).error(400, Some("prompt"), Some("context_length_exceeded"));
    let gap = json!({"input_prefix": "a", "input_suffix": "b"});
    assert!(server.post("/infill", &gap).error(400, Some("prompt"), None).contains("gap"));
    let suffix = json!({"prompt": "a", "suffix": "b"});
    assert!(
        server
            .post("/v1/completions", &suffix)
            .error(400, Some("suffix"), Some("unsupported_parameter"))
            .contains("gap")
    );
    assert_eq!(server.get("/models").json()["data"].as_array().map(Vec::len), Some(1));
    assert_eq!(server.get("/v1/health").json()["status"], "ok");
    assert_eq!(server.get("/props").json()["bos_token"], "<s>");
}
