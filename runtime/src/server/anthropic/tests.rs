//! Bodies as clients send them, and every field with values that pass and values that are refused.

use serde_json::{Value, json};

use super::request::Request;
use super::thought::signature;
use crate::chat::thinking::Thinking;
use crate::chat::tools::ToolChoice;
use crate::grammar::Format;
use crate::sampling::SamplingParams;
use crate::server::openai::{ApiError, Baseline};

fn parse(body: &Value) -> Result<Request, ApiError> {
    let baseline =
        Baseline { sampling: SamplingParams::default(), max_tokens: Some(9), vocabulary: 100, tokenizer: None };
    Request::parse(body.to_string().as_bytes(), &baseline)
}

fn with(extra: Value) -> Value {
    let mut body = json!({"model": "m", "max_tokens": 16, "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
    body
}

fn sent(extra: Value) -> Result<Request, ApiError> {
    parse(&with(extra))
}

fn tool(name: &str) -> Value {
    json!({"name": name, "input_schema": {"type": "object", "properties": {"x": {"type": "string"}}}})
}

/// The messages that these become.
fn read(messages: Value) -> Vec<Value> {
    sent(json!({ "messages": messages })).expect("messages").messages
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[test]
fn what_would_change_the_answer_is_refused_by_its_path() {
    let message = |content: Value| json!({"messages": [{"role": "user", "content": content}]});
    let block = |block: Value| message(json!([{"type": "text", "text": "a"}, block]));
    let assistant = |block: Value| json!({"messages": [{"role": "assistant", "content": [block]}, user("hi")]});
    let with_tool = |extra: Value| {
        let mut tool = tool("f");
        tool.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        json!({"tools": [tool]})
    };
    for (extra, at) in [
        (json!({"made_up": 1}), "made_up"),
        (json!({"model": 1}), "model"),
        (json!({"max_tokens": 0}), "max_tokens"),
        (json!({"stream": "yes"}), "stream"),
        (json!({"temperature": -1}), "temperature"),
        (json!({"top_k": "many"}), "top_k"),
        (json!({"top_p": 2}), "top_p"),
        (json!({"stop_sequences": "END"}), "stop_sequences"),
        (json!({"stop_sequences": [""]}), "stop_sequences"),
        (json!({"stop": ["END"]}), "stop"),
        (json!({"n": 2}), "n"),
        (json!({"mcp_servers": [{"url": "http://x"}]}), "mcp_servers"),
        (json!({"thread": {"id": "t"}}), "thread"),
        (json!({"system": 1}), "system"),
        (json!({"system": [{"type": "image"}]}), "system[0]"),
        (json!({"system": [{"type": "text"}]}), "system[0].text"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": [1]}), "messages[0]"),
        (json!({"messages": [{"role": "tool", "content": "a"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": "a", "name": "b"}]}), "messages[0].name"),
        (json!({"messages": [{"role": "system", "content": "a"}]}), "messages"),
        (message(json!(1)), "messages[0].content"),
        (block(json!({})), "messages[0].content[1]"),
        (block(json!({"type": "image", "source": {}})), "messages[0].content[1]"),
        (block(json!({"type": "document", "source": {}})), "messages[0].content[1]"),
        (block(json!({"type": "text", "text": 1})), "messages[0].content[1].text"),
        (block(json!({"type": "text", "text": "a", "made_up": 1})), "messages[0].content[1].made_up"),
        (block(json!({"type": "tool_use", "id": "a", "name": "f", "input": {}})), "messages[0].content[1]"),
        (block(json!({"type": "tool_result"})), "messages[0].content[1].tool_use_id"),
        (
            block(json!({"type": "tool_result", "tool_use_id": "a", "content": [{"type": "image"}]})),
            "messages[0].content[1].content[0]",
        ),
        (
            block(json!({"type": "tool_result", "tool_use_id": "a", "is_error": "no"})),
            "messages[0].content[1].is_error",
        ),
        (assistant(json!({"type": "tool_use", "id": "a", "name": "f"})), "messages[0].content[0].input"),
        (assistant(json!({"type": "server_tool_use", "id": "a"})), "messages[0].content[0]"),
        (json!({"thinking": {"type": "between_tools"}}), "thinking.type"),
        (json!({"thinking": {"type": "enabled"}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "enabled", "budget_tokens": 0}}), "thinking.budget_tokens"),
        (json!({"thinking": {"type": "adaptive", "display": "loud"}}), "thinking.display"),
        (json!({"output_config": {"effort": "some"}}), "output_config.effort"),
        (json!({"output_config": {"task_budget": {"total": 1}}}), "output_config.task_budget"),
        (json!({"output_config": {"format": {"type": "xml"}}}), "output_config.format.type"),
        (json!({"output_format": {"type": "json_schema"}}), "output_format.schema"),
        (json!({"tools": {}}), "tools"),
        (json!({"tools": [1]}), "tools[0]"),
        (json!({"tools": [{"name": "f"}]}), "tools[0].input_schema"),
        (json!({"tools": [tool("f"), tool("f")]}), "tools[1]"),
        (json!({"tools": [{"type": "web_search_20250305", "name": "web_search"}]}), "tools[0].type"),
        (json!({"tools": [{"type": "computer_20250124", "name": "computer"}]}), "tools[0].type"),
        (with_tool(json!({"name": "a b"})), "tools[0].name"),
        (with_tool(json!({"input_schema": {"type": "array"}})), "tools[0].input_schema"),
        (with_tool(json!({"allowed_callers": ["code_execution_20250825"]})), "tools[0].allowed_callers"),
        (with_tool(json!({"made_up": 1})), "tools[0].made_up"),
        (json!({"tool_choice": {"type": "any"}}), "tool_choice"),
        (json!({"tool_choice": "auto"}), "tool_choice"),
        (json!({"tool_choice": {"type": "some"}}), "tool_choice.type"),
        (json!({"tools": [tool("f")], "tool_choice": {"type": "tool"}}), "tool_choice.name"),
        (json!({"tools": [tool("f")], "tool_choice": {"type": "tool", "name": "g"}}), "tool_choice.name"),
        (
            json!({"tools": [tool("f")], "tool_choice": {"type": "auto", "disable_parallel_tool_use": 1}}),
            "tool_choice.disable_parallel_tool_use",
        ),
    ] {
        let error = sent(extra.clone()).expect_err(at);
        assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{extra}: {}", error.message);
        assert!(error.message.contains(&format!("`{at}`")), "{}", error.message);
    }
}

#[test]
fn what_cannot_change_the_answer_passes() {
    let plain = sent(json!({})).expect("a request");
    let same = sent(json!({
        "metadata": {"user_id": "a"}, "service_tier": "auto", "betas": ["x-2025-01-01"], "container": "c", "tools": [],
        "cache_control": {"type": "ephemeral"}, "context_management": {"edits": [{"type": "clear_tool_uses_20250919"}]},
        "mcp_servers": [], "inference_geo": "us", "diagnostics": {"previous_message_id": null}, "thinking": null,
        "stop_sequences": [], "output_config": {}, "system": "", "tool_choice": {"type": "auto"},
        "messages": [{"role": "user", "content": [
            {"type": "text", "text": "hi", "cache_control": {"type": "ephemeral", "ttl": "1h"}, "citations": null},
        ]}],
    }))
    .expect("a request");
    assert_eq!((&same.common, &same.messages, &same.tools), (&plain.common, &plain.messages, &plain.tools));
    assert_eq!((same.thinking, same.prefill), (Thinking::default(), None));
}

#[test]
fn parameters_have_this_apis_names() {
    let sent = sent(json!({
        "temperature": 0.5, "top_k": 3, "top_p": 0.9, "stop_sequences": ["END", "\n\n"], "max_tokens": 7, "stream": true,
    }));
    let common = sent.expect("a request").common;
    assert_eq!((common.sampling.temperature, common.sampling.top_k), (0.5, 3));
    assert_eq!((common.max_tokens, common.stream), (Some(7), true));
    assert_eq!(common.stop, ["END", "\n\n"]);
}

#[test]
fn a_system_prompt_is_the_same_at_every_turn() {
    let system = |system: Value| sent(json!({ "system": system })).expect("a request").messages[0].clone();
    let wanted = json!({"role": "system", "content": "Be brief.\nAnd kind."});
    assert_eq!(system(json!("Be brief.\nAnd kind.")), wanted);
    for turn in ["cch=1", "cch=2"] {
        let billing = format!("x-anthropic-billing-header: cc_version=2.1; {turn};");
        let text = |text: &str| json!({"type": "text", "text": text, "cache_control": {"type": "ephemeral"}});
        assert_eq!(system(json!([text(&billing), text("Be brief."), text("And kind.")])), wanted);
        assert_eq!(system(json!(format!("{billing}\nBe brief.\nAnd kind."))), wanted);
    }
    let alone = json!([{"type": "text", "text": "x-anthropic-billing-header: a"}]);
    assert_eq!(system(alone), user("hi"), "no system message is left");
}

#[test]
fn blocks_become_messages_as_templates_know_them() {
    let text = |text: &str| json!({"type": "text", "text": text});
    let result = |id: &str, content: Value| json!({"type": "tool_result", "tool_use_id": id, "content": content});
    let mut failed = result("b", json!("no such file"));
    failed["is_error"] = true.into();
    let messages = json!([
        {"role": "user", "content": [text("one"), text("two")]},
        {"role": "user", "content": "three"},
        {"role": "assistant", "content": [
            {"type": "thinking", "thinking": "hm", "signature": "other"},
            {"type": "redacted_thinking", "data": "secret"},
            text("Let me see."),
            {"type": "tool_use", "id": "a", "name": "f", "input": {"x": "1"}, "caller": {"type": "direct"}},
            {"type": "tool_use", "id": "b", "name": "g", "input": {}},
        ]},
        {"role": "user", "content": [result("a", json!([text("1"), text("2")])), failed, text("Go on.")]},
    ]);
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let wanted = [
        user("one\ntwo\nthree"),
        json!({"role": "assistant", "content": "Let me see.", "reasoning_content": "hm",
               "tool_calls": [call("a", "f", "{\"x\":\"1\"}"), call("b", "g", "{}")]}),
        json!({"role": "tool", "content": "1\n2", "tool_call_id": "a", "name": "f"}),
        json!({"role": "tool", "content": "Error: no such file", "tool_call_id": "b", "name": "g"}),
        user("Go on."),
    ];
    assert_eq!(read(messages), wanted);
    let said = result("c", json!("<error>gone</error>"));
    assert_eq!(read(json!([{"role": "user", "content": [said]}]))[0]["content"], "<error>gone</error>");
    assert_eq!(
        read(json!([{"role": "user", "content": [{"type": "tool_result", "tool_use_id": "d"}]}]))[0],
        json!({"role": "tool", "content": "", "tool_call_id": "d"})
    );
}

#[test]
fn turns_of_the_assistant_are_joined_and_hidden_thoughts_come_back() {
    let hidden = json!({"type": "thinking", "thinking": "", "signature": signature("I know.", false)});
    let messages = json!([
        user("hi"),
        {"role": "assistant", "content": [hidden]},
        {"role": "assistant", "content": "Hello"},
        {"role": "assistant", "content": [{"type": "tool_use", "id": "a", "name": "f", "input": {}}]},
        user("so"),
    ]);
    let read = read(messages);
    assert_eq!((&read[1]["content"], &read[1]["reasoning_content"]), (&json!("Hello"), &json!("I know.")));
    assert_eq!((read.len(), read[1]["tool_calls"].as_array().map(Vec::len)), (3, Some(1)));
}

#[test]
fn system_messages_amid_a_conversation_are_said_in_the_users_turn() {
    let system = |text: &str| json!({"role": "system", "content": [{"type": "text", "text": text}]});
    let mut passing = system("Only now.");
    passing["clear_at"] = "next_user_message".into();
    let first = sent(json!({"system": "One.", "messages": [system("Two."), user("hi")]})).expect("a request");
    assert_eq!(first.messages, [json!({"role": "system", "content": "One.\nTwo."}), user("hi")]);
    let amid = [user("hi"), system("Note."), passing.clone()];
    assert_eq!(read(json!(amid)), [user("hi\n<system>\nNote.\n</system>\n<system>\nOnly now.\n</system>")]);
    let later = json!([user("hi"), system("Note."), passing, {"role": "assistant", "content": "yes"}, user("so")]);
    assert_eq!(read(later)[0], user("hi\n<system>\nNote.\n</system>"));
    let asking = json!({"role": "system", "content": [], "output_config": {"effort": "low"}});
    let sent = sent(json!({"messages": [user("hi"), asking], "output_config": {"effort": "high"}})).expect("a request");
    assert_eq!(sent.thinking.effort.as_deref(), Some("low"));
}

#[test]
fn a_last_message_of_the_assistant_begins_the_answer() {
    let prefilled = |content: Value, extra: Value| {
        let mut body = json!({"messages": [user("hi"), {"role": "assistant", "content": content}]});
        body.as_object_mut().expect("an object").extend(extra.as_object().expect("an object").clone());
        sent(body)
    };
    let request = prefilled(json!([{"type": "text", "text": "{\"a\":"}]), json!({})).expect("a request");
    assert_eq!((request.prefill.as_deref(), request.messages), (Some("{\"a\":"), vec![user("hi")]));
    assert_eq!(prefilled(json!(""), json!({})).expect("a request").prefill, None);
    let call = json!([{"type": "tool_use", "id": "a", "name": "f", "input": {}}]);
    let error = prefilled(call, json!({})).expect_err("a call cannot go on");
    assert_eq!(error.param.as_deref(), Some("messages[1].content[0]"));
    for extra in [
        json!({"tools": [tool("f")], "tool_choice": {"type": "any"}}),
        json!({"output_config": {"format": {"type": "json_schema", "schema": {"type": "object"}}}}),
    ] {
        let error = prefilled(json!("a"), extra).expect_err("both");
        assert_eq!(error.param.as_deref(), Some("messages"));
    }
}

#[test]
fn tools_and_choices_are_read() {
    let choice =
        |choice: Value| sent(json!({"tools": [tool("f"), tool("g")], "tool_choice": choice})).expect("tools").tools;
    for (kind, wanted) in [("auto", ToolChoice::Auto), ("any", ToolChoice::Required), ("none", ToolChoice::None)] {
        let tools = choice(json!({"type": kind, "disable_parallel_tool_use": kind == "any"}));
        assert_eq!((&tools.choice, tools.parallel), (&wanted, kind != "any"));
        assert_eq!(tools.list[0].parameters, tool("f")["input_schema"]);
    }
    assert_eq!(choice(json!({"type": "tool", "name": "g"})).choice, ToolChoice::Named("g".into()));
    let mut full = tool("f");
    full["description"] = "Does f.".into();
    full["strict"] = true.into();
    full["type"] = "custom".into();
    full["eager_input_streaming"] = true.into();
    full["input_examples"] = json!([{"x": "1"}]);
    let bash = json!({"type": "bash_20250124", "name": "bash"});
    let editor = json!({"type": "text_editor_20250728", "name": "str_replace_based_edit_tool", "max_characters": 1000});
    let tools = sent(json!({"tools": [full, bash, editor]})).expect("tools").tools;
    assert!(tools.list[0].strict);
    assert_eq!(tools.list[0].description.as_deref(), Some("Does f.\n\nExamples of its input:\n- {\"x\":\"1\"}"));
    assert_eq!(tools.list[1].parameters["properties"]["command"]["type"], "string");
    assert_eq!(tools.list[2].parameters["properties"]["command"]["enum"].as_array().map(Vec::len), Some(4));
}

#[test]
fn deferred_tools_are_offered_once_the_conversation_refers_to_them() {
    let mut deferred = tool("late");
    deferred["defer_loading"] = true.into();
    let names = |messages: Value| {
        let request = sent(json!({"tools": [tool("f"), deferred], "messages": messages})).expect("tools");
        request.tools.list.into_iter().map(|tool| tool.name).collect::<Vec<_>>()
    };
    let found = json!([{"type": "tool_reference", "tool_name": "late"}]);
    let found = json!({"role": "user", "content": [{"type": "tool_result", "tool_use_id": "a", "content": found}]});
    let change = |kind: &str, name: &str| {
        let tool = json!({"type": "tool_reference", "name": name});
        json!({"role": "system", "content": [{"type": kind, "tool": tool}]})
    };
    assert_eq!(names(json!([user("hi")])), ["f"]);
    assert_eq!(names(json!([user("hi"), found])), ["f", "late"]);
    assert_eq!(names(json!([user("hi"), change("tool_addition", "late"), change("tool_removal", "f")])), ["late"]);
    assert_eq!(names(json!([user("hi"), found, change("tool_removal", "late")])), ["f"]);
}

#[test]
fn thinking_effort_and_format_are_read() {
    let thinking = |extra: Value| sent(extra).expect("a request").thinking;
    let enabled = Thinking { enabled: Some(true), effort: None, budget: Some(2048) };
    assert_eq!(thinking(json!({"thinking": {"type": "enabled", "budget_tokens": 2048}})), enabled);
    let high = json!({"thinking": {"type": "adaptive", "display": "omitted"}, "output_config": {"effort": "high"}});
    assert!(!sent(high.clone()).expect("a request").shows_thinking);
    assert_eq!(thinking(high), Thinking { enabled: Some(true), effort: Some("high".into()), budget: None });
    let off = json!({"thinking": {"type": "disabled"}, "output_config": {"effort": "high"}});
    assert_eq!(thinking(off), Thinking { enabled: Some(false), effort: None, budget: None });
    let schema = json!({"type": "object", "properties": {"a": {"type": "string"}}});
    let format = json!({"type": "json_schema", "schema": schema});
    for extra in [json!({"output_config": {"format": format}}), json!({"output_format": format})] {
        let asked = sent(extra).expect("a request").common.format.expect("a format");
        assert_eq!(asked.format, Format::Schema(schema.clone()));
    }
}

/// What Claude Code 2.1 sends, shortened: a first turn, and one after a call.
#[test]
fn bodies_of_claude_code_are_taken() {
    let cached = json!({"type": "ephemeral"});
    let first = json!([
        {"role": "user", "content": [
            {"type": "text", "text": "<system-reminder>\nA.\n</system-reminder>\n"},
            {"type": "text", "text": "Read note.txt", "cache_control": cached},
        ]},
        {"role": "system", "content": [{"type": "text", "text": "# Environment"}]},
    ]);
    let mut second = first.as_array().expect("messages").clone();
    second[1] = json!({"role": "system", "content": "# Environment"});
    let input = json!({"file_path": "/w/note.txt"});
    second.push(json!({"role": "assistant", "content": [
        {"type": "thinking", "thinking": "", "signature": signature("I read it.", false)},
        {"type": "tool_use", "id": "toolu_1", "name": "Read", "input": input},
    ]}));
    second.push(json!({"role": "user", "content": [
        {"type": "tool_result", "tool_use_id": "toolu_1", "content": "1\thello", "cache_control": cached},
    ]}));
    let mut placeholder = tool("DeferredToolPlaceholder");
    placeholder["defer_loading"] = true.into();
    let body = |messages: Value, turn: usize| {
        let billing = format!("x-anthropic-billing-header: cc_version=2.1.332.{turn}; cc_entrypoint=sdk-cli;");
        json!({
            "model": "m", "messages": messages, "max_tokens": 32000, "stream": true,
            "system": [
                {"type": "text", "text": billing},
                {"type": "text", "text": "You are an agent.", "cache_control": cached},
            ],
            "tools": [tool("Read"), placeholder],
            "metadata": {"user_id": "{\"session_id\":\"s\"}"},
            "thinking": {"type": "adaptive", "display": "omitted"},
            "context_management": {"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
            "output_config": {"effort": "high"},
        })
    };
    let (one, two) = (parse(&body(first, 1)).expect("a request"), parse(&body(json!(second), 2)).expect("a request"));
    assert_eq!(one.messages[..2], two.messages[..2], "the second turn begins as the first");
    assert_eq!((one.messages.len(), one.tools.list.len(), &one.tools), (2, 1, &two.tools));
    assert_eq!(two.messages[2]["reasoning_content"], "I read it.");
    assert_eq!(two.messages[3]["name"], "Read");
}
