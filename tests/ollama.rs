//! Ollama's API over raw HTTP: streams of lines, whole answers, descriptions, errors, keys, and the page beside it.

use std::path::{Path, PathBuf};

use serde_json::{Value, json};

use crate::served::{Answer, Served};
use crate::support::{Scratch, satchel, stories};

/// A template that writes the messages one after another; stories260K has none.
pub(crate) fn plain_template(scratch: &Scratch) -> PathBuf {
    let template = scratch.path("plain.jinja");
    std::fs::write(&template, "{% for m in messages %}{{ m.content }} {% endfor %}").expect("a template");
    template
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn stories_server(scratch: &Scratch, flags: &[&str]) -> Served {
    let template = plain_template(scratch);
    Served::start(&stories(), &[&["--chat-template", text(&template)], flags].concat())
}

/// The objects of a stream.
fn lines(answer: &Answer) -> Vec<Value> {
    assert_eq!((answer.status, answer.header("content-type")), (200, Some("application/x-ndjson")), "{answer:?}");
    let text = answer.text();
    assert!(text.ends_with('\n') && !text.contains("\n\n"), "{text:?}");
    text.lines().map(|line| serde_json::from_str(line).expect("an object on each line")).collect()
}

/// Checks status and message of an error.
#[track_caller]
fn refused(answer: &Answer, status: u16, part: &str) {
    let body = answer.json();
    assert_eq!(answer.status, status, "{body}");
    let message = body["error"].as_str().unwrap_or_else(|| panic!("a string: {body}"));
    assert!(message.contains(part) && !message.contains('\n'), "{message}");
}

fn ask(stream: bool) -> Value {
    let messages = json!([{"role": "user", "content": "Once upon a time"}]);
    json!({"model": "any:latest", "messages": messages, "stream": stream, "options": {"temperature": 0, "num_predict": 8}})
}

#[test]
fn a_chat_is_the_same_streamed_and_whole() {
    let scratch = Scratch::new();
    let server = stories_server(&scratch, &[]);
    let whole = server.post("/api/chat", &ask(false)).json();
    assert_eq!((&whole["message"]["role"], &whole["done"]), (&json!("assistant"), &json!(true)), "{whole}");
    assert_eq!((&whole["done_reason"], &whole["eval_count"]), (&json!("length"), &json!(8)));
    assert!(whole["prompt_eval_count"].as_u64().is_some_and(|count| count > 4), "{whole}");
    for name in ["total_duration", "prompt_eval_duration", "eval_duration"] {
        assert!(whole[name].as_u64().is_some_and(|duration| duration > 1000), "nanoseconds: {whole}");
    }
    let mut body = ask(true);
    body.as_object_mut().unwrap().remove("stream");
    let parts = lines(&server.post("/api/chat", &body));
    let said: String = parts.iter().map(|part| part["message"]["content"].as_str().expect("text")).collect();
    assert_eq!(said, whole["message"]["content"], "streaming is the default");
    let (last, before) = parts.split_last().expect("lines");
    assert!(before.len() > 3 && before.iter().all(|part| part["done"] == false), "{parts:?}");
    assert_eq!((&last["done_reason"], &last["eval_count"]), (&json!("length"), &json!(8)));
    // The same as OpenAI's.
    let openai = json!({"messages": ask(false)["messages"], "temperature": 0, "max_tokens": 8});
    assert_eq!(server.post("/v1/chat/completions", &openai).json()["choices"][0]["message"]["content"], said);
}

#[test]
fn a_generation_uses_the_template_unless_raw() {
    let scratch = Scratch::new();
    let server = stories_server(&scratch, &["--context", "96"]);
    let generate = |more: Value| {
        let mut body =
            json!({"prompt": "Once upon a time", "stream": false, "options": {"temperature": 0, "num_predict": 8}});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/api/generate", &body).json()
    };
    let chat = server.post("/api/chat", &ask(false)).json();
    assert_eq!(generate(json!({}))["response"], chat["message"]["content"]);
    let raw = generate(json!({"raw": true}));
    let openai = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 8});
    assert_eq!(raw["response"], server.post("/v1/completions", &openai).json()["choices"][0]["text"]);
    let with_system = generate(json!({"system": "A story."}));
    assert!(with_system["prompt_eval_count"].as_u64() > raw["prompt_eval_count"].as_u64(), "{with_system}");
    let parts =
        lines(&server.post("/api/generate", &json!({"prompt": "One day", "options": {"num_predict": 3, "seed": 1}})));
    assert!(parts.iter().all(|part| part["response"].is_string()) && parts.last().unwrap()["done"] == true);
    // Until the end: the context of 96 tokens, unless the model ends before.
    let options = json!({"num_predict": -1, "temperature": 0});
    let long = server.post("/api/generate", &json!({"prompt": "Once", "stream": false, "options": options})).json();
    assert!(long["eval_count"].as_u64().is_some_and(|count| count > 50), "{long}");
    // A stop string is not part of the answer.
    let said = raw["response"].as_str().expect("text").to_owned();
    let word = said.split_whitespace().nth(2).expect("a third word");
    let options = json!({"temperature": 0, "num_predict": 8, "stop": [word]});
    let stopped = generate(json!({"raw": true, "options": options}));
    assert_eq!(stopped["response"], said[..said.find(word).expect("it is there")]);
    assert_eq!(stopped["done_reason"], "stop");
}

