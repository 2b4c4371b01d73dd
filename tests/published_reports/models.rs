//! Models whose numbers contradict their tensors: layers, heads, experts, scales, adapters.

use satchel_gguf::{Array, TensorType, Value};

use super::{Model, bounded, harmless, refused, refused_by, strings, text};
use crate::support::{Scratch, data, satchel, stories};

/// A small mixture of experts with random weights of a type.
pub(super) fn experts(scratch: &Scratch, ty: &str) -> Model {
    let (path, vocabulary) = (scratch.path("experts.gguf"), stories());
    let shape = ["--width", "64", "--layers", "2", "--heads", "2", "--kv-heads", "1", "--feed-forward", "32"];
    let files = ["--vocabulary", text(&vocabulary), "-o", text(&path), "--force", "--context", "64"];
    satchel(&[&["random-model", ty, "--experts", "4"], &shape[..], &files[..]].concat()).ok();
    Model::read(&path)
}

/// Every command refuses each key with each value, in these words.
#[track_caller]
fn refused_with(model: &Model, cases: &[(&str, Value, &str)]) {
    let scratch = Scratch::new();
    for (key, value, words) in cases {
        println!("{key} = {value:?}");
        refused(&scratch, &model.clone().set(key, value.clone()).write(&scratch), words);
    }
}

fn many(value: u32, count: usize) -> Value {
    Value::Array(Array::U32(vec![value; count]))
}

/// llama.cpp's pull requests 25513, 25821 and 26051: more layers than there was room for in arrays of 512.
#[test]
fn more_layers_than_512() {
    let stories = Model::read(&stories());
    let key = "llama.block_count";
    for (count, words) in [(600, "blk.5."), (1 << 20, "between 1 and 1024"), (u32::MAX, "between 1 and 1024")] {
        refused_with(&stories, &[(key, Value::U32(count), words)]);
    }
    // The report's file: a pattern of windows that is written for each layer, and few tensors.
    let gemma = Model::read(&data("architectures/gemma2-dense.gguf"));
    let gemma = gemma.without("gemma2.attention.sliding_window_pattern");
    for (count, words) in [(513, "blk.2."), (100_000, "between 1 and 1024")] {
        let scratch = Scratch::new();
        let model = gemma.clone().set("gemma2.block_count", Value::U32(count)).write(&scratch);
        refused_by(&scratch, &model, &["pack", "MODEL", "-q", "-o", "OUT"], words);
    }
    // With as many tensors as it claims it is a model like any other.
    let (scratch, vocabulary) = (Scratch::new(), crate::support::stories());
    let path = scratch.path("deep.gguf");
    let shape = ["--width", "8", "--layers", "600", "--heads", "1", "--kv-heads", "1", "--feed-forward", "8"];
    let files = ["--vocabulary", text(&vocabulary), "-o", text(&path), "--context", "64"];
    satchel(&[&["random-model", "F32"], &shape[..], &files[..]].concat()).ok();
    assert_eq!(harmless(&path).code, Some(0));
}

/// CVE-2024-8063 divided by the number of layers; others by heads, by their length, by the keys' heads.
#[test]
fn cve_2024_8063_numbers_that_are_divided_by() {
    refused_with(
        &Model::read(&stories()),
        &[
            ("llama.block_count", Value::U32(0), "llama.block_count is missing"),
            ("llama.block_count", Value::I32(-1), "llama.block_count"),
            ("llama.embedding_length", Value::U32(0), "llama.embedding_length is missing"),
            ("llama.attention.head_count", Value::U32(0), "at most the head's 0"),
            ("llama.attention.head_count", Value::U32(7), "llama.attention.head_count"),
            ("llama.attention.head_count_kv", Value::U32(3), "it must divide the 8 heads"),
            ("llama.attention.key_length", Value::U32(7), "llama.rope.dimension_count"),
            ("llama.attention.key_length", Value::U32(16), "blk.0.attn_q.weight"),
            ("llama.context_length", Value::U32(0), "llama.context_length is missing"),
        ],
    );
}

#[test]
fn numbers_that_contradict_the_tensors() {
    let stories = Model::read(&stories());
    refused_with(
        &stories,
        &[
            ("llama.embedding_length", Value::U32(128), "token_embd.weight"),
            ("llama.feed_forward_length", Value::U32(344), "blk.0.ffn_gate.weight"),
            ("llama.feed_forward_length", many(172, 4), "llama.feed_forward_length"),
            ("llama.feed_forward_length", many(172, 600), "llama.feed_forward_length"),
            ("llama.attention.head_count", many(8, 6), "llama.attention.head_count"),
            ("llama.attention.head_count_kv", Value::U32(8), "blk.0.attn_k.weight"),
            ("llama.rope.dimension_count", Value::U32(512), "llama.rope.dimension_count"),
            ("llama.rope.dimension_count", Value::U32(7), "llama.rope.dimension_count"),
            ("llama.context_length", Value::U32(u32::MAX), "llama.context_length"),
            ("general.architecture", Value::String("gpt2".into()), "gpt2."),
        ],
    );
    // A table of other rows than the vocabulary has tokens, in both directions.
    let scratch = Scratch::new();
    for count in [511, 513] {
        let tokens: Vec<String> = (0..count).map(|id| format!("t{id}")).collect();
        let model = stories.clone().without("tokenizer.ggml.scores").without("tokenizer.ggml.token_type");
        harmless(&model.set("tokenizer.ggml.tokens", strings(&tokens)).write(&scratch));
    }
    // A tensor twice as long as it may be, and one that is missing.
    let mut model = stories.clone();
    let norm = model.tensor("output_norm.weight");
    (norm.dimensions[0], norm.bytes) = (128, vec![0; 512]);
    refused(&scratch, &model.write(&scratch), "output_norm.weight");
    let mut model = stories.clone();
    model.tensors.retain(|tensor| tensor.name != "blk.3.ffn_up.weight");
    refused(&scratch, &model.write(&scratch), "blk.3.ffn_up.weight");
}

