//! The server over raw sockets: routes, bad requests, limits, foreign pages, answers, disconnecting clients, shutdown.

use std::ffi::OsStr;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::served::{Answer, Served, read_answer};
use crate::support::{SATCHEL, Scratch, satchel, smollm2, stories};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn story_server() -> Served {
    Served::start(&stories(), &[])
}

/// A greedy completion request with more parameters.
fn greedy(more: Value) -> Value {
    let mut body = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 24});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[track_caller]
fn text(answer: &Answer) -> String {
    assert_eq!(answer.status, 200, "{}", answer.text());
    answer.json()["choices"][0]["text"].as_str().expect("text").to_owned()
}

#[test]
fn the_block_says_what_runs_and_where() {
    let server = story_server();
    for word in ["llama", "mapped", "2 threads", "context", "http://127.0.0.1:", "this machine only", "Ctrl-C"] {
        assert!(server.block.contains(word), "{word}: {}", server.block);
    }
}

#[test]
fn the_page_is_served_under_a_strict_policy() {
    let server = story_server();
    let index = server.page("GET", "");
    assert_eq!((index.status, index.header("content-type")), (200, Some("text/html; charset=utf-8")));
    let policy = index.header("content-security-policy").expect("a policy");
    for rule in ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"] {
        assert!(policy.contains(rule), "{policy}");
    }
    assert_eq!(index.header("x-content-type-options"), Some("nosniff"));
    assert_eq!(index.header("referrer-policy"), Some("no-referrer"));
    assert_eq!(index.header("cache-control"), Some("no-cache"));

    let etag = index.header("etag").expect("a validator");
    let again = server.page("GET", &format!("If-None-Match: {etag}\r\n"));
    assert_eq!((again.status, again.body.len()), (304, 0));

    let page = index.text();
    let script = page.split('"').find(|part| part.starts_with("./assets/") && part.ends_with(".js")).expect("a script");
    let script = server.get(script.trim_start_matches('.'));
    assert_eq!((script.status, script.header("content-type")), (200, Some("text/javascript; charset=utf-8")));
    assert!(script.header("cache-control").expect("caching").contains("immutable"));

    let head = server.page("HEAD", "");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(head.header("content-length"), Some(index.body.len().to_string().as_str()));
}

#[test]
fn unknown_paths_and_methods_have_their_codes() {
    let server = story_server();
    for path in ["/nothing", "/v1", "/assets/../index.html", "/%2e%2e/etc/passwd", "/v1/chat/completions/x"] {
        server.get(path).error(404, None, None);
    }
    for (method, path, allow) in [
        ("GET", CHAT, "POST, OPTIONS"),
        ("DELETE", COMPLETIONS, "POST, OPTIONS"),
        ("POST", "/health", "GET, HEAD, OPTIONS"),
        ("PUT", "/", "GET, HEAD, OPTIONS"),
    ] {
        let answer = server.request(method, path, "", b"");
        answer.error(405, None, None);
        assert_eq!(answer.header("allow"), Some(allow));
        assert_eq!(server.request("OPTIONS", path, "", b"").status, 204);
    }
}

#[test]
fn facts_models_and_health() {
    let server =
        Served::start(&stories(), &["--context", "96", "--system-prompt", "Be brief.", "--temp", "0", "--top-k", "7"]);
    let facts = server.request("GET", "/api/facts", &server.page_session(), b"").json();
    assert_eq!(facts["architecture"], "llama");
    assert_eq!((&facts["context_length"], &facts["threads"]), (&json!(96), &json!(2)));
    let defaults = &facts["defaults"];
    assert_eq!((&defaults["system_prompt"], &defaults["top_k"]), (&json!("Be brief."), &json!(7)));
    let draw = || text(&server.post(COMPLETIONS, &json!({"prompt": "Once", "max_tokens": 20})));
    assert_eq!(draw(), draw(), "--temp 0 is the default for requests");
    assert!(
        facts["parameters"].as_u64().unwrap() > 200_000 && facts["version"].is_string() && facts["isa"].is_string()
    );

    let models = server.get("/v1/models").json();
    let model = &models["data"][0];
    assert_eq!((&model["id"], &model["object"]), (&facts["name"], &json!("model")));
    assert_eq!(model["meta"]["context_length"], 96);
    let name = facts["name"].as_str().unwrap().replace(' ', "%20");
    assert_eq!(&server.get(&format!("/v1/models/{name}")).json(), model);
    server.get("/v1/models/gpt-5").error(404, Some("model"), Some("model_not_found"));

    let health = server.health();
    assert_eq!((&health["status"], &health["running"], &health["waiting"]), (&json!("ok"), &json!(0), &json!(0)));
}

