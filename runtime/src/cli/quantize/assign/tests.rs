//! The rules against what llama.cpp assigned to the tensors of seven models (tests/data/quantize/README.md).

use satchel_gguf::{GgufWriter, Value};
use serde_json::Value as Json;

use super::*;

fn fixture() -> serde_json::Map<String, Json> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/data/quantize/assignments.json");
    serde_json::from_slice(&std::fs::read(path).unwrap()).unwrap()
}

/// Metadata and tensor table of a model of this shape; its matrices are F16.
fn model(shape: &Json) -> Gguf {
    let number = |key: &str| shape[key].as_u64().unwrap_or(0);
    let [width, layers, heads, kv, inner, vocabulary, experts] =
        ["width", "layers", "heads", "kv", "ff", "vocab", "experts"].map(number);
    let (architecture, is_falcon) = (shape["arch"].as_str().unwrap(), shape["qkv"] == true);
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String(architecture.into()));
    let keys = [
        ("block_count", layers),
        ("attention.head_count", heads),
        ("attention.head_count_kv", kv),
        ("expert_count", experts),
    ];
    for (key, value) in keys {
        writer.set(&format!("{architecture}.{key}"), Value::U32(value as u32));
    }
    let mut matrix = |name: &str, dimensions: &[u64]| {
        writer.tensor(&format!("{name}.weight"), dimensions, TensorType::F16).unwrap();
    };
    matrix("token_embd", &[width, vocabulary]);
    if shape["untied"] == true {
        matrix("output", &[width, vocabulary]);
    }
    let cached = width / heads * kv;
    // Files may list layers in any order, even 10 before 2.
    let mut order: Vec<u64> = (0..layers).collect();
    order.sort_by_key(u64::to_string);
    for layer in order {
        let mut matrix = |name: &str, dimensions: &[u64]| matrix(&format!("blk.{layer}.{name}"), dimensions);
        matrix("attn_output", &[width, width]);
        if is_falcon {
            matrix("attn_qkv", &[width, width + 2 * cached]);
        } else {
            for (name, rows) in [("attn_q", width), ("attn_k", cached), ("attn_v", cached)] {
                matrix(name, &[width, rows]);
            }
        }
        if experts > 0 {
            matrix("ffn_gate_inp", &[width, experts]);
            ["ffn_gate_exps", "ffn_up_exps"].iter().for_each(|name| matrix(name, &[width, inner, experts]));
            matrix("ffn_down_exps", &[inner, width, experts]);
        } else {
            let wide = if is_falcon { &["ffn_up"][..] } else { &["ffn_gate", "ffn_up"] };
            wide.iter().for_each(|name| matrix(name, &[width, inner]));
            matrix("ffn_down", &[inner, width]);
        }
    }
    writer.tensor("output_norm.weight", &[width], TensorType::F32).unwrap();
    let layout = writer.layout().unwrap();
    Gguf::parse_head(&layout.head, layout.file_bytes).unwrap()
}

/// `Q6_K*2 Q4_K`: the types of consecutive layers.
fn expected(runs: &str, layer: Option<usize>) -> TensorType {
    let types = runs.split(' ').flat_map(|run| {
        let (ty, count) = run.split_once('*').unwrap_or((run, "1"));
        std::iter::repeat_n(TensorType::from_name(ty).unwrap(), count.parse().unwrap())
    });
    types.collect::<Vec<_>>()[layer.unwrap_or(0)]
}

#[test]
fn every_tensor_gets_the_type_that_llama_cpp_gives_it() {
    let fixture = fixture();
    assert_eq!(fixture.len(), 7);
    for (model_name, facts) in &fixture {
        let gguf = model(&facts["shape"]);
        for (type_name, expected_types) in facts["types"].as_object().unwrap() {
            let assigned = assign(&gguf, FileType::parse(type_name).unwrap(), false).unwrap();
            for (tensor, to) in gguf.tensors.iter().zip(&assigned) {
                let layer = layer(&tensor.name);
                let key = match layer {
                    Some(layer) => tensor.name.replacen(&format!("blk.{layer}."), "blk.*.", 1),
                    None => tensor.name.clone(),
                };
                if tensor.name == "output_norm.weight" {
                    assert_eq!(to.ty, TensorType::F32);
                    continue;
                }
                let runs = expected_types[&key].as_str().unwrap_or_else(|| panic!("{model_name} has no {key}"));
                assert_eq!(to.ty, expected(runs, layer), "{model_name} as {type_name}: {}", tensor.name);
            }
        }
    }
}

#[test]
fn pure_uses_one_type_and_its_fallback() {
    let fixture = fixture();
    let types = |name: &str| {
        let gguf = model(&fixture[name]["shape"]);
        let assigned = assign(&gguf, FileType::Q4_K_M, true).unwrap();
        let matrices = gguf.tensors.iter().zip(assigned).filter(|(tensor, _)| tensor.rows() > 1);
        matrices.map(|(_, to)| to.ty).collect::<std::collections::BTreeSet<_>>()
    };
    assert_eq!(types("llama-8b").into_iter().collect::<Vec<_>>(), [TensorType::Q4_K]);
    // Rows of 576 and of 1536.
    assert_eq!(types("smollm2-135m").into_iter().collect::<Vec<_>>(), [TensorType::Q5_0, TensorType::Q4_K]);
}

#[test]
fn rows_of_odd_length_become_f16() {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Value::String("llama".into()));
    writer.tensor("blk.0.attn_q.weight", &[40, 8], TensorType::F32).unwrap();
    let layout = writer.layout().unwrap();
    let gguf = Gguf::parse_head(&layout.head, layout.file_bytes).unwrap();
    for file_type in [FileType::Q8_0, FileType::Q2_K] {
        assert_eq!(assign(&gguf, file_type, false).unwrap()[0].ty, TensorType::F16);
    }
    assert_eq!(assign(&gguf, FileType::BF16, false).unwrap()[0].ty, TensorType::BF16);
}