#[test]
fn the_model_is_described_as_clients_expect() {
    let scratch = Scratch::new();
    let server = stories_server(&scratch, &["--system-prompt", "Secret words.", "--top-k", "7", "--max-tokens", "5"]);
    assert_eq!(server.get("/api/version").json()["version"], "0.6.4");
    let tags = server.get("/api/tags").json();
    let model = &tags["models"][0];
    let name = model["name"].as_str().expect("a name");
    assert!(name.ends_with(":latest") && model["model"] == name, "{tags}");
    let hex = |digest: &Value| {
        digest.as_str().is_some_and(|text| text.len() == 64 && text.bytes().all(|b| b.is_ascii_hexdigit()))
    };
    assert!(hex(&model["digest"]) && model["size"].as_u64().is_some_and(|size| size > 1_000_000), "{tags}");
    let details = json!({
        "parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "293K",
        "quantization_level": "F32",
    });
    assert_eq!(model["details"], details);
    let show = server.post("/api/show", &json!({"model": name})).json();
    assert_eq!((&show["details"], &show["capabilities"]), (&details, &json!(["completion"])));
    let info = &show["model_info"];
    assert_eq!((&info["general.architecture"], &info["llama.context_length"]), (&json!("llama"), &json!(512)));
    assert!(info["general.basename"].is_string() && info["llama.block_count"].is_u64(), "{info}");
    assert!(info.as_object().unwrap().keys().all(|key| !key.starts_with("tokenizer.ggml.tokens")));
    assert_eq!(show["template"], "{% for m in messages %}{{ m.content }} {% endfor %}");
    let parameters = show["parameters"].as_str().expect("a string");
    for (name, value) in [("top_k", "7"), ("num_predict", "5")] {
        let line = parameters.lines().find(|line| line.starts_with(name)).expect(name);
        assert_eq!(line.split_whitespace().nth(1), Some(value), "{line}");
    }
    assert!(
        show["modelfile"].as_str().is_some_and(|text| text.starts_with("FROM ") && text.contains("PARAMETER top_k"))
    );
    assert!(!show.to_string().contains("Secret words"), "only the page's user sees it");
    let body = json!({"name": name}).to_string();
    let known = server.request("POST", "/api/show", &server.page_session(), body.as_bytes()).json();
    assert_eq!(known["system"], "Secret words.");
    let ps = server.get("/api/ps").json();
    let running = &ps["models"][0];
    assert_eq!(
        (&running["name"], &running["size_vram"], &running["digest"]),
        (&json!(name), &json!(0), &model["digest"])
    );
    assert!(running["expires_at"].as_str().is_some_and(|time| time.starts_with("21") && time.ends_with('Z')), "{ps}");
}

#[test]
fn a_packed_models_digest_is_its_files() {
    let scratch = Scratch::new();
    let packed = scratch.path("tiny");
    satchel(&["pack", text(&stories()), "-o", text(&packed), "--name", "tiny"]).ok();
    let report: Value = serde_json::from_str(&satchel(&["inspect", "--json", text(&packed)]).ok()).expect("JSON");
    let server = Served::start(&packed, &[]);
    let model = server.get("/api/tags").json()["models"][0].clone();
    assert_eq!((&model["name"], &model["digest"]), (&json!("tiny:latest"), &report["files"][0]["sha256"]));
}

