//! Encoders of random weights, their classifiers and adapters, and a decoder's pooled states are llama.cpp's.
//!
//! `data/embeddings/encoders.json` has, for each model written here, the tokens of its texts or pairs and what llama.cpp v0.5.0
//! makes of them on the CPU: `llama_get_embeddings_seq` after `llama_encode`; of the decoder after `llama_decode`, with a KV cache
//! in F16.

use std::collections::BTreeMap;
use std::path::Path;

use satchel_gguf::{Array, Gguf, GgufWriter, TensorType, Value};
use serde::Deserialize;
use serde_json::json;

use crate::lora::{Factor, adapter, bytes_of, nmse, numbers};
use crate::served::Served;
use crate::support::{self, Scratch, satchel};

const WIDTH: u64 = 32;
const INNER: u64 = 48;
const LAYERS: u64 = 2;
const EXPERTS: u64 = 4;
const LABELS: u64 = 3;

/// A text, or a pair, and what llama.cpp gives.
#[derive(Deserialize)]
struct Case {
    tokens: Vec<u64>,
    vector: Vec<f64>,
}

/// An encoder: its architecture, how it pools, and what it is made of.
struct Encoder {
    name: &'static str,
    architecture: &'static str,
    pooling: u32,
    /// Scores of its classifier, and whether a layer is before it.
    scores: Option<(u64, bool)>,
}

const ENCODERS: [Encoder; 5] = [
    Encoder { name: "nomic-bert", architecture: "nomic-bert", pooling: 1, scores: None },
    Encoder { name: "nomic-bert-moe", architecture: "nomic-bert-moe", pooling: 2, scores: None },
    Encoder { name: "bert", architecture: "bert", pooling: 3, scores: None },
    Encoder { name: "bert-score", architecture: "bert", pooling: 4, scores: Some((1, true)) },
    Encoder { name: "bert-labels", architecture: "bert", pooling: 4, scores: Some((LABELS, false)) },
];

impl Encoder {
    /// Its tensors under llama.cpp's names, with their dimensions, columns first.
    fn tensors(&self, vocabulary: u64) -> Vec<(String, Vec<u64>)> {
        let rotates = self.architecture != "bert";
        let has_biases = self.architecture != "nomic-bert";
        let mut tensors: Vec<(String, Vec<u64>)> = Vec::new();
        let mut add = |name: &str, dimensions: &[u64]| tensors.push((name.to_owned(), dimensions.to_vec()));
        add("token_embd.weight", &[WIDTH, vocabulary]);
        add("token_types.weight", &[WIDTH, 2]);
        if !rotates {
            add("position_embd.weight", &[WIDTH, 64]);
        }
        add("token_embd_norm.weight", &[WIDTH]);
        add("token_embd_norm.bias", &[WIDTH]);
        for layer in 0..LAYERS {
            let mut linear = |name: &str, inputs: u64, outputs: u64| {
                add(&format!("blk.{layer}.{name}.weight"), &[inputs, outputs]);
                if has_biases {
                    add(&format!("blk.{layer}.{name}.bias"), &[outputs]);
                }
            };
            match rotates {
                true => linear("attn_qkv", WIDTH, 3 * WIDTH),
                false => ["attn_q", "attn_k", "attn_v"].iter().for_each(|name| linear(name, WIDTH, WIDTH)),
            }
            linear("attn_output", WIDTH, WIDTH);
            let has_experts = self.architecture == "nomic-bert-moe" && layer % 2 == 1;
            if !has_experts {
                if self.architecture == "nomic-bert" {
                    linear("ffn_gate", WIDTH, INNER);
                }
                linear("ffn_up", WIDTH, INNER);
                linear("ffn_down", INNER, WIDTH);
            } else {
                add(&format!("blk.{layer}.ffn_gate_inp.weight"), &[WIDTH, EXPERTS]);
                add(&format!("blk.{layer}.ffn_up_exps.weight"), &[WIDTH, INNER, EXPERTS]);
                add(&format!("blk.{layer}.ffn_down_exps.weight"), &[INNER, WIDTH, EXPERTS]);
            }
            for norm in ["attn_output_norm", "layer_output_norm"] {
                add(&format!("blk.{layer}.{norm}.weight"), &[WIDTH]);
                add(&format!("blk.{layer}.{norm}.bias"), &[WIDTH]);
            }
        }
        if let Some((scores, has_layer)) = self.scores {
            if has_layer {
                add("cls.weight", &[WIDTH, WIDTH]);
                add("cls.bias", &[WIDTH]);
            }
            add("cls.output.weight", &[WIDTH, scores]);
            add("cls.output.bias", &[scores]);
        }
        tensors
    }

