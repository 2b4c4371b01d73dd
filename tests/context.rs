//! The context's default length, and what happens when it is full.

use std::process::Command;

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{SATCHEL, Scratch, satchel, stories};

fn model() -> String {
    stories().into_os_string().into_string().expect("UTF-8")
}

#[test]
fn measurements_refuse_a_context_beyond_the_trained_one() {
    let (scratch, model) = (Scratch::new(), model());
    let text = scratch.path("text");
    std::fs::write(&text, "Once upon a time there was a dragon. ".repeat(200)).expect("scratch");
    let text = text.to_str().expect("UTF-8");
    for command in ["perplexity", "bench"] {
        let line = satchel(&[command, "-m", &model, "-f", text, "-c", "513"]).failed(1);
        assert!(line.contains("--context 513") && line.contains("trained on 512 tokens"), "{line}");
    }
    satchel(&["perplexity", "-m", &model, "-f", text, "-c", "512"]).ok();
    let tokens = scratch.path("tokens");
    std::fs::write(&tokens, "5 ".repeat(513)).expect("scratch");
    let out = scratch.path("out");
    let files = [tokens.to_str().expect("UTF-8"), out.to_str().expect("UTF-8")];
    let line = satchel(&["logits", "-m", &model, "--tokens", files[0], "-o", files[1]]).failed(1);
    assert!(line.contains("513 tokens") && line.contains("512"), "{line}");
}

/// The context line of a server's block.
fn context_line(server: &Served) -> String {
    let line = server.block.lines().find_map(|line| line.trim().strip_prefix("context "));
    line.expect("a context line").trim().to_owned()
}

/// A model whose eight contexts of 32,768 tokens take gigabytes, under a much smaller address space limit.
#[test]
#[cfg(target_os = "linux")]
fn the_default_context_is_limited_by_memory() {
    let scratch = Scratch::new();
    let path = scratch.path("wide.gguf");
    let path = path.to_str().expect("UTF-8");
    let shape = ["--width", "256", "--layers", "8", "--heads", "8", "--kv-heads", "8", "--feed-forward", "256"];
    let file = ["random-model", "F16", "-o", path, "--context", "32768", "--vocabulary"];
    satchel(&[&file[..], &[&model()], &shape].concat()).ok();
    let serve = |kilobytes: &str, more: &[&str]| {
        let limited = format!("ulimit -v {kilobytes}; exec \"$0\" \"$@\"");
        let flags = ["serve", "-m", path, "--no-browser", "--port", "0", "-t", "1", "--parallel", "8"];
        Served::run(Command::new("sh").args(["-c", &limited, SATCHEL]).args(flags).args(more))
    };
    let short = serve("1500000", &[]);
    let line = context_line(&short);
    let context: usize = line.split(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!((2048..32768).contains(&context) && context.is_multiple_of(256), "{line}");
    assert!(line.contains("shorter than 32768") && line.contains("ulimit -v"), "{line}");
    let answer = short.post("/v1/completions", &json!({ "prompt": "x", "max_tokens": 4 }));
    assert_eq!(answer.status, 200, "{answer:?}");
    drop(short);
    let shorter = context_line(&serve("1000000", &[]));
    let fewer: usize = shorter.split(' ').next().and_then(|count| count.parse().ok()).expect("a number");
    assert!(fewer < context, "{shorter}");
    // An explicit length is used as given.
    assert!(context_line(&serve("1500000", &["--context", "32768"])).starts_with("32768 tokens"));
}

#[test]
fn with_overflow_shift_a_full_context_shifts_and_says_so() {
    let ask = |server: &Served, count: usize| -> Value {
        let body = json!({ "prompt": "Once upon a time", "max_tokens": count, "temperature": 0, "ignore_eos": true });
        server.post("/v1/completions", &body).json()
    };
    let stopping = Served::start(&stories(), &["-c", "64"]);
    let stopped = ask(&stopping, 200);
    assert_eq!(stopped["usage"]["total_tokens"], 64, "{stopped}");
    assert_eq!(stopped["usage"].get("shifted_tokens"), None);
    drop(stopping);
    let shifting = Served::start(&stories(), &["-c", "64", "--overflow", "shift"]);
    let shifted = ask(&shifting, 200);
    assert_eq!(shifted["usage"]["completion_tokens"], 200, "{shifted}");
    assert!(shifted["usage"]["shifted_tokens"].as_u64().is_some_and(|count| count >= 100), "{shifted}");
    let text = |answer: &Value| answer["choices"][0]["text"].as_str().expect("a text").to_owned();
    assert!(text(&shifted).starts_with(&text(&stopped)), "nothing changes before it is full");
    drop(shifting);
    let run = ["run", "-m", &model(), "--raw", "-c", "64", "--temperature", "0", "-n", "100", "--overflow"];
    let printed = satchel(&[&run[..], &["shift", "Once upon a time"]].concat());
    assert!(printed.code == Some(0) && printed.stderr.contains("of the oldest were dropped"), "{printed:?}");
    let printed = satchel(&[&run[..], &["forget", "x"]].concat());
    assert!(printed.code == Some(2) && printed.stderr.contains("it must be stop or shift"), "{printed:?}");
}
