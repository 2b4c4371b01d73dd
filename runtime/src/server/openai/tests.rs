//! Every parameter with wrong types and values, and the bodies that real clients send.

use serde_json::{Value, json};

use super::{ApiError, Asked, Baseline, ChatRequest, Common, CompletionRequest, Prompt};
use crate::chat::thinking::Thinking;
use crate::grammar::Format;
use crate::sampling::SamplingParams;

fn baseline() -> Baseline {
    Baseline { sampling: SamplingParams::default(), max_tokens: None, vocabulary: 100, tokenizer: None }
}

fn chat_with(extra: Value) -> Result<ChatRequest, ApiError> {
    let mut body = json!({"model": "any", "messages": [{"role": "user", "content": "hi"}]});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    ChatRequest::parse(body.to_string().as_bytes(), &baseline())
}

fn completion_with(extra: Value) -> Result<CompletionRequest, ApiError> {
    let mut body = json!({"prompt": "hi"});
    body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
    CompletionRequest::parse(body.to_string().as_bytes(), &baseline())
}

/// (parameter, values that must be refused)
fn bad_values() -> Vec<(&'static str, Vec<Value>)> {
    let not_a_number = [json!("1"), json!(true), json!([1]), json!({})];
    let number = |bad: &[Value]| bad.iter().chain(&not_a_number).cloned().collect::<Vec<_>>();
    vec![
        ("model", vec![json!(1), json!([]), json!(false)]),
        ("temperature", number(&[json!(-0.1), json!(100.1), json!(1e300)])),
        ("top_p", number(&[json!(-0.1), json!(1.1)])),
        ("min_p", number(&[json!(-0.1), json!(1.1)])),
        ("typical_p", number(&[json!(-0.1), json!(1.1)])),
        ("repeat_penalty", number(&[json!(0), json!(-1), json!(101)])),
        ("presence_penalty", number(&[json!(-2.1), json!(2.1)])),
        ("frequency_penalty", number(&[json!(-2.1), json!(2.1)])),
        ("top_k", number(&[json!(-2), json!(1.5)])),
        ("repeat_last_n", number(&[json!(-2), json!(1.5)])),
        ("seed", number(&[json!(1.5), json!(1e30)])),
        ("max_tokens", number(&[json!(0), json!(-2), json!(1.5), json!(1e30)])),
        ("n", number(&[json!(0), json!(9), json!(1.5)])),
        ("stream", vec![json!("true"), json!(1), json!([])]),
        ("ignore_eos", vec![json!("true"), json!(1)]),
        (
            "stop",
            vec![
                json!(1),
                json!(""),
                json!([""]),
                json!([1]),
                json!({}),
                json!(vec!["x"; 17]),
                json!("x".repeat(2000)),
            ],
        ),
        ("stream_options", vec![json!(true), json!([]), json!({"include_usage": true})]),
        (
            "logit_bias",
            vec![
                json!([[100, 1]]),
                json!({"100": 1}),
                json!({"-1": 1}),
                json!({"x": 1}),
                json!({"1": 101}),
                json!({"1": "2"}),
                json!({"01": 1}),
                json!({"+1": 1}),
            ],
        ),
        ("tools", vec![json!({"type": "function"})]),
        ("tool_choice", vec![json!("required"), json!({"type": "function"})]),
        ("response_format", vec![json!("text"), json!([]), json!(1)]),
        ("grammar", vec![json!(1)]),
        ("json_schema", vec![json!("{}"), json!([1])]),
        ("guided_json", vec![json!("{"), json!(1)]),
        ("guided_regex", vec![json!(1), json!({"a": 1})]),
        ("guided_choice", vec![json!("a"), json!([1])]),
        ("guided_grammar", vec![json!(1)]),
        ("reasoning_effort", vec![json!("enormous"), json!(1)]),
        ("thinking_budget_tokens", vec![json!("many")]),
        ("mirostat", vec![json!(2)]),
        ("n_predict", number(&[json!(-3), json!(1.5)])),
        ("repetition_penalty", vec![json!(1.1)]),
        ("n_probs", vec![json!(3)]),
        ("dry_multiplier", vec![json!(0.8)]),
        ("top_n_sigma", vec![json!(1)]),
        ("no_such_parameter", vec![json!(0), json!("x")]),
    ]
}

