//! Every block type from file to logits: small models with random weights, on every kernel table. The token table, which is the
//! head as well, every matrix and every stack of experts are of the type.

use crate::support::{Scratch, satchel, stories};

/// Every type that the program can read, as its refusal of another lists them.
fn types() -> Vec<String> {
    let scratch = Scratch::new();
    let (vocabulary, out) = (stories(), scratch.path("model.gguf"));
    let files = ["--vocabulary", vocabulary.to_str().expect("UTF-8"), "-o", out.to_str().expect("UTF-8")];
    let line = satchel(&[&["random-model", "Q9_K"], &files[..]].concat()).failed(2);
    assert!(line.contains("no block type `Q9_K`"), "{line}");
    let names = line.split("there are ").nth(1).and_then(|names| names.split(", and Q4_K_M").next());
    names.unwrap_or_else(|| panic!("no list: {line}")).split(", ").map(str::to_owned).collect()
}

const TOKENS: usize = 40;
/// Tokens of the vocabulary.
const VOCABULARY: usize = 512;

/// Columns of the models: a block of the widest type.
const WIDTH: &str = "256";

/// Writes a model whose token table and matrices are all of a type.
fn model(scratch: &Scratch, ty: &str, shape: &[&str]) -> String {
    let path = scratch.path("model.gguf").to_str().expect("UTF-8").to_owned();
    let vocabulary = stories();
    let common = ["--width", WIDTH, "--heads", "4", "--kv-heads", "2", "--force"];
    let files = ["--vocabulary", vocabulary.to_str().expect("UTF-8"), "-o", &path];
    satchel(&[&["random-model", ty], &common[..], shape, &files[..]].concat()).ok();
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

/// Squared error of each token's logits, relative to their power.
fn errors(found: &[f32], expected: &[f32]) -> Vec<f64> {
    let power = |row: &[f32]| row.iter().map(|&value| f64::from(value).powi(2)).sum::<f64>();
    let error = |(found, expected): (&[f32], &[f32])| {
        let difference: Vec<f32> = found.iter().zip(expected).map(|(a, b)| a - b).collect();
        power(&difference) / power(expected)
    };
    found.chunks_exact(VOCABULARY).zip(expected.chunks_exact(VOCABULARY)).map(error).collect()
}

/// Runs a model of one type and shape on the scalar table, and compares it with the model of the same numbers written as F32,
/// and with every other table. `check` sees the errors.
fn compare(ty: &str, shape: &[&str], check: impl Fn(&str, &[f64])) {
    let scratch = Scratch::new();
    let model = model(&scratch, ty, shape);
    let expected = logits(&scratch, &model, "scalar").expect("scalar runs everywhere");
    assert_eq!(expected.len(), TOKENS * VOCABULARY, "{ty}");
    assert!(expected.iter().all(|value| value.is_finite()), "{ty}");
    let power: f64 = expected.iter().map(|&value| f64::from(value).powi(2)).sum();
    assert!(power / (TOKENS * VOCABULARY) as f64 > 0.01, "{ty}: logits are near zero");

    let plain = scratch.path("plain.gguf").to_str().expect("UTF-8").to_owned();
    satchel(&["quantize", "-q", "--pure", "--allow-requantize", &model, &plain, "F32"]).ok();
    let found = logits(&scratch, &plain, "scalar").expect("scalar runs everywhere");
    check(&format!("{ty} beside F32"), &errors(&found, &expected));
    for table in ["avx2", "avx2vnni", "avx512", "avx512vnni", "neon", "neon-dotprod", "neon-i8mm"] {
        match logits(&scratch, &model, table) {
            Some(found) => check(&format!("{ty} on {table}"), &errors(&found, &expected)),
            None => println!("{ty}: {table} skipped: this processor cannot run it"),
        }
    }
}

/// Tables differ by f32 rounding. Occasionally that moves an activation to the next of its 127 levels, which changes what
/// follows as much as quantising activations does, as F32 has it: some 1e-4 of the power. A wrong reader differs by about all
/// of it.
#[test]
fn every_block_type_gives_the_same_logits_on_every_table() {
    for ty in types() {
        compare(&ty, &["--layers", "2", "--feed-forward", "512"], |what, errors| {
            let error = errors.iter().sum::<f64>() / errors.len() as f64;
            assert!(error < 1e-3, "{what}: error {error}");
        });
    }
}

/// The same in stacks of experts. Where two experts' scores are nearly equal the difference may choose the other one, whose
/// output has nothing to do with the first one's: with one layer that is some token's matter, and no other's.
#[test]
fn every_block_type_gives_the_same_logits_in_stacks_of_experts() {
    for ty in types() {
        let experts = ["--layers", "1", "--feed-forward", "256", "--experts", "16", "--experts-used", "2"];
        compare(&ty, &experts, |what, errors| {
            let other = errors.iter().filter(|&&error| error > 1e-3).count();
            println!("{what}: {other} tokens by other experts");
            assert!(other <= TOKENS / 10, "{what}: errors {errors:?}");
        });
    }
}

#[test]
fn an_unknown_type_is_refused_by_name() {
    let scratch = Scratch::new();
    let (vocabulary, out) = (stories(), scratch.path("model.gguf"));
    let files = ["--vocabulary", vocabulary.to_str().expect("UTF-8"), "-o", out.to_str().expect("UTF-8")];
    let types = types();
    assert!(["F32", "BF16", "Q8_0", "Q4_K", "IQ1_M", "NVFP4"].iter().all(|ty| types.iter().any(|known| known == ty)));
    let line =
        satchel(&[&["random-model", "Q4_K", "--width", "96", "--heads", "3", "--kv-heads", "1"], &files[..]].concat());
    let line = line.failed(1);
    assert!(line.contains("token_embd.weight"), "{line}");
    assert!(!out.exists());
}
