//! What editors' plugins for text in a gap send, and what it means: llama.vim's and llama.vscode's bodies, word by word.

use std::fs;
use std::path::PathBuf;

use satchel_gguf::{Gguf, GgufWriter, Value as Entry};
use serde_json::{Value, json};

use crate::served::Served;
use crate::support::{Scratch, stories};

/// The small model, with three tokens of its vocabulary, of single bytes that no text has, said to be those of a gap.
fn with_gaps(scratch: &Scratch) -> PathBuf {
    with_tokens(scratch, &[("fim_pre", 256), ("fim_suf", 257), ("fim_mid", 258)])
}

/// The small model with these tokens for gaps.
fn with_tokens(scratch: &Scratch, tokens: &[(&str, u32)]) -> PathBuf {
    let bytes = fs::read(stories()).unwrap();
    let original = Gguf::parse(&bytes).unwrap();
    let mut writer = GgufWriter::with_metadata(&original.metadata);
    for (name, id) in tokens {
        writer.set(&format!("tokenizer.ggml.{name}_token_id"), Entry::U32(*id));
    }
    let mut data = Vec::new();
    for tensor in &original.tensors {
        writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).unwrap();
        data.push(&bytes[tensor.offset as usize..tensor.end() as usize]);
    }
    let path = scratch.path("gaps.gguf");
    fs::write(&path, writer.layout().unwrap().to_bytes(&data).unwrap()).unwrap();
    path
}

/// The file around the cursor, as an editor sends it, and pieces of other files.
fn gap() -> Value {
    json!({
        "input_prefix": "def greet(name):\n    \"\"\"Says hello.\"\"\"\n",
        "input_suffix": "\n\nif __name__ == '__main__':\n    greet('you')\n",
        "input_extra": [{"filename": "words.py", "text": "HELLO = 'hello'\n", "time": 12.5}],
        "prompt": "    print(",
    })
}

