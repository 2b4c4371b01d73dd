//! Converts all-MiniLM-L6-v2 from safetensors to GGUF, with the tensor names of llama.cpp's converter and matrices in F16.

use std::io::{BufWriter, Write};
use std::path::Path;

use half::f16;
use satchel_gguf::{Array, GgufWriter, TensorType, Value};
use serde_json::Value as Json;

/// Names within a layer: (BERT's, GGUF's).
const LAYER_NAMES: &[(&str, &str)] = &[
    ("attention.self.query", "attn_q"),
    ("attention.self.key", "attn_k"),
    ("attention.self.value", "attn_v"),
    ("attention.output.dense", "attn_output"),
    ("attention.output.LayerNorm", "attn_output_norm"),
    ("intermediate.dense", "ffn_up"),
    ("output.dense", "ffn_down"),
    ("output.LayerNorm", "layer_output_norm"),
];

const OUTER_NAMES: &[(&str, &str)] = &[
    ("embeddings.word_embeddings", "token_embd"),
    ("embeddings.position_embeddings", "position_embd"),
    ("embeddings.token_type_embeddings", "token_types"),
    ("embeddings.LayerNorm", "token_embd_norm"),
];

/// The name in GGUF; `None` for tensors that embeddings do not need.
fn name_in_gguf(name: &str) -> Option<String> {
    let (name, end) = name.rsplit_once('.')?;
    match name.strip_prefix("encoder.layer.").and_then(|rest| rest.split_once('.')) {
        Some((layer, name)) => Some(format!("blk.{layer}.{}.{end}", found(LAYER_NAMES, name)?)),
        None => Some(format!("{}.{end}", found(OUTER_NAMES, name)?)),
    }
}

fn found(names: &[(&str, &'static str)], name: &str) -> Option<&'static str> {
    names.iter().find(|(from, _)| *from == name).map(|(_, to)| *to)
}

/// A token as the converter writes it: word-initial ones get the mark U+2581, continuations lose their `##`.
fn marked(token: &str) -> String {
    match token.strip_prefix("##") {
        _ if token.starts_with('[') && token.ends_with(']') => token.to_owned(),
        Some(rest) => rest.to_owned(),
        None => format!("\u{2581}{token}"),
    }
}

/// Writes the model in `folder` (`model.safetensors`, `tokenizer.json`) to `target`.
pub(crate) fn write_gguf(folder: &Path, target: &Path) {
    let bytes = std::fs::read(folder.join("model.safetensors")).expect("the weights");
    let header_bytes = u64::from_le_bytes(bytes[..8].try_into().expect("eight bytes")) as usize;
    let header: Json = serde_json::from_slice(&bytes[8..8 + header_bytes]).expect("a header");
    let data = &bytes[8 + header_bytes..];
    let tokenizer = std::fs::read(folder.join("tokenizer.json")).expect("the vocabulary");
    let tokenizer: Json = serde_json::from_slice(&tokenizer).expect("JSON");

    let mut writer = GgufWriter::new();
    set_metadata(&mut writer, &tokenizer);
    let mut contents: Vec<Vec<u8>> = Vec::new();
    for (name, facts) in header.as_object().expect("an object") {
        let Some(name) = name_in_gguf(name) else { continue };
        let numbers = |key: &str| -> Vec<u64> {
            facts[key].as_array().expect("numbers").iter().map(|number| number.as_u64().expect("a number")).collect()
        };
        assert_eq!(facts["dtype"], "F32", "{name}");
        let (shape, place) = (numbers("shape"), numbers("data_offsets"));
        let dimensions: Vec<u64> = shape.into_iter().rev().collect();
        let content = &data[place[0] as usize..place[1] as usize];
        let in_f16 = dimensions.len() == 2 && !name.starts_with("position_embd") && !name.starts_with("token_types");
        let ty = if in_f16 { TensorType::F16 } else { TensorType::F32 };
        writer.tensor(&name, &dimensions, ty).expect("a tensor");
        contents.push(if in_f16 { as_f16(content) } else { content.to_vec() });
    }
    let layout = writer.layout().expect("a layout");
    let mut file = BufWriter::new(std::fs::File::create(target).expect("a file"));
    layout.write(&mut file, |at, out| out.write_all(&contents[at])).expect("is written");
    file.flush().expect("is written");
}

fn as_f16(content: &[u8]) -> Vec<u8> {
    let (numbers, rest) = content.as_chunks::<4>();
    assert!(rest.is_empty());
    numbers.iter().flat_map(|&number| f16::from_f32(f32::from_le_bytes(number)).to_le_bytes()).collect()
}

fn set_metadata(writer: &mut GgufWriter, tokenizer: &Json) {
    let vocabulary = tokenizer["model"]["vocab"].as_object().expect("a vocabulary");
    let mut tokens = vec![String::new(); vocabulary.len()];
    for (token, id) in vocabulary {
        tokens[id.as_u64().expect("an id") as usize] = marked(token);
    }
    let mut types = vec![1; tokens.len()];
    for added in tokenizer["added_tokens"].as_array().expect("tokens") {
        types[added["id"].as_u64().expect("an id") as usize] = 3;
    }
    let text = |text: &str| Value::String(text.to_owned());
    writer.set("general.architecture", text("bert"));
    writer.set("general.name", text("all-MiniLM-L6-v2"));
    for (key, number) in [
        ("bert.block_count", 6),
        ("bert.context_length", 512),
        ("bert.embedding_length", 384),
        ("bert.feed_forward_length", 1536),
        ("bert.attention.head_count", 12),
        ("bert.pooling_type", 1),
        ("tokenizer.ggml.token_type_count", 2),
        ("tokenizer.ggml.padding_token_id", 0),
        ("tokenizer.ggml.unknown_token_id", 100),
        ("tokenizer.ggml.cls_token_id", 101),
        ("tokenizer.ggml.seperator_token_id", 102),
        ("tokenizer.ggml.mask_token_id", 103),
    ] {
        writer.set(key, Value::U32(number));
    }
    writer.set("bert.attention.layer_norm_epsilon", Value::F32(1e-12));
    writer.set("bert.attention.causal", Value::Bool(false));
    writer.set("tokenizer.ggml.model", text("bert"));
    writer.set("tokenizer.ggml.pre", text("jina-v2-en"));
    writer.set("tokenizer.ggml.tokens", Value::Array(Array::String(tokens.iter().collect())));
    writer.set("tokenizer.ggml.token_type", Value::Array(Array::I32(types)));
}