#[test]
fn wrong_types_and_ranges_are_refused_with_the_parameters_name() {
    for (name, values) in bad_values() {
        for value in values {
            for error in [
                chat_with(json!({name: value})).expect_err(name),
                completion_with(json!({name: value})).expect_err(name),
            ] {
                assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{value}: {}", error.message);
                assert!(error.message.contains(name), "{}", error.message);
            }
        }
    }
}

#[test]
fn chat_has_its_own_parameters() {
    for (extra, name) in [
        (json!({"max_completion_tokens": 0}), "max_completion_tokens"),
        (json!({"logprobs": 1}), "logprobs"),
        (json!({"logprobs": true, "top_logprobs": 21}), "top_logprobs"),
        (json!({"logprobs": true, "top_logprobs": "2"}), "top_logprobs"),
        (json!({"top_logprobs": 2}), "top_logprobs"),
        (json!({"modalities": ["audio"]}), "modalities"),
        (json!({"chat_template_kwargs": 1}), "chat_template_kwargs"),
        (json!({"chat_template_kwargs": {"messages": []}}), "chat_template_kwargs.messages"),
        (json!({"chat_template_kwargs": {"eos_token": "x"}}), "chat_template_kwargs.eos_token"),
        (json!({"echo": true}), "echo"),
        (json!({"prompt": "x"}), "prompt"),
        (json!({"messages": null}), "messages"),
        (json!({"messages": []}), "messages"),
        (json!({"messages": "hi"}), "messages"),
        (json!({"messages": ["hi"]}), "messages[0]"),
        (json!({"messages": [{"content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": 1, "content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "god", "content": "hi"}]}), "messages[0].role"),
        (json!({"messages": [{"role": "tool", "content": "hi", "tool_call_id": 1}]}), "messages[0].tool_call_id"),
        (json!({"messages": [{"role": "user"}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": 1}]}), "messages[0].content"),
        (json!({"messages": [{"role": "user", "content": [1]}]}), "messages[0].content[0]"),
        (json!({"messages": [{"role": "user", "content": [{"type": "text"}]}]}), "messages[0].content[0]"),
        (
            json!({"messages": [{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "x"}}]}]}),
            "messages[0].content[0]",
        ),
        (json!({"messages": [{"role": "assistant", "content": "", "tool_calls": {}}]}), "messages[0].tool_calls"),
        (json!({"messages": [{"role": "user", "content": "hi", "name": 1}]}), "messages[0].name"),
        (json!({"stream": true, "stream_options": {"include_usage": 1}}), "stream_options.include_usage"),
        (json!({"stream": true, "stream_options": {"x": 1}}), "stream_options.x"),
    ] {
        let error = chat_with(extra.clone()).expect_err(name);
        assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{extra}: {}", error.message);
    }
}

#[test]
fn completions_have_their_own_parameters() {
    for (extra, name) in [
        (json!({"logprobs": true}), "logprobs"),
        (json!({"logprobs": 6}), "logprobs"),
        (json!({"echo": true}), "echo"),
        (json!({"prompt": [1, 2], "suffix": "x"}), "suffix"),
        (json!({"best_of": 2}), "best_of"),
        (json!({"prompt": null}), "prompt"),
        (json!({"prompt": 1}), "prompt"),
        (json!({"prompt": []}), "prompt"),
        (json!({"prompt": [true]}), "prompt[0]"),
        (json!({"prompt": ["a", 1]}), "prompt[1]"),
        (json!({"prompt": [1, "a"]}), "prompt[1]"),
        (json!({"prompt": [1, 100]}), "prompt[1]"),
        (json!({"prompt": [-1]}), "prompt[0]"),
        (json!({"prompt": [[1], [2, 3.5]]}), "prompt[1][1]"),
        (json!({"prompt": ["a", "b", "c"], "n": 3}), "n"),
        (json!({"prompt": ["a", "b", "c", "d", "e", "f", "g", "h", "i"]}), "prompt"),
        (json!({"messages": []}), "messages"),
    ] {
        let error = completion_with(extra.clone()).expect_err(name);
        assert_eq!((error.status, error.param.as_deref()), (400, Some(name)), "{extra}: {}", error.message);
    }
}

#[test]
fn bodies_that_are_not_a_json_object_are_refused_with_the_position() {
    let message = |body: &[u8]| {
        let error = ChatRequest::parse(body, &baseline()).expect_err("refused");
        assert_eq!(error.status, 400);
        error.message
    };
    assert!(message(b"").contains("line 1 column 0"), "{}", message(b""));
    assert!(message(b"{\"messages\":\n [}").contains("line 2 column 3"));
    assert!(message(b"{\"a\": \"\xff\"}").contains("byte 7"));
    assert!(message(b"[]").contains("an array"));
    assert!(message(&b"[".repeat(100_000)).contains("recursion limit"));
}

#[test]
fn one_format_is_taken_in_each_of_its_spellings() {
    let object = json!({"type": "object"});
    let schema = Format::Schema(object.clone());
    let named = "response_format.json_schema.schema";
    for (sent, parameter, format) in [
        (json!({"response_format": {"type": "json_object"}}), "response_format.schema", &schema),
        (json!({"response_format": {"type": "json_object", "schema": object}}), "response_format.schema", &schema),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a", "strict": true, "schema": object}}}),
            named,
            &schema,
        ),
        (json!({"response_format": {"type": "json_schema", "json_schema": {"schema": object}}}), named, &schema),
        (json!({"json_schema": object, "grammar": ""}), "json_schema", &schema),
        (json!({"guided_json": object}), "guided_json", &schema),
        (json!({"guided_json": object.to_string()}), "guided_json", &schema),
        (json!({"guided_regex": "a+"}), "guided_regex", &Format::Regex("a+".into())),
        (json!({"guided_choice": ["a", "b"]}), "guided_choice", &Format::Choice(vec!["a".into(), "b".into()])),
        (json!({"grammar": "root ::= \"a\""}), "grammar", &Format::Gbnf("root ::= \"a\"".into())),
        (json!({"guided_grammar": "start: \"a\""}), "guided_grammar", &Format::Lark("start: \"a\"".into())),
        (json!({"structured_outputs": {"json": object, "disable_any_whitespace": false}}), "guided_json", &schema),
        (json!({"structured_outputs": {"regex": "a+"}}), "guided_regex", &Format::Regex("a+".into())),
        (json!({"structured_outputs": {"choice": ["a"]}}), "guided_choice", &Format::Choice(vec!["a".into()])),
        (json!({"structured_outputs": {"json_object": true}}), "guided_json", &Format::any_object()),
    ] {
        let asked = Some(Asked { parameter, format: format.clone() });
        assert_eq!(chat_with(sent.clone()).unwrap().common.format, asked, "{sent}");
        assert_eq!(completion_with(sent).unwrap().common.format, asked);
    }
    for (sent, parameter) in [
        (json!({"response_format": {"type": "xml"}}), "response_format.type"),
        (json!({"response_format": {}}), "response_format.type"),
        (json!({"response_format": {"type": "text", "schema": object}}), "response_format.schema"),
        (json!({"response_format": {"type": "json_schema"}}), "response_format.json_schema"),
        (json!({"response_format": {"type": "json_schema", "json_schema": {"name": "a"}}}), named),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"name": 1, "schema": object}}}),
            "response_format.json_schema.name",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"strict": "no", "schema": object}}}),
            "response_format.json_schema.strict",
        ),
        (
            json!({"response_format": {"type": "json_schema", "json_schema": {"lax": true, "schema": object}}}),
            "response_format.json_schema.lax",
        ),
        (json!({"response_format": {"type": "json_object"}, "guided_regex": "a"}), "guided_regex"),
        (json!({"json_schema": object, "guided_choice": ["a"]}), "guided_choice"),
        (json!({"structured_outputs": {"json": object, "regex": "a"}}), "guided_regex"),
        (json!({"structured_outputs": {"regex": "a"}, "guided_regex": "a"}), "structured_outputs.regex"),
        (json!({"structured_outputs": {"structural_tag": "a"}}), "structured_outputs.structural_tag"),
    ] {
        let error = chat_with(sent.clone()).expect_err(parameter);
        assert_eq!((error.status, error.param.as_deref()), (400, Some(parameter)), "{sent}: {}", error.message);
    }
}

