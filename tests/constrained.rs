//! Answers that follow a schema, an expression or a grammar, over HTTP and on the command line.

use std::collections::HashSet;

use serde_json::{Value, json};

use crate::served::{Answer, Served};
use crate::support::{Scratch, satchel, smollm2, stories};

const CHAT: &str = "/v1/chat/completions";
const COMPLETIONS: &str = "/v1/completions";

fn person() -> Value {
    json!({
        "type": "object",
        "properties": {
            "name": {"type": "string", "minLength": 1, "maxLength": 12},
            "mood": {"enum": ["glad", "sad", "angry"]},
            "age": {"type": "integer", "minimum": 0, "maximum": 120},
            "marks": {"type": "array", "minItems": 1, "maxItems": 3,
                "items": {"type": "array", "minItems": 1, "maxItems": 2,
                    "items": {"type": "number", "minimum": 0, "maximum": 10}}},
        },
        "required": ["name", "mood", "age", "marks"],
        "additionalProperties": false,
    })
}

#[track_caller]
fn assert_person(text: &str) {
    let person: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
    let keys: Vec<&String> = person.as_object().expect("an object").keys().collect();
    assert_eq!(keys, ["name", "mood", "age", "marks"], "{text}");
    let name = person["name"].as_str().expect("a string");
    assert!((1..=12).contains(&name.chars().count()), "{text}");
    assert!(["glad", "sad", "angry"].contains(&person["mood"].as_str().expect("a string")), "{text}");
    assert!(person["age"].as_u64().is_some_and(|age| age <= 120), "{text}");
    let marks = person["marks"].as_array().expect("an array");
    assert!((1..=3).contains(&marks.len()), "{text}");
    for row in marks {
        let row = row.as_array().expect("an array");
        assert!((1..=2).contains(&row.len()), "{text}");
        assert!(row.iter().all(|mark| mark.as_f64().is_some_and(|mark| (0.0..=10.0).contains(&mark))), "{text}");
    }
}

/// Texts and finish reasons of a whole answer.
#[track_caller]
fn choices(answer: &Answer) -> Vec<(String, String)> {
    assert_eq!(answer.status, 200, "{}", answer.text());
    let body = answer.json();
    let text =
        |choice: &Value| choice["text"].as_str().or(choice["message"]["content"].as_str()).expect("a text").to_owned();
    let reason = |choice: &Value| choice["finish_reason"].as_str().expect("a reason").to_owned();
    body["choices"].as_array().expect("choices").iter().map(|choice| (text(choice), reason(choice))).collect()
}

/// Text and finish reason of a streamed answer with one choice.
fn streamed(answer: &Answer) -> (String, String) {
    let (mut text, mut reason) = (String::new(), String::new());
    for event in answer.events().iter().filter(|event| *event != "[DONE]") {
        let event: Value = serde_json::from_str(event).expect("JSON");
        let choice = &event["choices"][0];
        text += choice["text"].as_str().or(choice["delta"]["content"].as_str()).unwrap_or_default();
        reason = choice["finish_reason"].as_str().map_or(reason, str::to_owned);
    }
    (text, reason)
}

fn with(base: &Value, more: &Value) -> Value {
    let mut body = base.clone();
    body.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
    body
}

