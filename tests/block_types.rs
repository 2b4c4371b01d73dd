//! Every block type from file to logits: a small model with random weights, on every kernel table.

use crate::support::{Scratch, satchel, stories};

/// Every GGML type that holds weights.
const TYPES: [&str; 26] = [
    "F32", "F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1", "Q2_K", "Q3_K", "Q4_K", "Q5_K", "Q6_K", "IQ1_S",
    "IQ1_M", "IQ2_XXS", "IQ2_XS", "IQ2_S", "IQ3_XXS", "IQ3_S", "IQ4_NL", "IQ4_XS", "TQ1_0", "TQ2_0", "MXFP4", "NVFP4",
];

const TOKENS: usize = 40;

/// Writes a model of two layers.
fn model(scratch: &Scratch, ty: &str) -> String {
    let path = scratch.path(&format!("{ty}.gguf")).to_str().expect("UTF-8").to_owned();
    let vocabulary = stories();
    let shape = ["--width", "256", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--feed-forward", "512"];
    let files = ["--vocabulary", vocabulary.to_str().expect("UTF-8"), "-o", &path];
    satchel(&[&["random-model", ty], &shape[..], &files[..]].concat()).ok();
    path
}

/// The logits of some tokens on a table; `None` if the processor does not support it.
fn logits(scratch: &Scratch, model: &str, table: &str) -> Option<Vec<f32>> {
    let (tokens, out) = (scratch.path("tokens"), scratch.path("logits"));
    let ids: Vec<String> = (0..TOKENS).map(|index| (index * 37 % 500 + 3).to_string()).collect();
    std::fs::write(&tokens, ids.join(" ")).expect("a scratch file");
    let (tokens, out) = (tokens.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"));
    let printed = satchel(&[
        "logits", "-m", model, "--isa", table, "-t", "1", "--chunk", "33", "--tokens", tokens, "--force", "-o", out,
    ]);
    if printed.code != Some(0) && printed.stderr.contains("kernels") {
        return None;
    }
    printed.ok();
    let bytes = std::fs::read(out).expect("the logits");
    Some(bytes.chunks_exact(4).map(|bytes| f32::from_le_bytes(bytes.try_into().expect("four bytes"))).collect())
}

/// Tables differ by f32 rounding. Occasionally that moves a quantised activation by one of its 127 levels, with an effect on
/// the order of quantisation error: some 1e-4 of the logits' power. A wrong kernel is off by about the whole power.
#[test]
fn every_block_type_gives_the_same_logits_on_every_table() {
    let scratch = Scratch::new();
    for ty in TYPES {
        let model = model(&scratch, ty);
        let expected = logits(&scratch, &model, "scalar").expect("scalar runs everywhere");
        assert_eq!(expected.len(), TOKENS * 512, "{ty}");
        assert!(expected.iter().all(|value| value.is_finite()), "{ty}");
        let power: f64 = expected.iter().map(|&value| f64::from(value).powi(2)).sum();
        assert!(power / (TOKENS * 512) as f64 > 0.01, "{ty}: logits are near zero");
        for table in ["avx2", "avx2vnni", "avx512", "avx512vnni", "neon", "neon-dotprod", "neon-i8mm"] {
            let Some(found) = logits(&scratch, &model, table) else {
                println!("{ty}: {table} skipped: this processor cannot run it");
                continue;
            };
            let error: f64 = found.iter().zip(&expected).map(|(a, b)| f64::from(a - b).powi(2)).sum();
            assert!(error / power < 1e-3, "{ty} on {table}: error {}", error / power);
        }
    }
}

#[test]
fn an_unknown_type_is_refused_by_name() {
    let scratch = Scratch::new();
    let (vocabulary, out) = (stories(), scratch.path("model.gguf"));
    let files = ["--vocabulary", vocabulary.to_str().expect("UTF-8"), "-o", out.to_str().expect("UTF-8")];
    let line = satchel(&[&["random-model", "Q9_K"], &files[..]].concat()).failed(2);
    assert!(line.contains("no block type `Q9_K`"), "{line}");
    let line =
        satchel(&[&["random-model", "Q4_K", "--width", "96", "--heads", "3", "--kv-heads", "1"], &files[..]].concat());
    let line = line.failed(1);
    assert!(line.contains("token_embd.weight"), "{line}");
    assert!(!out.exists());
}