#[test]
fn nulls_and_neutral_values_change_nothing() {
    let plain = chat_with(json!({})).unwrap().common;
    let same = chat_with(json!({
        "temperature": null, "stop": null, "tools": [], "tool_choice": "none", "response_format": {"type": "text"},
        "user": "me", "metadata": {"a": "b"}, "store": true, "logit_bias": {}, "mirostat": 0, "modalities": ["text"],
        "stream_options": null, "unknown": null, "parallel_tool_calls": true, "n": 1,
    }))
    .unwrap();
    assert_eq!(same.common, plain);
    assert!(!same.tools.are_offered() && same.thinking == Thinking::default());
    let completion = completion_with(json!({"echo": false, "suffix": null, "best_of": 1})).unwrap();
    // Only the chat request names a model.
    assert_eq!(Common { model: plain.model.clone(), ..completion.common }, plain);
}

/// What front ends send with every request: samplers that are switched off, and their settings.
#[test]
fn disabled_samplers_change_nothing() {
    let plain = chat_with(json!({})).unwrap().common;
    let sent = json!({
        "repetition_penalty": 1.0, "n_probs": 0, "reasoning_effort": "none", "mirostat": 0, "mirostat_tau": 5.0,
        "mirostat_eta": 0.1, "dry_multiplier": 0.0, "dry_base": 1.75, "dry_allowed_length": 2, "dry_penalty_last_n": -1,
        "dry_sequence_breakers": ["\n", ":"], "xtc_probability": 0, "xtc_threshold": 0.1, "dynatemp_range": 0,
        "dynatemp_exponent": 1, "top_n_sigma": -1, "tfs_z": 1, "top_a": 0, "n_predict": -1, "n_keep": 0,
        "t_max_predict_ms": 0, "timings_per_token": true, "samplers": [], "min_tokens": 0, "skip_special_tokens": true,
        "ban_eos_token": false, "num_beams": 1, "guidance_scale": 1, "adaptive_target": -1.0, "adaptive_decay": 0.9,
        "stop_token_ids": [], "max_new_tokens": null, "seed": -1, "logit_bias": [], "stop": [], "t_max_prompt_ms": 500,
        "backend_sampling": true,
    });
    assert_eq!(chat_with(sent.clone()).unwrap().common, plain);
    assert_eq!(Common { model: plain.model.clone(), ..completion_with(sent).unwrap().common }, plain);
    assert_eq!(chat_with(json!({"top_k": -1})).unwrap().common.sampling.top_k, usize::MAX);
    for (extra, name) in [
        (json!({"mirostat": 2, "mirostat_tau": 5.0}), "mirostat"),
        (json!({"dry_multiplier": 0.5, "dry_base": 1.75}), "dry_multiplier"),
        (json!({"xtc_threshold": 0.1, "xtc_probability": 0.5}), "xtc_probability"),
        (json!({"n_predict": 5, "max_tokens": 6}), "n_predict"),
        (json!({"skip_special_tokens": false}), "skip_special_tokens"),
    ] {
        assert_eq!(chat_with(extra).expect_err(name).param.as_deref(), Some(name));
    }
}

