//! Embeddings of a real model are llama.cpp's, alone and beside others, on the command line and over HTTP.

use std::path::PathBuf;
use std::process::Command;

use serde_json::{Value, json};

use crate::minilm;
use crate::served::Served;
use crate::support::{SATCHEL, Scratch, data, output, root, satchel, skip, stories};

/// The least cosine that counts as the same answer.
const COSINE: f64 = 0.9999;

struct Case {
    text: String,
    tokens: Vec<u64>,
    embedding: Vec<f64>,
}

fn cases() -> Vec<Case> {
    let file = std::fs::read(data("embeddings/minilm.json")).expect("the reference");
    let cases: Vec<Value> = serde_json::from_slice(&file).expect("JSON");
    let case = |case: Value| Case {
        text: case["text"].as_str().expect("a text").to_owned(),
        tokens: case["tokens"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id")).collect(),
        embedding: numbers(&case["embedding"]),
    };
    cases.into_iter().map(case).collect()
}

fn numbers(array: &Value) -> Vec<f64> {
    array.as_array().expect("numbers").iter().map(|number| number.as_f64().expect("a number")).collect()
}

fn cosine(a: &[f64], b: &[f64]) -> f64 {
    assert_eq!(a.len(), b.len());
    let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
    dot(a, b) / (dot(a, a) * dot(b, b)).sqrt()
}

/// The GGUF of MiniLM, written anew, where `tools/minilm.sh` has put its weights.
pub(crate) fn gguf(scratch: &Scratch) -> Option<PathBuf> {
    let folder = root().join(".cache/minilm");
    if !folder.join("model.safetensors").is_file() {
        skip("embeddings", "all-MiniLM-L6-v2 is not here; tools/minilm.sh fetches it");
        return None;
    }
    let path = scratch.path("minilm-f16.gguf");
    minilm::write_gguf(&folder, &path);
    Some(path)
}

fn embed(model: &str, texts: &[&str]) -> Vec<Value> {
    let arguments = [&["embed", "-m", model, "--json", "--"], texts].concat();
    serde_json::from_str(&satchel(&arguments).ok()).expect("an array of embeddings")
}

#[test]
fn minilm_gives_llama_cpps_embeddings_alone_and_beside_others() {
    let scratch = Scratch::new();
    let Some(model) = gguf(&scratch) else { return };
    let (model, cases) = (model.to_str().expect("UTF-8"), cases());
    for Case { text, tokens, .. } in &cases {
        let line = satchel(&["tokenize", "-m", model, "--no-special", "--text", text]).ok();
        let ids: Vec<u64> = line.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        assert_eq!(&ids, tokens, "{text:?}");
    }
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    let together = embed(model, &texts);
    assert_eq!(together.len(), cases.len());
    for (case, vector) in cases.iter().zip(&together) {
        let cosine = cosine(&numbers(vector), &case.embedding);
        println!("{cosine:.7} {:?}", case.text);
        assert!(cosine >= COSINE, "{cosine} for {:?}", case.text);
        assert_eq!(
            embed(model, &[&case.text]),
            std::slice::from_ref(vector),
            "alone it gets the same bits: {:?}",
            case.text
        );
    }
    // Another order, from stdin, with texts that are no line left out.
    let lines: Vec<usize> = (0..texts.len()).rev().filter(|&at| !texts[at].contains('\n')).collect();
    let input: String = lines.iter().map(|&at| format!("{}\n", texts[at])).collect();
    let printed = output(Command::new(SATCHEL).args(["embed", "-m", model]), input.as_bytes()).ok();
    assert_eq!(printed.lines().count(), lines.len());
    for (line, &at) in printed.lines().zip(&lines) {
        let line: Vec<f32> = line.split(' ').map(|number| number.parse().expect("a number")).collect();
        let whole: Vec<f32> = numbers(&together[at]).into_iter().map(|number| number as f32).collect();
        assert_eq!(line, whole, "{:?}", texts[at]);
    }
}

#[test]
fn an_embedding_model_says_what_it_is_for() {
    let scratch = Scratch::new();
    let Some(model) = gguf(&scratch) else { return };
    let model = model.to_str().expect("UTF-8");
    for arguments in [&["run", "-m", model, "hello"][..], &["chat", "-m", model], &["bench", "-m", model]] {
        let line = satchel(arguments).failed(1);
        assert!(line.contains("is an embedding model") && line.contains("satchel embed"), "{line}");
    }
    let line = satchel(&["embed", "-m", model, "short", &"word ".repeat(600)]).failed(1);
    assert!(line.contains("text 2 has 602 tokens") && line.contains("512 at the most"), "{line}");
    let line = satchel(&["embed", "-m", model, "--query", "what?", "an answer"]).failed(1);
    assert!(line.contains("no classifier"), "{line}");
    let raw: Vec<Value> =
        serde_json::from_str(&satchel(&["embed", "-m", model, "--json", "--raw", "a text"]).ok()).expect("JSON");
    let first: Vec<Value> =
        serde_json::from_str(&satchel(&["embed", "-m", model, "--json", "--pooling", "cls", "a text"]).ok())
            .expect("JSON");
    let mean = numbers(&embed(model, &["a text"])[0]);
    assert!((cosine(&mean, &mean) - 1.0).abs() < 1e-9);
    assert!((mean.iter().map(|value| value * value).sum::<f64>() - 1.0).abs() < 1e-5);
    assert!(cosine(&numbers(&raw[0]), &mean) > 0.999_999, "another length only");
    assert!(numbers(&raw[0]).iter().map(|value| value * value).sum::<f64>() > 2.0);
    assert!(cosine(&numbers(&first[0]), &mean) < 0.99, "another pooling");
}

#[test]
fn minilm_answers_openais_api() {
    let scratch = Scratch::new();
    let Some(model) = gguf(&scratch) else { return };
    let served = Served::start(&model, &[]);
    let cases = cases();
    let texts: Vec<&str> = cases.iter().map(|case| case.text.as_str()).collect();
    let answer = served.post("/v1/embeddings", &json!({"model": "any", "input": texts}));
    let body = answer.json();
    assert_eq!(answer.status, 200, "{body}");
    let tokens: usize = cases.iter().map(|case| case.tokens.len()).sum();
    assert_eq!(body["usage"], json!({"prompt_tokens": tokens, "total_tokens": tokens}));
    for (at, case) in cases.iter().enumerate() {
        assert_eq!(body["data"][at]["index"], at);
        let cosine = cosine(&numbers(&body["data"][at]["embedding"]), &case.embedding);
        assert!(cosine >= COSINE, "{cosine} for {:?}", case.text);
    }
    let by_tokens = served.post("/v1/embeddings", &json!({"input": cases[1].tokens})).json();
    assert_eq!(by_tokens["data"][0]["embedding"], body["data"][1]["embedding"]);
    let base64 = served.post("/v1/embeddings", &json!({"input": texts[1], "encoding_format": "base64"})).json();
    assert_eq!(base64["data"][0]["embedding"].as_str().map(str::len), Some(384 * 4 / 3 * 4));

    let refused = |body: Value| served.post("/v1/embeddings", &body);
    refused(json!({"input": "a", "dimensions": 64})).error(400, Some("dimensions"), Some("unsupported_parameter"));
    refused(json!({"input": ["a", "word ".repeat(600)]})).error(400, Some("input"), Some("context_length_exceeded"));
    refused(json!({"input": [40_000]})).error(400, Some("input"), None);
    refused(json!({"input": [[]]})).error(400, Some("input"), None);
    served.post("/v1/chat/completions", &json!({"messages": []})).error(404, None, None);
    served.post("/v1/rerank", &json!({"query": "a", "documents": ["b"]})).error(501, None, None);
    let models = served.get("/v1/models").json();
    assert_eq!(models["data"][0]["meta"]["dimensions"], 384);
}

#[test]
fn flags_of_serve_mean_the_same_for_an_embedding_model_or_are_refused() {
    let scratch = Scratch::new();
    let Some(model) = gguf(&scratch) else { return };
    let path = model.to_str().expect("UTF-8");
    for flags in [
        &["--system-prompt", "Be brief."][..],
        &["--overflow", "shift"],
        &["--parallel", "2"],
        &["--top-k", "3"],
        &["--logit-bias", "3=-1"],
        &["--special-in-user-text"],
    ] {
        let line = satchel(&[&["serve", "-m", path, "--port", "0"], flags].concat()).failed(2);
        assert!(line.contains(flags[0]) && line.contains("embedding model"), "{line}");
    }
    let line = satchel(&["serve", "-m", path, "--port", "0", "--check"]).failed(1);
    assert!(line.contains("carries no hash"), "{line}");
    let open = Served::start(&model, &["--host", "0.0.0.0", "--no-auth"]);
    assert!(open.block.contains("every network"), "{}", open.block);
}

#[test]
fn a_decoder_embeds_its_last_position() {
    let model = stories();
    let model = model.to_str().expect("UTF-8");
    let texts = ["Once upon a time", "there was a little girl"];
    let together = embed(model, &texts);
    for (text, vector) in texts.iter().zip(&together) {
        assert_eq!(embed(model, &[text]), std::slice::from_ref(vector), "{text}");
    }
    let of_mean = satchel(&["embed", "-m", model, "--json", "--pooling", "mean", texts[0]]).ok();
    let of_mean: Vec<Value> = serde_json::from_str(&of_mean).expect("JSON");
    assert!(cosine(&numbers(&of_mean[0]), &numbers(&together[0])) < 0.999);
    let line = satchel(&["embed", "-m", model, "--pooling", "rank", texts[0]]).failed(1);
    assert!(line.contains("causal models"), "{line}");
    let line = output(Command::new(SATCHEL).args(["embed", "-m", model]), b"").failed(2);
    assert!(line.contains("no text on stdin"), "{line}");
}