/// What a server answers under each kind of constraint, whatever its model would rather say.
fn check_answers(server: &Served, path: &str, base: &Value) {
    let schema = json!({"type": "json_schema", "json_schema": {"name": "person", "strict": true, "schema": person()}});
    for seed in 0..3 {
        let asked =
            with(base, &json!({"response_format": schema, "temperature": 1.5, "seed": seed, "max_tokens": 400}));
        let whole = choices(&server.post(path, &asked));
        assert_eq!(whole[0].1, "stop", "{whole:?}");
        assert_person(&whole[0].0);
        let stream = streamed(&server.post(path, &with(&asked, &json!({"stream": true}))));
        assert_eq!(stream, whole[0], "streamed as whole");
    }
    let two = with(base, &json!({"json_schema": person(), "n": 2, "temperature": 1.5, "seed": 7, "max_tokens": 400}));
    let two = choices(&server.post(path, &two));
    assert!(two.len() == 2 && two[0].0 != two[1].0, "{two:?}");
    two.iter().for_each(|(text, _)| assert_person(text));

    let asked = |more: Value| choices(&server.post(path, &with(base, &more))).remove(0);
    for seed in 0..3 {
        let (text, reason) =
            asked(json!({"guided_regex": "[0-9]{3}-[a-f]{2}(!|\\?)", "temperature": 1.5, "seed": seed}));
        let bytes = text.as_bytes();
        assert!(bytes.len() == 7 && bytes[..3].iter().all(u8::is_ascii_digit) && bytes[3] == b'-', "{text}");
        assert!(bytes[4..6].iter().all(|byte| (b'a'..=b'f').contains(byte)) && b"!?".contains(&bytes[6]), "{text}");
        assert_eq!(reason, "stop");
    }
    let (text, reason) = asked(json!({"guided_choice": ["north", "south by east"], "ignore_eos": true}));
    assert!(["north", "south by east"].contains(&text.as_str()) && reason == "stop", "{text}");
    let (text, _) = asked(json!({"guided_grammar": "start: \"<\" /[a-z]{1,4}/ (\",\" /[a-z]{1,4}/){1,2} \">\""}));
    let inner = text.strip_prefix('<').and_then(|text| text.strip_suffix('>')).unwrap_or_else(|| panic!("{text}"));
    assert!(
        (2..=3).contains(&inner.split(',').count()) && inner.split(',').all(|word| (1..=4).contains(&word.len())),
        "{text}"
    );
    let (text, _) = asked(json!({"grammar": "root ::= word (\", \" word){2}\nword ::= [a-z]{1,3}"}));
    assert!(text.split(", ").count() == 3 && text.split(", ").all(|word| (1..=3).contains(&word.len())), "{text}");
    let (text, reason) = asked(json!({"guided_regex": " b+", "max_tokens": 5}));
    assert!(
        text.starts_with(" b") && text[1..].bytes().all(|byte| byte == b'b'),
        "the space is the answer's own: {text:?}"
    );
    assert!(["length", "stop"].contains(&reason.as_str()));

    let (text, reason) = asked(json!({"json_schema": person(), "max_tokens": 3}));
    assert!(text.starts_with('{') && reason == "length", "{text} {reason}");
    let (text, reason) = asked(json!({"json_schema": person(), "stop": ["\"mood"]}));
    assert!(text.starts_with('{') && !text.contains("mood") && reason == "stop", "{text} {reason}");
    let (text, _) = asked(json!({"response_format": {"type": "text"}, "max_tokens": 2, "json_schema": null}));
    assert!(!text.starts_with('{'), "{text}");
}

#[test]
fn completions_follow_their_format() {
    let server = Served::start(&stories(), &[]);
    check_answers(&server, COMPLETIONS, &json!({"prompt": "Once upon a time", "temperature": 0}));
    // A prefix is kept between a free answer and a constrained one.
    let free = json!({"prompt": "Once upon a time", "temperature": 0, "max_tokens": 20});
    let before = choices(&server.post(COMPLETIONS, &free));
    choices(&server.post(COMPLETIONS, &with(&free, &json!({"guided_regex": "x{2}"}))));
    assert_eq!(choices(&server.post(COMPLETIONS, &free)), before);
}

#[test]
fn chats_follow_their_format() {
    let Some(model) = smollm2() else { return };
    let server = Served::start(&model, &["--context", "1024"]);
    let asked = "Describe a person as JSON with name, mood, age and marks.";
    let base = json!({"messages": [{"role": "user", "content": asked}], "temperature": 0});
    check_answers(&server, CHAT, &base);
    let object = json!({"response_format": {"type": "json_object"}, "max_tokens": 300});
    let (text, reason) = choices(&server.post(CHAT, &with(&base, &object))).remove(0);
    assert!(text.trim_start().starts_with('{'), "{text}");
    if reason == "stop" {
        assert!(serde_json::from_str::<Value>(&text).is_ok_and(|value| value.is_object()), "{text}");
    }
}

