//! Output streams: a broken pipe ends commands silently, a full disk is reported, and neither stops a server.

#![cfg(unix)]

use std::fs::OpenOptions;
use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::served::Served;
use crate::support::{SATCHEL, Scratch, satchel, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// Every command that prints; all can be repeated.
fn commands(scratch: &Scratch) -> Vec<Vec<String>> {
    let (model, packed, words) = (stories(), scratch.path("packed"), scratch.path("words"));
    satchel(&["pack", "-q", text(&model), "-o", text(&packed), "--force"]).ok();
    std::fs::write(&words, "Once upon a time there was a little girl. ".repeat(20)).expect("scratch");
    let (out, folder) = (scratch.path("out"), scratch.path("folder"));
    let (model, packed, words, out, folder) = (text(&model), text(&packed), text(&words), text(&out), text(&folder));
    let all = [
        &["--help"][..],
        &["--version"],
        &["targets"],
        &["payload", packed],
        &["verify", packed],
        &["verify", "--json", packed],
        &["inspect", "--no-hash", model],
        &["pack", model, "-o", out, "--force"],
        &["upgrade", packed, "-o", out, "--force"],
        &["unpack", packed, "-o", folder, "--force"],
        &["unpack", packed, "-o", "-", "--entry", "model.gguf"],
        &["quantize", model, out, "F16", "--force"],
        &["bench", "-p", "4", "-n", "2", "-r", "1", model],
        &["bench", "-p", "4", "-n", "2", "-r", "1", "--json", model],
        &["perplexity", "-m", model, "-c", "16", "-f", words],
        &["tokenize", "-m", model, "--text", "Once"],
        &["detokenize", "-m", model, "3", "4"],
        &["run", "-m", model, "--raw", "Once", "-n", "4"],
    ];
    all.iter().map(|one| one.iter().map(|&argument| argument.to_owned()).collect()).collect()
}

/// A broken pipe: its reader is closed.
fn closed() -> Stdio {
    let (reader, writer) = std::io::pipe().expect("a pipe");
    drop(reader);
    writer.into()
}

#[test]
fn a_broken_pipe_is_not_a_failure() {
    let scratch = Scratch::new();
    for arguments in commands(&scratch) {
        let mut command = Command::new(SATCHEL);
        command.args(&arguments).stdin(Stdio::null()).stdout(closed());
        let ended = command.stderr(closed()).status().expect("it runs");
        assert_eq!(ended.code(), Some(0), "{arguments:?} without stderr");
        let ended = command.stderr(Stdio::piped()).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert!(!stderr.contains("panicked") && ended.status.success(), "{arguments:?}: {stderr}");
    }
    // The exit status still reports the outcome.
    let packed = scratch.path("packed");
    let mut bytes = std::fs::read(&packed).expect("it was packed");
    bytes[100_000] ^= 1;
    std::fs::write(&packed, bytes).expect("scratch");
    let mut command = Command::new(SATCHEL);
    let ended = command.args(["verify", text(&packed)]).stdout(closed()).stderr(closed()).status().expect("it runs");
    assert_eq!(ended.code(), Some(1));
}

#[test]
fn a_full_disk_is_reported() {
    let Ok(full) = OpenOptions::new().write(true).open("/dev/full") else {
        return crate::support::skip("a full disk", "there is no /dev/full");
    };
    let scratch = Scratch::new();
    for arguments in commands(&scratch) {
        let mut command = Command::new(SATCHEL);
        let stdout = full.try_clone().expect("a descriptor");
        let ended = command.args(&arguments).stdin(Stdio::null()).stdout(stdout).output().expect("it runs");
        let stderr = String::from_utf8_lossy(&ended.stderr);
        assert_eq!(ended.status.code(), Some(1), "{arguments:?}: {stderr}");
        let last = stderr.lines().last().unwrap_or_default();
        assert!(last.starts_with("satchel: ") && last.contains("No space left"), "{arguments:?}: {stderr}");
    }
}

#[test]
fn a_server_and_a_chat_survive_a_closed_stderr() {
    let mut command = Command::new(SATCHEL);
    // It has no chat template, which it says on stderr.
    command.arg("serve").arg("-m").arg(stories()).args(["--no-browser", "--port", "0"]).stderr(closed());
    let server = Served::run(&mut command);
    assert_eq!(server.get("/health").status, 200);

    let scratch = Scratch::new();
    let template = scratch.path("plain.jinja");
    std::fs::write(&template, "{{ messages[0].content }}").expect("scratch");
    let mut chat = Command::new(SATCHEL)
        .args(["chat", "-m", text(&stories()), "--chat-template", text(&template), "-n", "3"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(closed())
        .spawn()
        .expect("it starts");
    std::io::Write::write_all(&mut chat.stdin.take().expect("piped"), b"/stats\nOnce upon\n").expect("it reads");
    let mut answer = String::new();
    chat.stdout.take().expect("piped").read_to_string(&mut answer).expect("UTF-8");
    assert_eq!((chat.wait().expect("it ends").code(), answer.lines().count()), (Some(0), 1));
}
