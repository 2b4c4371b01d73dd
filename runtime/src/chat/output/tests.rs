use serde_json::{Value, json};

use super::*;
use crate::chat::RenderRequest;
use crate::chat::tools::{Tool, Tools};

fn tools() -> Tools {
    let parameters = json!({"type": "object", "properties": {"city": {"type": "string"}, "days": {"type": "integer"}}});
    let tool = |name: &str| Tool {
        name: name.into(),
        description: None,
        parameters: parameters.clone(),
        strict: false,
        custom: false,
    };
    Tools { list: vec![tool("weather"), tool("time")], ..Tools::default() }
}

/// Parts of an answer that comes in pieces of some bytes.
fn parts(format: &OutputFormat, tools: &Tools, tail: &str, text: &str, whole: bool) -> Vec<Part> {
    let mut seen: Option<Vec<Part>> = None;
    for size in 1..=text.len().max(1) {
        let mut parser = format.parser(tools, tail);
        let mut parts = Vec::new();
        let letters: Vec<char> = text.chars().collect();
        for piece in letters.chunks(size) {
            join(&mut parts, parser.push(&piece.iter().collect::<String>()));
        }
        join(&mut parts, parser.finish(whole));
        match &seen {
            Some(seen) => assert_eq!(seen, &parts, "{text} in pieces of {size}"),
            None => seen = Some(parts),
        }
    }
    seen.unwrap_or_default()
}

fn join(parts: &mut Vec<Part>, more: Vec<Part>) {
    for part in more {
        match (parts.last_mut(), part) {
            (Some(Part::Text(last)), Part::Text(text)) => last.push_str(&text),
            (Some(Part::Reasoning(last)), Part::Reasoning(text)) => last.push_str(&text),
            (_, part) => parts.push(part),
        }
    }
}

fn call(call: usize, name: &str, json: &str) -> [Part; 2] {
    [Part::ToolCall { call, id: None, name: name.into() }, Part::Arguments { call, json: json.into() }]
}

