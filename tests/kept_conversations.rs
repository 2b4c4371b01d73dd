//! A server keeps conversations beside running ones and, where asked to, across restarts; guessing changes no answer.

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Scratch, satchel, smollm2, stories};

/// An answer at temperature 0, with its usage.
fn ask(server: &Served, prompt: &str, more: &Value) -> (String, Value) {
    let mut body = json!({"prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": true});
    more.as_object().expect("fields").iter().for_each(|(name, value)| body[name] = value.clone());
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    (answer["choices"][0]["text"].as_str().expect("text").to_owned(), answer["usage"].clone())
}

/// A number in `/metrics`.
fn counter(server: &Served, name: &str) -> u64 {
    let metrics = server.get("/metrics").text();
    let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("satchel_{name} ")));
    line.and_then(|count| count.parse().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
}

#[cfg(unix)]
#[test]
fn a_cache_file_keeps_conversations_across_restarts() {
    use std::os::unix::fs::PermissionsExt;
    let Some(model) = smollm2() else { return };
    let scratch = Scratch::new();
    let file = scratch.path("kept");
    let flags = ["-c", "1024", "--cache-file", file.to_str().expect("UTF-8")];
    let prompt = "The harbour was quiet, and the boats lay side by side. ".repeat(12);
    let serve = |more: &[&str]| {
        let mut server = Served::start(&model, &[&flags[..], more].concat());
        let (text, usage) = ask(&server, &prompt, &json!({}));
        server.signal("TERM");
        assert!(server.ended().success());
        (text, usage["prompt_tokens"].as_u64(), usage["prompt_tokens_details"]["cached_tokens"].as_u64())
    };
    let (first, all, cached) = serve(&[]);
    assert_eq!(cached, Some(0));
    assert_eq!(std::fs::metadata(&file).expect("it was written").permissions().mode() & 0o777, 0o600);
    let (second, _, cached) = serve(&[]);
    assert_eq!(cached, all.map(|all| all - 1));
    assert_eq!(second, first);
    let (_, _, cached) = serve(&["--cache-type-v", "q8_0"]);
    assert_eq!(cached, Some(0), "states of another cache type are of no use");
}

#[test]
fn guesses_are_counted_and_change_no_answer() {
    let Some(model) = smollm2() else { return };
    let prompt = "one two three four five six seven eight nine ten, ".repeat(20);
    let more = json!({"max_tokens": 200});
    let without = ask(&Served::start(&model, &["-c", "1024", "--speculate", "off"]), &prompt, &more);
    assert!(without.1["completion_tokens_details"]["accepted_prediction_tokens"].is_null(), "{}", without.1);
    let server = Served::start(&model, &["-c", "1024"]);
    let with = ask(&server, &prompt, &more);
    assert_eq!(with.0, without.0);
    let details = &with.1["completion_tokens_details"];
    let [accepted, rejected] =
        ["accepted", "rejected"].map(|kind| details[format!("{kind}_prediction_tokens")].as_u64().unwrap_or(0));
    // How many depends on the machine: where a row costs as much as a step, there are next to none.
    assert_eq!(counter(&server, "accepted_tokens_total"), accepted);
    assert_eq!(counter(&server, "guessed_tokens_total"), accepted + rejected);
    assert!(counter(&server, "cache_tokens") > 256);
}

#[test]
fn what_a_schema_forces_changes_no_answer() {
    let Some(model) = smollm2() else { return };
    let schema = json!({
        "type": "object",
        "properties": {
            "kind": {"const": "a long constant text that leaves the model nothing to choose"},
            "mood": {"enum": ["cheerful and bright", "gloomy and dark"]},
            "identification_number": {"type": "integer", "minimum": 0, "maximum": 99},
        },
        "required": ["kind", "mood", "identification_number"],
        "additionalProperties": false,
    });
    let answer = |flag: &str| {
        let server = Served::start(&model, &["-c", "1024", "--speculate", flag]);
        let mut found = Vec::new();
        for (seed, temperature) in [(1, 0.0), (2, 0.0), (3, 1.2), (4, 1.2), (5, 0.0)] {
            let body = json!({
                "messages": [{"role": "user", "content": format!("Describe visitor {seed}.")}],
                "response_format": {"type": "json_schema", "json_schema": {"name": "visitor", "schema": schema}},
                "temperature": temperature, "seed": seed, "max_tokens": 200, "logprobs": true,
            });
            let answer = server.post("/v1/chat/completions", &body);
            assert_eq!(answer.status, 200, "{answer:?}");
            found.push(answer.json()["choices"].clone());
        }
        found
    };
    let (with, without) = (answer("auto"), answer("off"));
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with, without, "text and log-probabilities");
        assert!(
            with[0]["message"]["content"].as_str().is_some_and(|text| text.contains("identification_number")),
            "{with}"
        );
    }
}

