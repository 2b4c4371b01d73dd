//! Signals: those the parent ignores stay ignored, others end a server cleanly; a model file truncated while in use.

#![cfg(unix)]

use std::fs::OpenOptions;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::json;

use crate::served::Served;
use crate::support::{SATCHEL, Scratch, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A server started from a shell that ignores these signals.
fn ignoring(signals: &str) -> Served {
    let line = format!("trap '' {signals}; exec \"$0\" \"$@\"");
    let mut command = Command::new("sh");
    command.args(["-c", &line, SATCHEL, "serve", "--no-browser", "--port", "0", "-m"]).arg(stories());
    Served::run(&mut command)
}

#[test]
fn a_signal_that_the_parent_ignores_stays_ignored() {
    let mut server = ignoring("HUP INT");
    for name in ["HUP", "INT"] {
        server.signal(name);
        assert_eq!(server.get("/health").json()["status"], "ok", "{name}");
    }
    server.signal("TERM");
    assert_eq!(server.ended().code(), Some(0));
    // A signal that is not ignored ends it.
    let mut server = ignoring("INT");
    server.signal("HUP");
    assert_eq!(server.ended().code(), Some(0));
}

/// `chat` installs its Ctrl-C handler separately.
#[test]
fn a_chat_in_the_background_ignores_ctrl_c() {
    let scratch = Scratch::new();
    let template = scratch.path("plain.jinja");
    std::fs::write(&template, "x").expect("scratch");
    let chat = ["chat", "-m", text(&stories()), "--chat-template", text(&template)].map(str::to_owned);
    let mut child = Command::new("sh")
        .args(["-c", "trap '' INT; exec \"$0\" \"$@\"", SATCHEL])
        .args(chat)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    let mut stdin = child.stdin.take().expect("piped");
    let mut stderr = child.stderr.take().expect("piped");
    stdin.write_all(b"/stats\n").expect("it reads");
    stderr.read_exact(&mut [0; 10]).expect("it answers"); // it is up
    let status = Command::new("kill").args(["-INT", &child.id().to_string()]).status();
    assert!(status.expect("kill runs").success());
    stdin.write_all(b"/stats\n").expect("it goes on");
    drop(stdin);
    let mut rest = String::new();
    stderr.read_to_string(&mut rest).expect("UTF-8");
    assert_eq!((child.wait().expect("it ends").code(), rest.matches("no answer yet").count()), (Some(0), 1));
}

fn copied(scratch: &Scratch) -> PathBuf {
    let model = scratch.path("copy.gguf");
    std::fs::copy(stories(), &model).expect("scratch");
    model
}

/// Truncates the file before the weights.
fn truncate(model: &Path) {
    OpenOptions::new().write(true).open(model).and_then(|file| file.set_len(8192)).expect("it is ours");
}

#[test]
fn a_truncated_model_ends_a_run_with_its_name() {
    let scratch = Scratch::new();
    let (model, template) = (copied(&scratch), scratch.path("template"));
    assert!(Command::new("mkfifo").arg(&template).status().expect("mkfifo runs").success());
    let child = Command::new(SATCHEL)
        .args(["run", "-m", text(&model), "--chat-template", text(&template), "x"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("it starts");
    // Opening the pipe blocks until the program reads the template; by then the model is mapped.
    let mut pipe = OpenOptions::new().write(true).open(&template).expect("it reads");
    truncate(&model);
    pipe.write_all(b"Once").and_then(|()| pipe.flush()).expect("it reads");
    drop(pipe);
    let ended = child.wait_with_output().expect("it ends");
    let stderr = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains(text(&model)) && stderr.contains("cut short") && stderr.lines().count() == 1, "{stderr}");
}

#[test]
fn a_truncated_model_fails_requests_but_not_the_server() {
    let scratch = Scratch::new();
    let model = copied(&scratch);
    let server = Served::start(&model, &[]);
    let ask = json!({"prompt": "Once", "max_tokens": 4});
    assert_eq!(server.post("/v1/completions", &ask).status, 200);
    truncate(&model);
    // The request that hits the damage, and those after it.
    let first = server.post("/v1/completions", &ask);
    assert!(first.error(500, None, None).contains(text(&model)));
    for _ in 0..2 {
        let refused = server.post("/v1/completions", &ask);
        assert!(refused.error(503, None, Some("model_damaged")).contains("cut short"));
    }
    assert_eq!(server.get("/health").status, 200);
}