#[test]
fn browsers_get_the_page_and_clients_the_line() {
    let server = Served::start(&stories(), &[]);
    for accept in ["", "Accept: */*\r\n", "Accept: application/json\r\n"] {
        let answer = server.request("GET", "/", accept, b"");
        assert_eq!((answer.status, answer.text().as_str()), (200, "Ollama is running"), "{accept}");
        assert_eq!(
            (answer.header("content-type"), answer.header("vary")),
            (Some("text/plain; charset=utf-8"), Some("Accept"))
        );
        let head = server.request("HEAD", "/", accept, b"");
        assert_eq!((head.status, head.body.len(), head.header("content-length")), (200, 0, Some("17")));
    }
    let page = server.page("GET", "");
    assert!(page.text().contains("<script") && page.header("vary") == Some("Accept"), "{page:?}");
}

#[test]
fn requests_without_a_prompt_are_answered_at_once() {
    let server = Served::start(&stories(), &[]);
    let loaded = server.post("/api/generate", &json!({"model": "m"})).json();
    assert_eq!(
        (&loaded["response"], &loaded["done"], &loaded["done_reason"]),
        (&json!(""), &json!(true), &json!("load"))
    );
    let unloaded = server.post("/api/chat", &json!({"messages": [], "keep_alive": 0})).json();
    assert_eq!((&unloaded["message"]["content"], &unloaded["done_reason"]), (&json!(""), &json!("unload")));
    assert_eq!(server.get("/api/ps").json()["models"].as_array().map(Vec::len), Some(1), "it stays loaded");
}

#[test]
fn errors_are_strings_with_their_statuses() {
    let scratch = Scratch::new();
    let server = stories_server(&scratch, &[]);
    let chat = |name: &str, value: Value| {
        let mut body = ask(true);
        body[name] = value;
        server.post("/api/chat", &body)
    };
    let image = json!([{"role": "user", "content": "see", "images": ["aGk="]}]);
    refused(&chat("messages", image), 400, "`messages[0].images`");
    refused(&chat("tools", json!([{"type": "function"}])), 400, "`tools[0].function`");
    refused(&chat("format", json!("xml")), 400, "`format`");
    refused(&chat("options", json!({"num_ctx": 4096})), 400, "`num_ctx` is 4096");
    let long = json!([{"role": "user", "content": "word ".repeat(600)}]);
    refused(&chat("messages", long), 400, "tokens");
    refused(&server.request("POST", "/api/chat", "", b"{"), 400, "not valid JSON");
    refused(&server.request("POST", "/api/chat", "Content-Encoding: gzip\r\n", b"x"), 415, "gzip");
    let large = b"POST /api/chat HTTP/1.1\r\nHost: localhost\r\nContent-Length: 99000000\r\n\r\n";
    refused(&server.raw(large), 413, "larger than");
    refused(&server.get("/api/chat"), 405, "accepts only POST");
    refused(&server.request("POST", "/api/chat", "Origin: http://evil.example\r\n", b"{}"), 403, "--cors");
    refused(&server.post("/api/embed", &json!({"input": "a"})), 501, "embeddings");
    for (method, path) in
        [("POST", "/api/pull"), ("DELETE", "/api/delete"), ("POST", "/api/create"), ("POST", "/api/copy")]
    {
        refused(&server.request(method, path, "", br#"{"model": "m"}"#), 501, "one model");
    }
    refused(&server.request("PUT", "/api/blobs/sha256:00", "", b""), 501, "one model");
    // Refused before its body is read.
    let early = server.raw(b"POST /api/blobs/sha256:00 HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n");
    refused(&early, 501, "one model");
    let without = Served::start(&stories(), &[]);
    refused(&without.post("/api/generate", &json!({"prompt": "Once"})), 400, "`raw: true`");
}

#[test]
fn with_keys_it_needs_one() {
    let scratch = Scratch::new();
    let file = scratch.path("keys");
    std::fs::write(&file, "key\n").expect("a file");
    let server = stories_server(&scratch, &["--api-key-file", text(&file)]);
    for path in ["/api/version", "/api/tags", "/api/ps"] {
        refused(&server.get(path), 401, "API key");
        assert_eq!(server.request("GET", path, "Authorization: Bearer key\r\n", b"").status, 200, "{path}");
    }
    for path in ["/api/show", "/api/chat", "/api/generate", "/api/pull", "/api/embed"] {
        let answer = server.post(path, &json!({"model": "m"}));
        refused(&answer, 401, "API key");
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
    }
    let body = ask(false).to_string();
    let answer = server.request("POST", "/api/chat", "Authorization: Bearer key\r\n", body.as_bytes());
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(server.get("/").text(), "Ollama is running");
}
