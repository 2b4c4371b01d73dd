//! A packed file that carries its computed system prompt: the first request reads only what is new in it, and answers the same.

use std::path::{Path, PathBuf};

use satchel_container::{Bundle, EntryKind};
use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Scratch, satchel, smollm2};

/// Some 400 tokens.
fn system_prompt() -> String {
    let rules = (1..=20).map(|at| format!("Rule {at}: answer in plain words, and name the harbour before the boats. "));
    format!("You are the keeper of a small harbour. {}", rules.collect::<String>())
}

fn pack(model: &Path, output: PathBuf, more: &[&str]) -> (PathBuf, String) {
    let prompt = system_prompt();
    let args =
        ["pack", model.to_str().expect("UTF-8"), "-o", output.to_str().expect("UTF-8"), "--system-prompt", &prompt];
    let said = satchel(&[&args[..], more].concat()).ok();
    (output, said)
}

/// A request's text and log-probabilities, and how many of its prompt's tokens were there already.
fn ask(server: &Served, question: &str) -> (Value, u64, u64) {
    let body = json!({
        "messages": [{"role": "user", "content": question}],
        "max_tokens": 12, "temperature": 0, "logprobs": true,
    });
    let answer = server.post("/v1/chat/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    let count = |pointer: &str| answer.pointer(pointer).and_then(Value::as_u64).unwrap_or_default();
    (answer["choices"][0].clone(), count("/usage/prompt_tokens_details/cached_tokens"), count("/usage/prompt_tokens"))
}

/// What the server says of the computed prompt.
fn said(server: &Served) -> Value {
    server.get("/props").json()["computed_prompt"].clone()
}

#[test]
fn the_first_request_of_a_warm_file_reads_only_what_is_new() {
    let Some(model) = smollm2() else { return };
    let scratch = Scratch::new();
    let (cold, _) = pack(&model, scratch.path("cold"), &[]);
    let (warm, printed) = pack(&model, scratch.path("warm"), &["--warm"]);
    assert!(printed.contains("tokens of the system prompt") && printed.contains(" MB, for "), "{printed}");
    let grown =
        std::fs::metadata(&warm).expect("it is there").len() - std::fs::metadata(&cold).expect("it is there").len();
    let bundle =
        Bundle::open_from(&mut std::fs::File::open(&warm).expect("it opens")).expect("sound").expect("a bundle");
    let entries: Vec<_> = bundle.state_entries().collect();
    assert_eq!(entries.len(), 1);
    assert!(entries[0].size.abs_diff(grown) < 4096, "it adds what it says: {grown}");

    // An architecture's vector kernels give the same bits with these weights, so all of them may use it.
    for kernels in satchel_compute::kernels::tables().into_iter().filter(|kernels| kernels.name != "scalar") {
        let serve = |file: &Path| Served::start(file, &["-c", "2048", "--isa", kernels.name]);
        let (first, second) = (serve(&cold), serve(&warm));
        let (without, cached, _) = ask(&first, "Which boat is blue?");
        assert_eq!((cached, said(&first)), (0, Value::Null));
        let (with, cached, all) = ask(&second, "Which boat is blue?");
        assert_eq!(with, without, "{}", kernels.name);
        assert!(cached > 300 && all - cached < 20, "{cached} of {all}");
        assert!(said(&second).as_str().is_some_and(|line| line.starts_with(&cached.to_string())), "{}", said(&second));
        // Another question of another connection: the same.
        assert_eq!(ask(&second, "Who are you?").1, cached);
    }
}

#[test]
fn what_does_not_fit_is_not_used_and_that_is_said() {
    let Some(model) = smollm2() else { return };
    let scratch = Scratch::new();
    let (warm, _) = pack(&model, scratch.path("warm"), &["--warm"]);
    let cold = {
        let (cold, _) = pack(&model, scratch.path("cold"), &[]);
        ask(&Served::start(&cold, &["-c", "2048"]), "Which boat is blue?").0
    };
    for (flags, part) in [
        (&["--cache-type-v", "q8_0"][..], "KV cache in F16 and F16, this one is in F16 and Q8_0"),
        (&["--system-prompt", "Be brief."], "another system prompt was given"),
        (&["--system-prompt", ""], "another system prompt was given"),
    ] {
        let server = Served::start(&warm, &[&["-c", "2048"][..], flags].concat());
        assert!(said(&server).as_str().is_some_and(|line| line.contains(part)), "{flags:?}: {}", said(&server));
        assert_eq!(ask(&server, "Which boat is blue?").1, 0, "{flags:?}");
    }
    // A byte of the states, and one of what they are bound to.
    let bytes = std::fs::read(&warm).expect("it is read");
    let bundle = Bundle::open(&bytes).expect("sound").expect("a bundle");
    let entry = bundle.state_entries().next().expect("one").clone();
    for (at, is_seen_at_the_start) in [(entry.size / 2, false), (4, true)] {
        let mut damaged = bytes.clone();
        damaged[(entry.offset + at) as usize] ^= 1;
        let file = scratch.path("damaged");
        std::fs::write(&file, damaged).expect("it is written");
        let server = Served::start(&file, &["-c", "2048"]);
        let line = said(&server);
        assert_eq!(line.as_str().is_some_and(|line| line.contains("damaged")), is_seen_at_the_start, "{line}");
        let (answer, cached, _) = ask(&server, "Which boat is blue?");
        assert_eq!((cached, answer), (0, cold.clone()));
        let verified = satchel(&["verify", file.to_str().expect("UTF-8")]);
        assert!(verified.code == Some(1) && verified.stdout.contains("states/system-prompt"), "{verified:?}");
    }
}

#[test]
fn other_commands_know_the_entry_and_wrong_requests_get_a_line() {
    let Some(model) = smollm2() else { return };
    let scratch = Scratch::new();
    let (warm, _) = pack(&model, scratch.path("warm"), &["--warm", "--set", "cache_type_k=q8_0"]);
    let path = warm.to_str().expect("UTF-8");
    assert!(satchel(&["verify", path]).ok().contains("states/system-prompt"));
    assert!(satchel(&["inspect", path]).ok().contains("states/system-prompt"));
    let folder = scratch.path("out");
    satchel(&["unpack", path, "--entry", "states/system-prompt", "-o", folder.to_str().expect("UTF-8")]).ok();
    assert!(folder.join("states/system-prompt").is_file());
    // It goes along with the payload, and is of use to the same version.
    let upgraded = scratch.path("upgraded");
    satchel(&["upgrade", path, "-o", upgraded.to_str().expect("UTF-8")]).ok();
    let bundle = |path: &Path| {
        Bundle::open_from(&mut std::fs::File::open(path).expect("it opens")).expect("sound").expect("one")
    };
    assert_eq!(bundle(&upgraded).payload_sha256, bundle(&warm).payload_sha256);
    assert!(bundle(&upgraded).entries().iter().any(|entry| entry.kind == EntryKind::State));
    let server = Served::start(&upgraded, &["-c", "2048"]);
    assert!(ask(&server, "Which boat is blue?").1 > 300);

    let name = model.to_str().expect("UTF-8");
    let output = scratch.path("none");
    let out = output.to_str().expect("UTF-8");
    let refused = |more: &[&str]| {
        let said = satchel(&[&["pack", name, "-o", out, "--warm"][..], more].concat());
        assert!(said.code.is_some_and(|code| code != 0) && !output.exists(), "{said:?}");
        said.stderr
    };
    assert!(refused(&[]).contains("--system-prompt"));
    assert!(refused(&["--system-prompt", ""]).contains("give --system-prompt"));
    let long = "word ".repeat(300);
    assert!(refused(&["--system-prompt", &long, "--set", "context=256"]).contains("the context holds 256"));
}
