//! Fields and options with values that pass and values that are refused, and bodies as clients send them.

use serde_json::{Value, json};

use super::options::Context;
use super::request::{Endpoint, Input, Request};
use crate::chat::thinking::Thinking;
use crate::chat::tools::Tools;
use crate::grammar::Format;
use crate::sampling::SamplingParams;
use crate::server::openai::{ApiError, Baseline};

const CONTEXT: Context = Context { length: 512, shifts: false };

fn parse(endpoint: Endpoint, body: &Value, context: Context) -> Result<Request, ApiError> {
    let baseline =
        Baseline { sampling: SamplingParams::default(), max_tokens: Some(9), vocabulary: 100, tokenizer: None };
    Request::parse(endpoint, body.to_string().as_bytes(), &baseline, context)
}

fn with(mut body: Value, extra: Value) -> Value {
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    body
}

fn chat(extra: Value) -> Result<Request, ApiError> {
    let body = json!({"model": "m:latest", "messages": [{"role": "user", "content": "hi"}]});
    parse(Endpoint::Chat, &with(body, extra), CONTEXT)
}

fn generate(extra: Value) -> Result<Request, ApiError> {
    parse(Endpoint::Generate, &with(json!({"model": "m:latest", "prompt": "hi"}), extra), CONTEXT)
}

fn user(text: &str) -> Value {
    json!({"role": "user", "content": text})
}

#[test]
fn what_would_change_the_answer_is_refused_by_name() {
    for (extra, name) in [
        (json!({"format": "xml"}), "format"),
        (json!({"format": 1}), "format"),
        (json!({"think": 1}), "think"),
        (json!({"think": "hard"}), "think"),
        (json!({"stream": 1}), "stream"),
        (json!({"model": 1}), "model"),
        (json!({"logprobs": true}), "logprobs"),
        (json!({"shift": true}), "shift"),
        (json!({"made_up": 1}), "made_up"),
        (json!({"options": 1}), "options"),
        (json!({"options": {"num_ctx": 513}}), "num_ctx"),
        (json!({"options": {"num_predict": 0}}), "num_predict"),
        (json!({"options": {"num_predict": -3}}), "num_predict"),
        (json!({"options": {"temperature": -1}}), "temperature"),
        (json!({"options": {"top_k": "many"}}), "top_k"),
        (json!({"options": {"mirostat": 2, "mirostat_tau": 5.0}}), "mirostat"),
        (json!({"options": {"tfs_z": 0.5}}), "tfs_z"),
        (json!({"options": {"penalize_newline": false}}), "penalize_newline"),
        (json!({"options": {"stop": [1]}}), "stop"),
        (json!({"options": {"n": 2}}), "n"),
        (json!({"options": {"max_tokens": 2}}), "max_tokens"),
        (json!({"options": {"stream": false}}), "stream"),
        (json!({"options": {"rope_frequency_base": 1e6}}), "rope_frequency_base"),
    ] {
        for error in [chat(extra.clone()).expect_err(name), generate(extra.clone()).expect_err(name)] {
            assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{extra}: {}", error.message);
            assert!(error.message.contains(&format!("`{name}`")), "{}", error.message);
        }
    }
}