fn extended(body: &Value, more: Value) -> Value {
    let mut body = body.clone();
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

#[test]
fn llama_vim_warms_the_cache_and_asks() {
    let scratch = Scratch::new();
    let template = scratch.path("plain.jinja");
    fs::write(&template, "{% for message in messages %}{{ message.content }}\n{% endfor %}").unwrap();
    let server = Served::start(&with_gaps(&scratch), &["--chat-template", template.to_str().unwrap()]);
    let warm = json!({
        "id_slot": 0, "n_predict": 0, "temperature": 0.0, "samplers": [], "stream": false, "cache_prompt": true,
        "t_max_prompt_ms": 1, "t_max_predict_ms": 1, "response_fields": [""],
    });
    assert_eq!(server.post("/infill", &extended(&gap(), warm)).json(), json!({}));
    let fields = [
        "content",
        "timings/prompt_n",
        "timings/prompt_ms",
        "timings/prompt_per_token_ms",
        "timings/prompt_per_second",
        "timings/predicted_n",
        "timings/predicted_ms",
        "timings/predicted_per_token_ms",
        "timings/predicted_per_second",
        "truncated",
        "tokens_cached",
    ];
    let ask = json!({
        "id_slot": 0, "n_predict": 128, "stop": [], "n_indent": 4, "top_k": 40, "top_p": 0.90,
        "samplers": ["top_k", "top_p", "infill"], "stream": false, "cache_prompt": true, "t_max_prompt_ms": 500,
        "t_max_predict_ms": 250, "response_fields": fields,
    });
    let answer = server.post("/infill", &extended(&gap(), ask)).json();
    let names: Vec<&str> = answer.as_object().unwrap().keys().map(String::as_str).collect();
    assert!(fields.iter().all(|field| names.contains(field)) && names.len() == fields.len(), "{answer}");
    assert!(answer["content"].is_string() && answer["truncated"] == false, "{answer}");
    assert_eq!(answer["timings/prompt_n"], 1, "all but the last token had been read: {answer}");
    // Its requests about a selection, the first of which warms the cache, too.
    let messages = json!([{"role": "system", "content": "Edit."}, {"role": "user", "content": "INSTRUCTION: shorter"}]);
    let chat = |more: Value| {
        let body = json!({"id_slot": 1, "messages": messages, "cache_prompt": true});
        server.post("/v1/chat/completions", &extended(&body, more))
    };
    let warm = json!({"samplers": [], "n_predict": 0, "stream": false, "response_fields": [""]});
    assert_eq!(chat(warm).json()["choices"][0]["message"]["content"], "");
    let ask =
        json!({"min_p": 0.1, "temperature": 0.1, "samplers": ["min_p", "temperature"], "stream": true, "n_predict": 3});
    assert_eq!(chat(ask).events().last().map(String::as_str), Some("[DONE]"));
}

#[test]
fn llama_vscode_warms_the_cache_and_asks_for_several() {
    let scratch = Scratch::new();
    let server = Served::start(&with_gaps(&scratch), &[]);
    let warm = json!({
        "id_slot": 0, "n_predict": 0, "samplers": [], "cache_prompt": true, "t_max_prompt_ms": 500, "t_max_predict_ms": 1,
    });
    let warmed = server.post("/infill", &extended(&gap(), warm)).json();
    assert_eq!((&warmed["content"], &warmed["tokens_predicted"]), (&json!(""), &json!(0)), "{warmed}");
    let ask = |count: u64| {
        let body = json!({
            "id_slot": 0, "n_predict": 20, "n_cmpl": count, "top_k": 40, "top_p": 0.99, "stream": false,
            "samplers": ["top_k", "top_p", "infill"], "cache_prompt": true, "n_indent": 4, "t_max_prompt_ms": 500,
            "t_max_predict_ms": 2500,
        });
        server.post("/infill", &extended(&gap(), body)).json()
    };
    let three = ask(3);
    let indices: Vec<u64> = three.as_array().unwrap().iter().map(|one| one["index"].as_u64().unwrap()).collect();
    assert_eq!(indices, [0, 1, 2]);
    assert!(three.as_array().unwrap().iter().all(|one| one["content"].is_string()), "{three}");
    let one = ask(1);
    assert!(one["content"].is_string(), "{one}");
    let settings = &one["generation_settings"];
    assert_eq!(settings["samplers"], json!(["top_k", "top_p", "infill"]));
    assert_eq!((&settings["n_indent"], &settings["t_max_predict_ms"]), (&json!(4), &json!(2500)));
    assert_eq!((&settings["min_p"], &settings["temperature"]), (&json!(0.0), &json!(1.0)), "what is not listed is off");
}

/// Files stand before the gap, each behind a token of its own where the model knows one, and the first ones go where room ends.
#[test]
fn files_stand_before_the_gap_as_far_as_they_fit() {
    let scratch = Scratch::new();
    let gap = [("fim_pre", 256), ("fim_suf", 257), ("fim_mid", 258)];
    let files = [&gap[..], &[("fim_rep", 254), ("fim_sep", 255)]].concat();
    let file = |name: &str, text: &str| json!({"filename": name, "text": text});
    for (tokens, marks) in [(&gap[..], false), (&files, true)] {
        let server = Served::start(&with_tokens(&scratch, tokens), &["-c", "256"]);
        let prompt = |extra: Value, before: &str| {
            let body = json!({"input_prefix": before, "input_suffix": "\nend", "input_extra": extra, "n_predict": 0});
            let answer = server.post("/infill", &body).json();
            assert!(answer["tokens_evaluated"].as_u64().unwrap() < 200, "{answer}");
            (answer["prompt"].as_str().unwrap().to_owned(), answer["truncated"].as_bool().unwrap())
        };
        let two = json!([file("a.txt", "a dog"), file("b.txt", "a cat")]);
        let (both, truncated) = prompt(two, "One day");
        let order: Vec<usize> =
            ["a.txt", "a dog", "b.txt", "a cat", "One day", "end"].iter().filter_map(|part| both.find(part)).collect();
        assert!(order.len() == 6 && order.is_sorted() && !truncated, "{both:?}");
        assert_eq!(both.contains("myproject"), marks, "{both:?}");
        let long = json!([file("a.txt", &"a dog ".repeat(90)), file("b.txt", "a cat")]);
        let (cut, truncated) = prompt(long, "One day");
        assert!(cut.contains("a cat") && !cut.contains("a dog") && truncated, "{cut:?}");
        let (sides, truncated) = prompt(json!([]), &"a dog ".repeat(300));
        assert!(sides.contains("a dog") && sides.contains("end") && truncated, "{sides:?}");
        let (sides, _) = prompt(json!([file("b.txt", "a cat")]), &"a dog ".repeat(300));
        assert!(!sides.contains("a cat"), "{sides:?}");
    }
}

#[test]
fn time_and_indentation_end_an_answer_and_change_nothing_else() {
    let server = Served::start(&stories(), &[]);
    let whole = json!({"prompt": "Once upon a time", "n_predict": 200, "temperature": 0, "ignore_eos": true});
    let ask = |more: Value| server.post("/completion", &extended(&whole, more));
    let content = |answer: &Value| answer["content"].as_str().unwrap().to_owned();
    let free = content(&ask(json!({})).json());
    let lines: Vec<&str> = free.split_inclusive('\n').collect();
    assert!(lines.len() > 2 && free.len() > lines[0].len() + lines[1].len(), "{free:?}");
    assert_eq!(content(&ask(json!({"t_max_predict_ms": 3_600_000})).json()), free);

    let timed = ask(json!({"t_max_predict_ms": 1, "return_tokens": true})).json();
    let said = content(&timed);
    assert!(free.starts_with(&said) && said.len() < free.len() && said.ends_with('\n'), "{timed}");
    assert_eq!(timed["stop_type"], "limit");
    assert_eq!(
        timed["tokens"].as_array().map(Vec::len),
        timed["tokens_predicted"].as_u64().map(|count| count as usize)
    );

    let indented = ask(json!({"n_indent": 4})).json();
    assert_eq!((&indented["stop_type"], content(&indented).as_str()), (&json!("limit"), lines[0]), "{indented}");
    let stopped = ask(json!({"n_indent": 4, "stop": lines[0].trim_end().rsplit(' ').next()})).json();
    assert_eq!(stopped["stop_type"], "word", "whichever comes first: {stopped}");
    let events = ask(json!({"n_indent": 4, "stream": true})).events();
    let events: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    assert_eq!(events.iter().map(content).collect::<String>(), lines[0]);
    assert_eq!(events.last().unwrap()["stop_type"], "limit");
    // OpenAI's clients may send it, too.
    let chosen = server.post("/v1/completions", &extended(&whole, json!({"n_indent": 1}))).json();
    assert_eq!(chosen["choices"][0]["finish_reason"], "length", "{chosen}");
    assert_eq!(chosen["choices"][0]["text"], lines[0]);
}

#[test]
fn listed_samplers_decide() {
    let server = Served::start(&stories(), &[]);
    let whole = json!({"prompt": "Once upon a time", "n_predict": 60, "seed": 3});
    let ask = |more: Value| server.post("/completion", &extended(&whole, more)).json();
    let greedy = ask(json!({"temperature": 0}));
    let likeliest = ask(json!({"samplers": ["top_k"], "top_k": 1, "temperature": 100, "repeat_penalty": 50}));
    assert_eq!(likeliest["content"], greedy["content"], "the temperature and the penalty are off");
    let free = ask(json!({"samplers": "t", "top_k": 1, "temperature": 1.5}));
    assert_ne!(free["content"], greedy["content"], "`top_k` is off");

    // A likely text, or the end: no token is left that has less than a fifth.
    let fill = |more: Value| {
        let more = extended(&json!({"samplers": "kpi", "n_probs": 40, "post_sampling_probs": true}), more);
        ask(extended(&more, json!({"top_k": 40, "top_p": 0.99})))
    };
    let short = fill(json!({}));
    let tokens = short["completion_probabilities"].as_array().unwrap();
    assert!(!tokens.is_empty() && tokens.len() < 60 && short["stop_type"] == "eos", "{short}");
    for token in tokens {
        let top = token["top_probs"].as_array().unwrap();
        assert!(top.len() <= 4 && top.iter().all(|other| other["prob"].as_f64().unwrap() >= 0.2), "{token}");
    }
    // Nothing ends it where ends are ignored, or a grammar wants more.
    assert_eq!(fill(json!({"ignore_eos": true}))["tokens_predicted"], 60);
    let letters = fill(json!({"grammar": "root ::= [a-z ,.]{40}"}));
    assert_eq!(letters["content"].as_str().unwrap().len(), 40, "{letters}");
}
