//! Claude Code, headless, against SmolLM2: one turn with a tool call, then the answer.
//!
//! The model is too small to call tools of its own accord, so a proxy between the two asks the server for a call
//! (`tool_choice`) of the file that the test wrote, and then for an answer by a schema. Both are one text whatever the weights
//! say, so the test is about the protocol, and short; everything else is as the client and the server send it.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::thread;

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{SATCHEL, Scratch, output, root, skip, smollm2};

/// What keeps its prompt within the context of SmolLM2.
const SHORT: [&str; 6] = ["--tools", "Read", "--allowedTools", "Read", "--system-prompt", "You read files."];

fn claude() -> Option<PathBuf> {
    let folder = root().join("tests/claude/node_modules/.bin");
    if folder.join("claude").exists() {
        return Some(folder);
    }
    skip("Claude Code", "it is not here; `npm --prefix tests/claude ci` installs it");
    None
}

/// The requests that passed, changed as they are passed on.
type Passed = Arc<Mutex<Vec<Value>>>;

/// Passes requests on to the server; returns the port.
fn proxy(server: u16, file: String, passed: Passed) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a free port");
    let port = listener.local_addr().expect("an address").port();
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let (file, passed) = (file.clone(), Arc::clone(&passed));
            thread::spawn(move || pass(stream, server, &file, &passed));
        }
    });
    port
}

/// One request of a connection, which then closes.
fn pass(client: TcpStream, server: u16, file: &str, passed: &Passed) -> Option<()> {
    let mut reader = BufReader::new(client);
    let (mut head, mut length) = (String::new(), 0);
    loop {
        let mut line = String::new();
        reader.read_line(&mut line).ok().filter(|read| *read > 0)?;
        let lower = line.to_ascii_lowercase();
        if let Some(value) = lower.strip_prefix("content-length:") {
            length = value.trim().parse().ok()?;
        } else if line == "\r\n" {
            break;
        } else if !lower.starts_with("connection:") {
            head.push_str(&line);
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).ok()?;
    if head.starts_with("POST /v1/messages?") {
        let mut request: Value = serde_json::from_slice(&body).ok()?;
        change(&mut request, file);
        body = request.to_string().into_bytes();
        passed.lock().ok()?.push(request);
    }
    let mut upstream = TcpStream::connect(("127.0.0.1", server)).ok()?;
    let end = format!("Connection: close\r\nContent-Length: {}\r\n\r\n", body.len());
    upstream.write_all(&[head.as_bytes(), end.as_bytes(), &body].concat()).ok()?;
    std::io::copy(&mut upstream, reader.get_mut()).ok().map(|_| ())
}

/// Leaves the model one thing to say, whatever its weights: the call of the file, and once there is a result an object.
fn change(request: &mut Value, file: &str) {
    let has_result = request["messages"].to_string().contains("tool_result");
    let object = |name: &str, text: &str| {
        let properties = json!({name: {"type": "string", "enum": [text]}});
        json!({"type": "object", "properties": properties, "required": [name], "additionalProperties": false})
    };
    for tool in request["tools"].as_array_mut().into_iter().flatten().filter(|tool| tool["name"] == "Read") {
        tool["input_schema"] = object("file_path", file);
    }
    match has_result {
        false => request["tool_choice"] = json!({"type": "tool", "name": "Read", "disable_parallel_tool_use": true}),
        true => {
            request["tool_choice"] = json!({"type": "none"});
            request["output_config"] = json!({"format": {"type": "json_schema", "schema": object("said", "green")}});
        }
    }
}

#[test]
fn claude_code_reads_a_file_and_answers() {
    let (Some(folder), Some(model)) = (claude(), smollm2()) else { return };
    let scratch = Scratch::new();
    let (work, home) = (scratch.path("work"), scratch.path("home"));
    for folder in [&work, &home] {
        fs::create_dir(folder).expect("a folder");
    }
    let file = work.join("note.txt");
    fs::write(&file, "The sea is green today.\n").expect("a file");
    let server = Served::start(&model, &[]);
    let passed = Passed::default();
    let port = proxy(server.port, file.display().to_string(), Arc::clone(&passed));
    let lines = output(
        Command::new(SATCHEL)
            .args(["launch", "claude", "--print", "-m"])
            .arg(&model)
            .args(["--port", &port.to_string()]),
        b"",
    )
    .ok();
    let arguments = SHORT.map(|word| format!("'{word}'")).join(" ");
    let script =
        format!("{lines}\nclaude -p 'Read note.txt' {arguments} --output-format stream-json --verbose </dev/null");
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("sh");
    command
        .arg("-c")
        .arg(script)
        .current_dir(&work)
        .env("PATH", path)
        .env("HOME", &home)
        .env("TMPDIR", scratch.folder());
    let printed = output(&mut command, b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    let events: Vec<Value> = printed.stdout.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
    let blocks = || events.iter().filter_map(|event| event["message"]["content"].as_array()).flatten();
    assert!(
        blocks().any(|block| block["type"] == "tool_use" && block["input"]["file_path"] == file.display().to_string())
    );
    let result = blocks().find(|block| block["type"] == "tool_result").expect("a result");
    assert!(result.to_string().contains("The sea is green today."), "{result}");
    let end = events.iter().find(|event| event["type"] == "result").expect("an end");
    assert_eq!((&end["subtype"], &end["is_error"]), (&json!("success"), &json!(false)), "{end}");
    let said: Value = serde_json::from_str(end["result"].as_str().expect("a text")).expect("an object");
    assert_eq!(said, json!({"said": "green"}));
    // The result went back to the server under the id that the call came with.
    let passed = passed.lock().expect("the requests");
    let last = passed.last().expect("a request")["messages"].to_string();
    let id = blocks().find(|block| block["type"] == "tool_use").and_then(|block| block["id"].as_str()).expect("an id");
    assert!(last.contains(&format!("\"tool_use_id\":\"{id}\"")) && last.contains("The sea is green today."), "{last}");
    assert_eq!(fs::read_dir(&home).expect("the home folder").count(), 0, "nothing is written there");
}

#[test]
fn claude_code_is_launched() {
    let (Some(folder), Some(model)) = (claude(), smollm2()) else { return };
    let scratch = Scratch::new();
    let path = format!("{}:{}", folder.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new(SATCHEL);
    command.args(["launch", "claude", "-t", "2", "-m"]).arg(&model);
    // The end token is all that the model can say, whatever its weights: this is about what is around an answer.
    command.args(["--logit-bias", "2=100", "--", "-p", "Say yes.", "--tools", "", "--system-prompt", "You say yes."]);
    command.args(["--output-format", "json"]).env("PATH", path).env("HOME", scratch.folder());
    let printed = output(command.env("TMPDIR", scratch.folder()).current_dir(scratch.folder()), b"");
    assert_eq!(printed.code, Some(0), "{printed:?}");
    let end: Value = serde_json::from_str(&printed.stdout).unwrap_or_else(|error| panic!("{error}: {printed:?}"));
    assert_eq!((&end["is_error"], &end["stop_reason"]), (&json!(false), &json!("end_turn")), "{end}");
    assert!(end["usage"]["input_tokens"].as_u64().is_some_and(|tokens| tokens > 100), "{end}");
    let left: Vec<_> = fs::read_dir(scratch.folder()).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert!(left.is_empty(), "{left:?}");
}
