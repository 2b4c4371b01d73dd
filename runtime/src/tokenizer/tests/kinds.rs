//! WordPiece and Unigram on tiny vocabularies, and overlong tokens.

use satchel_gguf::{Array, Value};

use super::metadata::{byte_level, encode, error, open, text, texts, types};

fn unigram(scores: &[f32]) -> Vec<(&'static str, Value)> {
    vec![
        ("model", text("t5")),
        ("tokens", texts(&["<pad>", "</s>", "<unk>", "▁", "▁ab", "a", "b", "ab", "c"])),
        ("token_type", types(&[3, 3, 2, 1, 1, 1, 1, 1, 1])),
        ("scores", Value::Array(Array::F32(scores.to_vec()))),
    ]
}

const SCORES: [f32; 9] = [0.0, 0.0, 0.0, -2.0, -1.0, -3.0, -3.0, -2.5, -4.0];

/// A table with one rule: `A` -> the text at `start`.
fn charsmap(start: u32) -> Vec<u8> {
    let mut units = [0_u32; 0x42];
    units[0] = 1 << 10;
    units[0x40] = u32::from(b'A') | 1 << 8 | 1 << 10;
    units[0x41] = 1 << 31 | start;
    let size = (units.len() * 4) as u32;
    let words = std::iter::once(size).chain(units).flat_map(u32::to_le_bytes);
    words.chain(*b"ab\0").collect()
}

#[test]
fn unigram_finds_the_segmentation_with_the_highest_score() {
    let mut entries = unigram(&SCORES);
    assert_eq!(encode(&open(&entries), "ab"), [7]);
    assert_eq!(encode(&open(&entries), "abab b"), [7, 7, 3, 6]);
    entries.push(("add_space_prefix", Value::Bool(true)));
    let tokenizer = open(&entries);
    assert_eq!(encode(&tokenizer, "abxx c"), [4, 2, 3, 8], "adjacent unknown characters are one token");
    assert_eq!(encode(&tokenizer, "ab  ab"), [4, 3, 4]);
    assert_eq!(tokenizer.encode("ab", true, false).expect("ids"), [4, 1]);
    assert_eq!(tokenizer.decode(&[4, 4], false), "ab ab");
    entries.push(("remove_extra_whitespaces", Value::Bool(true)));
    assert_eq!(encode(&open(&entries), "  ab   ab "), [4, 4]);
}

#[test]
fn unigram_normalises_by_the_models_charsmap() {
    let mut entries = unigram(&SCORES);
    entries.push(("precompiled_charsmap", Value::Array(Array::U8(charsmap(0)))));
    assert_eq!(encode(&open(&entries), "Ac"), [7, 8]);
    entries.pop();
    entries.push(("precompiled_charsmap", Value::Array(Array::U8(charsmap(9)))));
    let missing = open(&entries).encode("A", false, false).expect_err("no such text").to_string();
    assert!(missing.contains("precompiled_charsmap") && missing.contains("to 9"), "{missing}");
    for damaged in [vec![1], vec![255; 64], vec![3, 0, 0, 0, 1, 2, 3, 4], charsmap(0)[..8].to_vec()] {
        let line = error(&unigram(&SCORES), "precompiled_charsmap", Value::Array(Array::U8(damaged)));
        assert!(line.contains("precompiled_charsmap") && !line.contains('\n'), "{line}");
    }
}

#[test]
fn nan_scores_are_refused() {
    let mut scores = SCORES;
    scores[4] = f32::NAN;
    let line = error(&unigram(&SCORES), "scores", Value::Array(Array::F32(scores.to_vec())));
    assert!(line.contains("the score of token 4 is NaN"), "{line}");
    scores[4] = f32::NEG_INFINITY;
    assert_eq!(encode(&open(&unigram(&scores)), "ab"), [7], "the lowest possible score");
}

#[test]
fn wordpiece_matches_words_greedily_from_their_start() {
    let entries = [
        ("model", text("bert")),
        ("tokens", texts(&["[UNK]", "[CLS]", "[SEP]", "▁ab", "c", "▁.", "▁中"])),
        ("token_type", types(&[3, 3, 3, 1, 1, 1, 1])),
        ("unknown_token_id", Value::U32(0)),
        ("cls_token_id", Value::U32(1)),
        ("seperator_token_id", Value::U32(2)),
    ];
    let tokenizer = open(&entries);
    assert_eq!(encode(&tokenizer, "ABC. 中Äb"), [3, 4, 5, 6, 3]);
    assert_eq!(tokenizer.encode("ab zz abz", true, false).expect("ids"), [1, 3, 0, 0, 2]);
    assert_eq!(tokenizer.separator(), Some(2));
    let long = format!("ab{}", "c".repeat(1 << 20));
    assert_eq!(encode(&tokenizer, &long).len(), 1 + (1 << 20));
}

#[test]
fn overlong_tokens_are_refused() {
    let kinds: Vec<i32> = (0..257).map(|id| if id == 256 { 3 } else { 1 }).collect();
    let of = |bytes: usize| [byte_level(&[&"a".repeat(bytes)], &[]), vec![("token_type", types(&kinds))]].concat();
    assert_eq!(encode(&open(&of(1024)), &"a".repeat(2049)), [256, 256, 97]);
    let line = error(&of(30_000), "pre", text("gpt-2"));
    assert!(line.contains("token 256 has 30000 bytes") && !line.contains('\n'), "{line}");
}
