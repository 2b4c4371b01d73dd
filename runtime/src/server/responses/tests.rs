//! Forms of requests, and the order of events.

use std::sync::Arc;

use serde_json::{Value, json};

use super::dialect::{Form, Keeping, Responses};
use super::object::Object;
use super::request::Request;
use super::store::Store;
use crate::chat::tools::ToolChoice;
use crate::grammar::Format;
use crate::sampling::SamplingParams;
use crate::server::access::Caller;
use crate::server::dialect::{Choice, Delta, Dialect};
use crate::server::openai::{ApiError, Baseline, Tally};
use crate::session::StopReason;

fn parse(body: Value) -> Result<Request, ApiError> {
    let baseline = Baseline { sampling: SamplingParams::default(), max_tokens: None, vocabulary: 100, tokenizer: None };
    Request::parse(body.to_string().as_bytes(), &baseline)
}

/// The request with `input: "hi"` and these fields.
fn with(fields: Value) -> Result<Request, ApiError> {
    let mut body = json!({"model": "m", "input": "hi"});
    for (name, value) in fields.as_object().expect("an object") {
        body[name] = value.clone();
    }
    parse(body)
}

fn messages(input: Value) -> Result<Vec<Value>, ApiError> {
    parse(json!({ "input": input }))?.messages(&[])
}

fn function(name: &str) -> Value {
    json!({"type": "function", "name": name, "parameters": {"type": "object", "properties": {}}, "strict": false})
}

fn namespace(name: &str, tools: Value) -> Value {
    json!({"type": "namespace", "name": name, "description": format!("About {name}."), "tools": tools})
}

