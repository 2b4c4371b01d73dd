//! Adapters (LoRA): the same logits as their products merged into the weights, one by one in a server, and in packed files.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_gguf::{Gguf, GgufWriter, TensorType, Value};
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
fn numbers(seed: u64, count: usize) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        (state >> 40) as f32 / (1u64 << 24) as f32 - 0.5
    };
    (0..count).map(|_| next()).collect()
}

fn bytes_of(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn text(path: &Path) -> &str {
    path.to_str().expect("a path of ours")
}

/// The factors of each tensor: its name, inputs, outputs, A `(rank, inputs)` and B `(outputs, rank)`.
type Factors = Vec<(String, usize, usize, Vec<f32>, Vec<f32>)>;

/// Random factors for the tensors of a model.
fn factors(model: &Path, rank: usize, seed: u64) -> Factors {
    let bytes = std::fs::read(model).expect("the model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let one = |(at, name): (usize, &&str)| {
        let tensor = gguf.tensor(name).expect("the model has it");
        let (inputs, outputs) = (tensor.dimensions[0] as usize, tensor.dimensions[1] as usize);
        let seed = seed + 2 * at as u64;
        ((*name).to_owned(), inputs, outputs, numbers(seed, rank * inputs), numbers(seed + 1, outputs * rank))
    };
    CHANGED.iter().enumerate().map(one).collect()
}

/// Writes an adapter of these factors, as llama.cpp's converter does; `set` changes its metadata.
fn adapter(path: &Path, factors: &Factors, set: &[(&str, Value)]) {
    let mut writer = GgufWriter::new();
    for (key, value) in [("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")] {
        writer.set(key, Value::String(value.into()));
    }
    writer.set("adapter.lora.alpha", Value::F32(ALPHA));
    for (key, value) in set {
        writer.set(key, value.clone());
    }
    let mut data = Vec::new();
    for (name, inputs, outputs, a, b) in factors {
        let rank = (a.len() / inputs) as u64;
        writer.tensor(&format!("{name}.lora_a"), &[*inputs as u64, rank], TensorType::F32).expect("a shape");
        writer.tensor(&format!("{name}.lora_b"), &[rank, *outputs as u64], TensorType::F32).expect("a shape");
        data.extend([bytes_of(a), bytes_of(b)]);
    }
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    std::fs::write(path, writer.layout().expect("it fits").to_bytes(&data).expect("as laid out")).expect("scratch");
}

/// The model with `scale · B · A` added to its weights for each of the adapters.
fn merged(model: &Path, out: &Path, adapters: &[(&Factors, f64)]) {
    let bytes = std::fs::read(model).expect("the model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let mut writer = GgufWriter::with_metadata(&gguf.metadata);
    let mut data: Vec<Vec<u8>> = Vec::new();
    for tensor in &gguf.tensors {
        writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).expect("a tensor it had");
        let stored = &bytes[tensor.offset as usize..tensor.end() as usize];
        let changed = adapters.iter().flat_map(|(factors, scale)| factors.iter().map(move |factor| (factor, scale)));
        let changed: Vec<_> = changed.filter(|((name, ..), _)| *name == tensor.name).collect();
        if changed.is_empty() {
            data.push(stored.to_vec());
            continue;
        }
        assert_eq!(tensor.ty, TensorType::F32);
        let mut weights: Vec<f64> =
            stored.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect();
        for ((_, inputs, _, a, b), scale) in changed {
            let rank = a.len() / inputs;
            for (output, row) in weights.chunks_exact_mut(*inputs).enumerate() {
                for (input, weight) in row.iter_mut().enumerate() {
                    let product = |r: usize| f64::from(b[output * rank + r]) * f64::from(a[r * inputs + input]);
                    *weight += scale * f64::from(ALPHA) / rank as f64 * (0..rank).map(product).sum::<f64>();
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

fn nmse(found: &[f64], expected: &[f64]) -> f64 {
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
    other[0].0 = "token_embd.weight".into();
    adapter(&path, &other, &[]);
    refused(&["`token_embd.weight`", "only linear layers"]);
    other[0].0 = "blk.77.attn_q.weight".into();
    adapter(&path, &other, &[]);
    refused(&["`blk.77.attn_q.weight`", "does not have"]);
    // 64 outputs where keys have 32, and 64 inputs where the last matrix of a layer has 172.
    other[0].0 = "blk.0.attn_k.weight".into();
    adapter(&path, &other, &[]);
    refused(&["64 outputs", "another model"]);
    let mut other = vec![factors[0].clone()];
    other[0].0 = "blk.0.ffn_down.weight".into();
    adapter(&path, &other, &[]);
    refused(&["64 inputs", "172"]);
    assert!(told(text(&model)).contains("it is not an adapter"));
    assert!(told("nowhere.gguf").contains("nowhere.gguf"));
    adapter(&path, &factors, &[]);
    let twice = ["--lora", text(&path), "--lora", text(&path)];
    let line = satchel(&[&["run", "-m", text(&model), "--raw"][..], &twice, &["x"]].concat()).failed(1);
    assert!(line.contains("another adapter named `adapter`"), "{line}");
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
