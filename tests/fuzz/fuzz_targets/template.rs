//! Arbitrary text as a chat template, with arbitrary JSON as its variables: rendering must end soon, within its limits, and
//! errors must be one line. A panic in the template engine counts, although the program would survive it.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use satchel::chat::{ChatTemplate, RenderRequest};
use serde_json::Value;

/// Separates the template from the JSON object after it.
const DIVIDER: char = '\0';

fuzz_target!(init: seeds::write(make_seeds()), |input: &[u8]| {
    let Ok(text) = std::str::from_utf8(input) else { return };
    let (source, json) = text.split_once(DIVIDER).unwrap_or((text, ""));
    let mut request = RenderRequest { add_generation_prompt: true, ..RenderRequest::default() };
    match serde_json::from_str(json) {
        Ok(Value::Object(mut object)) => {
            if let Some(Value::Array(messages)) = object.remove("messages") {
                request.messages = messages;
            }
            request.tools = object.remove("tools");
            request.extra = object;
        }
        Ok(Value::Array(messages)) => request.messages = messages,
        _ => {}
    }
    match ChatTemplate::new(source, "<s>", "</s>").and_then(|template| template.render(&request)) {
        Ok(text) => assert!(text.chars().count() <= 16 << 20, "{} bytes", text.len()),
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "one line, safe on a terminal: {line:?}");
        }
    }
});

/// Real models' templates with a conversation each, and one that uses features they do not.
fn make_seeds() -> Vec<Vec<u8>> {
    let talk = r#"{"messages": [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Hi"},
        {"role": "assistant", "content": "Hello.", "tool_calls": [{"id": "a12345678", "type": "function",
        "function": {"name": "f", "arguments": {"x": [1, 2.5, null, true]}}}]}, {"role": "tool", "content": "1"}],
        "tools": [{"type": "function", "function": {"name": "f", "description": "d", "parameters": {"type": "object"}}}]}"#;
    let small = "{%- set ns = namespace(a=1, b='') -%}{% macro m(x, y=2) %}{{ x ~ y * 3 }}{% endmacro %}\
        {% for a in range(5) if a != 2 recursive %}{% if loop.first %}{% continue %}{% elif a is odd %}{{ m(a, y='é') }}\
        {% else %}{% set ns.b = ns.b + 'x'[::-1] %}{% endif %}{% endfor %}{{ [1, (2,), {'k': none}] | tojson(indent=2) }}\
        {% call(z) m(1) %}{{ z }}{% endcall %}{{ ' a b '.strip().split(' ', 1) | join('-') | replace('a', 'b') | indent(2) }}\
        {{ strftime_now('%d %b %Y') }}{{ '%s %05.1f' | format('a', 2) }}{{ '{0:>5}'.format(3) }}{{ ns.b[0:2] }}\
        {{ 'abc'.partition('b') }}{{ 'a\nb'.splitlines() }}{{ 7 // 2 ** 2 % 3 }}{% generation %}{% endgeneration %}";
    let real = [
        include_str!("../../data/chat-templates/Qwen3-Coder.jinja"),
        include_str!("../../data/chat-templates/openai-gpt-oss-120b.jinja"),
        include_str!("../../data/chat-templates/mistralai-Mistral-Nemo-Instruct-2407.jinja"),
        include_str!("../../data/chat-templates/microsoft-Phi-3.5-mini-instruct.jinja"),
        small,
    ];
    real.iter().map(|source| format!("{source}{DIVIDER}{talk}").into_bytes()).collect()
}