#[test]
fn each_endpoint_has_its_own_fields() {
    for (extra, name) in [
        (json!({"tools": {"type": "function"}}), "tools"),
        (json!({"tools": [{"type": "function"}]}), "tools[0].function"),
        (json!({"think": "hard"}), "think"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": [{"role": "user", "content": "hi", "images": ["aGk="]}]}), "messages[0].images"),
        (json!({"prompt": "hi"}), "prompt"),
    ] {
        assert_eq!(chat(extra).expect_err(name).param.as_deref(), Some(name));
    }
    for (extra, name) in [
        (json!({"images": ["aGk="]}), "images"),
        (json!({"suffix": "end"}), "suffix"),
        (json!({"template": "{{ .Prompt }}"}), "template"),
        (json!({"context": [1, 2]}), "context"),
        (json!({"raw": true, "system": "be brief"}), "system"),
        (json!({"prompt": 1}), "prompt"),
        (json!({"messages": []}), ""),
    ] {
        match generate(extra).map_err(|error| error.param) {
            Err(found) => assert_eq!(found.as_deref(), Some(if name.is_empty() { "messages" } else { name })),
            Ok(_) => panic!("{name} was taken"),
        }
    }
}

#[test]
fn what_cannot_change_the_answer_passes() {
    let plain = chat(json!({})).unwrap();
    assert!(plain.common.stream, "streaming is the default");
    let sent = json!({
        "keep_alive": "5m", "format": "", "tools": [], "truncate": true, "shift": false, "logprobs": false, "think": null,
        "options": {
            "num_ctx": 512, "num_batch": 512, "num_gpu": 0, "num_thread": 4, "use_mmap": true, "num_keep": 4, "mirostat": 0,
            "mirostat_tau": 5.0, "mirostat_eta": 0.1, "tfs_z": 1, "penalize_newline": true, "seed": -1, "stop": [],
            "temperature": null,
        },
    });
    let same = chat(sent).unwrap();
    assert_eq!((&same.common, &same.input), (&plain.common, &plain.input));
    assert_eq!(same.thinking, Thinking::default());
    let shifting =
        parse(Endpoint::Chat, &json!({"shift": true, "options": {"num_keep": 4}}), Context { shifts: true, ..CONTEXT });
    assert_eq!(shifting.expect_err("kept is the system prompt").param.as_deref(), Some("num_keep"));
}

#[test]
fn tools_thinking_and_format_are_read() {
    let function = json!({"name": "add", "parameters": {"type": "object", "properties": {"x": {"type": "number"}}}});
    let sent = json!({"tools": [{"type": "function", "function": function}], "think": "low"});
    let request = chat(sent).unwrap();
    let Input::Messages(_, tools) = &request.input else { panic!("a conversation") };
    assert_eq!((tools.list[0].name.as_str(), &tools.list[0].parameters), ("add", &function["parameters"]));
    assert_eq!(request.thinking, Thinking::of_effort("low".into()));
    assert_eq!(chat(json!({"think": false})).unwrap().thinking.enabled, Some(false));
    let format = |format: Value| generate(json!({ "format": format })).unwrap().common.format.map(|asked| asked.format);
    assert_eq!(format(json!("json")), Some(Format::any_object()));
    assert_eq!(format(function["parameters"].clone()), Some(Format::Schema(function["parameters"].clone())));
}

#[test]
fn options_are_those_of_the_table() {
    let options = json!({"options": {
        "temperature": 0.5, "top_k": 3, "top_p": 0.9, "min_p": 0.1, "typical_p": 0.8, "repeat_penalty": 1.1,
        "repeat_last_n": -1, "presence_penalty": 0.5, "frequency_penalty": 0.25, "seed": 7, "num_predict": 4,
        "stop": ["a", "b"],
    }});
    let common = generate(options).unwrap().common;
    let sampling = &common.sampling;
    assert_eq!((sampling.temperature, sampling.top_k, sampling.seed), (0.5, 3, Some(7)));
    assert_eq!((sampling.repeat_last_n, sampling.frequency_penalty), (usize::MAX, 0.25));
    assert_eq!((common.max_tokens, common.stop), (Some(4), vec!["a".to_owned(), "b".to_owned()]));
    let limit = |tokens: i64| generate(json!({"options": {"num_predict": tokens}})).unwrap().common.max_tokens;
    assert_eq!((limit(-1), limit(-2), generate(json!({})).unwrap().common.max_tokens), (None, None, Some(9)));
}

#[test]
fn prompts_are_conversations_unless_raw() {
    assert_eq!(generate(json!({"stream": false})).unwrap().input, Input::Messages(vec![user("hi")], Tools::default()));
    let system = json!({"role": "system", "content": "be brief"});
    let prompt = generate(json!({"system": "be brief", "images": [], "context": [], "suffix": ""})).unwrap();
    assert_eq!(prompt.input, Input::Messages(vec![system, user("hi")], Tools::default()));
    assert_eq!(generate(json!({"raw": true})).unwrap().input, Input::Raw("hi".into()));
}

#[test]
fn messages_have_ollamas_names() {
    let sent = json!([
        {"role": "user", "content": "hi", "images": [], "tool_calls": null},
        {"role": "assistant", "content": "hello", "thinking": "hm"},
        {"role": "assistant"},
        {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"x": 1}}}]},
        {"role": "tool", "tool_name": "add", "content": "1"},
    ]);
    let call = json!({"id": "call_0", "type": "function", "function": {"name": "add", "arguments": "{\"x\":1}"}});
    let read = [
        user("hi"),
        json!({"role": "assistant", "content": "hello", "reasoning_content": "hm"}),
        json!({"role": "assistant", "content": ""}),
        json!({"role": "assistant", "content": "", "tool_calls": [call]}),
        json!({"role": "tool", "content": "1", "name": "add", "tool_call_id": "call_0"}),
    ];
    assert_eq!(chat(json!({"messages": sent})).unwrap().input, Input::Messages(read.to_vec(), Tools::default()));
}

#[test]
fn a_request_without_a_prompt_loads_or_unloads() {
    for (keep_alive, unload) in [
        (json!(0), true),
        (json!("0"), true),
        (json!("0s"), true),
        (json!("10m"), false),
        (json!(-1), false),
        (Value::Null, false),
    ] {
        let nothing = Input::Nothing { unload };
        assert_eq!(generate(json!({"prompt": "", "keep_alive": keep_alive})).unwrap().input, nothing, "{keep_alive}");
        assert_eq!(chat(json!({"messages": [], "keep_alive": keep_alive})).unwrap().input, nothing, "{keep_alive}");
    }
}