#[test]
fn answers_are_the_same_streamed_and_whole() {
    let server = story_server();
    let whole = server.post(COMPLETIONS, &greedy(json!({}))).json();
    let story = whole["choices"][0]["text"].as_str().unwrap();
    assert!(story.len() > 20, "{whole}");
    assert_eq!(whole["choices"][0]["finish_reason"], "length");
    assert_eq!(whole["usage"]["completion_tokens"], 24);

    let answer = server.post(COMPLETIONS, &greedy(json!({"stream": true, "stream_options": {"include_usage": true}})));
    assert_eq!(answer.header("content-type"), Some("text/event-stream; charset=utf-8"));
    let mut events = answer.events();
    assert_eq!(events.pop().as_deref(), Some("[DONE]"));
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).expect("JSON")).collect();
    let pieces = events.iter().filter_map(|event| event["choices"][0]["text"].as_str());
    assert_eq!(pieces.collect::<String>(), story);
    assert!(events.len() > 15, "the answer comes in pieces: {}", events.len());
    let last = events.last().unwrap();
    assert_eq!(last["choices"], json!([]));
    for count in ["prompt_tokens", "completion_tokens", "total_tokens"] {
        assert_eq!(last["usage"][count], whole["usage"][count], "{count}");
    }
    let cached = last["usage"]["prompt_tokens_details"]["cached_tokens"].as_u64().unwrap();
    assert!(cached < last["usage"]["prompt_tokens"].as_u64().unwrap(), "{last}");
    let timings = &last["timings"];
    assert_eq!(timings["context_used"].as_u64(), last["usage"]["total_tokens"].as_u64());
    assert!(timings["generated_per_second"].as_f64().unwrap() > 0.0 && timings["context_length"].is_u64(), "{timings}");
    assert!(events[..events.len() - 1].iter().all(|event| event["usage"].is_null()));
}

#[test]
fn timings_come_last_without_usage_too() {
    let server = story_server();
    let mut events = server.post(COMPLETIONS, &greedy(json!({"stream": true}))).events();
    events.pop();
    let last: Value = serde_json::from_str(events.last().unwrap()).unwrap();
    assert_eq!(last["choices"][0]["finish_reason"], "length");
    assert_eq!(last["timings"]["generated_tokens"], 24);
}

#[test]
fn stop_strings_prompts_and_choices() {
    let server = story_server();
    let story = text(&server.post(COMPLETIONS, &greedy(json!({}))));
    // A stop string that spans tokens: the end of one word and the beginning of the next.
    let stop: String = story.chars().skip(8).take(6).collect();
    let stopped = server.post(COMPLETIONS, &greedy(json!({"stop": ["never there", stop]})));
    assert_eq!(text(&stopped), story[..story.find(&stop).unwrap()]);
    assert_eq!(stopped.json()["choices"][0]["finish_reason"], "stop");

    let two = server.post(COMPLETIONS, &greedy(json!({"prompt": ["Once upon a time", "The dog"], "n": 2}))).json();
    let texts: Vec<&str> =
        two["choices"].as_array().unwrap().iter().map(|choice| choice["text"].as_str().unwrap()).collect();
    assert_eq!((texts.len(), texts[0], texts[1]), (4, story.as_str(), story.as_str()));
    assert_eq!((texts[2], two["choices"][3]["index"].as_u64()), (texts[3], Some(3)));
    let alone = text(&server.post(COMPLETIONS, &greedy(json!({"prompt": "The dog"}))));
    assert_eq!(texts[2], alone, "batching changes nothing");
    assert_eq!(two["usage"]["completion_tokens"], 96);

    let tokens = server.post(COMPLETIONS, &greedy(json!({"prompt": [1, 403, 407]})));
    assert_eq!(tokens.json()["usage"]["prompt_tokens"], 3);
}

