//! `/completion`, `/infill` and the other names of llama.cpp's server, over raw HTTP.

use serde_json::{Value, json};

use crate::served::{Answer, Served};
use crate::support::{smollm2, stories};

/// The objects of a stream of server-sent events.
fn events(answer: &Answer) -> Vec<Value> {
    assert_eq!(answer.status, 200, "{answer:?}");
    let text = answer.text();
    text.lines()
        .filter_map(|line| line.strip_prefix("data: "))
        .map(|data| serde_json::from_str(data).unwrap())
        .collect()
}

#[test]
fn a_text_is_continued_whole_and_streamed() {
    let server = Served::start(&stories(), &[]);
    let ask =
        json!({"prompt": "Once upon a time", "n_predict": 8, "temperature": 0, "return_tokens": true, "n_probs": 2});
    let whole = server.post("/completion", &ask).json();
    assert_eq!(
        (&whole["content"], &whole["stop_type"]),
        (&json!(", there was a little girl"), &json!("limit")),
        "{whole}"
    );
    assert_eq!((&whole["tokens_predicted"], &whole["truncated"]), (&json!(8), &json!(false)));
    assert_eq!(whole["tokens"].as_array().map(Vec::len), Some(8));
    assert!(whole["prompt"].as_str().unwrap().ends_with("Once upon a time"), "{whole}");
    assert_eq!((&whole["timings"]["predicted_n"], &whole["generation_settings"]["n_predict"]), (&json!(8), &json!(8)));
    let probabilities = whole["completion_probabilities"].as_array().unwrap();
    assert!(probabilities.len() == 8 && probabilities.iter().all(|token| token["top_logprobs"][1]["id"].is_u64()));
    let mut streaming = ask.clone();
    streaming["stream"] = true.into();
    let events = events(&server.post("/completions", &streaming));
    let (last, pieces) = events.split_last().unwrap();
    let said: String = pieces.iter().map(|event| event["content"].as_str().unwrap()).collect();
    assert!(pieces.iter().all(|event| event["stop"] == false) && last["stop"] == true);
    assert_eq!(
        (json!(said), &last["stop_type"], &last["content"]),
        (whole["content"].clone(), &json!("limit"), &json!(""))
    );
    let chosen = server.post("/completion", &{
        let mut ask = ask;
        ask["response_fields"] = json!(["content", "generation_settings/n_predict"]);
        ask
    });
    assert_eq!(chosen.json(), json!({"content": whole["content"], "generation_settings/n_predict": 8}));
}

#[test]
fn several_prompts_give_an_array_and_tokens_stand_for_text() {
    let server = Served::start(&stories(), &[]);
    let tokens =
        &server.post("/tokenize", &json!({"content": "Once upon a time", "add_special": true})).json()["tokens"];
    let ask = |prompt: Value| json!({"prompt": prompt, "n_predict": 4, "temperature": 0});
    let all = server.post("/completion", &ask(json!([tokens, "Once upon a time"]))).json();
    assert_eq!(all.as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all[0]["content"], all[1]["content"]);
    let mixed = server.post("/completion", &ask(json!([1, "Once upon", 2, " a time"]))).json();
    assert!(mixed["content"].is_string(), "{mixed}");
}

#[test]
fn errors_and_other_names() {
    let server = Served::start(&stories(), &[]);
    server.post("/completion", &json!({})).error(400, Some("prompt"), None);
    let long = json!({"prompt": "word ".repeat(600)});
    server.post("/completion", &long).error(400, Some("prompt"), Some("context_length_exceeded"));
    let gap = json!({"input_prefix": "a", "input_suffix": "b"});
    assert!(server.post("/infill", &gap).error(400, Some("prompt"), None).contains("gap"));
    let suffix = json!({"prompt": "a", "suffix": "b"});
    assert!(
        server
            .post("/v1/completions", &suffix)
            .error(400, Some("suffix"), Some("unsupported_parameter"))
            .contains("gap")
    );
    let models = server.get("/models").json();
    assert_eq!(models["data"].as_array().map(Vec::len), Some(1));
    assert!(models["data"][0]["meta"]["n_ctx_train"].is_u64() && models["data"][0]["meta"]["n_vocab"].is_u64());
    assert_eq!(models["models"][0]["capabilities"], json!(["completion"]));
    assert_eq!(server.get("/v1/health").json()["status"], "ok");
    let props = server.get("/props").json();
    assert_eq!((&props["bos_token"], &props["is_sleeping"]), (&json!("<s>"), &json!(false)));
    let name = stories().file_name().unwrap().to_string_lossy().into_owned();
    assert_eq!(props["model_path"], name, "the file's name, and not where it lies");
}

