//! Access to a server: keys, the page's link, networks, Unix sockets; and its informational endpoints.

use serde_json::{Value, json};

use crate::served::{Answer, Served};
use crate::support::{Scratch, satchel, stories};

const COMPLETIONS: &str = "/v1/completions";

fn body() -> Vec<u8> {
    json!({"prompt": "Once", "max_tokens": 2, "temperature": 0}).to_string().into_bytes()
}

fn complete(server: &Served, lines: &str) -> Answer {
    server.request("POST", COMPLETIONS, lines, &body())
}

/// Other users of the machine can reach its loopback address, too.
#[test]
fn only_the_page_opened_with_the_link_sees_the_system_prompt() {
    let server = Served::start(&stories(), &["--system-prompt", "Secret words."]);
    assert!(server.launch.len() == 32, "{}", server.block);
    for path in ["/api/facts", "/props", "/slots", "/metrics", "/health", "/v1/models", "/"] {
        let answer = server.get(path);
        assert!(answer.status == 200 && !answer.text().contains("Secret words"), "{path}");
    }
    assert_eq!(server.get("/api/facts").json()["defaults"]["system_prompt_set"], true);
    let session = server.page_session();
    let prompt =
        |lines: &str| server.request("GET", "/api/facts", lines, b"").json()["defaults"]["system_prompt"].clone();
    assert_eq!(prompt(&session), "Secret words.");
    assert_eq!(
        prompt(&format!("Authorization: Bearer {}\r\n", server.launch)),
        Value::Null,
        "a link's secret is not a key"
    );
    server.post("/api/session", &json!({"launch": "0123"})).error(403, None, Some("launch_link"));
    // Programs need no key, and clients that always send some key work, too.
    assert_eq!(complete(&server, "Authorization: Bearer none\r\n").status, 200);
}

#[test]
fn with_keys_everything_but_the_page_needs_one() {
    let scratch = Scratch::new();
    let file = scratch.path("keys");
    std::fs::write(&file, "# for tests\nfirst-key\nsecond-key\n").unwrap();
    let server = Served::start(&stories(), &["--api-key-file", file.to_str().unwrap()]);
    assert!(server.block.contains("with a key"), "{}", server.block);
    for path in ["/api/facts", "/v1/models", "/metrics", "/props", "/slots"] {
        let answer = server.get(path);
        answer.error(401, None, Some("invalid_api_key"));
        assert_eq!(answer.header("www-authenticate"), Some("Bearer"));
        assert_eq!(server.request("GET", path, "Authorization: Bearer first-key\r\n", b"").status, 200, "{path}");
    }
    for lines in
        ["", "Authorization: Bearer first-ke\r\n", "Authorization: Basic first-key\r\n", "x-api-key: # for tests\r\n"]
    {
        complete(&server, lines).error(401, None, Some("invalid_api_key"));
    }
    for lines in ["Authorization: Bearer second-key\r\n", "x-api-key: first-key\r\n"] {
        assert_eq!(complete(&server, lines).status, 200, "{lines}");
    }
    assert_eq!(complete(&server, &server.page_session()).status, 200, "the link gives the page a session");
    assert_eq!(server.page("GET", "").status, 200, "the page can be loaded, to ask for a key");
    assert_eq!(server.get("/health").json(), json!({"status": "ok"}), "counts are for those with a key");
    // A refusal comes before the body is read.
    let early = server.raw(b"POST /v1/completions HTTP/1.1\r\nHost: localhost\r\nContent-Length: 4000000\r\n\r\n");
    early.error(401, None, Some("invalid_api_key"));
}

#[test]
fn a_network_address_needs_keys_or_no_auth() {
    let (scratch, model) = (Scratch::new(), stories());
    let model = model.to_str().unwrap();
    let file = scratch.path("keys");
    std::fs::write(&file, "key\n").unwrap();
    let line = satchel(&["serve", "-m", model, "--no-browser", "--port", "0", "--host", "0.0.0.0"]).failed(2);
    assert!(line.contains("--api-key-file") && line.contains("--no-auth"), "{line}");
    std::fs::write(scratch.path("empty"), "# nothing\n").unwrap();
    let empty = scratch.path("empty");
    let line = satchel(&["serve", "-m", model, "--no-browser", "--api-key-file", empty.to_str().unwrap()]).failed(2);
    assert!(line.contains("no key"), "{line}");

    let open = Served::start(&stories(), &["--host", "0.0.0.0", "--no-auth", "--allow-host", "box.example"]);
    assert!(open.block.contains("every network"), "{}", open.block);
    for (host, status) in [
        ("127.0.0.1", 200),
        ("10.1.2.3:8080", 200),
        ("[::1]:80", 200),
        ("localhost", 200),
        ("BOX.example:80", 200),
        ("evil.example", 403),
        ("", 403),
    ] {
        let request = format!("GET /health HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n");
        assert_eq!(open.raw(request.as_bytes()).status, status, "{host}");
    }
}