#[test]
fn seeds_repeat_and_differ() {
    let server = story_server();
    let draw = |seed: i64| {
        text(&server.post(COMPLETIONS, &json!({"prompt": "Once", "temperature": 1.5, "max_tokens": 40, "seed": seed})))
    };
    assert_eq!(draw(7), draw(7));
    assert_ne!(draw(7), draw(8));
    let both =
        server.post(COMPLETIONS, &json!({"prompt": "Once", "temperature": 1.5, "max_tokens": 40, "seed": 7, "n": 2}));
    let both = both.json();
    assert_eq!(both["choices"][0]["text"], draw(7).as_str());
    assert_eq!(both["choices"][1]["text"], draw(8).as_str());
}

#[test]
fn logprobs_have_the_legacy_shape() {
    let server = story_server();
    let answer = server.post(COMPLETIONS, &greedy(json!({"logprobs": 3, "max_tokens": 5}))).json();
    let logprobs = &answer["choices"][0]["logprobs"];
    assert_eq!(logprobs["tokens"].as_array().unwrap().len(), 5);
    for (index, value) in logprobs["token_logprobs"].as_array().unwrap().iter().enumerate() {
        let value = value.as_f64().unwrap();
        let top = logprobs["top_logprobs"][index].as_object().unwrap();
        let best = top.values().map(|value| value.as_f64().unwrap()).fold(f64::MIN, f64::max);
        assert!(value <= 0.0 && value == best && top.len() == 3, "the most likely token was taken: {top:?}");
    }
    assert!(
        text(&server.post(COMPLETIONS, &greedy(json!({})))).starts_with(answer["choices"][0]["text"].as_str().unwrap())
    );
}

#[test]
fn logit_bias_bans_tokens() {
    let server = story_server();
    let banned: serde_json::Map<String, Value> =
        (0..512).filter(|id| *id != 410).map(|id| (id.to_string(), json!(-100))).collect();
    let body = json!({"prompt": "Once", "temperature": 1, "logprobs": 0, "max_tokens": 4, "logit_bias": banned});
    let answer = server.post(COMPLETIONS, &body).json();
    let tokens = answer["choices"][0]["logprobs"]["tokens"].as_array().unwrap().clone();
    assert!(tokens.len() == 4 && tokens.iter().all(|token| *token == tokens[0]), "only one is left: {tokens:?}");
}

