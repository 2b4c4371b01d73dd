//! Requests that made servers write out of bounds, run out of stack or memory, or open files that nobody had offered.

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::stories;

const COMPLETIONS: &str = "/v1/completions";
const CHAT: &str = "/v1/chat/completions";

/// A server that still answers at the end of the test.
struct Outlived(Served);

impl Outlived {
    fn start(flags: &[&str]) -> Self {
        Self(Served::start(&stories(), flags))
    }

    /// Refuses a completion with this parameter in a line about it.
    #[track_caller]
    fn refuses(&self, name: &str, value: Value) -> String {
        let mut body = json!({"prompt": "Once", "max_tokens": 4});
        body[name] = value;
        let answer = self.0.post(COMPLETIONS, &body);
        answer.error(400, Some(name), Some("unsupported_parameter"))
    }
}

impl Drop for Outlived {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            let answer = self.0.post(COMPLETIONS, &json!({"prompt": "Once", "max_tokens": 2}));
            assert_eq!(answer.status, 200, "the server goes on: {answer:?}");
        }
    }
}

/// A full context ends the answer. No tokens are discarded from it, so no count of them can be out of range.
#[test]
fn cve_2026_21869_discarding_a_negative_number_of_tokens() {
    let server = Outlived::start(&["--context", "32"]);
    for number in [-1, -32, i64::from(i32::MIN), i64::MAX] {
        assert!(server.refuses("n_discard", json!(number)).contains("`n_discard`"));
    }
    assert!(server.refuses("n_keep", json!(5)).contains("`n_keep`"));
    // llama.cpp's issue 10380: an answer that goes on beyond the context.
    let long = json!({"prompt": "Once upon a time", "ignore_eos": true, "max_tokens": 4096, "temperature": 0});
    let answer = server.0.post(COMPLETIONS, &long).json();
    assert_eq!(answer["choices"][0]["finish_reason"], "length", "{answer}");
    assert_eq!(answer["usage"]["total_tokens"], 32, "{answer}");
}

/// CVE-2026-52130, and llama.cpp's issue 26600: grammars and schemas that are nested as deep as a stack.
#[test]
fn cve_2026_2069_grammars_without_a_bottom() {
    let server = Outlived::start(&[]);
    let grammar = format!("root ::= {}\"a\"{}", "(".repeat(30_000), ")".repeat(30_000));
    let mut schema = json!({"type": "integer"});
    for _ in 0..40 {
        schema = json!({"type": "object", "properties": {"x": schema}});
    }
    let refuses_format = |name: &str, value: Value| {
        let mut body = json!({"prompt": "Once", "max_tokens": 4});
        body[name] = value;
        let at = if name == "response_format" { "response_format.json_schema.schema" } else { name };
        server.0.post(COMPLETIONS, &body).error(400, Some(at), None)
    };
    assert!(refuses_format("grammar", json!(grammar)).contains("nested too deeply"));
    assert!(refuses_format("json_schema", schema.clone()).contains("schemas deep"));
    refuses_format("response_format", json!({"type": "json_schema", "json_schema": {"schema": schema}}));
    refuses_format("guided_regex", json!("(?<=x)+".to_owned() + &"(".repeat(10_000)));
    refuses_format("guided_grammar", json!(format!("start: {}\"a\"{}", "(".repeat(30_000), ")".repeat(30_000))));
    // Deeper than JSON is read.
    for (open, close) in [("[", "]"), ("{\"x\":", "}")] {
        let body = format!("{{\"json_schema\": {}1{}}}", open.repeat(50_000), close.repeat(50_000));
        for path in [COMPLETIONS, CHAT] {
            let message = server.0.request("POST", path, "", body.as_bytes()).error(400, None, None);
            assert!(message.contains("recursion"), "{message}");
        }
    }
}