#[test]
fn four_answers_to_one_prompt_read_it_once() {
    let Some(model) = smollm2() else { return };
    let server = Served::start(&model, &["-c", "1024"]);
    let prompt = "The ferry leaves at noon, and the island is an hour away. ".repeat(15);
    let (_, usage) = ask(&server, &prompt, &json!({"n": 4, "temperature": 1, "seed": 3}));
    let all = usage["prompt_tokens"].as_u64().expect("a count");
    assert!(all > 150, "{usage}");
    // Each of the others computes the last token for logits of its own; less than a block is not waited for.
    let cached = counter(&server, "cached_tokens_total");
    assert!((3 * (all - 64)..=3 * (all - 1)).contains(&cached), "{cached} of 3 times {all}");
}

#[test]
fn a_draft_changes_no_answer_and_must_fit() {
    let Some(model) = smollm2() else { return };
    let path = model.to_str().expect("UTF-8");
    let prompt = "A letter to a friend about the garden:";
    let more = json!({"max_tokens": 60});
    let without = ask(&Served::start(&model, &["-c", "512", "--speculate", "off"]), prompt, &more);
    let server = Served::start(&model, &["-c", "512", "--draft", path]);
    assert_eq!(ask(&server, prompt, &more).0, without.0);
    let other = stories();
    let arguments = ["run", "-m", path, "--draft", other.to_str().expect("UTF-8"), "Hello"];
    let said = satchel(&arguments).failed(1);
    assert!(said.contains("its vocabulary is not the model's"), "{said}");
    let said = satchel(&["run", "-m", path, "--draft", path, "--speculate", "off", "Hello"]).failed(2);
    assert!(said.contains("--speculate off"), "{said}");
}

#[test]
fn flags_of_the_cache_are_checked() {
    for (flags, line) in [
        (["--cache-ram", "much"], "it must be a size, such as 512MiB or 2GiB"),
        (["--speculate", "maybe"], "it must be auto or off"),
    ] {
        let ran = satchel(&[&["serve"][..], &flags].concat());
        assert_eq!(ran.code, Some(2), "{}", ran.stderr);
        assert!(ran.stderr.contains(line), "{}", ran.stderr);
    }
}

#[test]
fn no_more_is_kept_than_was_allowed() {
    let Some(model) = smollm2() else { return };
    let prompt = "The harbour was quiet, and the boats lay side by side. ".repeat(12);
    for (allowed, all_of_it) in [("0", false), ("64MiB", true)] {
        let server = Served::start(&model, &["-c", "1024", "--cache-ram", allowed]);
        let (first, usage) = ask(&server, &prompt, &json!({}));
        let tokens = usage["prompt_tokens"].as_u64().expect("a count");
        // What slots leave when they are idle is kept memory as any other.
        let kept = || counter(&server, "cache_tokens");
        for _ in 0..100 {
            // It is given up behind the answer's end.
            if (kept() > 0) == all_of_it {
                break;
            }
            std::thread::sleep(std::time::Duration::from_millis(50));
        }
        assert_eq!(kept() > 0, all_of_it, "{allowed}");
        let (second, usage) = ask(&server, &prompt, &json!({}));
        let cached = usage["prompt_tokens_details"]["cached_tokens"].as_u64();
        assert_eq!((cached, second), (Some(if all_of_it { tokens - 1 } else { 0 }), first), "{allowed}");
    }
}