    fn set(&self, writer: &mut GgufWriter) {
        let key = |name: &str| format!("{}.{name}", self.architecture);
        writer.set("general.architecture", Value::String(self.architecture.into()));
        for (name, number) in [
            ("block_count", LAYERS as u32),
            ("context_length", 64),
            ("embedding_length", WIDTH as u32),
            ("feed_forward_length", INNER as u32),
            ("attention.head_count", 4),
            ("pooling_type", self.pooling),
        ] {
            writer.set(&key(name), Value::U32(number));
        }
        writer.set(&key("attention.layer_norm_epsilon"), Value::F32(1e-5));
        writer.set(&key("attention.causal"), Value::Bool(false));
        if self.architecture != "bert" {
            writer.set(&key("rope.freq_base"), Value::F32(1000.0));
        }
        if self.architecture == "nomic-bert-moe" {
            for (name, number) in
                [("moe_every_n_layers", 2), ("expert_count", EXPERTS as u32), ("expert_used_count", 2)]
            {
                writer.set(&key(name), Value::U32(number));
            }
        }
        if let Some((scores @ 2.., _)) = self.scores {
            let labels: Vec<String> = (0..scores).map(|at| format!("label {at}")).collect();
            writer.set(&key("classifier.output_labels"), Value::Array(Array::String(labels.iter().collect())));
        }
    }

    /// Writes it with numbers that look random.
    fn write(&self, path: &Path) {
        let mut writer = GgufWriter::new();
        self.set(&mut writer);
        let vocabulary = set_tokenizer(&mut writer);
        let mut data = Vec::new();
        for ((name, dimensions), seed) in self.tensors(vocabulary).iter().zip(10..) {
            writer.tensor(name, dimensions, TensorType::F32).expect("a shape");
            let mut values = numbers(seed, dimensions.iter().product::<u64>() as usize);
            if name.ends_with("norm.weight") {
                values.iter_mut().for_each(|value| *value += 1.0);
            }
            data.push(bytes_of(&values));
        }
        let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
        std::fs::write(path, writer.layout().expect("it fits").to_bytes(&data).expect("as laid out")).expect("scratch");
    }
}

/// WordPiece with letters and a few words.
fn set_tokenizer(writer: &mut GgufWriter) -> u64 {
    let control = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"];
    let words = ["the", "cat", "sat", "on", "a", "mat", "who", "where", "?", "."];
    let mut tokens: Vec<String> = control.map(str::to_owned).into();
    tokens.extend(words.map(|word| format!("\u{2581}{word}")));
    tokens.extend(('b'..='z').map(|letter| format!("\u{2581}{letter}")));
    tokens.extend(('a'..='z').map(String::from));
    let types = tokens.iter().enumerate().map(|(at, _)| if at < control.len() { 3 } else { 1 }).collect();
    writer.set("tokenizer.ggml.model", Value::String("bert".into()));
    writer.set("tokenizer.ggml.pre", Value::String("jina-v2-en".into()));
    writer.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens.iter().collect())));
    writer.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
    for (key, id) in [("padding", 0), ("unknown", 1), ("cls", 2), ("bos", 2), ("seperator", 3), ("eos", 3), ("mask", 4)]
    {
        writer.set(&format!("tokenizer.ggml.{key}_token_id"), Value::U32(id));
    }
    writer.set("tokenizer.ggml.token_type_count", Value::U32(2));
    tokens.len() as u64
}

const TEXTS: [&str; 4] =
    ["the cat sat on a mat", "who?", "where is the hat that ate a bat on the mat. a cat", "abc zyx"];
const QUERY: &str = "who sat on the mat?";

