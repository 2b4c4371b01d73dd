//! A server keeps conversations beside running ones and, where asked to, across restarts; guessing changes no answer.

use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Scratch, satchel, smollm2};

/// An answer at temperature 0, with its usage.
fn ask(server: &Served, prompt: &str, more: &Value) -> (String, Value) {
    let mut body = json!({"prompt": prompt, "max_tokens": 24, "temperature": 0, "ignore_eos": true});
    more.as_object().expect("fields").iter().for_each(|(name, value)| body[name] = value.clone());
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let answer = answer.json();
    (answer["choices"][0]["text"].as_str().expect("text").to_owned(), answer["usage"].clone())
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
    let metrics = server.get("/metrics").text();
    let counter = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("satchel_{name} ")));
        line.and_then(|count| count.parse::<u64>().ok()).unwrap_or_else(|| panic!("{name}: {metrics}"))
    };
    let details = &with.1["completion_tokens_details"];
    let [accepted, rejected] =
        ["accepted", "rejected"].map(|kind| details[format!("{kind}_prediction_tokens")].as_u64().unwrap_or(0));
    assert!(accepted > 20, "what repeats is guessed: {details}");
    assert_eq!(counter("accepted_tokens_total"), accepted);
    assert_eq!(counter("guessed_tokens_total"), accepted + rejected);
    assert!(counter("cache_tokens") > 256);
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
            let answer = answer.json();
            let accepted = answer["usage"]["completion_tokens_details"]["accepted_prediction_tokens"].as_u64();
            found.push((answer["choices"].clone(), accepted.unwrap_or(0)));
        }
        found
    };
    let (with, without) = (answer("auto"), answer("off"));
    for (with, without) in with.iter().zip(&without) {
        assert_eq!(with.0, without.0, "text and log-probabilities");
    }
    assert!(with.iter().map(|(_, accepted)| accepted).sum::<u64>() > 20, "{with:?}");
}

#[test]
fn flags_of_the_cache_are_checked() {
    for (flags, line) in [
        (["--cache-ram", "much"], "it must be a size, such as 512MiB or 2GiB"),
        (["--speculate", "maybe"], "it must be auto or off"),
    ] {
        let said = satchel(&[&["serve"][..], &flags].concat()).failed(2);
        assert!(said.contains(line), "{said}");
    }
}
