//! Adapters against llama.cpp: two at once, of all matrices, for every architecture that there is a tiny model of.
//!
//! `data/lora/logits.f32` has the last token's logits of each of [`MODELS`], one model after the other, as llama.cpp v0.5.0 gives
//! them on the CPU for the adapters made here: `llama_set_adapters_lora` with both, a KV cache in F16, no flash attention.

use std::path::{Path, PathBuf};

use satchel::TokenId;
use satchel::engine::{Evaluator, Wanted};
use satchel::kernels;
use satchel::session::open::{Compute, load_model};
use satchel::session::{AdapterOption, ModelSource};
use satchel_gguf::{Gguf, TensorInfo, Value};

use crate::lora::{Factor, adapter, nmse};
use crate::support::{self, Scratch};

const TOKENS: [TokenId; 12] = [1, 7, 22, 90, 41, 3, 100, 64, 12, 5, 77, 33];
const MODELS: [&str; 30] = [
    "stories260K",
    "bloom-dense",
    "cohere2-dense",
    "command-r-dense",
    "exaone4-dense",
    "falcon-dense",
    "gemma-dense",
    "gemma2-dense",
    "gemma3-dense",
    "glm4-dense",
    "gpt-oss-moe",
    "gpt2-dense",
    "gptneox-dense",
    "granite-dense",
    "hunyuan-dense-dense",
    "jamba-dense",
    "lfm2moe-moe",
    "minicpm-dense",
    "mistral3-dense",
    "mpt-dense",
    "nemotron-dense",
    "olmo2-dense",
    "phi2-dense",
    "phi3-dense",
    "qwen2-dense",
    "qwen3-dense",
    "qwen35-dense",
    "smollm3-dense",
    "stablelm-dense",
    "starcoder2-dense",
];

fn path(model: &str) -> PathBuf {
    match model {
        "stories260K" => support::stories(),
        _ => support::data(&format!("architectures/{model}.gguf")),
    }
}

/// Whether llama.cpp multiplies with a tensor in the way that adapters change. Of the token table it takes rows; where that is
/// the head's matrix, too, it fails with an adapter of either.
fn is_adapted(model: &Gguf, tensor: &TensorInfo) -> bool {
    let has_head = model.tensor("output.weight").is_some();
    let others = ["_norm.", ".ssm_a", ".ssm_d.", "conv1d", "shortconv.conv", "position_embd"];
    tensor.dimensions.len() > 1
        && tensor.name.ends_with(".weight")
        && !others.iter().any(|part| tensor.name.contains(part))
        && (has_head || tensor.name != "token_embd.weight")
}

/// Writes an adapter of random factors for all matrices of a model. An alpha of 0 says nothing: the scale is all.
fn write(model: &Gguf, path: &Path, rank: usize, seed: u64, alpha: f32) {
    let tensors = model.tensors.iter().filter(|tensor| is_adapted(model, tensor));
    let factors: Vec<Factor> = tensors.zip(0..).map(|(tensor, at)| Factor::of(tensor, rank, seed + 2 * at)).collect();
    let architecture = model.metadata.get_str("general.architecture").expect("a text").expect("is there");
    let architecture = Value::String(architecture.to_owned());
    adapter(path, &factors, &[("general.architecture", architecture), ("adapter.lora.alpha", Value::F32(alpha))]);
}

fn adapters(model: &Path, scratch: &Scratch) -> [AdapterOption; 2] {
    let bytes = std::fs::read(model).expect("the model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let [first, second] = ["first.gguf", "second.gguf"].map(|name| scratch.path(name));
    write(&gguf, &first, 4, 1000, 3.0);
    write(&gguf, &second, 3, 5000, 0.0);
    [AdapterOption { path: first, scale: 0.25 }, AdapterOption { path: second, scale: -0.125 }]
}

/// The last token's logits. `load` makes an evaluator for so many positions.
fn logits(model: &Path, adapters: &[AdapterOption], load: &impl Fn(&ModelSource, usize) -> Evaluator) -> Vec<f64> {
    let source = ModelSource::open(Some(model)).expect("the model").with_adapters(adapters).expect("the adapters");
    let mut evaluator = load(&source, TOKENS.len()).with_adapters(source.all_adapters());
    evaluator.append(&TOKENS[..5], Wanted::Nothing).expect("the context has room");
    let logits = evaluator.append(&TOKENS[5..], Wanted::Last).expect("the context has room");
    logits.iter().map(|&logit| f64::from(logit)).collect()
}

/// The models whose logits with adapters are not the reference's.
pub(crate) fn faults(load: impl Fn(&ModelSource, usize) -> Evaluator) -> Vec<String> {
    let expected = std::fs::read(support::data("lora/logits.f32")).expect("the reference");
    let mut expected = expected.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes)));
    let mut faults = Vec::new();
    for model in MODELS {
        let (scratch, path) = (Scratch::new(), path(model));
        let plain = logits(&path, &[], &load);
        let found = logits(&path, &adapters(&path, &scratch), &load);
        let expected: Vec<f64> = expected.by_ref().take(found.len()).collect();
        let (off, apart) = (nmse(&found, &expected), nmse(&plain, &expected));
        println!("{model}: nmse {off:.2e}; without the adapters {apart:.2e}");
        if off.is_nan() || off > 1e-5 || apart < 1e-3 {
            faults.push(format!("{model}: nmse {off:.2e}, without the adapters {apart:.2e}"));
        }
    }
    assert!(expected.next().is_none(), "logits of a model that is not compared");
    faults
}

#[test]
fn every_architecture_with_adapters_gives_llama_cpps_logits() {
    let faults = faults(|source, positions| {
        let compute = Compute { kernels: kernels::best(), threads: 2, cache: Default::default() };
        Evaluator::new(load_model(source, compute, None).expect("the model loads"), positions)
    });
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