#[test]
fn items_of_one_turn_become_one_message_and_adjoining_ones_are_joined() {
    let request = parse(json!({"instructions": "Be brief.", "input": [
        {"role": "developer", "content": [{"type": "input_text", "text": "Use tools."}]},
        {"type": "message", "role": "user", "content": "One."},
        {"type": "message", "id": "msg_1", "role": "user", "status": "completed",
         "content": [{"type": "input_text", "text": "T"}, {"type": "input_text", "text": "wo."}]},
        {"type": "reasoning", "id": "rs_1", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm."}]},
        {"type": "message", "role": "assistant", "content": [{"type": "output_text", "text": "Let me see.", "annotations": []}]},
        {"type": "function_call", "id": "fc_1", "call_id": "a", "name": "look", "namespace": "web", "arguments": "{\"x\":1}"},
        {"type": "custom_tool_call", "call_id": "b", "name": "patch", "input": "*** \"x\""},
        {"type": "function_call_output", "call_id": "a", "output": "3"},
        {"type": "custom_tool_call_output", "call_id": "b", "output": [{"type": "input_text", "text": "done"}]},
        {"role": "assistant", "content": "So."},
        {"role": "user", "content": "Thanks."},
    ]}))
    .expect("a request");
    let call = |id: &str, name: &str, arguments: &str| json!({"id": id, "type": "function", "function": {"name": name, "arguments": arguments}});
    let wanted = [
        json!({"role": "system", "content": "Be brief.\n\nUse tools."}),
        json!({"role": "user", "content": "One.\n\nTwo."}),
        json!({"role": "assistant", "content": "Let me see.", "reasoning_content": "Hm.",
               "tool_calls": [call("a", "web__look", "{\"x\":1}"), call("b", "patch", "{\"input\":\"*** \\\"x\\\"\"}")]}),
        json!({"role": "tool", "tool_call_id": "a", "content": "3"}),
        json!({"role": "tool", "tool_call_id": "b", "content": "done"}),
        json!({"role": "assistant", "content": "So."}),
        json!({"role": "user", "content": "Thanks."}),
    ];
    assert_eq!(request.messages(&[]).expect("messages"), wanted);
    // The form that every template reads.
    assert!(crate::chat::message::read_messages(Some(wanted.to_vec().into())).is_ok());
}

#[test]
fn earlier_items_come_between_instructions_and_input() {
    let request = with(json!({"instructions": "New.", "previous_response_id": "resp_1"})).expect("a request");
    let earlier: Vec<Arc<Value>> =
        [json!({"role": "user", "content": "a"}), json!({"role": "assistant", "content": "b"})].map(Arc::new).into();
    let roles: Vec<Value> =
        request.messages(&earlier).expect("messages").iter().map(|m| m["content"].clone()).collect();
    assert_eq!(roles, ["New.", "a", "b", "hi"]);
}

#[test]
fn reasoning_comes_back_as_it_was_issued() {
    let sealed = super::items::seal("Hm, é.");
    for item in [
        json!({"type": "reasoning", "id": "rs", "summary": [], "encrypted_content": sealed}),
        json!({"type": "reasoning", "summary": [{"type": "summary_text", "text": "Hm, é."}], "encrypted_content": "gAAA"}),
        json!({"type": "reasoning", "summary": [], "content": [{"type": "reasoning_text", "text": "Hm, é."}]}),
    ] {
        let read = messages(json!([item, {"role": "assistant", "content": "x"}])).expect("messages");
        assert_eq!(read, [json!({"role": "assistant", "content": "x", "reasoning_content": "Hm, é."})]);
    }
    let foreign = json!([{"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}]);
    assert_eq!(messages(foreign).expect_err("an error").param.as_deref(), Some("input[0].encrypted_content"));
}

#[test]
fn an_invalid_item_is_named_by_its_path() {
    let image = json!([{"type": "input_text", "text": "a"}, {"type": "input_image", "image_url": "data:,"}]);
    for (item, at) in [
        (json!(1), "input[0]"),
        (json!({"type": "local_shell_call", "id": "a"}), "input[0].type"),
        (json!({"type": "item_reference", "id": "a"}), "input[0].type"),
        (json!({"type": "message", "content": "x"}), "input[0].role"),
        (json!({"role": "tool", "content": "x"}), "input[0].role"),
        (json!({"role": "user"}), "input[0].content"),
        (json!({"role": "user", "content": 1}), "input[0].content"),
        (json!({"role": "user", "content": image}), "input[0].content[1]"),
        (json!({"role": "user", "content": "x", "made_up": 1}), "input[0].made_up"),
        (json!({"type": "function_call", "name": "a", "arguments": "{}"}), "input[0].call_id"),
        (json!({"type": "function_call", "call_id": "a", "name": "a", "arguments": {}}), "input[0].arguments"),
        (json!({"type": "custom_tool_call", "call_id": "a", "name": "a"}), "input[0].input"),
        (json!({"type": "function_call_output", "call_id": "a", "output": "x"}), "input[0].call_id"),
    ] {
        let error = messages(json!([item])).expect_err("an error");
        assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{item}");
    }
    assert_eq!(messages(json!([])).expect_err("an error").param.as_deref(), Some("input"));
    assert_eq!(parse(json!({"input": 1})).expect_err("an error").param.as_deref(), Some("input"));
}

#[test]
fn what_changes_the_answer_is_taken_or_refused_by_its_path() {
    let schema = json!({"type": "object"});
    let request = with(json!({
        "max_output_tokens": 7, "temperature": 0.5, "top_logprobs": 3, "store": false, "seed": 1,
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
        "reasoning": {"effort": "high", "summary": "auto"},
        "text": {"format": {"type": "json_schema", "name": "x", "schema": schema, "strict": true}, "verbosity": "medium"},
    }))
    .expect("a request");
    assert_eq!((request.common.max_tokens, request.logprobs, request.store), (Some(7), Some(3), false));
    assert!(request.sealed && request.summary);
    assert_eq!(request.thinking.effort.as_deref(), Some("high"));
    assert_eq!(request.common.format.map(|asked| asked.format), Some(Format::Schema(schema)));
    assert_eq!(
        (&request.repeated["temperature"], &request.repeated["reasoning"]["effort"]),
        (&json!(0.5), &json!("high"))
    );
    for (fields, at) in [
        (json!({"background": true}), "background"),
        (json!({"conversation": "conv_1"}), "conversation"),
        (json!({"prompt": {"id": "p"}}), "prompt"),
        (json!({"include": ["made.up"]}), "include[0]"),
        (json!({"top_logprobs": 21}), "top_logprobs"),
        (json!({"truncation": "some"}), "truncation"),
        (json!({"reasoning": {"effort": "much"}}), "reasoning.effort"),
        (json!({"reasoning": {"mode": "pro"}}), "reasoning.mode"),
        (json!({"reasoning": {"made_up": 1}}), "reasoning.made_up"),
        (json!({"text": {"verbosity": "tiny"}}), "text.verbosity"),
        (json!({"text": {"format": {"type": "xml"}}}), "text.format.type"),
        (json!({"text": {"format": {"type": "json_schema", "name": "x"}}}), "text.format.schema"),
        (json!({"max_output_tokens": 0}), "max_output_tokens"),
        (json!({"metadata": {"a": 1}}), "metadata"),
        (json!({"messages": []}), "messages"),
        (json!({"n": 2}), "n"),
        (json!({"made_up": 1}), "made_up"),
    ] {
        let error = with(fields.clone()).expect_err("an error");
        assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{fields}");
    }
}

#[test]
fn what_changes_nothing_passes() {
    with(json!({
        "user": "u", "metadata": {"a": "b"}, "service_tier": "auto", "prompt_cache_key": "k", "client_metadata": {"x": "y"},
        "safety_identifier": "s", "context_management": [{"type": "compaction"}], "truncation": "auto", "background": false,
        "max_tool_calls": 3, "include": ["file_search_call.results"], "prompt_cache_retention": "24h", "stream": true,
        "stream_options": {"include_obfuscation": false}, "conversation": null, "reasoning": {}, "text": {},
        "parallel_tool_calls": true, "tool_choice": "auto", "tools": [],
    }))
    .expect("a request");
}

#[test]
fn tools_of_two_namespaces_may_share_a_name() {
    let patch = json!({"type": "custom", "name": "apply", "format": {"type": "grammar", "syntax": "lark", "definition": "start: /x/"}});
    let tools = json!([
        function("look"),
        namespace("a", json!([function("look"), patch])),
        namespace("b", json!([function("look")]))
    ]);
    let request = with(json!({ "tools": tools })).expect("a request");
    let offered = &request.offered;
    let names: Vec<&str> = offered.tools.list.iter().map(|tool| tool.name.as_str()).collect();
    assert_eq!(names, ["look", "a__look", "a__apply", "b__look"]);
    assert_eq!(offered.tools.list[1].description.as_deref(), Some("a: About a."));
    let called = offered.names.called("a__apply");
    assert_eq!((called.namespace.as_deref(), called.name.as_str(), called.custom), (Some("a"), "apply", true));
    assert_eq!(offered.names.qualified(Some("b"), "look"), "b__look");
    assert_eq!(offered.names.qualified(Some("look"), "look"), "look");
    for (choice, wanted) in [
        (json!("required"), ToolChoice::Required),
        (json!({"type": "custom", "name": "apply"}), ToolChoice::Named("a__apply".into())),
        (json!({"type": "function", "name": "look", "namespace": "b"}), ToolChoice::Named("b__look".into())),
    ] {
        let request = with(json!({"tools": tools, "tool_choice": choice})).expect("a request");
        assert_eq!(request.offered.tools.choice, wanted);
    }
    let allowed = json!({"type": "allowed_tools", "mode": "auto", "tools": [{"type": "namespace", "name": "b"}]});
    let request = with(json!({"tools": tools, "tool_choice": allowed})).expect("a request");
    assert_eq!(request.offered.tools.allowed, Some(vec!["b__look".to_owned()]));
}

#[test]
fn hosted_tools_are_refused_except_a_search_beside_the_callers_own() {
    let search = json!({"type": "web_search", "external_web_access": true});
    let request = with(json!({"tools": [function("look"), search]})).expect("a request");
    assert_eq!((request.offered.tools.list.len(), request.offered.shown.len()), (1, 1));
    for (tools, at) in [
        (json!([search]), "tools[0].type"),
        (json!([function("a"), {"type": "file_search", "vector_store_ids": []}]), "tools[1].type"),
        (json!([{"type": "code_interpreter", "container": "x"}]), "tools[0].type"),
        (json!([{"type": "image_generation"}]), "tools[0].type"),
        (json!([{"type": "mcp", "server_label": "x"}]), "tools[0].type"),
        (json!([function("a"), function("a")]), "tools[1]"),
        (json!([namespace("a", json!([function("x"), function("x")]))]), "tools[0].tools[1]"),
        (json!([namespace("a", json!([search]))]), "tools[0].tools[0].type"),
        (json!([{"type": "namespace", "name": "a"}]), "tools[0].tools"),
        (json!([{"type": "function"}]), "tools[0].name"),
        (json!([1]), "tools[0]"),
    ] {
        let error = with(json!({ "tools": tools })).expect_err("an error");
        assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{tools}");
    }
    let error = with(json!({"tools": [function("a")], "tool_choice": {"type": "web_search"}})).expect_err("an error");
    assert_eq!(error.param.as_deref(), Some("tool_choice"));
}

fn dialect(form: Form, tools: Value, keeping: Option<Keeping>) -> Responses {
    let request = with(json!({ "tools": tools })).expect("a request");
    Responses::new(Object::new("m", 5, request.repeated), request.offered.names, form, keeping)
}

/// The events of a stream of these deltas; each has its type before its data and the next number.
fn events(mut dialect: Responses, deltas: &[Delta]) -> Vec<Value> {
    let mut out = Vec::new();
    dialect.open(&mut out);
    deltas.iter().for_each(|delta| dialect.delta(&mut out, 0, delta));
    dialect.close(&mut out, &Tally::default());
    let text = String::from_utf8(out).expect("UTF-8");
    let read = |(index, event): (usize, &str)| {
        let (kind, data) =
            event.strip_prefix("event: ").and_then(|event| event.split_once("\ndata: ")).expect("an event");
        let data: Value = serde_json::from_str(data).expect("JSON");
        assert_eq!((data["type"].as_str(), data["sequence_number"].as_u64()), (Some(kind), Some(index as u64)));
        data
    };
    text.trim_end().split("\n\n").enumerate().map(read).collect()
}

fn text(text: &str) -> Delta {
    Delta::Text { text: text.into(), tokens: Vec::new() }
}

fn reasoning(text: &str) -> Delta {
    Delta::Reasoning { text: text.into() }
}

fn call(call: usize, name: &str, json: &str) -> [Delta; 2] {
    [
        Delta::ToolCall { call, id: format!("call_{call}"), name: name.into() },
        Delta::Arguments { call, json: json.into() },
    ]
}

fn end(reason: StopReason) -> Delta {
    Delta::End { reason }
}

fn kinds(events: &[Value]) -> Vec<String> {
    let short = |event: &Value| event["type"].as_str().expect("a type").trim_start_matches("response.").to_owned();
    events.iter().map(short).collect()
}

#[test]
fn events_come_in_order_and_each_item_ends_before_the_next() {
    let mut deltas = vec![reasoning("H"), reasoning("m."), text("\n"), text("Let me "), text("see."), text("")];
    deltas.extend(call(0, "look", "{\"x\":"));
    deltas.push(Delta::Arguments { call: 0, json: "1}".into() });
    deltas.push(text("\n"));
    deltas.extend(call(1, "ns__apply", "{\"input\": \"a\\n\"}"));
    deltas.push(end(StopReason::EndToken));
    let tools = json!([function("look"), namespace("ns", json!([{"type": "custom", "name": "apply"}]))]);
    let form = Form { stream: true, sealed: true, summary: true };
    let events = events(dialect(form, tools, None), &deltas);
    assert_eq!(
        kinds(&events),
        [
            "created",
            "in_progress",
            "output_item.added",
            "content_part.added",
            "reasoning_summary_part.added",
            "reasoning_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_text.delta",
            "reasoning_summary_text.delta",
            "reasoning_text.done",
            "content_part.done",
            "reasoning_summary_text.done",
            "reasoning_summary_part.done",
            "output_item.done",
            "output_item.added",
            "content_part.added",
            "output_text.delta",
            "output_text.delta",
            "output_text.done",
            "content_part.done",
            "output_item.done",
            "output_item.added",
            "function_call_arguments.delta",
            "function_call_arguments.delta",
            "function_call_arguments.done",
            "output_item.done",
            "output_item.added",
            "custom_tool_call_input.delta",
            "custom_tool_call_input.done",
            "output_item.done",
            "completed",
        ]
    );
    let response = &events.last().expect("events")["response"];
    assert_eq!((&response["status"], &response["object"]), (&json!("completed"), &json!("response")));
    let output = response["output"].as_array().expect("items");
    let done: Vec<&Value> = events.iter().filter(|event| event["type"] == "response.output_item.done").collect();
    for (index, (item, done)) in output.iter().zip(&done).enumerate() {
        assert_eq!((item, &done["output_index"]), (&done["item"], &json!(index)));
        assert_eq!(item["status"], "completed");
    }
    assert_eq!(output[0]["encrypted_content"], json!(super::items::seal("Hm.")));
    assert_eq!((&output[0]["content"][0]["text"], &output[0]["summary"][0]["text"]), (&json!("Hm."), &json!("Hm.")));
    assert_eq!(output[1]["content"][0]["text"], "\nLet me see.");
    let function = json!({"type": "function_call", "id": output[2]["id"], "call_id": "call_0", "name": "look",
                          "arguments": "{\"x\":1}", "status": "completed"});
    assert_eq!(output[2], function);
    let custom = json!({"type": "custom_tool_call", "id": output[3]["id"], "call_id": "call_1", "name": "apply",
                        "namespace": "ns", "input": "a\n", "status": "completed"});
    assert_eq!(output[3], custom);
    // Every event about an item has its id, and ids differ.
    let ids: std::collections::HashSet<_> = output.iter().map(|item| item["id"].to_string()).collect();
    assert_eq!(ids.len(), output.len());
    for event in events.iter().filter(|event| event.get("item_id").is_some()) {
        let index = event["output_index"].as_u64().expect("an index") as usize;
        assert_eq!(event["item_id"], output[index]["id"], "{event}");
    }
}

#[test]
fn an_answer_that_is_cut_off_is_incomplete_and_one_of_nothing_is_an_empty_message() {
    let form = Form { stream: true, ..Form::default() };
    let cut = events(dialect(form, json!([]), None), &[text("So"), end(StopReason::MaxTokens)]);
    let last = cut.last().expect("events");
    assert_eq!((&last["type"], &last["response"]["status"]), (&json!("response.incomplete"), &json!("incomplete")));
    assert_eq!(last["response"]["incomplete_details"], json!({"reason": "max_output_tokens"}));
    assert_eq!(last["response"]["output"][0]["status"], "incomplete");
    let empty = events(dialect(form, json!([]), None), &[end(StopReason::EndToken)]);
    let response = &empty.last().expect("events")["response"];
    assert_eq!((&response["status"], &response["output"][0]["content"][0]["text"]), (&json!("completed"), &json!("")));
}

#[test]
fn a_failure_is_an_event_and_a_prompt_that_is_too_long_fails_a_stream() {
    let form = Form { stream: true, ..Form::default() };
    let mut failing = dialect(form, json!([]), None);
    let mut out = Vec::new();
    failing.open(&mut out);
    failing.delta(&mut out, 0, &text("a"));
    failing.fail(&mut out, &ApiError::new(500, "broken"));
    let sent = String::from_utf8(out).expect("UTF-8");
    assert!(sent.contains("event: response.failed") && sent.contains("\"code\":\"server_error\""), "{sent}");
    let long = ApiError::parameter("input", "too long").code("context_length_exceeded");
    let streamed = failing.refuse(&long);
    let body = String::from_utf8(streamed.body.to_vec()).expect("UTF-8");
    assert_eq!(streamed.status, 200);
    for part in ["event: response.created", "event: response.failed", "\"code\":\"context_length_exceeded\""] {
        assert!(body.contains(part), "{part}: {body}");
    }
    assert_eq!(dialect(Form::default(), json!([]), None).refuse(&long).status, 400);
    assert_eq!(failing.refuse(&ApiError::new(503, "busy")).status, 503);
}

#[test]
fn a_whole_answer_equals_the_stream_and_is_kept_with_its_items() {
    let store = Arc::new(Store::default());
    let question = json!({"role": "user", "content": "hi"});
    let keeping = Keeping { store: Arc::clone(&store), caller: Caller(3), items: vec![Arc::new(question.clone())] };
    let mut deltas = vec![reasoning("Hm."), text("So.")];
    deltas.extend(call(0, "look", "{}"));
    deltas.push(end(StopReason::EndToken));
    let mut choice = Choice::default();
    deltas.iter().cloned().for_each(|delta| choice.push(delta));
    let whole = dialect(Form::default(), json!([function("look")]), Some(keeping)).whole(&[choice], &Tally::default());
    let streamed = events(dialect(Form::default(), json!([function("look")]), None), &deltas);
    let streamed = &streamed.last().expect("events")["response"];
    let without_ids = |value: &Value| {
        let mut value = value.clone();
        for item in value["output"].as_array_mut().expect("items") {
            item["id"] = Value::Null;
        }
        (value["output"].clone(), value["usage"].clone(), value["status"].clone())
    };
    assert_eq!(without_ids(&whole), without_ids(streamed));
    let kept = store.get(Caller(3), whole["id"].as_str().expect("an id")).expect("it is kept");
    assert_eq!(kept.object, whole);
    assert_eq!((kept.items.len(), &*kept.items[0]), (4, &question));
    // What follows reads them.
    let follow = with(json!({})).expect("a request").messages(&kept.items).expect("messages");
    let roles: Vec<&Value> = follow.iter().map(|message| &message["role"]).collect();
    assert_eq!(roles, ["user", "assistant", "user"]);
    assert_eq!(follow[1]["reasoning_content"], "Hm.");
}

/// The shape of what Codex 0.171 sends, with texts and schemas of our own.
fn agent_request(more: Value) -> Value {
    let said = |id: &str, role: &str, text: &str| json!({"type": "message", "id": id, "role": role, "content": [{"type": "input_text", "text": text}]});
    let mut input = vec![
        said("msg_1", "developer", "You are an agent."),
        said("msg_2", "developer", "Skills."),
        said("msg_3", "user", "<environment_context/>"),
        said("msg_4", "user", "Go on."),
    ];
    input.extend(more.as_array().expect("items").iter().cloned());
    json!({
        "model": "m", "stream": true, "input": input,
        "tools": [
            function("exec_command"),
            namespace("multi_agent_v1", json!([function("close_agent"), function("wait_agent")])),
            {"type": "web_search", "external_web_access": true},
        ],
        "tool_choice": "auto", "parallel_tool_calls": true, "reasoning": {"summary": "auto"}, "store": false,
        "include": ["reasoning.encrypted_content"], "prompt_cache_key": "k", "client_metadata": {"turn_id": "t"},
    })
}

#[test]
fn an_agents_turns_are_taken_as_they_come_and_the_second_begins_with_the_first() {
    let first = parse(agent_request(json!([]))).expect("a request");
    assert_eq!(first.offered.tools.list.len(), 3);
    assert!(first.sealed && first.summary && !first.store);
    let before = first.messages(&[]).expect("messages");
    assert_eq!(before[0]["content"], "You are an agent.\n\nSkills.");
    assert_eq!(before[1]["content"], "<environment_context/>\n\nGo on.");
    let second = parse(agent_request(json!([
        {"type": "reasoning", "id": "rs_1", "summary": [], "encrypted_content": super::items::seal("Hm.")},
        {"type": "function_call", "status": "completed", "id": "fc_1", "name": "exec_command",
         "arguments": "{\"cmd\": \"ls\"}", "call_id": "call_1"},
        {"type": "function_call_output", "id": "fco_1", "call_id": "call_1", "output": "Output:\nhi\n"},
    ])))
    .expect("a request");
    let after = second.messages(&[]).expect("messages");
    assert_eq!(after[..2], before);
    assert_eq!((&after[2]["reasoning_content"], &after[3]["role"]), (&json!("Hm."), &json!("tool")));
    assert_eq!(first.offered.tools, second.offered.tools);
}
