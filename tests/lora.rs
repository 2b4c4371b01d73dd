//! Adapters (LoRA): the same logits as their products merged into the weights, one by one in a server, and in packed files.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_gguf::{Gguf, GgufWriter, TensorInfo, TensorType, Value};
use serde_json::json;

use crate::served::Served;
use crate::support::{self, Scratch, satchel};

const ALPHA: f32 = 6.0;
/// Tensors of the small models that the adapters change.
const CHANGED: [&str; 6] = [
    "blk.0.attn_q.weight",
    "blk.0.attn_v.weight",
    "blk.0.attn_output.weight",
    "blk.0.ffn_gate.weight",
    "blk.0.ffn_down.weight",
    "output.weight",
];

/// Numbers that look random, around 0.
pub(crate) fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

pub(crate) fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// What an adapter has for a tensor: `A` and `B`, and their dimensions, columns first.
#[derive(Clone)]
pub(crate) struct Factor {
    pub(crate) name: String,
    a: (Vec<u64>, Vec<f32>),
    b: (Vec<u64>, Vec<f32>),
}

impl Factor {
    /// Random factors for a tensor. Of a stack of experts each has its own; those of the token table are the other way round.
    pub(crate) fn of(tensor: &TensorInfo, rank: usize, seed: u64) -> Self {
        let [inputs, outputs] = [0, 1].map(|at| tensor.dimensions[at]);
        let (rank, experts) = (rank as u64, &tensor.dimensions[2..]);
        let [mut a, mut b] = match tensor.name.as_str() {
            "token_embd.weight" => [vec![rank, outputs], vec![rank, inputs]],
            _ => [vec![inputs, rank], vec![rank, outputs]],
        };
        a.extend(experts);
        b.extend(experts);
        let random = |shape: Vec<u64>, seed| {
            let count = shape.iter().product::<u64>() as usize;
            (shape, numbers(seed, count))
        };
        Self { name: tensor.name.clone(), a: random(a, seed), b: random(b, seed + 1) }
    }
}