#[test]
fn bodies_that_cannot_be_read() {
    let server = story_server();
    for path in [CHAT, COMPLETIONS] {
        let send = |body: &[u8]| server.request("POST", path, "", body);
        assert!(send(b"{\"a\": }").error(400, None, None).contains("line 1 column 7"));
        assert!(send(b"").error(400, None, None).contains("JSON"));
        assert!(send(b"[1]").error(400, None, None).contains("an array"));
        assert!(send(b"{\"prompt\": \"\xff\xfe\"}").error(400, None, None).contains("UTF-8"));
        assert!(send("[".repeat(50_000).as_bytes()).error(400, None, None).contains("recursion"));
        assert!(send(&vec![b' '; 5 << 20]).error(413, None, None).contains("4194304 bytes"));
        let many = format!("{{\"messages\": [{}1], \"prompt\": [1]}}", "[],".repeat(200_000));
        assert!(send(many.as_bytes()).error(413, None, None).contains("values"));
        for twice in
            [r#"{"temperature": 0, "temperature": 2}"#, r#"{"messages": [{"role": "user", "role": "system"}]}"#]
        {
            assert!(send(twice.as_bytes()).error(400, None, None).contains("comes twice"));
        }
    }
}

#[test]
fn bodies_are_plain_utf_8() {
    let server = story_server();
    let body = greedy(json!({"max_tokens": 1})).to_string();
    let send = |lines: &str, body: &[u8]| server.request("POST", COMPLETIONS, lines, body);
    for (lines, part) in [
        ("Content-Encoding: gzip\r\n", "`gzip`"),
        ("Content-Encoding: br\r\n", "`br`"),
        ("Content-Type: application/json; charset=utf-16\r\n", "`utf-16`"),
        ("Content-Type: application/json; charset=\"ISO-8859-1\"\r\n", "`iso-8859-1`"),
    ] {
        assert!(send(lines, body.as_bytes()).error(415, None, None).contains(part));
    }
    for lines in ["Content-Encoding: identity\r\n", "Content-Type: application/json; charset=UTF-8\r\n", ""] {
        assert_eq!(send(lines, body.as_bytes()).status, 200, "{lines}");
    }
    assert_eq!(send("", format!("\u{feff}{body}").as_bytes()).status, 200, "a byte-order mark is skipped");
}

#[test]
fn a_bias_that_bans_all_tokens_is_refused() {
    let server = story_server();
    let banned: serde_json::Map<String, Value> = (0..512).map(|id| (id.to_string(), json!(-100))).collect();
    let answer = server.post(COMPLETIONS, &json!({"prompt": "Once", "logit_bias": banned}));
    assert!(answer.error(400, Some("logit_bias"), None).contains("512"));
}

#[test]
fn disabled_samplers_change_nothing() {
    let server = story_server();
    let plain = text(&server.post(COMPLETIONS, &greedy(json!({}))));
    let sent = json!({"repetition_penalty": 1.0, "n_probs": 0, "reasoning_effort": "none", "mirostat": 0, "mirostat_tau": 5,
        "dry_multiplier": 0, "dry_base": 1.75, "top_n_sigma": -1, "n_predict": -1, "samplers": []});
    assert_eq!(text(&server.post(COMPLETIONS, &greedy(sent))), plain);
    let warm = greedy(json!({"temperature": 3, "seed": 1}));
    assert_eq!(
        text(&server.post(COMPLETIONS, &warm)),
        text(&server.post(COMPLETIONS, &warm)),
        "the range is that of packed settings"
    );
}

#[test]
fn the_table_of_parameters_is_the_same_everywhere() {
    let server = Served::start(&stories(), &["--temp", "3", "--repeat-penalty", "20"]);
    let facts = server.get("/api/facts").json();
    let table = facts["sampling"].as_array().unwrap();
    let help = satchel(&["run", "--help"]).ok();
    for row in table {
        let name = row["name"].as_str().unwrap();
        assert!(help.contains(&format!("--{}", name.replace('_', "-"))), "{name}");
        let mut body = greedy(json!({"max_tokens": 1}));
        body[name] = row["min"].clone();
        if name != "seed" {
            assert_eq!(server.post(COMPLETIONS, &body).status, 200, "{name} {}", row["min"]);
            body[name] = json!(row["min"].as_f64().unwrap() - 1.0);
            server.post(COMPLETIONS, &body).error(400, Some(name), None);
        }
    }
    assert_eq!((&facts["defaults"]["temperature"], &facts["defaults"]["repeat_penalty"]), (&json!(3.0), &json!(20.0)));
    for (flag, value) in [("--temperature", "100.5"), ("--top-p", "1.5"), ("--repeat-last-n", "-2")] {
        let line = satchel(&["run", "x", "--raw", "-m", stories().to_str().unwrap(), flag, value]).failed(2);
        assert!(line.contains(flag) && line.contains(value), "{line}");
    }
}

#[test]
fn wrong_types_name_the_parameter() {
    let server = story_server();
    let both = [
        ("model", json!(1)),
        ("temperature", json!("warm")),
        ("temperature", json!(-1)),
        ("top_p", json!(2)),
        ("top_k", json!(1.5)),
        ("min_p", json!([])),
        ("typical_p", json!("x")),
        ("repeat_penalty", json!(0)),
        ("repeat_last_n", json!(-2)),
        ("presence_penalty", json!(3)),
        ("frequency_penalty", json!({})),
        ("seed", json!("seven")),
        ("max_tokens", json!(0)),
        ("n_predict", json!({})),
        ("n", json!(100)),
        ("stream", json!("yes")),
        ("stream_options", json!({"include_usage": true})),
        ("stop", json!([1])),
        ("logit_bias", json!({"99999": 1})),
        ("ignore_eos", json!(1)),
        ("logprobs", json!("all")),
    ];
    let refused = ["audio", "web_search_options", "mirostat"];
    for (path, base) in
        [(CHAT, json!({"messages": [{"role": "user", "content": "hi"}]})), (COMPLETIONS, json!({"prompt": "hi"}))]
    {
        let send = |name: &str, value: &Value| {
            let mut body = base.clone();
            body[name] = value.clone();
            server.post(path, &body)
        };
        for (name, value) in &both {
            assert!(send(name, value).error(400, Some(name), None).contains(name));
        }
        for name in refused {
            send(name, &json!({"type": "json_schema", "x": 1})).error(400, Some(name), Some("unsupported_parameter"));
        }
        let lax = json!({"type": "json_schema", "json_schema": {"schema": {"properties": {"a": {"not": {}}}}}});
        // This model takes no messages, which is said first.
        if path == COMPLETIONS {
            let message = send("response_format", &lax).error(400, Some("response_format.json_schema.schema"), None);
            assert!(message.contains("`not` at #/properties/a/not"), "{message}");
        }
        send("made_up", &json!(1)).error(400, Some("made_up"), Some("unknown_parameter"));
    }
    for (name, value) in [("prompt", json!(5)), ("echo", json!(true)), ("suffix", json!("x")), ("best_of", json!(3))] {
        let mut body = json!({"prompt": "hi"});
        body[name] = value;
        assert!(server.post(COMPLETIONS, &body).error(400, Some(name), body_code(name)).contains(name));
    }
    for (messages, at) in [
        (json!("hi"), "messages"),
        (json!([{"role": "wizard", "content": "x"}]), "messages[0].role"),
        (
            json!([{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]),
            "messages[0].content[0]",
        ),
    ] {
        server.post(CHAT, &json!({"messages": messages})).error(400, Some(at), None);
    }
}

fn body_code(name: &str) -> Option<&'static str> {
    (name != "prompt").then_some("unsupported_parameter")
}

#[test]
fn prompts_that_do_not_fit() {
    let server = Served::start(&stories(), &["--context", "32"]);
    let message = server.post(COMPLETIONS, &json!({"prompt": vec![5; 40]})).error(
        400,
        Some("prompt"),
        Some("context_length_exceeded"),
    );
    assert!(message.contains("40") && message.contains("32"), "both figures: {message}");
    let full = server.post(COMPLETIONS, &json!({"prompt": vec![5; 30], "temperature": 0, "ignore_eos": true})).json();
    assert_eq!(full["choices"][0]["finish_reason"], "length", "a full context is a clear end");
    let empty = server.post(COMPLETIONS, &json!({"prompt": [[]]}));
    empty.error(400, Some("prompt"), None);
}

#[test]
fn a_model_without_a_template_takes_no_messages() {
    let server = story_server();
    let message = server.post(CHAT, &json!({"messages": [{"role": "user", "content": "hi"}]})).error(
        400,
        Some("messages"),
        Some("chat_template"),
    );
    assert!(message.contains("chat template"), "{message}");
}

#[test]
fn requests_that_are_not_http() {
    let server = story_server();
    let host = "Host: localhost\r\n";
    let long = "a".repeat(40_000);
    for (bytes, status) in [
        ("\x16\x03\x01\x02\r\n\r\n".to_string(), 400),
        ("GET / HTTP/1.1\r\n\r\n".to_string(), 400),
        (format!("GET / HTTP/1.1\r\n{host}{host}\r\n"), 400),
        (format!("GET / HTTP/9.9\r\n{host}\r\n"), 505),
        (format!("GET /{long} HTTP/1.1\r\n{host}\r\n"), 414),
        (format!("GET / HTTP/1.1\r\n{host}X: {long}\r\n\r\n"), 431),
        (format!("GET / HTTP/1.1\r\n{host}{}\r\n", "X: y\r\n".repeat(200)), 431),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Content-Length: -1\r\n\r\n"), 400),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Content-Length: 70368744177664\r\n\r\nx"), 413),
        (
            format!("POST {CHAT} HTTP/1.1\r\n{host}Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n"),
            400,
        ),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Transfer-Encoding: gzip\r\n\r\n"), 501),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\nxyz\r\n"), 400),
        (format!("GET / HTTP/1.1\r\n{host}Expect: everything\r\n\r\n"), 417),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Content-Length: \u{a0}2\r\n\r\n{{}}"), 400),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Transfer-Encoding: \u{a0}chunked\r\n\r\n0\r\n\r\n"), 501),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n2;a\nb\r\n{{}}\r\n0\r\n\r\n"), 400),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n;a\r\n\r\n"), 400),
        (format!("POST {CHAT} HTTP/1.1\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\njunk\r\n\r\n"), 400),
        (format!("POST {CHAT} HTTP/1.0\r\n{host}Transfer-Encoding: chunked\r\n\r\n0\r\n\r\n"), 400),
        ("GET / HTTP/1.1\nHost: localhost\n\n".to_string(), 400),
        ("GET /health HTTP/1.1\r\nHost: [::1]evil.com\r\n\r\n".to_string(), 400),
        ("GET /health HTTP/1.1\r\nHost: 127.0.0.1:x:evil\r\n\r\n".to_string(), 400),
    ] {
        let answer = server.raw(bytes.as_bytes());
        answer.error(status, None, None);
        assert_eq!(answer.header("connection"), Some("close"));
    }
    assert_eq!(server.health()["status"], "ok");
}