#[test]
fn head_works_wherever_get_does() {
    let server = Served::start(&stories(), &[]);
    for path in
        ["/", "/health", "/metrics", "/props", "/slots", "/api/facts", "/v1/models", "/api/version", "/api/tags"]
    {
        let (head, get) = (server.request("HEAD", path, "", b""), server.get(path));
        assert_eq!((head.status, head.body.len()), (200, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "{path}");
    }
}

#[test]
fn metrics_count_requests_and_tokens() {
    let server = Served::start(&stories(), &[]);
    for _ in 0..2 {
        assert_eq!(complete(&server, "").status, 200);
    }
    let answer = server.get("/metrics");
    assert!(answer.header("content-type").unwrap().starts_with("text/plain; version=0.0.4"));
    let text = answer.text();
    let value = |name: &str| -> f64 {
        let line = text.lines().find(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(' ')));
        line.unwrap_or_else(|| panic!("{name}: {text}")).rsplit(' ').next().unwrap().parse().unwrap()
    };
    assert_eq!((value("satchel_requests_finished_total"), value("satchel_generated_tokens_total")), (2.0, 4.0));
    assert!(value("satchel_prompt_tokens_total") >= 2.0 && value("satchel_requests_waiting") == 0.0);
    assert_eq!(value("satchel_time_to_first_token_seconds_count"), 2.0);
    assert!(value("satchel_time_to_first_token_seconds_sum") > 0.0);
    for line in text.lines().filter(|line| !line.starts_with('#')) {
        assert!(text.contains(&format!("# TYPE {}", line.split([' ', '_']).next().unwrap())), "{line}");
    }
}

#[test]
fn texts_and_tokens() {
    let server = Served::start(&stories(), &[]);
    let tokens = server.post("/tokenize", &json!({"content": "Once upon a time"})).json()["tokens"].clone();
    assert!(tokens.as_array().unwrap().len() > 2);
    let back = server.post("/detokenize", &json!({ "tokens": tokens })).json();
    assert_eq!(back["content"].as_str().unwrap().trim_start(), "Once upon a time");
    let special = server.post("/tokenize", &json!({"content": "Once upon a time", "add_special": true})).json();
    assert_eq!(special["tokens"].as_array().unwrap().len(), tokens.as_array().unwrap().len() + 1);
    let pieces = server.post("/tokenize", &json!({"content": "Once", "with_pieces": true})).json();
    assert!(pieces["tokens"][0]["id"].is_u64() && pieces["tokens"][0]["piece"].is_string(), "{pieces}");
    server.post("/tokenize", &json!({"text": "x"})).error(400, Some("content"), None);
    server.post("/tokenize", &json!({"content": "x", "made_up": 1})).error(
        400,
        Some("made_up"),
        Some("unknown_parameter"),
    );
    server.post("/detokenize", &json!({"tokens": [99999]})).error(400, Some("tokens[0]"), None);
    let messages = json!({"messages": [{"role": "user", "content": "hi"}]});
    server.post("/apply-template", &messages).error(400, Some("messages"), Some("chat_template"));

    let scratch = Scratch::new();
    let template = scratch.path("t.jinja");
    std::fs::write(&template, "{% for message in messages %}[{{ message.role }}] {{ message.content }}{% endfor %}")
        .unwrap();
    let flags = ["--chat-template", template.to_str().unwrap(), "--system-prompt", "Secret words."];
    let server = Served::start(&stories(), &flags);
    assert_eq!(server.post("/apply-template", &messages).json(), json!({"prompt": "[user] hi"}));
}

/// The cost of parsing a body is reserved, before it is parsed, from a budget shared by all requests.
#[test]
#[cfg(target_os = "linux")]
fn concurrent_large_bodies_use_bounded_memory() {
    let server = Served::start(&stories(), &[]);
    let memory = || -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", server.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap() >> 10
    };
    let before = memory();
    let nested = format!("{{\"prompt\": \"x\", \"logit_bias\": [{}1]}}", "[[]],".repeat(45_000));
    std::thread::scope(|scope| {
        for _ in 0..32 {
            scope.spawn(|| {
                let answer = server.request("POST", COMPLETIONS, "", nested.as_bytes());
                assert!([400, 503].contains(&answer.status), "{answer:?}");
            });
        }
    });
    let grown = memory() - before;
    assert!(grown < 200, "{grown} MiB for bodies of {} KiB", nested.len() >> 10);
    assert_eq!(complete(&server, "").status, 200);
}

#[cfg(unix)]
mod unix_socket {
    use std::io::{BufRead, BufReader, Read, Write};
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::net::UnixStream;
    use std::process::{Command, Stdio};

    use super::*;
    use crate::support::SATCHEL;

    #[test]
    fn a_unix_socket_in_place_of_a_port() {
        let scratch = Scratch::new();
        let path = scratch.path("satchel.sock");
        let mut command = Command::new(SATCHEL);
        command.args(["serve", "-t", "2", "-m"]).arg(stories()).arg("--socket").arg(&path);
        let mut child = command.stdin(Stdio::null()).stdout(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines().map_while(Result::ok);
        let block: Vec<String> = lines.take_while(|line| !line.contains("Ctrl-C")).collect();
        let block = block.join("\n");
        assert!(block.contains(path.to_str().unwrap()) && block.contains("this user only"), "{block}");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let mut stream = UnixStream::connect(&path).unwrap();
        let body = body();
        let head = format!(
            "POST {COMPLETIONS} HTTP/1.1\r\nHost: anything\r\nConnection: close\r\nContent-Length: {}\r\n\r\n",
            body.len()
        );
        stream.write_all(&[head.as_bytes(), &body].concat()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200 OK"), "{answer}");
        let second = satchel(&["serve", "-m", stories().to_str().unwrap(), "--socket", path.to_str().unwrap()]);
        assert!(second.failed(1).contains("listens there already"));
        Command::new("kill").args(["-s", "TERM", &child.id().to_string()]).status().unwrap();
        assert!(child.wait().unwrap().success());
        assert!(!path.exists(), "the socket is removed with the server");
    }
}