/// Requests and packed settings share one parameter table.
#[test]
fn ranges_match_those_of_packed_settings() {
    assert_eq!(chat_with(json!({"temperature": 3, "repeat_penalty": 20})).unwrap().common.sampling.temperature, 3.0);
    for (name, value) in [("temperature", json!(100.5)), ("repeat_penalty", json!(0.001)), ("top_p", json!(1.01))] {
        let asked = chat_with(json!({name: value})).expect_err(name).message;
        let packed = satchel_container::Settings::default().set(name, &value.to_string()).expect_err(name);
        assert_eq!(asked, packed);
    }
}

#[test]
fn a_bias_that_bans_every_token_is_refused() {
    let bans = |count: usize| (0..count).map(|id| (id.to_string(), json!(-100))).collect::<serde_json::Map<_, _>>();
    assert!(chat_with(json!({"logit_bias": bans(99)})).is_ok());
    let error = chat_with(json!({"logit_bias": bans(100)})).expect_err("all banned");
    assert_eq!((error.status, error.param.as_deref()), (400, Some("logit_bias")));
}

#[test]
fn duplicate_keys_are_refused_and_a_byte_order_mark_is_skipped() {
    let twice = br#"{"messages": [{"role": "user", "content": "a"}], "seed": 1, "seed": 2}"#;
    assert!(ChatRequest::parse(twice, &baseline()).expect_err("twice").message.contains("`seed` comes twice"));
    let nested = br#"{"messages": [{"role": "user", "content": "a", "content": "b"}]}"#;
    assert!(ChatRequest::parse(nested, &baseline()).expect_err("twice").message.contains("`content` comes twice"));
    let marked = b"\xef\xbb\xbf{\"messages\": [{\"role\": \"user\", \"content\": \"a\"}]}";
    assert!(ChatRequest::parse(marked, &baseline()).is_ok());
}