#[test]
fn slow_headers_are_ended_with_408() {
    let server = story_server();
    let begun = Instant::now();
    let answer = server.raw(b"GET / HTTP/1.1\r\nHost: localhost\r\nX-Slow: ");
    answer.error(408, None, None);
    assert!((8..30).contains(&begun.elapsed().as_secs()), "{:?}", begun.elapsed());
}

/// Silent connections and unfinished requests do not lock others out.
#[test]
fn waiting_connections_do_not_lock_others_out() {
    let server = story_server();
    let mut held: Vec<_> = (0..128).map(|_| server.connect()).collect();
    for half in held.iter_mut().step_by(2) {
        let _ = half.write_all(b"GET /health HTTP/1.1\r\nHost: loc");
    }
    assert_eq!(server.get("/health").status, 200);
    assert!(text(&server.post(COMPLETIONS, &greedy(json!({})))).len() > 20);
    drop(held);
}

#[test]
fn refused_requests_close_their_connection() {
    let server = story_server();
    for request in [
        "GET /health HTTP/1.1\r\nHost: evil.example\r\n\r\n",
        "GET /health HTTP/1.1\r\nHost: localhost\r\nOrigin: http://evil.example\r\n\r\n",
        "POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Encoding: gzip\r\nContent-Length: 3000000\r\n\r\n",
    ] {
        // The response comes although no body was sent, and the read ends because the server closes.
        let answer = server.raw(request.as_bytes());
        assert!([403, 415].contains(&answer.status), "{answer:?}");
        assert_eq!(answer.header("connection"), Some("close"));
    }
}

