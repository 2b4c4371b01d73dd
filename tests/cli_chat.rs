//! `satchel chat`: piped lines, commands, and a real terminal with Ctrl-C and Ctrl-D.

use std::io::{Read, Write};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

use crate::support::{self, Printed, SATCHEL, Scratch, output, smollm2, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A chat with stories260K, whose template writes the messages one after another.
fn stories_chat(scratch: &Scratch, options: &[&str], lines: &str) -> Printed {
    let template = scratch.path("plain.jinja");
    std::fs::write(&template, "{% for m in messages %}{{ m.content }} {% endfor %}").unwrap();
    let mut command = Command::new(SATCHEL);
    command.args(["chat", "-m", text(&stories()), "--chat-template", text(&template), "--temp", "0"]);
    output(command.args(options), lines.as_bytes())
}

#[test]
fn a_line_is_a_message_and_only_answers_are_on_stdout() {
    let scratch = Scratch::new();
    let printed = stories_chat(&scratch, &["-n", "8"], "Once upon a time\n\n/stats\nThe end.\n");
    let notices: Vec<&str> = printed.stderr.lines().collect();
    assert_eq!(notices[0], "(stopped at the answer's limit of tokens)");
    assert!(notices[1].starts_with("context: ") && notices[1].ends_with(" of 512 tokens"), "{}", notices[1]);
    assert!(notices[3].starts_with("last answer: 8 tokens; "), "{}", notices[3]);
    assert_eq!(printed.ok().lines().count(), 2);
}

#[test]
fn conversations_are_undone_repeated_saved_and_loaded() {
    let scratch = Scratch::new();
    let file = scratch.path("talk.json");
    let name = text(&file);
    let lines = format!(
        "/undo\n/regen\nOne day\n/regen\nsecond\\\nline\n/undo\n/system Be kind.\n/system\n/save {name}\n/save {name}\n\
         /clear\n/load {name}\n/save! {name}\n/load {name}x\n/nonsense\n/exit\nnever read\n"
    );
    let printed = stories_chat(&scratch, &["-n", "3"], &lines);
    let stderr = printed.stderr.clone();
    let stdout = printed.ok();
    let answers: Vec<&str> = stdout.lines().collect();
    assert_eq!(answers.len(), 3, "{answers:?}");
    assert_eq!(answers[0], answers[1], "the same question at temperature 0");
    let stopped = "(stopped at the answer's limit of tokens)";
    let expected = [
        "there is nothing to take back",
        "there is nothing to answer again yet",
        stopped,
        stopped,
        stopped,
        "taken back: second…",
        "the system prompt is set",
        "Be kind.",
        &format!("saved 3 messages to {name}"),
        &format!("{name} exists; /save! {name} overwrites it"),
        "the conversation begins anew",
        &format!("loaded 3 messages from {name}"),
        &format!("saved 3 messages to {name}"),
        &format!("cannot read {name}x: No such file or directory (os error 2)"),
        "there is no command /nonsense; /help lists them (a blank before the / sends it as a message)",
    ];
    assert_eq!(stderr.lines().collect::<Vec<_>>(), expected);
    let saved: serde_json::Value = serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap();
    let expected = serde_json::json!({"messages": [
        {"role": "system", "content": "Be kind."},
        {"role": "user", "content": "One day"},
        {"role": "assistant", "content": answers[1]},
    ]});
    assert_eq!(saved, expected);
    // The file is what `template` and `chat --load` take.
    let again = stories_chat(&scratch, &["--load", name], "/system\n");
    assert_eq!(again.stderr, "Be kind.\n");
    assert_eq!(std::fs::read_dir(scratch.folder()).unwrap().count(), 2, "nothing else was written");
}

#[test]
fn invalid_utf_8_is_refused_and_the_conversation_goes_on() {
    let scratch = Scratch::new();
    let template = scratch.path("plain.jinja");
    std::fs::write(&template, "{% for m in messages %}{{ m.content }} {% endfor %}").unwrap();
    let mut command = Command::new(SATCHEL);
    command.args(["chat", "-m", text(&stories()), "--chat-template", text(&template), "-n", "3"]);
    // A byte-order mark before the first line is stripped.
    let printed = output(&mut command, b"\xef\xbb\xbf/system Be kind.\na\xffb\n/system\n");
    let notices: Vec<&str> = printed.stderr.lines().collect();
    assert_eq!(notices, ["the system prompt is set", "(this was not UTF-8 text; it was not sent)", "Be kind."]);
    assert_eq!(printed.ok(), "");
    let saved = scratch.path("saved.json");
    std::fs::write(&saved, "\u{feff}{\"messages\": [{\"role\": \"user\", \"content\": \"Hi\"}]}").unwrap();
    let loaded = output(command.args(["--load", text(&saved)]), b"/undo\n");
    assert_eq!(loaded.stderr, "taken back: Hi\n");
}

/// A chat in its own pseudo-terminal; `None` without a `script` program.
fn in_terminal(options: &str) -> Option<Running> {
    if Command::new("script").arg("--version").output().is_err() {
        support::skip("the chat in a terminal", "there is no `script` program (Debian: bsdutils)");
        return None;
    }
    let line = format!("exec {SATCHEL} chat -m {} --temp 0 {options}", text(&stories()));
    let mut script = Command::new("script");
    Some(Running::start(script.env("SHELL", "/bin/sh").args(["-q", "-e", "-c", &line, "/dev/null"])))
}

#[test]
#[cfg(unix)]
fn a_terminal_loses_no_pasted_line_and_survives_a_stray_byte() {
    let scratch = Scratch::new();
    let (template, history) = (scratch.path("plain.jinja"), scratch.path("missing/history"));
    std::fs::write(&template, "{% for m in messages %}{{ m.content }} {% endfor %}").unwrap();
    let options = format!("-n 3 --chat-template {}", text(&template));
    let Some(mut chat) = in_terminal(&options) else { return };
    chat.wait_for("> ");
    chat.send(b"/system one\r/system two\r/system three\r");
    for _ in 0..3 {
        chat.wait_for("the system prompt is set");
    }
    // Lines typed while a message is being answered are not lost either.
    chat.send(b"Once upon\r/system four\r/system\r");
    chat.wait_for("the system prompt is set");
    chat.wait_for("four\r\n");
    chat.send(b"\xff");
    chat.wait_for("(this was not UTF-8 text; it was not sent)");
    chat.send(b"/system\r");
    chat.wait_for("four\r\n");
    chat.send(b"\x04");
    assert_eq!(chat.child.wait().expect("it ends").code(), Some(0));

    // An unusable history file is reported before the first line.
    let Some(mut chat) = in_terminal(&format!("{options} --history {}", text(&history))) else { return };
    chat.wait_for("its folder does not exist: make it first");
    assert_eq!(chat.child.wait().expect("it ends").code(), Some(1));
}

#[test]
fn a_message_that_does_not_fit_is_taken_back_with_a_notice() {
    let scratch = Scratch::new();
    let long = "one two three four five six seven eight nine ten ".repeat(5);
    let file = scratch.path("talk.json");
    let lines = format!("{long}\n/save {}\nHi\n", text(&file));
    let printed = stories_chat(&scratch, &["-c", "32"], &lines);
    let notices: Vec<&str> = printed.stderr.lines().collect();
    assert!(
        notices[0].starts_with("the conversation has ") && notices[0].contains("the context holds 32"),
        "{notices:?}"
    );
    assert!(notices[1].starts_with("saved 0 messages"), "{notices:?}");
    assert_eq!(notices[2], "(the context of 32 tokens is full: the answer stops here; /undo or /clear makes room)");
    assert_eq!(printed.ok().lines().count(), 1);
}

#[test]
fn errors_at_startup_are_one_line() {
    let scratch = Scratch::new();
    let mut plain = Command::new(SATCHEL);
    plain.args(["chat", "-m", text(&stories())]);
    assert!(output(&mut plain, b"").failed(1).contains("the model has no chat template"));
    let bad = scratch.path("bad.json");
    std::fs::write(&bad, "{\"messages\": 1}").unwrap();
    let line = stories_chat(&scratch, &["--load", text(&bad)], "").failed(1);
    assert!(line.ends_with("`messages` must be an array of messages, not an integer"), "{line}");
    let refusing = scratch.path("refusing.jinja");
    std::fs::write(&refusing, "{{ raise_exception('Say please.') }}").unwrap();
    let printed = stories_chat(&scratch, &["--chat-template", text(&refusing)], "x\n");
    // A repeated flag is refused by clap, not ignored.
    assert_eq!(printed.code, Some(2));
    let mut command = Command::new(SATCHEL);
    command.args(["chat", "-m", text(&stories()), "--chat-template", text(&refusing)]);
    let printed = output(&mut command, b"x\n");
    assert_eq!(printed.stderr, "the chat template refuses this conversation: Say please.\n");
    assert_eq!(printed.ok(), "");
}

/// A running program whose output is read as it arrives.
struct Running {
    child: Child,
    output: Receiver<Vec<u8>>,
    seen: String,
}

impl Running {
    fn start(command: &mut Command) -> Self {
        let mut child =
            command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let (sender, output) = mpsc::channel();
        let streams: [Box<dyn Read + Send>; 2] =
            [Box::new(child.stdout.take().expect("piped")), Box::new(child.stderr.take().expect("piped"))];
        for mut stream in streams {
            let sender = sender.clone();
            std::thread::spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(n @ 1..) = stream.read(&mut buffer) {
                    if sender.send(buffer[..n].to_vec()).is_err() {
                        return;
                    }
                }
            });
        }
        Self { child, output, seen: String::new() }
    }

    fn send(&mut self, bytes: &[u8]) {
        let stdin = self.child.stdin.as_mut().expect("piped");
        stdin.write_all(bytes).and_then(|()| stdin.flush()).expect("it reads its input");
    }

    /// Waits until `text` has been printed since the last wait.
    #[track_caller]
    fn wait_for(&mut self, text: &str) {
        let end = Instant::now() + Duration::from_secs(120);
        while !self.seen.contains(text) {
            let left = end.saturating_duration_since(Instant::now());
            match self.output.recv_timeout(left) {
                Ok(bytes) => self.seen += &String::from_utf8_lossy(&bytes),
                Err(error) => panic!("{text:?} did not come ({error}); there was: {}", self.seen),
            }
        }
        let end = self.seen.find(text).expect("it came") + text.len();
        self.seen.drain(..end);
    }

    fn signal(&self, name: &str) {
        let status = Command::new("kill").args([name, &self.child.id().to_string()]).status();
        assert!(status.expect("kill runs").success());
    }
}

