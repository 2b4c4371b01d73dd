//! Vocabularies that do not fit themselves: other lengths, ids outside, holes, doubles, merges in circles, tables cut short.

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_gguf::{Array, GgufWriter, Value};

use super::{Model, bounded, harmless, refused_by, string, strings, text};
use crate::support::{Printed, SATCHEL, Scratch, output, stories};

type Entries = Vec<(&'static str, Value)>;

/// A file of a vocabulary and nothing else. Names without a dot are those of `tokenizer.ggml`; a later one takes an earlier
/// one's place.
fn vocabulary(scratch: &Scratch, entries: &[(&str, Value)]) -> PathBuf {
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", string("llama"));
    for (name, value) in entries {
        let key = if name.contains('.') { (*name).to_owned() } else { format!("tokenizer.ggml.{name}") };
        writer.set(&key, value.clone());
    }
    let path = scratch.path("vocabulary.gguf");
    std::fs::write(&path, writer.layout().expect("it fits").to_bytes(&[]).expect("no tensors")).expect("scratch");
    path
}

/// `tokenize` of a text with a vocabulary.
fn tokenize(path: &Path, input: &str) -> Printed {
    if input.len() < 1000 {
        return bounded(&["tokenize", "-m", text(path), "--text", input]);
    }
    output(Command::new(SATCHEL).args(["tokenize", "-m", text(path)]), input.as_bytes())
}

/// The line about a vocabulary that cannot be used.
#[track_caller]
fn line_about(base: &Entries, name: &'static str, value: Value, words: &str) {
    let scratch = Scratch::new();
    let entries = [&base[..], &[(name, value)]].concat();
    let line = tokenize(&vocabulary(&scratch, &entries), "a b").failed(1);
    assert!(line.starts_with("satchel: ") && line.len() < 600, "{line}");
    assert!(line.contains(words), "{name}: {line:?} should contain {words:?}");
}

/// SentencePiece: the three roles, and some letters.
fn spm() -> Entries {
    let tokens = ["<unk>", "<s>", "</s>", "▁", "a", "b", "▁a"];
    vec![
        ("model", string("llama")),
        ("tokens", strings(&tokens)),
        ("scores", Value::Array(Array::F32(vec![0.0; 7]))),
        ("token_type", Value::Array(Array::I32(vec![2, 3, 3, 1, 1, 1, 1]))),
    ]
}

fn bpe(tokens: &[&str], merges: &[&str]) -> Entries {
    vec![("model", string("gpt2")), ("pre", string("gpt-2")), ("tokens", strings(tokens)), ("merges", strings(merges))]
}

fn unigram() -> Entries {
    let tokens = ["<unk>", "</s>", "▁", "a", "b", "▁a"];
    vec![
        ("model", string("t5")),
        ("tokens", strings(&tokens)),
        ("scores", Value::Array(Array::F32(vec![-1.0; 6]))),
        ("token_type", Value::Array(Array::I32(vec![2, 3, 1, 1, 1, 1]))),
    ]
}

/// A token of 2^31 bytes and more, whose length was negative where it was compared. The file takes no room on the disk.
#[test]
#[cfg(target_os = "linux")]
fn cve_2025_49847_a_token_of_more_bytes_than_31_bits_count() {
    use satchel_gguf::build;
    use std::io::{Seek, SeekFrom, Write};

    let scratch = Scratch::new();
    let path = scratch.path("long.gguf");
    let mut file = Vec::new();
    build::head(&mut file, 3, 0, 2);
    build::entry(&mut file, "tokenizer.ggml.model", &string("llama"));
    build::text(&mut file, "tokenizer.ggml.tokens");
    file.extend(9u32.to_le_bytes());
    file.extend(8u32.to_le_bytes());
    file.extend(1u64.to_le_bytes());
    file.extend(((1u64 << 31) + 16).to_le_bytes());
    let end = file.len() as u64 + (1 << 31) + 16;
    let mut sparse = std::fs::File::create(&path).expect("scratch");
    sparse.write_all(&file).expect("scratch");
    sparse.seek(SeekFrom::Start(end - 1)).expect("the file system knows sparse files");
    sparse.write_all(&[0]).expect("scratch");
    // All of the file is mapped, which takes address space too.
    let script = "ulimit -v 3145728 && ulimit -t 60 && exec \"$0\" tokenize -m \"$1\" --text a";
    let line = output(Command::new("sh").args(["-c", script, SATCHEL]).arg(&path), b"").failed(1);
    assert!(line.contains("bytes of text, at most"), "{line}");
}

/// What is long and within the limits: a token is given back whole, one that is looked for everywhere is refused.
#[test]
fn cve_2025_49847_long_tokens() {
    let (scratch, long) = (Scratch::new(), "a".repeat(1 << 20));
    let tokens = Value::Array(Array::String(["<unk>", "<s>", "</s>", "▁", "a", "b", &long].into_iter().collect()));
    let path = vocabulary(&scratch, &[&spm()[..], &[("tokens", tokens.clone())]].concat());
    let ids = output(Command::new(SATCHEL).args(["detokenize", "-m", text(&path)]), b"6 4").ok();
    assert_eq!(ids.trim_end().len(), long.len() + 1);
    let kinds = Value::Array(Array::I32(vec![2, 3, 3, 1, 1, 1, 3]));
    let entries = [&spm()[..], &[("tokens", tokens), ("token_type", kinds)]].concat();
    let line = tokenize(&vocabulary(&scratch, &entries), "a").failed(1);
    assert!(line.contains("token 6 has 1048576 bytes"), "{line}");
}

/// Nobody reads 2^31 bytes of text for a tokenizer that takes fewer.
#[test]
#[cfg(target_os = "linux")]
fn cve_2025_52566_more_text_than_32_bits_count() {
    let scratch = Scratch::new();
    let path = scratch.path("long.txt");
    std::fs::File::create(&path).and_then(|file| file.set_len(1 << 32)).expect("the file system knows sparse files");
    let stories = stories();
    for command in ["tokenize", "perplexity"] {
        let line = bounded(&[command, "-m", text(&stories), "-f", text(&path)]).failed(1);
        assert!(line.contains("long.txt: a text has 1073741824 bytes at most"), "{line}");
    }
}

/// The advisory's file: the usual roles are ids 1 and 2, and there is one token.
#[test]
fn ghsa_g4cc_763q_h9h6_roles_beyond_the_vocabulary() {
    let scratch = Scratch::new();
    let path = vocabulary(&scratch, &[("model", string("llama")), ("tokens", strings(&["<unk>"]))]);
    assert_eq!(tokenize(&path, "a").ok(), "0 0 0 0\n", "three bytes of a space, and a letter");
    bounded(&["inspect", "--no-hash", text(&path)]).ok();
    let none = vocabulary(&scratch, &[("model", string("llama")), ("tokens", strings::<&str>(&[]))]);
    assert!(tokenize(&none, "a").failed(1).contains("no token for"));
    // Roles that the file itself gives (mistral.rs's issue 2225, a panic).
    for role in ["bos_token_id", "eos_token_id", "unknown_token_id", "seperator_token_id", "eot_token_id"] {
        for id in [7, 1 << 31, u32::MAX] {
            line_about(&spm(), role, Value::U32(id), "but there are 7 tokens");
        }
    }
    let model = Model::read(&stories()).set("tokenizer.ggml.eos_token_id", Value::U32(u32::MAX)).write(&scratch);
    for command in [&["run", "-m", "MODEL", "--raw", "a"][..], &["pack", "MODEL", "-q", "-o", "OUT"]] {
        let words = "tokenizer.ggml.eos_token_id is 4294967295, but there are 512 tokens";
        refused_by(&scratch, &model, command, words);
    }
}

/// llama.cpp's issue 24888 and pull requests 20735 and 26690: arrays of other lengths, and elements narrower than they were
/// read.
#[test]
fn arrays_beside_the_tokens() {
    let bytes = || Value::Array(Array::U8(vec![1; 7]));
    let cases = [
        ("scores", Value::Array(Array::F32(vec![0.0])), "scores has 1 elements, but there are 7 tokens"),
        ("scores", Value::Array(Array::F32(vec![0.0; 8])), "scores has 8 elements"),
        ("scores", bytes(), "tokenizer.ggml.scores"),
        ("scores", Value::Array(Array::F32(vec![f32::NAN; 7])), "the score of token 0 is NaN"),
        ("token_type", Value::Array(Array::I32(vec![1])), "token_type has 1 elements, but there are 7 tokens"),
        ("token_type", Value::Array(Array::I32(vec![-1; 7])), "token 0 has type -1"),
        ("token_type", strings(&["1"; 7]), "tokenizer.ggml.token_type"),
        ("tokens", bytes(), "tokenizer.ggml.tokens"),
        ("tokens", string("a"), "tokenizer.ggml.tokens"),
    ];
    for (name, value, words) in cases {
        line_about(&spm(), name, value, words);
    }
    let scratch = Scratch::new();
    for scores in [f32::INFINITY, f32::NEG_INFINITY, f32::MAX] {
        let scores = ("scores", Value::Array(Array::F32(vec![scores; 7])));
        for base in [spm(), unigram()] {
            let mut scores = scores.clone();
            if let ("t5", Value::Array(Array::F32(all))) = (kind(&base), &mut scores.1) {
                all.pop();
            }
            tokenize(&vocabulary(&scratch, &[&base[..], &[scores]].concat()), "a b ab").ok();
        }
    }
}

fn kind(entries: &Entries) -> &str {
    match &entries[0].1 {
        Value::String(kind) => kind,
        other => panic!("{other:?}"),
    }
}

/// llama.cpp's pull request 25258: one to three bytes where a length of four was read; and tables that lead outside or in
/// circles.
#[test]
fn tables_of_normalisation_that_are_cut_short() {
    let table = |bytes: &[u8]| Value::Array(Array::U8(bytes.to_vec()));
    for bytes in [&[1][..], &[4, 0, 0], &[4, 0, 0, 0], &[255; 4], &[255; 64], &[3, 0, 0, 0, 1, 2, 3, 0]] {
        line_about(&unigram(), "precompiled_charsmap", table(bytes), "tokenizer.ggml.precompiled_charsmap");
    }
    // Every byte leads on to itself, and to a replacement that is not there.
    let units: Vec<u8> = (0..256u32).flat_map(|unit| (unit | 1 << 8).to_le_bytes()).collect();
    let circles = [&1024u32.to_le_bytes()[..], &units, &[0]].concat();
    let scratch = Scratch::new();
    let path = vocabulary(&scratch, &[&unigram()[..], &[("precompiled_charsmap", table(&circles))]].concat());
    for input in ["a", "ab ab", &"ab ".repeat(100_000)] {
        let printed = tokenize(&path, input);
        assert!(printed.code == Some(0) || printed.failed(1).contains("precompiled_charsmap"));
    }
}

/// llama.cpp's issue 27226: the digits of a byte token were read with a sign, and were an index.
#[test]
fn byte_tokens_that_name_no_byte() {
    let scratch = Scratch::new();
    let tokens = ["<unk>", "<s>", "</s>", "<0x-1>", "<0xZZ>", "<0x+1>", "<0x41>"];
    let kinds = Value::Array(Array::I32(vec![2, 3, 3, 6, 6, 6, 6]));
    let entries = [&spm()[..], &[("tokens", strings(&tokens)), ("token_type", kinds)]].concat();
    let path = vocabulary(&scratch, &entries);
    assert_eq!(tokenize(&path, "A").ok(), "1 0 0 0 6\n", "a space of three bytes that have no tokens, and A");
    let pieces = bounded(&["tokenize", "-m", text(&path), "--json", "--text", "A"]).ok();
    assert!(pieces.contains("\"A\""), "{pieces}");
    let decoded = output(Command::new(SATCHEL).args(["detokenize", "-m", text(&path)]), b"3 4 5 6").ok();
    assert_eq!(decoded.trim_end(), "<0x-1><0xZZ><0x+1>A");
    // Of the kind that the report is about there is none here.
    line_about(&entries, "model", string("plamo2"), "tokenizer.ggml.model is \"plamo2\"");
}

/// llama.cpp's issue 24885: assertions about doubles, and about a token that begins texts and is not there.
#[test]
fn doubles_holes_and_roles_that_are_missing() {
    line_about(&spm(), "tokens", strings(&["a", "b", "c", "d", "a", "e", "f"]), "tokens 0 and 4 are both \"a\"");
    line_about(&unigram(), "add_bos_token", Value::Bool(true), "there is no tokenizer.ggml.bos_token_id");
    // Holes: tokens without a text, of every kind, more than one. A model that chooses one has said nothing.
    let scratch = Scratch::new();
    for kind in 0..=6 {
        let tokens = ["<unk>", "<s>", "</s>", "", "a", "", ""];
        let kinds = Value::Array(Array::I32(vec![2, 3, 3, kind, 1, kind, kind]));
        for base in [spm(), bpe(&tokens, &["a b"])] {
            let entries = [&base[..], &[("tokens", strings(&tokens)), ("token_type", kinds.clone())]].concat();
            let path = vocabulary(&scratch, &entries);
            let ids = tokenize(&path, "aba");
            assert!(ids.code == Some(0) || ids.failed(1).contains("no token for"));
            let decoded = output(Command::new(SATCHEL).args(["detokenize", "-m", text(&path)]), b"3 4 5 6").ok();
            assert_eq!(decoded.trim(), "a");
        }
    }
    let mut names = vec![String::new(); 512];
    (names[0], names[1], names[2]) = ("<unk>".into(), "<s>".into(), "</s>".into());
    let empty = Model::read(&stories()).set("tokenizer.ggml.tokens", strings(&names)).write(&scratch);
    assert_eq!(harmless(&empty).code, Some(0));
}

/// Merges whose results are halves of each other, all that can be: what a text becomes is found in n log n, whatever they say.
#[test]
fn merges_that_lead_in_circles() {
    let scratch = Scratch::new();
    let mut merges: Vec<String> = Vec::new();
    let mut words = vec!["a".to_owned(), "b".to_owned()];
    for at in 0..60 {
        let (left, right) = (words[at].clone(), words[(at * 7 + 1) % words.len()].clone());
        merges.extend([format!("{left} {right}"), format!("{right} {left}"), format!("{left} {left}")]);
        words.push(left + &right);
        words.dedup();
    }
    merges.extend(merges.clone());
    let merges: Vec<&str> = merges.iter().map(String::as_str).collect();
    let path = vocabulary(&scratch, &bpe(&["a", "b", "ab", "ba", "aa", "aba", "bab"], &merges));
    for input in ["ab", "aaaaaaaaaabbbbbbbbbb", &"ab".repeat(500_000), &"a".repeat(1_000_000)] {
        let ids = tokenize(&path, input).ok();
        assert!(ids.split_whitespace().count() <= input.len());
    }
    for merge in ["a", "", " ", "a ", "ab"] {
        line_about(&bpe(&["a", "b"], &[]), "merges", strings(&[merge]), "merge 0 is");
    }
}