#[test]
fn values_are_passed_through() {
    let chat = chat_with(json!({
        "temperature": 0, "top_k": 40, "seed": -2, "max_completion_tokens": 7, "max_tokens": 9, "stop": ["a", "b"], "n": 2,
        "stream": true, "stream_options": {"include_usage": true}, "logprobs": true, "top_logprobs": 3,
        "repeat_last_n": -1, "logit_bias": {"5": -100, "6": 2.5}, "ignore_eos": true,
    }))
    .unwrap();
    let common = chat.common;
    assert_eq!(
        (common.sampling.temperature, common.sampling.top_k, common.sampling.seed),
        (0.0, 40, Some(u64::MAX - 1))
    );
    assert_eq!((common.sampling.repeat_last_n, common.max_tokens, common.n), (usize::MAX, Some(7), 2));
    assert_eq!(common.sampling.logit_bias, [(5, f32::NEG_INFINITY), (6, 2.5)]);
    assert_eq!(common.stop, ["a", "b"]);
    assert!(common.stream && common.include_usage && common.ignore_end);
    assert_eq!(chat.logprobs, Some(3));
    assert_eq!(chat_with(json!({"logprobs": true})).unwrap().logprobs, Some(0));
}

#[test]
fn messages_are_normalised() {
    let chat = chat_with(json!({"messages": [
        {"role": "developer", "content": [{"type": "text", "text": "be "}, {"type": "text", "text": "brief"}]},
        {"role": "user", "content": "hi", "name": "ann"},
        {"role": "assistant", "content": "hello", "refusal": null, "tool_calls": null, "annotations": []},
    ]}))
    .unwrap();
    assert_eq!(
        chat.messages,
        [
            json!({"role": "system", "content": "be brief"}),
            json!({"role": "user", "content": "hi", "name": "ann"}),
            json!({"role": "assistant", "content": "hello"}),
        ]
    );
}