fn references() -> BTreeMap<String, Vec<Case>> {
    let file = std::fs::read(support::data("embeddings/encoders.json")).expect("the reference");
    serde_json::from_slice(&file).expect("JSON")
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn tokens(model: &Path, of: &str) -> Vec<u64> {
    let line = satchel(&["tokenize", "-m", text(model), "--no-special", "--text", of]).ok();
    line.split_whitespace().map(|id| id.parse().expect("an id")).collect()
}

/// Vectors or scores of the texts.
fn embed(model: &Path, flags: &[&str]) -> Vec<Vec<f64>> {
    let arguments = [&["embed", "-m", text(model), "--json", "--raw"], flags, &["--"], &TEXTS].concat();
    let found: Vec<serde_json::Value> = serde_json::from_str(&satchel(&arguments).ok()).expect("an array");
    let vector = |value: serde_json::Value| match value {
        serde_json::Value::Array(_) => serde_json::from_value(value).expect("numbers"),
        score => vec![score.as_f64().expect("a score")],
    };
    found.into_iter().map(vector).collect()
}

/// Fails where vectors are not the reference's.
fn compare(name: &str, found: &[Vec<f64>], cases: &[Case]) {
    let expected: Vec<f64> = cases.iter().flat_map(|case| case.vector.iter().copied()).collect();
    let off = nmse(&found.concat(), &expected);
    println!("{name}: nmse {off:.2e}");
    assert!(off < 5e-6, "{name}: nmse {off:e}");
}

#[test]
fn encoders_and_classifiers_give_llama_cpps_results() {
    let references = references();
    let scratch = Scratch::new();
    for encoder in &ENCODERS {
        let model = scratch.path("model.gguf");
        encoder.write(&model);
        let cases = &references[encoder.name];
        let texts: Vec<Vec<u64>> = TEXTS.iter().map(|text| tokens(&model, text)).collect();
        let (flags, sequences) = match encoder.scores {
            None => (vec![], texts),
            Some(_) => {
                let query = tokens(&model, QUERY);
                let pair = |text: &Vec<u64>| [&query, &text[1..]].concat();
                (vec!["--query", QUERY], texts.iter().map(pair).collect())
            }
        };
        let expected: Vec<&Vec<u64>> = cases.iter().map(|case| &case.tokens).collect();
        assert_eq!(sequences.iter().collect::<Vec<_>>(), expected, "{}", encoder.name);
        compare(encoder.name, &embed(&model, &flags), cases);
    }
}

#[test]
fn a_server_ranks_documents_by_the_scores_of_llama_cpp() {
    let references = references();
    let encoder = ENCODERS.iter().find(|encoder| encoder.scores.is_some()).expect("one scores");
    let scratch = Scratch::new();
    let model = scratch.path("model.gguf");
    encoder.write(&model);
    let served = Served::start(&model, &[]);
    assert!(served.block.contains("scores of documents") && served.block.contains("/v1/rerank"), "{}", served.block);
    let scores: Vec<f64> = references[encoder.name].iter().map(|case| case.vector[0]).collect();
    let mut order: Vec<usize> = (0..TEXTS.len()).collect();
    order.sort_by(|a, b| scores[*b].total_cmp(&scores[*a]));
    let tokens: usize = references[encoder.name].iter().map(|case| case.tokens.len()).sum();
    for path in ["/v1/rerank", "/rerank"] {
        let answer = served.post(path, &json!({"model": "any", "query": QUERY, "documents": TEXTS, "top_n": 3})).json();
        let results = answer["results"].as_array().expect("results");
        assert_eq!(results.len(), 3);
        for (result, at) in results.iter().zip(&order) {
            assert_eq!(result["index"], *at);
            let score = result["relevance_score"].as_f64().expect("a score");
            assert!((score - scores[*at]).abs() <= 2e-3 * scores[*at].abs().max(1.0), "{score} of {}", scores[*at]);
        }
        assert_eq!(answer["usage"]["total_tokens"], tokens);
    }
    served.post("/v1/rerank", &json!({"query": QUERY, "documents": []})).error(400, Some("documents"), None);
    for name in ["documents", "texts"] {
        let long = served.post("/v1/rerank", &json!({"query": QUERY, name: ["a cat", "cat ".repeat(5000)]}));
        long.error(400, Some(name), Some("context_length_exceeded"));
    }
    served.post("/v1/embeddings", &json!({"input": "a"})).error(501, None, None);
    assert_eq!(served.get("/v1/models").json()["data"][0]["capabilities"], json!(["rerank"]));
}

#[test]
fn an_adapter_changes_embeddings_as_in_llama_cpp() {
    let references = references();
    let scratch = Scratch::new();
    let [model, path] = ["model.gguf", "adapter.gguf"].map(|name| scratch.path(name));
    ENCODERS[0].write(&model);
    let bytes = std::fs::read(&model).expect("the model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let tensors = gguf.tensors.iter().filter(|tensor| tensor.name.starts_with("blk.") && tensor.dimensions.len() > 1);
    let factors: Vec<Factor> = tensors.zip(0..).map(|(tensor, at)| Factor::of(tensor, 2, 300 + 2 * at)).collect();
    adapter(&path, &factors, &[("general.architecture", Value::String(ENCODERS[0].architecture.into()))]);
    let found = embed(&model, &["--lora", &format!("{}=0.5", text(&path))]);
    compare("nomic-bert with an adapter", &found, &references["nomic-bert-lora"]);
}

#[test]
fn a_decoders_states_are_pooled_as_in_llama_cpp() {
    let references = references();
    let model = support::stories();
    for kind in ["last", "mean"] {
        let cases = &references[&format!("stories-{kind}")];
        for (case, text) in cases.iter().zip(&TEXTS) {
            assert_eq!(tokens(&model, text), case.tokens);
        }
        compare(kind, &embed(&model, &["--pooling", kind]), cases);
    }
}