/// llama.cpp's issue 28345 (divided by the experts used) and counts that its stacks do not have.
#[test]
fn expert_counts_of_zero_and_of_too_many() {
    let scratch = Scratch::new();
    let (count, used) = ("llama.expert_count", "llama.expert_used_count");
    refused_with(
        &experts(&scratch, "F32"),
        &[
            (count, Value::U32(0), "expert_count"),
            (count, Value::U32(3), "blk.0.ffn_gate_inp.weight"),
            (count, Value::U32(5), "blk.0.ffn_gate_inp.weight"),
            (count, Value::U32(u32::MAX), "llama.expert_count"),
            (count, Value::I32(-4), "llama.expert_count"),
            (used, Value::U32(0), "llama.expert_used_count is missing"),
            (used, Value::U32(5), "it must lie between 1 and 4"),
            (used, Value::I32(-1), "llama.expert_used_count"),
            (used, many(0, 2), "llama.expert_used_count is missing"),
            ("llama.expert_group_count", Value::U32(3), "3 groups"),
            ("llama.expert_group_count", Value::U32(4), "4 groups"),
            ("llama.expert_gating_func", Value::U32(9), "llama.expert_gating_func"),
        ],
    );
    // Experts of no columns are no tensors; those of another shape than each other's are refused.
    let mut model = experts(&scratch, "F32");
    let down = model.tensor("blk.1.ffn_down_exps.weight");
    (down.dimensions[2], down.bytes) = (2, down.bytes[..down.bytes.len() / 2].to_vec());
    refused(&scratch, &model.write(&scratch), "blk.1.ffn_down_exps.weight");
}

#[test]
fn scales_that_are_negative_or_no_numbers() {
    let scratch = Scratch::new();
    let (stories, experts) = (Model::read(&stories()), experts(&scratch, "F32"));
    for (model, key) in [
        (&stories, "llama.attention.scale"),
        (&stories, "llama.attention.layer_norm_rms_epsilon"),
        (&stories, "llama.rope.freq_base"),
        (&stories, "llama.rope.scaling.factor"),
        (&stories, "llama.rope.scaling.attn_factor"),
        (&experts, "llama.expert_weights_scale"),
    ] {
        for value in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, -1.0] {
            refused_with(model, &[(key, Value::F32(value), key)]);
        }
        // Numbers that overflow or vanish on the way: an answer or a line.
        for value in [3e38, 1e-45] {
            harmless(&model.clone().set(key, Value::F32(value)).write(&scratch));
        }
    }
}

/// llama.cpp's issue 29128: an adapter for more experts than the model has wrote behind a buffer.
#[test]
fn an_adapter_for_other_experts() {
    let scratch = Scratch::new();
    let model = experts(&scratch, "F32").write(&scratch);
    let name = "blk.0.ffn_gate_exps.weight";
    for stack in [1u64, 3, 5, 64] {
        let mut writer = satchel_gguf::GgufWriter::new();
        for (key, value) in [("general.type", "adapter"), ("general.architecture", "llama"), ("adapter.type", "lora")] {
            writer.set(key, Value::String(value.into()));
        }
        writer.set("adapter.lora.alpha", Value::F32(1.0));
        writer.tensor(&format!("{name}.lora_a"), &[64, 2, stack], TensorType::F32).expect("a shape");
        writer.tensor(&format!("{name}.lora_b"), &[2, 32, stack], TensorType::F32).expect("a shape");
        let (a, b) = (vec![0; 4 * 64 * 2 * stack as usize], vec![0; 4 * 2 * 32 * stack as usize]);
        let adapter = scratch.path("adapter.gguf");
        std::fs::write(&adapter, writer.layout().expect("it fits").to_bytes(&[&a, &b]).expect("as laid out"))
            .expect("scratch");
        let line = bounded(&["run", "-m", text(&model), "--lora", text(&adapter), "--raw", "a", "-n", "2"]).failed(1);
        assert!(line.contains("adapter") && line.contains("blk.0.ffn_gate_exps.weight"), "{line}");
    }
}