#[test]
fn prompts_come_in_four_shapes() {
    let prompts = |value: Value| completion_with(json!({"prompt": value})).unwrap().prompts;
    let text = |text: &str| Prompt::Text(text.to_string());
    assert_eq!(prompts(json!("a")), [text("a")]);
    assert_eq!(prompts(json!(["a", "b"])), [text("a"), text("b")]);
    assert_eq!(prompts(json!([1, 2])), [Prompt::Tokens(vec![1, 2])]);
    assert_eq!(prompts(json!([[1, 2], [3]])), [Prompt::Tokens(vec![1, 2]), Prompt::Tokens(vec![3])]);
}

#[test]
fn errors_have_openais_format() {
    let error = ApiError::parameter("n", "no").code("unsupported_parameter");
    assert_eq!(
        error.body(),
        json!({"error": {"message": "no", "type": "invalid_request_error", "param": "n", "code": "unsupported_parameter"}})
    );
    assert_eq!(ApiError::new(503, "busy").body()["error"]["type"], "server_error");
}

#[test]
fn limits_and_biases_come_by_the_names_of_llama_cpp_too() {
    let limit = |extra: Value| chat_with(extra).expect("a limit").common.max_tokens;
    assert_eq!(limit(json!({"n_predict": 5})), Some(5));
    assert_eq!(limit(json!({"n_predict": 5, "max_tokens": 5})), Some(5));
    assert_eq!((limit(json!({"n_predict": -1})), limit(json!({"max_tokens": -1}))), (None, None));
    let bias = |bias: Value| chat_with(json!({"logit_bias": bias})).map(|request| request.common.sampling.logit_bias);
    assert_eq!(
        bias(json!([[5, -100], [6, 2.5], [7, false]])).unwrap(),
        [(5, f32::NEG_INFINITY), (6, 2.5), (7, f32::NEG_INFINITY)]
    );
    for wrong in [json!([5]), json!([[5]]), json!([[100, 1]]), json!([[5, true]]), json!([["a", 1]]), json!(1)] {
        let error = bias(wrong.clone()).expect_err("is refused");
        assert_eq!((error.status, error.param.as_deref()), (400, Some("logit_bias")), "{wrong}");
    }
}

#[test]
fn an_answer_goes_on_from_its_beginning_only_if_asked() {
    let spoken = json!([{"role": "user", "content": "a"}, {"role": "assistant", "content": "b"}]);
    let with = |extra: Value| {
        let mut body = json!({ "messages": spoken });
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        ChatRequest::parse(body.to_string().as_bytes(), &baseline())
    };
    let plain = with(json!({})).unwrap();
    assert_eq!((plain.messages.len(), plain.prefill), (2, None));
    let begun = with(json!({"continue_final_message": true, "add_generation_prompt": false})).unwrap();
    assert_eq!((begun.messages.len(), begun.prefill.as_deref()), (1, Some("b")));
    for (extra, name) in [
        (json!({"continue_final_message": true, "add_generation_prompt": true}), "add_generation_prompt"),
        (json!({"add_generation_prompt": false}), "add_generation_prompt"),
        (
            json!({"continue_final_message": true, "messages": [{"role": "user", "content": "a"}]}),
            "continue_final_message",
        ),
        (json!({"continue_final_message": true, "response_format": {"type": "json_object"}}), "continue_final_message"),
    ] {
        assert_eq!(with(extra).expect_err(name).param.as_deref(), Some(name));
    }
}

#[test]
fn verbosity_is_one_of_three_words() {
    use crate::chat::verbosity::Verbosity;
    let verbosity = |word: &str| chat_with(json!({ "verbosity": word })).map(|request| request.verbosity);
    assert_eq!(verbosity("low").unwrap(), Some(Verbosity::Low));
    assert_eq!(verbosity("medium").unwrap().and_then(Verbosity::instruction), None);
    assert_eq!(verbosity("tiny").expect_err("unknown").param.as_deref(), Some("verbosity"));
}