/// On its own paths, what is wrong is said in the types that clients of llama.cpp's server look for.
#[test]
fn refusals_have_the_types_of_llama_cpp() {
    let server = Served::start(&stories(), &["-c", "64"]);
    let long = "word ".repeat(200);
    for (path, kind) in [("/completion", "exceed_context_size_error"), ("/v1/completions", "invalid_request_error")] {
        let answer = server.post(path, &json!({"prompt": long, "stream": true}));
        let message = answer.error(400, Some("prompt"), Some("context_length_exceeded"));
        assert!(message.contains("exceeds the available context size"), "{message}");
        let error = &answer.json()["error"];
        assert_eq!((&error["type"], &error["n_ctx"]), (&json!(kind), &json!(64)), "{path}");
        assert!(error["n_prompt_tokens"].as_u64().is_some_and(|tokens| tokens > 64), "{error}");
    }
    for path in ["/slots/0?action=save", "/embedding", "/embeddings", "/v1/embeddings", "/rerank", "/v1/rerank"] {
        let answer = server.post(path, &json!({"input": "a"}));
        answer.error(501, None, None);
        assert_eq!(answer.json()["error"]["type"], "not_supported_error", "{path}");
    }
}

#[test]
fn biases_come_in_every_form_and_are_told() {
    let server = Served::start(&stories(), &[]);
    let ask = |more: Value| {
        let mut body = json!({"prompt": "Once upon a time", "n_predict": 8, "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/completion", &body)
    };
    let tokens = server.post("/tokenize", &json!({"content": " little"})).json()["tokens"].clone();
    let banned: Vec<Value> = tokens.as_array().unwrap().iter().map(|id| json!([id, false])).collect();
    let object: Value = tokens
        .as_array()
        .unwrap()
        .iter()
        .map(|id| (id.to_string(), json!(-100)))
        .collect::<serde_json::Map<_, _>>()
        .into();
    let free = ask(json!({})).json();
    assert!(free["content"].as_str().unwrap().contains("little"), "{free}");
    assert_eq!(free["generation_settings"]["logit_bias"], json!([]));
    let mut seen = Vec::new();
    for bias in [json!(banned), object, json!([[" little", -100]]), json!({" little": -100})] {
        let answer = ask(json!({ "logit_bias": bias })).json();
        assert!(!answer["content"].as_str().unwrap().contains("little"), "{answer}");
        assert!(answer["generation_settings"]["logit_bias"][0]["bias"].is_null(), "{answer}");
        seen.push(answer["content"].clone());
    }
    assert!(seen.iter().all(|content| *content == seen[0]), "{seen:?}");
    ask(json!({"logit_bias": {"1.5": 1}})).error(400, Some("logit_bias"), None);
    let ignoring = ask(json!({"ignore_eos": true})).json();
    assert!(ignoring["generation_settings"]["logit_bias"][0]["bias"].is_null(), "{ignoring}");
}

#[test]
fn progress_of_the_prompt_is_told_and_a_prompt_can_be_read_alone() {
    let server = Served::start(&stories(), &[]);
    let prompt = "Once upon a time there was a dog. ".repeat(8);
    let warm = server.post("/completion", &json!({"prompt": prompt, "n_predict": 0})).json();
    assert_eq!((&warm["tokens_predicted"], &warm["content"]), (&json!(0), &json!("")), "{warm}");
    assert_eq!(warm["timings"]["predicted_per_second"], 0.0);
    let ask = json!({"prompt": prompt, "n_predict": 2, "stream": true, "return_progress": true, "temperature": 0});
    for path in ["/completion", "/v1/completions"] {
        let events = server.post(path, &ask).events();
        let objects = events.iter().filter_map(|data| serde_json::from_str::<Value>(data).ok());
        let told: Vec<Value> = objects.map(|event| event["prompt_progress"].clone()).filter(Value::is_object).collect();
        let (first, last) = (told.first().expect("progress"), told.last().expect("progress"));
        assert!(first["cache"].as_u64() > Some(0) && first["cache"] == first["processed"], "{first}");
        assert_eq!(last["processed"], last["total"]);
    }
    let silent = server.post("/completion", &json!({"prompt": prompt, "n_predict": 2, "stream": true}));
    assert!(!silent.text().contains("prompt_progress"));
    let metrics = server.get("/metrics").text();
    let value = |name: &str| {
        let line = metrics.lines().find_map(|line| line.strip_prefix(&format!("llamacpp:{name} "))).expect(name);
        line.parse::<f64>().expect("a number")
    };
    assert!(value("prompt_tokens_cached_total") > 0.0 && value("prompt_tokens_total") > 0.0);
    assert_eq!((value("tokens_predicted_total"), value("requests_processing")), (6.0, 0.0));
    let most = warm["tokens_evaluated"].as_f64().unwrap() + 2.0;
    assert_eq!((value("n_tokens_max"), value("n_busy_slots_per_decode")), (most, 1.0), "one after the other");
    assert!((7.0..40.0).contains(&value("n_decode_total")), "{metrics}");
}

#[test]
fn a_chat_is_counted_and_goes_on_from_its_last_message() {
    let Some(model) = smollm2() else { return };
    let server = Served::start(&model, &["--context", "512"]);
    let user = json!({"role": "user", "content": "Count from one to five."});
    let ask = |messages: Value, more: Value| {
        let mut body = json!({"messages": messages, "max_tokens": 8, "temperature": 0});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        server.post("/chat/completions", &body).json()
    };
    let plain = ask(json!([user]), json!({}));
    let counted = server.post("/v1/chat/completions/input_tokens", &json!({"messages": [user]})).json();
    assert_eq!(counted["input_tokens"], plain["usage"]["prompt_tokens"], "{plain}");
    assert!(plain["system_fingerprint"].as_str().is_some_and(|text| text.starts_with('b')), "{plain}");
    // The first tokens of an answer, given back as its beginning, are followed by the rest of it.
    let text = |answer: &Value| answer["choices"][0]["message"]["content"].as_str().expect("a text").to_owned();
    let begun = ask(json!([user]), json!({"max_tokens": 4}));
    let going = json!([user, {"role": "assistant", "content": text(&begun)}]);
    let rest = ask(going.clone(), json!({"continue_final_message": true, "max_tokens": 4}));
    assert_eq!(text(&begun) + &text(&rest), text(&plain));
    // Behind a system message of the request's, since the template has one of its own where there is none.
    let told = json!([{"role": "system", "content": "Count."}, user]);
    let tokens = |verbosity: &str| {
        let body = json!({"messages": told, "verbosity": verbosity});
        server.post("/chat/completions/input_tokens", &body).json()["input_tokens"].as_u64()
    };
    assert!(tokens("low") > tokens("medium"), "it is told to be brief");
}

#[test]
fn probabilities_are_told_after_sampling_too() {
    let server = Served::start(&stories(), &[]);
    let ask = |more: Value| {
        let mut body = json!({"prompt": "Once upon a time", "n_predict": 6, "n_probs": 10, "post_sampling_probs": true, "seed": 5});
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    let number = |value: &Value| value["prob"].as_f64().unwrap();
    for settings in [json!({"top_k": 4, "min_p": 0, "temperature": 1.5}), json!({"top_k": 0, "top_p": 1, "min_p": 0.1})]
    {
        let whole = server.post("/completion", &ask(settings)).json();
        let tokens = whole["completion_probabilities"].as_array().unwrap();
        assert_eq!(tokens.len(), 6, "{whole}");
        for token in tokens {
            let top = token["top_probs"].as_array().unwrap();
            let sum: f64 = top.iter().map(number).sum();
            assert!(top.len() == 10 || (sum - 1.0).abs() < 1e-5, "{token}");
            assert!(top.iter().all(|other| number(other) > 0.0) && number(token) > 0.0, "{token}");
            let same = top.iter().find(|other| other["id"] == token["id"]);
            assert!(same.is_none_or(|same| number(same) == number(token)) && token.get("logprob").is_none(), "{token}");
        }
        assert!(tokens.iter().any(|token| number(token) < 1.0), "{whole}");
    }
    for event in &events(&server.post("/completion", &ask(json!({"temperature": 0, "stream": true}))))[..6] {
        let token = &event["completion_probabilities"][0];
        assert_eq!((&token["prob"], &token["top_probs"][0]["prob"]), (&json!(1.0), &json!(1.0)), "{event}");
    }
}

#[test]
fn a_shifted_context_is_truncated() {
    let ask = json!({"prompt": "Once upon a time", "n_predict": 90, "temperature": 0, "ignore_eos": true});
    for (policy, tokens) in [("shift", 90), ("stop", 64)] {
        let server = Served::start(&stories(), &["-c", "64", "--overflow", policy]);
        let answer = server.post("/completion", &ask).json();
        assert_eq!(answer["truncated"], json!(true), "{policy}: {answer}");
        let used = answer["tokens_predicted"].as_u64().unwrap();
        assert!(if policy == "shift" { used == tokens } else { used < tokens }, "{answer}");
    }
    let server = Served::start(&stories(), &["-c", "128", "--overflow", "shift"]);
    assert_eq!(server.post("/completion", &ask).json()["truncated"], json!(false));
}