/// llamafile's issue 835 sent two gigabytes; CVE-2025-52566 needs as much text. A request is 4 MiB at most, a prompt a context.
#[test]
fn cve_2025_52566_prompts_without_an_end() {
    let server = Outlived::start(&["--context", "64"]);
    let claimed = format!("POST {COMPLETIONS} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2147483664\r\n\r\n");
    server.0.raw(claimed.as_bytes()).error(413, None, None);
    let body = json!({"prompt": "a ".repeat(2_000_000)});
    let message = server.0.post(COMPLETIONS, &body).error(400, Some("prompt"), Some("context_length_exceeded"));
    assert!(message.contains("64"), "{message}");
    server.0.post(COMPLETIONS, &json!({"prompt": [4_294_967_295_u32]})).error(400, Some("prompt[0]"), None);
    server.0.post(COMPLETIONS, &json!({"prompt": [-1]})).error(400, Some("prompt[0]"), None);
}

/// CVE-2026-52132 (a negative count at /rerank), CVE-2024-37032, 39719, 39721, 39722, CVE-2025-44779 and 1975, CVE-2026-5530
/// (paths, devices and addresses given to /api/pull, /api/push and /api/create): no request names a file or an address here.
#[test]
fn cve_2024_37032_requests_that_name_files() {
    let server = Outlived::start(&[]);
    for path in [
        "/rerank",
        "/v1/rerank",
        "/api/create",
        "/api/pull",
        "/api/push",
        "/api/blobs/sha256:../../../../../../etc/passwd",
        "/slots/0?action=save",
        "/props",
    ] {
        let body = json!({
            "model": "../../../../etc/passwd", "name": "http://127.0.0.1:1/../../x", "path": "/dev/random",
            "digest": "sha256:../../../../etc/passwd", "filename": "../../etc/passwd", "top_n": -1, "insecure": true,
        });
        let answer = server.0.post(path, &body);
        assert!(matches!(answer.status, 404 | 405 | 501), "{path}: {answer:?}");
        assert!(!answer.text().contains("root:"), "{path}: {answer:?}");
    }
    // Adapters are named by number; a path beside it is ignored.
    let named = json!([{"id": 0, "path": "/dev/random", "scale": 1.0}]);
    server.0.post("/lora-adapters", &named).error(400, Some("body[0].id"), None);
    for path in [
        "/v1/models/..%2f..%2f..%2fetc%2fpasswd",
        "/../../etc/passwd",
        "/assets/..%2f..%2fetc%2fpasswd",
        "//etc/passwd",
    ] {
        let answer = server.0.get(path);
        assert!(answer.status == 404 || answer.status == 400, "{path}: {answer:?}");
        assert!(!answer.text().contains("root:"), "{path}: {answer:?}");
    }
    for model in ["../../../../etc/passwd", "/dev/random", "http://127.0.0.1:1/x"] {
        let body = json!({"model": model, "prompt": "Once", "max_tokens": 1});
        let answer = server.0.post(COMPLETIONS, &body);
        assert!(!answer.text().contains("No such file") && !answer.text().contains("root:"), "{answer:?}");
    }
}

/// Pictures are another kind of model's: those of CVE-2025-15514 are not decoded.
#[test]
fn cve_2025_15514_pictures_that_are_none() {
    let server = Outlived::start(&[]);
    for url in ["data:image/png;base64,!!!!", "data:image/png;base64,", "file:///etc/passwd", "http://127.0.0.1:1/x"] {
        let picture = json!({"type": "image_url", "image_url": {"url": url}});
        let body = json!({"messages": [{"role": "user", "content": [picture]}]});
        let message = server.0.post(CHAT, &body).error(400, Some("messages[0].content[0]"), None);
        assert!(!message.contains("root:"), "{message}");
    }
    assert!(server.refuses("image_data", json!([{"data": "!!!!", "id": -1}])).contains("`image_data`"));
}

/// A page of another site, by a name that leads here: CVE-2024-28224. And packed answers of the size of a memory:
/// CVE-2024-12886.
#[test]
fn cve_2024_28224_names_that_lead_here() {
    let server = Outlived::start(&[]);
    for host in ["evil.example", "127.0.0.1.evil.example", "localhost.evil.example:80"] {
        let request = format!("GET /v1/models HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert!(server.0.raw(request.as_bytes()).error(403, None, None).contains("--allow-host"));
    }
    let bomb = server.0.request("POST", COMPLETIONS, "Content-Encoding: gzip\r\n", &[0x1f, 0x8b, 8, 0]);
    assert!(bomb.error(415, None, None).contains("gzip"));
}