#[test]
fn an_answer_comes_apart_however_it_is_cut() {
    let hermes = OutputFormat::named("hermes").expect("a family");
    let one = r#"<tool_call>{"name": "weather", "arguments": {"city": "</tool_call>"}}</tool_call>"#;
    let [begin, arguments] = call(0, "weather", r#"{"city": "</tool_call>"}"#);
    let said = parts(&hermes, &tools(), "", &format!("<think>\nHm.\n</think>\n\nWait. {one}\n"), true);
    assert_eq!(said, [Part::Reasoning("Hm.".into()), Part::Text("Wait.".into()), begin.clone(), arguments.clone()]);
    // A prompt that has begun the reasoning, and one that has ended it.
    let said = parts(&hermes, &tools(), "<think>\n", "Hm.\n</think>\n\nYes", true);
    assert_eq!(said, [Part::Reasoning("Hm.".into()), Part::Text("Yes".into())]);
    assert_eq!(parts(&hermes, &tools(), "<think>\n\n</think>\n\n", one, true), [begin.clone(), arguments.clone()]);
    // Text between and after calls stays as it is.
    let said = parts(&hermes, &tools(), "", &format!("a {one} b"), true);
    assert_eq!(said, [Part::Text("a".into()), begin.clone(), arguments.clone(), Part::Text("  b".into())]);
    // What is cut off is no call; what the model ended itself is not lost.
    let begun = r#"Well <tool_call>{"name": "weather", "argu"#;
    assert_eq!(parts(&hermes, &tools(), "", begun, false), [Part::Text("Well".into())]);
    assert_eq!(parts(&hermes, &tools(), "", begun, true), [Part::Text(begun.into())]);
    // Without tools a call's marks are text.
    assert_eq!(parts(&hermes, &Tools::default(), "", one, true), [Part::Text(one.into())]);
    assert_eq!(parts(&hermes, &Tools::default(), "", " a \n", true), [Part::Text(" a \n".into())]);
}

#[test]
fn a_call_within_reasoning_counts_if_the_reasoning_never_ends() {
    let qwen = OutputFormat::named("qwen3-coder").expect("a family");
    let call_text = "<tool_call>\n<function=time>\n<parameter=days>\n3\n</parameter>\n</function>\n</tool_call>";
    let [begin, arguments] = call(0, "time", r#"{"days": 3}"#);
    let said = parts(&qwen, &tools(), "<think>\n", &format!("So:\n{call_text}"), true);
    assert_eq!(said, [Part::Reasoning("So:".into()), begin, arguments]);
    let draft = format!("So:\n{call_text}");
    let said = parts(&qwen, &tools(), "<think>\n", &format!("{draft}\n</think>\nNo."), true);
    assert_eq!(said, [Part::Reasoning(draft), Part::Text("No.".into())]);
}

#[test]
fn ids_in_the_text_are_reported() {
    for (family, text, id) in [
        (
            "kimi-k2",
            "<|tool_calls_section_begin|><|tool_call_begin|>functions.time:2<|tool_call_argument_begin|>{}\
            <|tool_call_end|><|tool_calls_section_end|>",
            "functions.time:2",
        ),
        ("mistral", "[TOOL_CALLS]time[CALL_ID]a1b2c3d4e[ARGS]{}", "a1b2c3d4e"),
        ("mistral", r#"[TOOL_CALLS] [{"name": "time", "arguments": {}, "id": "a1b2c3d4e"}]"#, "a1b2c3d4e"),
    ] {
        let said = parts(&OutputFormat::named(family).expect("a family"), &tools(), "", text, true);
        assert_eq!(said[0], Part::ToolCall { call: 0, id: Some(id.into()), name: "time".into() }, "{text}");
    }
}

/// Templates of no family, whose formats differ from all of the table.
#[test]
fn a_format_is_found_by_comparing_renderings() {
    let turn = |calls: &str| {
        format!(
            "{{% if tools %}}{{{{ tools|tojson }}}}{{% endif %}}{{% for m in messages %}}[{{{{ m.role }}}}]{{{{ m.content }}}}\
            {{% if m.tool_calls %}}{calls}{{% endif %}}[end]{{% endfor %}}{{% if add_generation_prompt %}}[assistant]{{% endif %}}"
        )
    };
    for calls in [
        "{% for c in m.tool_calls %}<<do {{ c.function|tojson }} done>>{% endfor %}",
        "@calls({% for c in m.tool_calls %}{% if not loop.first %}, {% endif %}{{ c.function|tojson }}{% endfor %})@",
        "#begin#{% for c in m.tool_calls %}#fn#{{ c.function.name }}#with#{{ c.function.arguments|tojson }}#done#{% endfor %}#end#",
        "{% for c in m.tool_calls %}<do:{{ c.function.name }}>{% for k, v in c.function.arguments|items %}<is:{{ k }}>\
            {{ v }}</is>{% endfor %}</do>\n{% endfor %}",
    ] {
        let source = turn(calls);
        let format = OutputFormat::of(&source, &|_| false);
        assert!(format.takes_tools() && format.name() == "inferred", "{calls}: {format:?}");
        let call_of = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
        let calls_made = json!([
            call_of("1", "weather", r#"{"city": "Rome"}"#),
            call_of("2", "time", r#"{"city": "Oslo", "days": 2}"#)
        ]);
        let mut messages = vec![json!({"role": "assistant", "content": "", "tool_calls": calls_made})];
        format.history(&mut messages);
        let template = ChatTemplate::new(&source, "", "").expect("a template");
        let text = template.render(&RenderRequest { messages, ..RenderRequest::default() }).expect("text");
        let answer = text.strip_prefix("[assistant]").and_then(|text| text.strip_suffix("[end]")).expect("an answer");
        let said = parts(&format, &tools(), "[assistant]", answer, true);
        let expected =
            [call(0, "weather", r#"{"city": "Rome"}"#), call(1, "time", r#"{"city": "Oslo", "days": 2}"#)].concat();
        assert_eq!(said, expected, "{answer}");
    }
}

#[test]
fn a_model_whose_template_knows_no_tools_is_told_in_words() {
    let source = "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}";
    let format = OutputFormat::of(source, &|_| false);
    assert!(!format.takes_tools());
    let result = |text: &str| json!({"role": "tool", "tool_call_id": "x", "content": text});
    let function = json!({"name": "weather", "arguments": "{\"city\": \"Rome\"}"});
    let mut messages = vec![
        json!({"role": "system", "content": "Brief."}),
        json!({"role": "user", "content": "Hi"}),
        json!({"role": "assistant", "content": "", "tool_calls": [{"id": "x", "type": "function", "function": function}]}),
        result("sunny"),
        result("late"),
        json!({"role": "user", "content": "So?"}),
    ];
    format.describe_tools(&tools(), &mut messages);
    format.history(&mut messages);
    let roles: Vec<&str> = messages.iter().filter_map(|message| message["role"].as_str()).collect();
    assert_eq!(roles, ["system", "user", "assistant", "user"]);
    let content = |index: usize| messages[index]["content"].as_str().unwrap_or_default().to_owned();
    assert!(
        content(0).starts_with("Brief.") && content(0).contains("\"weather\"") && content(0).contains("<tool_call>")
    );
    assert_eq!(content(2), "<tool_call>\n{\"name\": \"weather\", \"arguments\": {\"city\": \"Rome\"}}\n</tool_call>");
    assert_eq!(content(3), "<tool_response>\nsunny\n</tool_response>\n<tool_response>\nlate\n</tool_response>\nSo?");
    let [begin, arguments] = call(0, "weather", "{\"city\": \"Rome\"}");
    assert_eq!(parts(&format, &tools(), "", &content(2), true), [begin, arguments]);
}

/// What templates want of earlier messages, as it was found for some of the repository's.
#[test]
fn history_has_the_form_that_the_template_wants() {
    let dir = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/data/chat-templates");
    for (name, check) in [
        ("Qwen-Qwen3-0.6B", "/1/tool_calls/0/function/arguments/city" as &str),
        ("meetkai-functionary-medium-v3.2", "/1/tool_calls/0/function/arguments"),
        ("openai-gpt-oss-120b", "/1/thinking"),
        ("mistralai-Ministral-3-14B-Reasoning-2512", "/1/content/0/thinking"),
    ] {
        let source = std::fs::read_to_string(dir.join(format!("{name}.jinja"))).expect("a template");
        let function = json!({"name": "weather", "arguments": "{\"city\": \"Rome\"}"});
        let mut messages = vec![
            json!({"role": "user", "content": "Hi"}),
            json!({"role": "assistant", "content": "", "reasoning_content": "Hm",
                "tool_calls": [{"id": "call_1234567890", "type": "function", "function": function}]}),
            json!({"role": "tool", "tool_call_id": "call_1234567890", "content": "sunny"}),
        ];
        OutputFormat::of(&source, &|_| false).history(&mut messages);
        let all = Value::from(messages);
        assert!(all.pointer(check).is_some_and(Value::is_string), "{name}: {all}");
        assert_eq!(all[1]["tool_calls"][0]["id"], all[2]["tool_call_id"], "{name}");
        if name.starts_with("mistralai") {
            assert_eq!(
                all[2]["tool_call_id"].as_str().map(str::len),
                Some("call_1234567890".len()),
                "{name} takes any id"
            );
        }
    }
    let nemo = std::fs::read_to_string(dir.join("mistralai-Mistral-Nemo-Instruct-2407.jinja")).expect("a template");
    let call = json!({"id": "call_1234567890", "type": "function", "function": {"name": "a", "arguments": "{}"}});
    let mut messages = vec![json!({"role": "assistant", "content": "", "tool_calls": [call]})];
    OutputFormat::of(&nemo, &|_| false).history(&mut messages);
    assert_eq!(messages[0]["tool_calls"][0]["id"].as_str().map(str::len), Some(9));
}