#[test]
fn one_connection_takes_many_requests() {
    let server = story_server();
    let mut stream = server.connect();
    for _ in 0..3 {
        stream.write_all(b"GET /health HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
        let mut reader = BufReader::new(&stream);
        let (mut length, mut line) = (0, String::new());
        while reader.read_line(&mut line).unwrap() > 2 {
            if let Some(value) = line.strip_prefix("Content-Length: ") {
                length = value.trim().parse().unwrap();
            }
            line.clear();
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).unwrap();
        assert!(length > 0 && body.starts_with(b"{"));
    }
}

#[test]
fn foreign_pages_cannot_drive_the_server() {
    let server = story_server();
    let body = greedy(json!({"max_tokens": 1})).to_string();
    let port = server.port;
    let send = |lines: &str| server.request("POST", COMPLETIONS, lines, body.as_bytes());
    assert_eq!(send(&format!("Origin: http://localhost:{port}\r\n")).status, 200);
    for origin in ["https://evil.example", "http://localhost:1", "null"] {
        let message = send(&format!("Origin: {origin}\r\n")).error(403, None, None);
        assert!(message.contains("--cors"), "{message}");
    }
    let rebound = server.raw(b"GET /api/facts HTTP/1.1\r\nHost: evil.example\r\nConnection: close\r\n\r\n");
    assert!(rebound.error(403, None, None).contains("--allow-host"));

    let open = Served::start(&stories(), &["--cors", "https://good.example", "--allow-host", "proxy.example"]);
    let preflight = open.request(
        "OPTIONS",
        COMPLETIONS,
        "Origin: https://good.example\r\nAccess-Control-Request-Method: POST\r\nAccess-Control-Request-Headers: content-type\r\n",
        b"",
    );
    assert_eq!((preflight.status, preflight.header("access-control-allow-headers")), (204, Some("content-type")));
    let answer = open.request("POST", COMPLETIONS, "Origin: https://good.example\r\n", body.as_bytes());
    assert_eq!((answer.status, answer.header("access-control-allow-origin")), (200, Some("https://good.example")));
    assert_eq!(open.request("POST", COMPLETIONS, "Origin: https://other.example\r\n", body.as_bytes()).status, 403);
    let proxied = open.raw(b"GET /health HTTP/1.1\r\nHost: proxy.example\r\nConnection: close\r\n\r\n");
    assert_eq!(proxied.status, 200);
}

/// A request that would run for minutes.
fn endless(stream: bool) -> Value {
    json!({"prompt": "Once upon a time", "ignore_eos": true, "stream": stream, "seed": 1})
}

fn demo_server(flags: &[&str]) -> Option<Served> {
    let model: PathBuf = smollm2()?;
    Some(Served::start(&model, flags))
}

#[test]
fn a_disconnect_cancels_the_generation() {
    let Some(server) = demo_server(&[]) else { return };
    for (stream, expected) in [(true, 1), (false, 2)] {
        let mut socket = server.begin(COMPLETIONS, &endless(stream));
        server.until("tokens come", |health| health["generated_tokens"].as_u64() > Some(expected * 3));
        if stream {
            let mut some = [0; 300];
            socket.read_exact(&mut some).expect("the stream has begun");
        }
        drop(socket);
        let at_leaving = server.health()["generated_tokens"].as_u64().unwrap();
        let after = server.until("the generation stops", |health| {
            health["answering"] == 0 && health["running"] == 0 && health["abandoned"] == expected
        });
        let extra = after["generated_tokens"].as_u64().unwrap() - at_leaving;
        assert!(extra <= 3, "{extra} tokens after the client left (stream: {stream})");
    }
}

#[test]
fn a_disconnect_during_prefill_is_noticed() {
    let Some(server) = demo_server(&["--parallel", "1"]) else { return };
    let mut body = endless(false);
    body["prompt"] = json!(vec![1000; 4000]);
    let socket = server.begin(COMPLETIONS, &body);
    server.until("it runs", |health| health["running"] == 1);
    drop(socket);
    let begun = Instant::now();
    let health = server.until("the request is abandoned", |health| health["answering"] == 0);
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    assert_eq!((&health["abandoned"], &health["generated_tokens"]), (&json!(1), &json!(0)));
    server.until("its slot is free", |health| health["running"] == 0);
    assert_eq!(server.post(COMPLETIONS, &greedy(json!({"max_tokens": 1}))).status, 200);
}

#[test]
fn requests_beyond_the_queue_get_503() {
    let Some(server) = demo_server(&["--parallel", "1"]) else { return };
    let held: Vec<_> = (0..9).map(|_| server.begin(COMPLETIONS, &endless(true))).collect();
    server.until("eight wait", |health| health["running"] == 1 && health["waiting"] == 8);
    let answer = server.post(COMPLETIONS, &greedy(json!({})));
    assert!(answer.error(503, None, Some("overloaded")).contains('8'));
    drop(held);
    server
        .until("all have gone", |health| health["answering"] == 0 && health["running"] == 0 && health["waiting"] == 0);
}

#[test]
fn signals_end_streams_cleanly_with_exit_status_zero() {
    for signal in ["TERM", "INT"] {
        let Some(mut server) = demo_server(&[]) else { return };
        let streamed = server.begin(COMPLETIONS, &endless(true));
        let whole = server.begin(COMPLETIONS, &endless(false));
        server.until("both run", |health| health["running"] == 2 && health["generated_tokens"].as_u64() > Some(4));
        let begun = Instant::now();
        server.signal(signal);
        let events = read_answer(streamed).events();
        assert_eq!(events.last().map(String::as_str), Some("[DONE]"), "{signal}: the stream has its end");
        let error: Value = serde_json::from_str(&events[events.len() - 2]).unwrap();
        assert_eq!(error["error"]["code"], "shutting_down", "{signal}: not a false `finish_reason`");
        read_answer(whole).error(503, None, Some("shutting_down"));
        assert_eq!(server.ended().code(), Some(0), "{signal}");
        assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
    }
}

#[test]
fn short_answers_finish_within_the_grace() {
    let Some(mut server) = demo_server(&[]) else { return };
    let body = json!({"prompt": "Hello", "ignore_eos": true, "max_tokens": 8, "temperature": 0});
    let socket = server.begin(COMPLETIONS, &body);
    server.until("it runs", |health| health["answering"] == 1 || health["generated_tokens"].as_u64() > Some(0));
    server.signal("TERM");
    assert_eq!(read_answer(socket).json()["usage"]["completion_tokens"], 8);
    assert_eq!(server.ended().code(), Some(0));
}

#[test]
fn an_idle_server_stops_at_once() {
    let mut server = story_server();
    let begun = Instant::now();
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    assert!(begun.elapsed() < Duration::from_secs(3), "{:?}", begun.elapsed());
}

#[test]
fn ports() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port().to_string();
    let model = stories();
    let model = model.to_str().unwrap();
    let line = satchel(&["serve", "-m", model, "--no-browser", "--port", &port]).failed(1);
    assert!(line.contains(&port) && line.contains("--port"), "{line}");
    // Of two servers without --port, the second gets another port, whether or not 8080 was free.
    let start = || Served::run(Command::new(SATCHEL).args(["-m", model, "--no-browser"]));
    let (first, second) = (start(), start());
    assert!(first.port >= 8080 && second.port > first.port, "{} {}", first.port, second.port);
}

