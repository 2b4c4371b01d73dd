//! Reasoning and tool calls of every family: the public fixtures of the package `canitoolcall`, judged by its own checks.

use std::collections::BTreeMap;
use std::process::Command;

use satchel::chat::output::{OutputFormat, Part};
use satchel::chat::tools::{Tool, Tools};
use serde_json::{Value, json};

use crate::openai_client::python_with;
use crate::support::{output, root};

/// Fixtures that do not pass, and why.
const KNOWN: [(&str, &str); 0] = [];

/// The family of a fixture's model, by its name in our table.
fn family(model: &str) -> &'static str {
    let families = [
        ("Qwen3-Coder", "qwen3-coder"),
        ("Qwen3.", "qwen3-coder"),
        ("Qwen3-", "hermes"),
        ("mistralai/", "mistral"),
        ("gpt-oss", "gpt-oss"),
        ("Kimi-K3", "kimi-k3"),
        ("Kimi-K2", "kimi-k2"),
        ("GLM-", "glm"),
        ("gemma-4", "gemma-4"),
        ("Llama-3", "llama-3"),
        ("Llama-4", "llama-4"),
        ("DeepSeek-V3-", "deepseek-v3"),
        ("DeepSeek-V3.1", "deepseek-v3"),
        ("DeepSeek-V3.2", "deepseek-v3.2"),
        ("DeepSeek-V4.1", "deepseek-v4.1"),
        ("DeepSeek-V4", "deepseek-v4"),
    ];
    families.iter().find(|(part, _)| model.contains(part)).unwrap_or_else(|| panic!("no family for {model}")).1
}

fn tools(list: &Value) -> Tools {
    let tool = |tool: &Value| Tool {
        name: tool["name"].as_str().expect("a name").to_owned(),
        description: None,
        parameters: tool["parameters"].clone(),
        strict: false,
    };
    Tools { list: list.as_array().expect("a list").iter().map(tool).collect(), ..Tools::default() }
}

/// What a client of the stream has at the end.
fn said(parts: Vec<Part>) -> Value {
    let (mut text, mut reasoning, mut calls) = (String::new(), String::new(), Vec::<(String, String)>::new());
    for part in parts {
        match part {
            Part::Text(more) => text.push_str(&more),
            Part::Reasoning(more) => reasoning.push_str(&more),
            Part::ToolCall { call, name, .. } => {
                assert_eq!(call, calls.len());
                calls.push((name, String::new()));
            }
            Part::Arguments { call, json } => calls[call].1.push_str(&json),
        }
    }
    let calls: Vec<Value> =
        calls.into_iter().map(|(name, arguments)| json!({"name": name, "arguments": arguments})).collect();
    json!({"text": text, "reasoning": reasoning, "calls": calls})
}

fn parsed<'a>(format: &OutputFormat, case: &Value, chunks: impl Iterator<Item = &'a str>) -> Value {
    let mut parser = format.parser(&tools(&case["tools"]), case["prompt"].as_str().expect("a prompt"));
    let mut parts: Vec<Part> = chunks.flat_map(|chunk| parser.push(chunk)).collect();
    parts.extend(parser.finish(case["whole"] == true));
    said(parts)
}

fn observed(case: &Value) -> Value {
    let format = OutputFormat::named(family(case["model"].as_str().expect("a model"))).expect("a family");
    let text = case["text"].as_str().expect("text");
    let streams = case["streams"].as_object().expect("streams").iter().map(|(name, chunks)| {
        let chunks = chunks.as_array().expect("chunks").iter().map(|chunk| chunk.as_str().expect("text"));
        (name.clone(), parsed(&format, case, chunks))
    });
    let streams: serde_json::Map<_, _> = streams.collect();
    json!({"id": case["id"], "whole": parsed(&format, case, [text].into_iter()), "streams": streams})
}

#[test]
fn the_public_fixtures_of_tool_calls_pass() {
    let Some(python) = python_with("canitoolcall") else { return };
    let script = root().join("tests/canitoolcall_judge.py");
    let requests = output(Command::new(&python).arg(&script).arg("requests"), b"");
    assert_eq!(requests.code, Some(0), "{}", requests.stderr);
    let cases = requests.stdout.lines().map(|line| serde_json::from_str(line).expect("JSON"));
    let observed: Vec<String> = cases.map(|case: Value| observed(&case).to_string()).collect();
    let judged = output(Command::new(&python).arg(&script).arg("judge"), (observed.join("\n") + "\n").as_bytes());
    assert_eq!(judged.code, Some(0), "{}", judged.stderr);
    let (mut right, mut wrong, mut all) = (BTreeMap::<String, usize>::new(), Vec::new(), 0);
    for line in judged.stdout.lines() {
        let verdict: Value = serde_json::from_str(line).expect("JSON");
        let id = verdict["id"].as_str().expect("an id");
        assert_eq!(verdict["uneven"], false, "{id} depends on how the stream is cut");
        all += 1;
        match verdict["status"].as_str() {
            Some("pass" | "soft_pass") => {
                *right.entry(id.split('/').next().unwrap_or_default().to_owned()).or_default() += 1
            }
            _ if KNOWN.iter().any(|(known, _)| *known == id) => {}
            _ => wrong.push(verdict.to_string()),
        }
    }
    let passed: usize = right.values().sum();
    println!("{passed} of {all} fixtures are right: {right:?}");
    assert!(wrong.is_empty(), "{} are wrong:\n{}", wrong.len(), wrong.join("\n"));
    assert!(all > 460 && passed > 400, "{passed} of {all}");
}