/// Tools beside a format: the answer is a call, or what the format allows, and never free text.
#[test]
fn an_answer_is_a_call_or_follows_its_format() {
    let Some(model) = smollm2() else { return };
    let server = Served::start(&model, &["--context", "1024"]);
    let schema = json!({"type": "object", "properties": {"sum": {"type": "integer", "minimum": 0, "maximum": 99}},
        "required": ["sum"], "additionalProperties": false});
    let format = json!({"type": "json_schema", "json_schema": {"name": "sum", "schema": schema}});
    let numbers = json!({"type": "object", "properties": {"a": {"type": "integer", "minimum": 0, "maximum": 9}},
        "required": ["a"], "additionalProperties": false});
    let tool = json!({"type": "function", "function": {"name": "add", "parameters": numbers}});
    let base = json!({"messages": [{"role": "user", "content": "What is one and two?"}], "tools": [tool],
        "response_format": format, "temperature": 0, "max_tokens": 100});
    let message = |more: Value| {
        let answer = server.post(CHAT, &with(&base, &more));
        assert_eq!(answer.status, 200, "{}", answer.text());
        answer.json()["choices"][0]["message"].clone()
    };
    let sums = |message: &Value| {
        let text = message["content"].as_str().expect("a text");
        let value: Value = serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text:?}"));
        assert!(value["sum"].as_u64().is_some_and(|sum| sum <= 99), "{text}");
    };
    let called = |message: &Value| {
        let call = &message["tool_calls"][0]["function"];
        let arguments: Value = serde_json::from_str(call["arguments"].as_str().expect("a call")).expect("JSON");
        assert!(call["name"] == "add" && arguments["a"].as_u64().is_some_and(|a| a <= 9), "{message}");
        assert_eq!(message["content"].as_str().unwrap_or_default(), "", "{message}");
    };
    called(&message(json!({"tool_choice": "required"})));
    sums(&message(json!({"tool_choice": "none"})));
    for seed in 0..4 {
        let message = message(json!({"temperature": 1, "seed": seed}));
        if message["tool_calls"].is_array() { called(&message) } else { sums(&message) }
    }
    // Both are open: the model is led to either by the token that begins it.
    let begin = |text: &str| server.post("/tokenize", &json!({"content": text})).json()["tokens"][0].to_string();
    called(&message(json!({"logit_bias": {begin("<tool_call>"): 100}})));
    sums(&message(json!({"logit_bias": {begin("{"): 30}})));
}

#[test]
fn what_cannot_be_enforced_is_refused() {
    let server = Served::start(&stories(), &[]);
    let schema = "response_format.json_schema.schema";
    let within = |schema: Value| json!({"type": "json_schema", "json_schema": {"schema": schema}});
    for (more, parameter, part) in [
        (
            json!({"response_format": within(json!({"properties": {"a": {"not": {}}}}))}),
            schema,
            "`not` at #/properties/a/not",
        ),
        (
            json!({"json_schema": {"items": {"uniqueItems": true}}}),
            "json_schema",
            "`uniqueItems` at #/items/uniqueItems",
        ),
        (json!({"guided_json": {"type": "string", "pattern": "(?=a)"}}), "guided_json", "`pattern` at #/pattern"),
        (json!({"guided_regex": "(a"}), "guided_regex", "regular expression"),
        (json!({"guided_grammar": "start: b"}), "guided_grammar", "grammar"),
    ] {
        for (path, base) in
            [(COMPLETIONS, json!({"prompt": "a"})), (CHAT, json!({"messages": [{"role": "user", "content": "a"}]}))]
        {
            let answer = server.post(path, &with(&base, &more));
            // The tiny model has no chat template, so that its chats are refused for that.
            if path == COMPLETIONS {
                let message = answer.error(400, Some(parameter), None);
                assert!(message.contains(part), "{message}");
            } else {
                assert_eq!(answer.status, 400);
            }
        }
    }
}

