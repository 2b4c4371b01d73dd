//! Reasoning and tool calls of every family: the public fixtures of the package `canitoolcall`, judged by its own checks.

use std::collections::BTreeMap;
use std::process::Command;

use satchel::chat::output::{OutputFormat, Part};
use satchel::chat::tools::{Tool, Tools};
use satchel::chat::{ChatTemplate, RenderRequest};
use serde_json::{Value, json};

use crate::openai_client::python_with;
use crate::served::Served;
use crate::support::{output, root, smollm2};

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
        custom: false,
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

/// Templates of the repository, and those of the shared collection where a checkout has it beside it.
fn templates() -> BTreeMap<String, String> {
    let places = ["tests/data/chat-templates", "../shared/conformance/chat-templates"];
    let files = places.iter().filter_map(|place| std::fs::read_dir(root().join(place)).ok()).flatten().flatten();
    let templates = files.map(|file| file.path()).filter(|path| path.extension().is_some_and(|end| end == "jinja"));
    templates
        .map(|path| {
            let name = path.file_stem().expect("a name").to_string_lossy().into_owned();
            (name, std::fs::read_to_string(&path).expect("a template"))
        })
        .collect()
}

fn render(template: &ChatTemplate, messages: &[Value], tools: Option<&Tools>, prompt: bool) -> Result<String, String> {
    let request = RenderRequest {
        messages: messages.to_vec(),
        tools: tools.and_then(Tools::for_template),
        add_generation_prompt: prompt,
        ..RenderRequest::default()
    };
    template.render(&request).map_err(|error| error.to_string())
}

/// What a template writes for an assistant's message, parsed again, and the same with the stream cut at every character.
fn again(source: &str, calls: &[(&str, Value)], tools: &Tools) -> Result<(String, Value), String> {
    let template = ChatTemplate::new(source, "<s>", "</s>").map_err(|error| error.to_string())?.with_growing_lists();
    let format = OutputFormat::of(source, &|_| false);
    let list: Vec<Value> = (0..)
        .zip(calls)
        .map(|(index, (name, arguments)): (usize, _)| {
            let function = json!({"name": name, "arguments": arguments.to_string()});
            json!({"id": format!("call0000{index}"), "type": "function", "function": function})
        })
        .collect();
    let mut messages = vec![json!({"role": "user", "content": "What now?"})];
    format.describe_tools(tools, &mut messages);
    let asked = messages.clone();
    messages.push(json!({"role": "assistant", "content": "", "tool_calls": list}));
    format.history(&mut messages);
    let told = format.takes_tools().then_some(tools);
    let prompt = render(&template, &asked, told, true)?;
    let whole = render(&template, &messages, told, false)?;
    // A prompt that goes on otherwise than the answer, with another kind of reasoning: the answer begins with its own mark.
    let same = prompt.char_indices().zip(whole.chars()).take_while(|((_, a), b)| a == b).last();
    let end = same.map_or(0, |((at, letter), _)| at + letter.len_utf8());
    let end = match whole[..end].rfind('<') {
        Some(mark) if end < prompt.len() && !whole[mark..end].contains('>') => mark,
        _ => end,
    };
    let (tail, answer) = whole.split_at(end);
    let parse = |chunks: Vec<&str>| {
        let mut parser = format.parser(tools, tail);
        let mut parts: Vec<Part> = chunks.into_iter().flat_map(|chunk| parser.push(chunk)).collect();
        parts.extend(parser.finish(true));
        said(parts)
    };
    let at_once = parse(vec![answer]);
    let cut = parse(answer.split("").collect());
    assert_eq!(at_once, cut, "{answer:?} depends on how it is cut");
    Ok((format!("{} {answer:?}", format.name()), at_once))
}

/// Templates that cannot write this conversation, and why.
const CANNOT: [(&str, usize, &str); 5] = [
    ("meta-llama-Llama-3.1-8B-Instruct", 2, "a message for each call"),
    ("meta-llama-Llama-3.2-3B-Instruct", 2, "a message for each call"),
    ("meta-llama-Llama-3.3-70B-Instruct", 2, "a message for each call"),
    ("GigaChat3.1-10B-A1.8B", 2, "a message for each call"),
    ("fireworks-ai-llama-3-firefunction-v2", 1, "wants a variable `functions`, with tools or without"),
];

#[test]
fn a_call_that_a_template_writes_is_read_again() {
    let parameters = json!({"type": "object", "required": ["city"], "properties": {
        "city": {"type": "string", "description": "A city"}, "days": {"type": "integer", "description": "How many"},
        "units": {"type": "object", "description": "Units"}, "exact": {"type": "boolean", "description": "Exact"}}});
    let tool = |name: &str| Tool {
        name: name.to_owned(),
        description: Some("A function".to_owned()),
        parameters: parameters.clone(),
        strict: false,
        custom: false,
    };
    let tools = Tools { list: vec![tool("get_weather"), tool("get_time")], ..Tools::default() };
    let first = ("get_weather", json!({"city": "Zürich \"best\" </tool_call>", "days": 3}));
    let second = ("get_time", json!({"city": "7", "units": {"a": [1, 2.5, "x"]}, "exact": true}));
    let (mut read, mut wrong) = (0, Vec::new());
    for (name, source) in templates() {
        let cannot = |calls: usize| CANNOT.iter().any(|(template, most, _)| *template == name && calls >= *most);
        for calls in [&[first.clone()][..], &[first.clone(), second.clone()]] {
            if cannot(calls.len()) {
                continue;
            }
            let expected: Vec<Value> =
                calls.iter().map(|(name, arguments)| json!({"name": name, "arguments": arguments})).collect();
            match again(&source, calls, &tools) {
                Ok((shown, found)) => {
                    let calls: Vec<Value> = found["calls"]
                        .as_array()
                        .expect("calls")
                        .iter()
                        .map(|call| {
                            let arguments: Value =
                                serde_json::from_str(call["arguments"].as_str().expect("text")).expect("JSON");
                            json!({"name": call["name"], "arguments": arguments})
                        })
                        .collect();
                    if calls == expected { read += 1 } else { wrong.push(format!("{name}: {shown}\n    {found}")) }
                }
                Err(error) => wrong.push(format!("{name} ({}): {error}", calls.len())),
            }
        }
    }
    println!("{read} renderings are read again");
    assert!(wrong.is_empty(), "{} of them are not:\n{}", wrong.len(), wrong.join("\n"));
    assert!(read >= 60, "{read}");
}

#[test]
fn the_public_scenarios_of_tool_calls_hold_against_a_server() {
    let (Some(python), Some(model)) = (python_with("canitoolcall"), smollm2()) else { return };
    let server = Served::start(&model, &[]);
    let script = root().join("tests/canitoolcall_probe.py");
    let base = format!("http://127.0.0.1:{}/v1", server.port);
    let printed = output(Command::new(python).arg(script).args([&base, "smollm2"]), b"");
    println!("{}", printed.stdout);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
}