/// Random factors for the tensors of a model.
fn factors(model: &Path, rank: usize, seed: u64) -> Vec<Factor> {
    let bytes = std::fs::read(model).expect("the model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let tensor = |name: &&str| gguf.tensor(name).expect("the model has it");
    CHANGED.iter().zip(0..).map(|(name, at)| Factor::of(tensor(name), rank, seed + 2 * at)).collect()
}

/// Writes an adapter of these factors, as llama.cpp's converter does; `set` changes its metadata.
pub(crate) fn adapter(path: &Path, factors: &[Factor], set: &[(&str, Value)]) {
    let mut writer = GgufWriter::new();
    for (key, value) in [("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")] {
        writer.set(key, Value::String(value.into()));
    }
    writer.set("adapter.lora.alpha", Value::F32(ALPHA));
    for (key, value) in set {
        writer.set(key, value.clone());
    }
    let mut data = Vec::new();
    for Factor { name, a, b } in factors {
        for (suffix, (shape, values)) in [("lora_a", a), ("lora_b", b)] {
            writer.tensor(&format!("{name}.{suffix}"), shape, TensorType::F32).expect("a shape");
            data.push(bytes_of(values));
        }
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    std::fs::write(path, writer.layout().expect("it fits").to_bytes(&data).expect("as laid out")).expect("scratch");
}

/// The model with `scale · B · A` added to its weights for each of the adapters.
fn merged(model: &Path, out: &Path, adapters: &[(&[Factor], f64)]) {
    let bytes = std::fs::read(model).expect("the model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let mut writer = GgufWriter::with_metadata(&gguf.metadata);
    let mut data: Vec<Vec<u8>> = Vec::new();
    for tensor in &gguf.tensors {
        writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).expect("a tensor it had");
        let stored = &bytes[tensor.offset as usize..tensor.end() as usize];
        let changed = adapters.iter().flat_map(|(factors, scale)| factors.iter().map(move |factor| (factor, scale)));
        let changed: Vec<_> = changed.filter(|(factor, _)| factor.name == tensor.name).collect();
        if changed.is_empty() {
            data.push(stored.to_vec());
            continue;
        }
        assert_eq!(tensor.ty, TensorType::F32);
        let values = |bytes: &[u8]| -> Vec<f64> {
            bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
        };
        let mut weights = values(stored);
        // A matrix's factor multiplies what is merged into it; of what an adapter adds it covers that of a feed-forward only.
        let factor = gguf.tensor(&tensor.name.replace(".weight", ".scale")).filter(|_| !tensor.name.contains("ffn_"));
        let factor = factor.map_or(1.0, |factor| values(&bytes[factor.offset as usize..factor.end() as usize])[0]);
        for (Factor { a: (shape, a), b: (_, b), .. }, scale) in changed {
            let [inputs, rank] = [shape[0], shape[1]].map(|size| size as usize);
            for (output, row) in weights.chunks_exact_mut(inputs).enumerate() {
                for (input, weight) in row.iter_mut().enumerate() {
                    let product = |r: usize| f64::from(b[output * rank + r]) * f64::from(a[r * inputs + input]);
                    *weight += scale / factor * f64::from(ALPHA) / rank as f64 * (0..rank).map(product).sum::<f64>();
                }
            }
        }
        data.push(bytes_of(&weights.iter().map(|weight| *weight as f32).collect::<Vec<_>>()));
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    std::fs::write(out, writer.layout().expect("it fits").to_bytes(&data).expect("as laid out")).expect("scratch");
}

/// Logits of some tokens with these flags.
fn logits(scratch: &Scratch, model: &Path, flags: &[&str]) -> Vec<f64> {
    let (tokens, out) = (scratch.path("tokens"), scratch.path("logits"));
    std::fs::write(&tokens, "1 7 22 90 41 3 100 64 12 5 77 33").expect("scratch");
    let arguments =
        ["logits", "-m", text(model), "--tokens", text(&tokens), "--force", "-o", text(&out), "--chunk", "5"];
    satchel(&[&arguments[..], flags].concat()).ok();
    let bytes = std::fs::read(&out).expect("the logits");
    bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
}

/// `sum((a - b)²) / sum(b²)`
pub(crate) fn nmse(found: &[f64], expected: &[f64]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let error: f64 = found.iter().zip(expected).map(|(a, b)| (a - b) * (a - b)).sum();
    error / expected.iter().map(|value| value * value).sum::<f64>()
}

/// The second model has biases, and factors of whole matrices, which count for what an adapter adds, too.
#[test]
fn adapters_give_the_logits_of_weights_they_are_merged_into() {
    for model in [support::stories(), support::data("reference/llama-dense.gguf")] {
        let scratch = Scratch::new();
        let (one, two) = (factors(&model, 4, 100), factors(&model, 3, 900));
        let [first, second, both] = ["first.gguf", "second.gguf", "merged.gguf"].map(|name| scratch.path(name));
        adapter(&first, &one, &[]);
        adapter(&second, &two, &[]);
        merged(&model, &both, &[(&one, 0.5), (&two, -0.25)]);
        let plain = logits(&scratch, &model, &[]);
        let expected = logits(&scratch, &both, &[]);
        let (half, quarter) = (format!("{}=0.5", text(&first)), format!("{}=-0.25", text(&second)));
        let found = logits(&scratch, &model, &["--lora", &half, "--lora", &quarter]);
        let (off, apart) = (nmse(&found, &expected), nmse(&plain, &expected));
        println!("{}: nmse {off:.2e}; without the adapters {apart:.2e}", model.display());
        assert!(off < 1e-9 && apart > 1e-3, "nmse {off:e}, without the adapters {apart:e}");
        let nothing = logits(&scratch, &model, &["--lora", &format!("{}=0", text(&first))]);
        assert_eq!(nothing, plain, "a scale of 0 changes nothing");
    }
}

#[test]
fn what_is_no_adapter_for_the_model_is_refused() {
    let scratch = Scratch::new();
    let model = support::stories();
    let factors = factors(&model, 4, 1);
    let path = scratch.path("adapter.gguf");
    let told = |flag: &str| satchel(&["run", "-m", text(&model), "--raw", "-n", "1", "--lora", flag, "x"]).failed(1);
    let refused = |parts: &[&str]| {
        let line = told(text(&path));
        assert!(parts.iter().all(|part| line.contains(part)) && line.contains("adapter"), "{line}");
    };
    let string = |text: &str| Value::String(text.into());
    adapter(&path, &factors, &[("general.architecture", string("qwen2"))]);
    refused(&["made for `qwen2`", "`llama`"]);
    adapter(&path, &factors, &[("adapter.type", string("control_vector"))]);
    refused(&["`control_vector`", "only `lora`"]);
    let mut other = factors.clone();
    other[0].name = "blk.0.attn_norm.weight".into();
    adapter(&path, &other, &[]);
    refused(&["`blk.0.attn_norm.weight`", "only linear layers, experts and the token table"]);
    // Factors of the token table are the other way round.
    other[0].name = "token_embd.weight".into();
    adapter(&path, &other, &[]);
    refused(&["`token_embd.weight.lora_b`", "shape"]);
    other[0].name = "blk.77.attn_q.weight".into();
    adapter(&path, &other, &[]);
    refused(&["`blk.77.attn_q.weight`", "does not have"]);
    // 64 outputs where keys have 32, and 64 inputs where the last matrix of a layer has 172.
    other[0].name = "blk.0.attn_k.weight".into();
    adapter(&path, &other, &[]);
    refused(&["64 outputs", "another model"]);
    let mut other = vec![factors[0].clone()];
    other[0].name = "blk.0.ffn_down.weight".into();
    adapter(&path, &other, &[]);
    refused(&["64 inputs", "172"]);
    assert!(told(text(&model)).contains("it is not an adapter"));
    assert!(told("nowhere.gguf").contains("nowhere.gguf"));
    adapter(&path, &factors, &[]);
    let twice = ["--lora", text(&path), "--lora", text(&path)];
    let line = satchel(&[&["run", "-m", text(&model), "--raw"][..], &twice, &["x"]].concat()).failed(1);
    assert!(line.contains("another adapter named `adapter`"), "{line}");
}

/// llama.cpp's ways of choosing: an answer is that of the model's name that says the same.
fn check_lora_adapters(server: &Served, alone: &[String]) {
    let text = |lora: Option<serde_json::Value>, model: &str| {
        let mut body = json!({"model": model, "prompt": "Once upon a time", "n_predict": 40, "temperature": 0});
        body["lora"] = lora.unwrap_or_default();
        server.post("/completion", &body).json()["content"].as_str().expect("a text").to_owned()
    };
    let scales = || server.get("/lora-adapters").json().to_string();
    let listed = |pirate: &str, poet: &str| {
        format!("[{{\"id\":0,\"path\":\"pirate\",\"scale\":{pirate}}},{{\"id\":1,\"path\":\"poet\",\"scale\":{poet}}}]")
    };
    assert_eq!(scales(), listed("0.0", "0.0"));
    assert_eq!(text(Some(json!([{"id": 1, "scale": 0.5}])), "tale"), alone[2]);
    assert_eq!(text(Some(json!([{"id": 0, "scale": 1}, {"id": 1, "scale": 0}])), "tale:poet"), alone[1]);
    let set = |body| server.post("/lora-adapters", &body);
    assert_eq!(set(json!([{"id": 0, "scale": 1.0}])).json(), json!({"success": true}));
    assert_eq!(scales(), listed("1.0", "0.0"));
    assert_eq!((text(None, "tale"), text(None, "tale:poet")), (alone[1].clone(), alone[2].clone()));
    assert_eq!(text(Some(json!([])), "tale"), alone[0]);
    for (body, name) in [
        (json!([{"id": 0, "scale": 0.7}]), "[0].scale"),
        (json!([{"id": 1, "scale": 0}, {"id": 2, "scale": 1}]), "[1].id"),
        (json!([{"id": "a", "scale": 1}]), "[0].id"),
        (json!([{"id": 0}]), "[0].scale"),
        (json!({"id": 0, "scale": 1}), ""),
    ] {
        set(body.clone()).error(400, Some(&format!("body{name}")), None);
        let asked = server.post("/v1/completions", &json!({"prompt": "x", "lora": body}));
        asked.error(400, Some(&format!("lora{name}")), None);
    }
    assert_eq!(scales(), listed("1.0", "0.0"), "what is refused changes nothing");
    assert_eq!(set(json!([])).json(), json!({"success": true}));
    assert_eq!(text(None, "tale"), alone[0]);
}

/// A model packed with two adapters.
fn packed(scratch: &Scratch) -> (PathBuf, [PathBuf; 2]) {
    let model = support::stories();
    let adapters = ["pirate.gguf", "poet.gguf"].map(|name| scratch.path(name));
    adapter(&adapters[0], &factors(&model, 4, 1), &[]);
    adapter(&adapters[1], &factors(&model, 2, 2000), &[]);
    let out = scratch.path("packed");
    let poet = format!("{}=0.5", text(&adapters[1]));
    let flags = ["--name", "tale", "--lora", text(&adapters[0]), "--lora", &poet];
    satchel(&[&["pack", text(&model), "-o", text(&out)][..], &flags].concat()).ok();
    (out, adapters)
}

#[test]
fn a_packed_file_carries_adapters_and_requests_choose_one() {
    let scratch = Scratch::new();
    let (packed, adapters) = packed(&scratch);
    satchel(&["verify", text(&packed)]).ok();
    let server = Served::run(Command::new(&packed).args(["--no-browser", "--port", "0", "-t", "2", "--parallel", "3"]));
    let listed = server.get("/v1/models").json();
    let ids: Vec<&str> =
        listed["data"].as_array().expect("a list").iter().filter_map(|model| model["id"].as_str()).collect();
    assert_eq!(ids, ["tale", "tale:pirate", "tale:poet"], "{listed}");
    assert_eq!(server.get("/v1/models/tale:poet").json()["meta"]["adapter"], "poet");
    let ask = |model: &str| {
        let body = json!({ "model": model, "prompt": "Once upon a time", "max_tokens": 40, "temperature": 0 });
        let answer = server.post("/v1/completions", &body).json();
        assert_eq!(answer["model"].as_str(), Some(model), "{answer}");
        answer["choices"][0]["text"].as_str().expect("a text").to_owned()
    };
    let alone = ids.clone().into_iter().map(ask).collect::<Vec<_>>();
    assert!(alone[0] != alone[1] && alone[0] != alone[2] && alone[1] != alone[2], "{alone:?}");
    // Beside each other, twice: in shared steps, and with what is kept of the first round.
    for _ in 0..2 {
        let together: Vec<String> = std::thread::scope(|scope| {
            let asked: Vec<_> = ids.iter().map(|id| scope.spawn(|| ask(id))).collect();
            asked.into_iter().map(|answer| answer.join().expect("no panic")).collect()
        });
        assert_eq!(together, alone);
    }
    check_lora_adapters(&server, &alone);
    let error = server.post("/v1/completions", &json!({ "model": "sailor", "prompt": "x" }));
    assert!(error.error(404, Some("model"), Some("model_not_found")).contains("tale:poet"));
    drop(server);
    // The terminal's commands give the same with the same file and scale.
    let told = |flags: &[&str]| {
        let model = support::stories();
        let run = ["run", "-m", text(&model), "--raw", "-n", "40", "--temperature", "0"];
        satchel(&[&run[..], flags, &["Once upon a time"]].concat()).ok()
    };
    assert_eq!(told(&[]).trim_end(), alone[0].trim_end());
    assert_eq!(told(&["--lora", &format!("{}=0.5", text(&adapters[1]))]).trim_end(), alone[2].trim_end());
}