#[test]
fn the_command_line_takes_a_schema_an_expression_or_a_grammar() {
    let scratch = Scratch::new();
    let file = |name: &str, text: &str| {
        let path = scratch.path(name);
        std::fs::write(&path, text).expect("a file");
        path.to_str().expect("UTF-8").to_owned()
    };
    let model = stories().to_str().expect("UTF-8").to_owned();
    let run = |more: &[&str]| {
        let base = ["run", "-m", &model, "--raw", "Once upon a time"];
        satchel(&[&base[..], more].concat())
    };
    let schema = file("person.json", &person().to_string());
    assert_person(&run(&["--schema", &schema, "--seed", "1"]).ok());
    let texts: HashSet<String> =
        ["1", "2", "3"].iter().map(|seed| run(&["--regex", "[a-z]{4}[0-9]", "--seed", seed]).ok()).collect();
    assert!(texts.iter().all(|text| text.len() == 6 && text.as_bytes()[4].is_ascii_digit()), "{texts:?}");
    let grammar = file("ab.lark", "start: \"a\" \"b\"{2,3}\n");
    assert!(["abb\n", "abbb\n"].contains(&run(&["--grammar", &grammar]).ok().as_str()));

    let bad = file("bad.json", r#"{"properties": {"a": {"not": {}}}}"#);
    assert!(run(&["--schema", &bad]).failed(2).contains("`not` at #/properties/a/not"));
    assert!(run(&["--schema", &file("none.json", "{")]).failed(2).contains("not JSON"));
    assert!(run(&["--regex", "(a"]).failed(2).contains("--regex"));
    assert!(run(&["--grammar", &file("bad.lark", "start: b")]).failed(2).contains("bad.lark"));
    run(&["--schema", "no-such-file.json"]).failed(1);
    assert_eq!(run(&["--schema", &schema, "--regex", "a"]).code, Some(2), "one of them at a time");
}

/// gpt-oss's template makes any model's answers come in channels.
#[test]
fn in_channels_tools_go_with_a_format() {
    let Some(model) = smollm2() else { return };
    let template = crate::support::data("chat-templates/openai-gpt-oss-120b.jinja");
    let server = Served::start(&model, &["--chat-template", template.to_str().expect("UTF-8")]);
    let parameters = json!({"type": "object", "additionalProperties": false, "required": ["city", "days"],
        "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "minimum": 1, "maximum": 9}}});
    let verdict = json!({"type": "object", "additionalProperties": false, "required": ["ok", "mood"],
        "properties": {"ok": {"type": "boolean"}, "mood": {"enum": ["glad", "sad"]}}});
    let base = json!({
        "messages": [{"role": "user", "content": "How is the weather in Rome?"}], "temperature": 0, "max_tokens": 300,
        "tools": [{"type": "function", "function": {"name": "weather", "parameters": parameters}}],
        "response_format": {"type": "json_schema", "json_schema": {"name": "verdict", "strict": true, "schema": verdict}},
        // The model does not know the format, so it is led out of its reasoning.
        "thinking_budget_tokens": 12,
    });
    for (choice, calls) in [("auto", false), ("none", false), ("required", true)] {
        let answer = server.post(CHAT, &with(&base, &json!({"tool_choice": choice}))).json();
        let choice = &answer["choices"][0];
        let message = &choice["message"];
        if calls {
            assert_eq!(choice["finish_reason"], "tool_calls", "{answer}");
            let called = &message["tool_calls"][0]["function"];
            let arguments: Value =
                serde_json::from_str(called["arguments"].as_str().expect("arguments")).expect("JSON");
            assert!(
                arguments["city"].is_string() && (1..=9).contains(&arguments["days"].as_i64().expect("days")),
                "{answer}"
            );
            assert!(message["content"].as_str().is_none_or(str::is_empty), "{answer}");
        } else {
            assert_eq!(choice["finish_reason"], "stop", "{answer}");
            let said: Value = serde_json::from_str(message["content"].as_str().expect("text")).expect("JSON");
            assert!(
                said["ok"].is_boolean() && ["glad", "sad"].contains(&said["mood"].as_str().expect("a mood")),
                "{answer}"
            );
        }
    }
}