#[test]
#[cfg(unix)]
fn an_interrupt_ends_the_answer_and_not_the_program() {
    let Some(model) = smollm2() else { return };
    let mut chat = Running::start(Command::new(SATCHEL).args(["chat", "-m", text(&model), "--temp", "0"]));
    chat.send(b"Tell me a very long story about a dragon.\n");
    chat.wait_for("dragon");
    chat.signal("-INT");
    chat.wait_for("(stopped)");
    chat.send(b"What is 2+2?\n/stats\n");
    chat.wait_for("last answer: ");
    chat.send(b"/clear\nTell me a very long story about a dragon.\n");
    chat.wait_for("dragon");
    chat.signal("-TERM");
    let status = chat.child.wait().expect("it ends");
    assert_eq!(status.code(), None, "SIGTERM ends it: {status}");
}

#[test]
#[cfg(unix)]
fn in_a_terminal_lines_are_edited_and_ctrl_c_stops_an_answer() {
    let Some(model) = smollm2() else { return };
    // `script` runs it in a pseudo-terminal.
    if Command::new("script").arg("--version").output().is_err() {
        return support::skip("the chat in a terminal", "there is no `script` program (Debian: bsdutils)");
    }
    let scratch = Scratch::new();
    let history = scratch.path("history");
    // `exec`: an intermediate shell would receive the terminal's Ctrl-C, too, and some then exit with 130 themselves.
    let line = format!("exec {SATCHEL} chat -m {} --temp 0 --history {}", text(&model), text(&history));
    let mut script = Command::new("script");
    let mut chat = Running::start(script.env("SHELL", "/bin/sh").args(["-q", "-e", "-c", &line, "/dev/null"]));
    chat.wait_for("/help lists the commands.");
    chat.wait_for("> ");
    chat.send(b"Tell me a very long story about a dragon.\r");
    // Input is echoed, so wait for something that only the answer contains.
    chat.wait_for(" the ");
    chat.send(b"\x03");
    chat.wait_for("(stopped)");
    chat.wait_for("> ");
    chat.send(b"/stats\r");
    chat.wait_for("last answer: ");
    chat.wait_for("> ");
    // Ctrl-C drops a line that is being typed; Ctrl-A goes to its beginning.
    chat.send(b"/nonsense\x03");
    chat.wait_for("(Ctrl-D or /exit leaves)");
    chat.wait_for("> ");
    chat.send(b"ystem Be\x01/s\x05 brief.\r");
    chat.wait_for("the system prompt is set");
    chat.wait_for("> ");
    chat.send(b"/system\r");
    chat.wait_for("Be brief.\r\n");
    chat.wait_for("> ");
    chat.send(b"\x04");
    assert_eq!(chat.child.wait().expect("it ends").code(), Some(0));
    let kept = std::fs::read_to_string(history).expect("the history that was asked for");
    assert!(kept.contains("Tell me a very long story") && kept.contains("/system Be brief."), "{kept}");
}
