//! Anthropic's API over raw HTTP: events and their order, errors in its shape, keys, models.

use serde_json::{Value, json};

use crate::ollama::plain_template;
use crate::served::{Answer, Served};
use crate::support::{Scratch, stories};

const PATH: &str = "/v1/messages";

fn server(scratch: &Scratch, flags: &[&str]) -> Served {
    let template = plain_template(scratch);
    Served::start(&stories(), &[&["--chat-template", template.to_str().expect("UTF-8")], flags].concat())
}

fn body(extra: Value) -> Value {
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    let mut body = json!({"model": "m", "messages": messages, "max_tokens": 8, "temperature": 0});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

/// The events of a stream: each has its name twice.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("text/event-stream; charset=utf-8")));
    let text = answer.text();
    let event = |event: &str| {
        let (name, data) = event.split_once("\ndata: ").unwrap_or_else(|| panic!("two lines: {event}"));
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!(name.strip_prefix("event: "), data["type"].as_str(), "{event}");
        data
    };
    text.split_terminator("\n\n").map(event).collect()
}

#[track_caller]
fn refused(answer: &Answer, status: u16, kind: &str, part: &str) {
    let body = answer.json();
    assert_eq!(
        (answer.status, &body["type"], &body["error"]["type"]),
        (status, &json!("error"), &json!(kind)),
        "{body}"
    );
    let message = body["error"]["message"].as_str().expect("a message");
    assert!(message.contains(part) && !message.contains('\n'), "{message}");
    assert_eq!(body["request_id"].as_str(), answer.header("request-id"), "{body}");
}

#[test]
fn a_stream_says_what_a_whole_answer_says() {
    let scratch = Scratch::new();
    let server = server(&scratch, &[]);
    let whole = server.post(PATH, &body(json!({}))).json();
    assert_eq!((&whole["type"], &whole["role"]), (&json!("message"), &json!("assistant")));
    assert_eq!((&whole["stop_reason"], &whole["usage"]["output_tokens"]), (&json!("max_tokens"), &json!(8)));
    // Clients add queries such as this one.
    let streamed = server.post("/v1/messages?beta=true", &body(json!({"stream": true})));
    let events = events(&streamed);
    let kinds: Vec<&str> = events.iter().map(|event| event["type"].as_str().unwrap_or_default()).collect();
    assert_eq!(kinds[..3], ["message_start", "ping", "content_block_start"]);
    assert_eq!(kinds[kinds.len() - 3..], ["content_block_stop", "message_delta", "message_stop"]);
    let text: String = events.iter().filter_map(|event| event["delta"]["text"].as_str()).collect();
    assert_eq!(text, whole["content"][0]["text"].as_str().expect("a text"));
    let (first, last) = (&events[0]["message"]["usage"], &events[events.len() - 2]["usage"]);
    let all = |usage: &Value| usage["input_tokens"].as_u64().zip(usage["cache_read_input_tokens"].as_u64());
    assert_eq!(all(first).map(|(new, cached)| new + cached), all(last).map(|(new, cached)| new + cached));
    let counted = server.post("/v1/messages/count_tokens?beta=true", &body(json!({}))).json();
    assert_eq!(counted, json!({"input_tokens": all(last).map(|(new, cached)| new + cached)}));
}

#[test]
fn errors_have_this_apis_shape() {
    let scratch = Scratch::new();
    let server = server(&scratch, &[]);
    let invalid = "invalid_request_error";
    for (extra, part) in [
        (json!({"made_up": 1}), "`made_up`"),
        (json!({"messages": []}), "`messages`"),
        (json!({"messages": [{"role": "user", "content": [{"type": "image"}]}]}), "`messages[0].content[0]`"),
        (json!({"tools": [{"type": "computer_20250124", "name": "computer"}]}), "`tools[0].type`"),
        (json!({"messages": [{"role": "user", "content": "word ".repeat(2000)}]}), "tokens"),
        (
            json!({"output_config": {"format": {"type": "json_schema", "schema": {"$ref": "http://x"}}}}),
            "output_config",
        ),
    ] {
        refused(&server.post(PATH, &body(extra.clone())), 400, invalid, part);
        if part != "tokens" {
            refused(&server.post("/v1/messages/count_tokens", &body(extra)), 400, invalid, part);
        }
    }
    refused(&server.request("POST", PATH, "", b"{"), 400, invalid, "JSON");
    refused(&server.get(PATH), 405, invalid, "POST");
    let gzip = server.request("POST", PATH, "Content-Encoding: gzip\r\n", b"x");
    refused(&gzip, 415, invalid, "gzip");
    assert_eq!(server.post(PATH, &body(json!({}))).status, 200, "the server goes on");
}

#[test]
fn keys_and_models_are_as_its_clients_want_them() {
    let scratch = Scratch::new();
    let keys = scratch.path("keys");
    std::fs::write(&keys, "secret\n").expect("a file");
    let server = server(&scratch, &["--api-key-file", keys.to_str().expect("UTF-8")]);
    refused(&server.post(PATH, &body(json!({}))), 401, "authentication_error", "key");
    let bytes = body(json!({})).to_string().into_bytes();
    for lines in ["x-api-key: secret\r\n", "Authorization: Bearer secret\r\n"] {
        assert_eq!(server.request("POST", PATH, lines, &bytes).status, 200);
    }
    let ours = "x-api-key: secret\r\nanthropic-version: 2023-06-01\r\n";
    let list = server.request("GET", "/v1/models?limit=1000", ours, b"").json();
    let model = &list["data"][0];
    assert_eq!((&list["has_more"], &list["first_id"], &model["type"]), (&json!(false), &model["id"], &json!("model")));
    assert_eq!(model["max_input_tokens"], 512);
    let path = format!("/v1/models/{}", model["id"].as_str().expect("a name"));
    assert_eq!(&server.request("GET", &path, ours, b"").json(), model);
    refused(&server.request("GET", "/v1/models/another", ours, b""), 404, "not_found_error", "another");
    let other = server.request("GET", "/v1/models", "x-api-key: secret\r\n", b"").json();
    assert_eq!(other["object"], "list", "OpenAI's clients get theirs");
}
