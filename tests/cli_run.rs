//! `satchel run`: only the answer on stdout, prompts from arguments and stdin, clean exits.

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::support::{SATCHEL, Scratch, output, satchel, smollm2, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn run(model: &Path, arguments: &[&str], input: &str) -> crate::support::Printed {
    let mut command = Command::new(SATCHEL);
    command.args(["run", "-m", text(model)]).args(arguments);
    output(&mut command, input.as_bytes())
}

/// llama.cpp's continuation of "Once upon a time", greedy, 120 tokens.
const STORY: &str = ", there was a little girl named Lily. She loved to play outside in the park. One day, she saw a big, \
red ball. She wanted to play with it, but it was too high.\nLily's mom said, \"Lily, let's go to the park.\" Lily was sad \
and didn't know what to do. She said, \"I want to play with your ball, but I can'";

#[test]
fn raw_text_continues_as_in_llama_cpp() {
    let model = stories();
    let options = ["--raw", "--temp", "0", "-n", "120"];
    let named = run(&model, &[&options[..], &["Once upon a time"]].concat(), "");
    assert_eq!((named.stdout.as_str(), named.stderr.as_str()), (format!("{STORY}\n").as_str(), ""));
    for (prompt, input) in [(&[][..], "Once upon a time\n"), (&["-"][..], "Once upon a time\r\n")] {
        assert_eq!(run(&model, &[&options[..], prompt].concat(), input).ok(), format!("{STORY}\n"));
    }
}

/// SPM tokens carry a leading space, which is not part of a chat answer.
#[test]
fn an_answer_does_not_begin_with_a_space() {
    let scratch = Scratch::new();
    let template = scratch.path("plain.jinja");
    std::fs::write(&template, "{{ messages[0].content }}").unwrap();
    let (model, prompt) = (stories(), "Once upon a time, there was a");
    let options = ["--temp", "0", "-n", "4"];
    let answer = run(&model, &[&["--chat-template", text(&template), prompt], &options[..]].concat(), "").ok();
    let raw = run(&model, &[&["--raw", prompt], &options[..]].concat(), "").ok();
    assert_eq!((raw.as_str(), &raw[..1]), (format!(" {answer}").as_str(), " "));
}

#[test]
fn piped_text_follows_the_prompt() {
    let model = stories();
    let options = ["--raw", "--temp", "0", "-n", "10"];
    let whole = run(&model, &[&options[..], &["Once upon\na time"]].concat(), "").ok();
    assert_eq!(run(&model, &[&options[..], &["Once upon"]].concat(), "a time\n").ok(), whole);
    // A byte-order mark is stripped, on stdin as in a file.
    assert_eq!(run(&model, &[&options[..], &["Once upon"]].concat(), "\u{feff}a time\n").ok(), whole);
    let scratch = Scratch::new();
    let template = scratch.path("t.jinja");
    std::fs::write(&template, "\u{feff}{{ messages[0].content }}").unwrap();
    let options = ["--chat-template", text(&template), "--temp", "0", "-n", "10", "Once upon\na time"];
    assert_eq!(run(&model, &options, "").ok(), whole);
}

#[test]
fn stop_strings_seeds_and_the_full_context() {
    let model = stories();
    let story = |options: &[&str]| run(&model, &[&["--raw", "Once upon a time"], options].concat(), "");
    assert_eq!(story(&["--temp", "0", "--stop", "big, red", "--stop", "zzz"]).ok(), {
        let end = STORY.find("big, red").expect("it is there");
        format!("{}\n", &STORY[..end])
    });
    let seeded = |seed| story(&["--seed", seed, "-n", "40"]).ok();
    assert_eq!(seeded("1"), seeded("1"));
    assert_ne!(seeded("1"), seeded("2"));
    let full = story(&["--temp", "0", "-c", "32"]);
    assert_eq!(full.stderr, "satchel: the answer ends here because the context of 32 tokens is full\n");
    assert!(STORY.starts_with(full.ok().trim_end()));
}

#[test]
fn the_chat_template_is_used_and_can_be_replaced() {
    let Some(model) = smollm2() else { return };
    let answer = run(&model, &["--temp", "0", "-n", "24", "What is 2+2?"], "").ok();
    assert!(answer.contains('4'), "{answer}");
    let scratch = Scratch::new();
    let template = scratch.path("t.jinja");
    std::fs::write(&template, "Once upon a time{{ messages[0].content }}").unwrap();
    let options = ["--chat-template", text(&template), "--temp", "0", "-n", "20", ", there was"];
    let replaced = run(&stories(), &options, "").ok();
    // An answer does not begin with the blank of its first token.
    assert_eq!(format!(", there was {replaced}"), format!("{}\n", &STORY[..replaced.len() + 11]));
    std::fs::write(&template, "{{ raise_exception('Only haiku.') }}").unwrap();
    let refused = run(&stories(), &options, "").failed(1);
    assert_eq!(refused, "satchel: the chat template refuses this conversation: Only haiku.");
}

#[test]
fn errors_are_one_line() {
    let model = stories();
    for (arguments, input, code, part) in [
        (
            &["Hello"][..],
            "",
            1,
            "the model has no chat template, so it cannot take messages; name one with --chat-template",
        ),
        (&["--raw"], "", 2, "the prompt is empty"),
        (&["--raw", "x", "--top-p", "2"], "", 2, "--top-p must be a number between 0 and 1 (it is 2)"),
        (&["--raw", "x", "--temp", "-1"], "", 2, "--temperature must be a number between 0 and 100 (it is -1)"),
        (&["--raw", "x", "-n", "0"], "", 2, "--max-tokens must be a whole number, 1 or more"),
        (&["--raw", "x", "--logit-bias", "99999=1"], "", 1, "token 99999"),
        (
            &["--raw", "-c", "8", "one two three four five six seven"],
            "",
            1,
            "tokens, which exceeds the available context size of 8",
        ),
        (&["--raw", "x", "--isa", "mmx"], "", 1, "mmx"),
    ] {
        let line = run(&model, arguments, input).failed(code);
        assert!(line.starts_with("satchel: ") && line.contains(part), "{line}");
    }
    let line = satchel(&["run", "x", "-m", "/nonexistent.gguf"]).failed(1);
    assert!(line.starts_with("satchel: /nonexistent.gguf: "), "{line}");
    let mut bytes = Command::new(SATCHEL);
    bytes.args(["run", "--raw", "-m", text(&model)]);
    assert!(output(&mut bytes, b"a\xff").failed(1).contains("stdin is not UTF-8"));
}

#[test]
#[cfg(unix)]
fn a_broken_pipe_and_ctrl_c_end_it_cleanly() {
    let Some(model) = smollm2() else { return };
    let start = || {
        Command::new(SATCHEL)
            .args(["run", "-m", text(&model), "--temp", "0", "Tell me a very long story about a dragon."])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("satchel starts")
    };
    let mut child = start();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0; 20]).expect("an answer begins");
    drop(stdout);
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!((ended.status.code(), String::from_utf8_lossy(&ended.stderr).as_ref()), (Some(0), ""));

    let mut child = start();
    let mut stdout = child.stdout.take().expect("piped");
    stdout.read_exact(&mut [0; 20]).expect("an answer begins");
    let pid = child.id().to_string();
    assert!(Command::new("kill").args(["-INT", &pid]).status().expect("kill runs").success());
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).expect("UTF-8 to the end");
    assert!(rest.ends_with('\n'));
    let ended = child.wait_with_output().expect("it ends");
    assert_eq!(ended.status.code(), Some(130));
    assert_eq!(String::from_utf8_lossy(&ended.stderr), "satchel: stopped by Ctrl-C\n");
}