#[test]
fn a_packed_file_serves_what_was_packed() {
    let scratch = Scratch::new();
    let page = scratch.path("page");
    std::fs::create_dir_all(page.join("assets")).unwrap();
    std::fs::write(page.join("index.html"), "<!doctype html><title>mine</title>").unwrap();
    std::fs::write(page.join("assets/app-0123abcd.js"), "1;").unwrap();
    let packed = scratch.path("tiny");
    let free = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let pack = [
        OsStr::new("pack"),
        stories().as_os_str(),
        OsStr::new("-o"),
        packed.as_os_str(),
        OsStr::new("--ui"),
        page.as_os_str(),
        OsStr::new("--name"),
        OsStr::new("Tiny"),
        OsStr::new("--system-prompt"),
        OsStr::new("Be tiny."),
        OsStr::new("--set"),
        OsStr::new("temperature=0"),
        OsStr::new("--set"),
        OsStr::new(&format!("port={free}")),
        OsStr::new("--set"),
        OsStr::new("max_tokens=5"),
    ]
    .map(OsStr::to_owned);
    satchel(&pack).ok();

    let server = Served::run(Command::new(&packed).arg("--no-browser"));
    assert!(server.port >= free && server.block.contains("Tiny"), "{}", server.block);
    let facts = server.request("GET", "/api/facts", &server.page_session(), b"").json();
    assert_eq!((&facts["name"], &facts["defaults"]["system_prompt"]), (&json!("Tiny"), &json!("Be tiny.")));
    let index = server.page("GET", "");
    assert!(index.text().contains("mine") && index.header("content-security-policy").is_some());
    assert!(server.get("/assets/app-0123abcd.js").header("cache-control").unwrap().contains("immutable"));
    let answer = server.post(COMPLETIONS, &json!({"prompt": "Once upon a time"})).json();
    assert_eq!(answer["usage"]["completion_tokens"], 5);
    drop(server);
    let plain = Served::run(Command::new(&packed).args(["--no-browser", "--system-prompt", "", "--max-tokens", "3"]));
    assert_eq!(plain.get("/api/facts").json()["defaults"]["system_prompt_set"], false, "flags override");
    let answer = plain.post(COMPLETIONS, &json!({"prompt": "Once upon a time"})).json();
    assert_eq!(answer["usage"]["completion_tokens"], 3);
}

#[test]
fn a_program_without_a_model_explains_itself() {
    let printed = satchel::<&str>(&[]);
    assert_eq!(printed.code, Some(2), "{printed:?}");
    for word in ["no model", "serve -m", "pack", "--help"] {
        assert!(printed.stderr.contains(word), "{word}: {}", printed.stderr);
    }
    let help = satchel(&["--help"]).ok();
    for word in ["--port", "--context", "--no-browser", "pack", "Without a command"] {
        assert!(help.contains(word), "{word}");
    }
    assert_eq!(satchel(&["serve", "--host", "example.com"]).code, Some(2));
}
