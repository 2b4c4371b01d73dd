//! Comparison with Hugging Face's tokenizers (`NAME.out`) and llama.cpp (`NAME.llama-cpp.json.gz`) on the same vocabularies.

use serde_json::Value;
use sha2::{Digest, Sha256};

use super::*;
use crate::TokenId;

fn ids(value: &Value) -> Vec<TokenId> {
    let numbers = value.as_array().expect("an array").iter();
    numbers.map(|id| u32::try_from(id.as_u64().expect("a number")).expect("32 bits")).collect()
}

fn answers(name: &str) -> Value {
    serde_json::from_slice(&data(&format!("{name}.llama-cpp.json.gz"))).expect("sound JSON")
}

/// Compares a tokenizer with Hugging Face's ids for each case of a file.
fn compare_with_hugging_face(name: &str, tokenizer: &Tokenizer, cases: &str) {
    let cases = String::from_utf8(data(cases)).expect("UTF-8");
    let cases: Vec<_> = cases.split_terminator("\n__ggml_vocab_test__\n").collect();
    assert!(cases.len() >= 46, "{name}: {} cases", cases.len());
    let expected = String::from_utf8(data(&format!("{name}.out"))).expect("UTF-8");
    let expected: Vec<_> = expected.lines().collect();
    assert_eq!(expected.len(), cases.len(), "{name}");
    for (text, expected) in cases.iter().zip(expected) {
        let expected: Vec<TokenId> = expected.split_whitespace().map(|id| id.parse().expect("an id")).collect();
        assert_eq!(tokenizer.encode(text, false, false).expect("ids"), expected, "{name}: {text:?}");
    }
}

#[test]
fn hugging_face_cases() {
    let names = ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "bert-bge"];
    for name in names.into_iter().chain(["deepseek-coder", "deepseek-llm", "falcon", "mpt", "starcoder"]) {
        compare_with_hugging_face(name, &tokenizer(name), "cases.inp");
    }
}

/// Qwen 2's vocabulary with Qwen 3.5's pre-tokeniser.
#[test]
fn hugging_face_cases_of_qwen_3_5() {
    let bytes = vocabulary("qwen2");
    let key = b"tokenizer.ggml.pre".as_slice();
    let at = bytes.windows(key.len()).position(|window| window == key).expect("the key") + key.len();
    // The key is followed by the value's type (a string), its length, and the value.
    let value = at + 4..at + 4 + 8 + "qwen2".len();
    assert!(bytes[value.clone()].ends_with(b"qwen2"));
    let named = [&bytes[..value.start], &6_u64.to_le_bytes(), b"qwen35", &bytes[value.end..]].concat();
    let gguf = Gguf::parse(&named).expect("a sound GGUF");
    let tokenizer = Tokenizer::from_gguf(&gguf.metadata).expect("a known tokenizer");
    compare_with_hugging_face("qwen35", &tokenizer, "qwen35.inp");
}

#[test]
fn llama_cpp_ids() {
    for name in ALL {
        let (tokenizer, answers) = (tokenizer(name), answers(name));
        let cases = answers["encode"].as_array().expect("cases");
        assert!(cases.len() > 100);
        for case in cases {
            let text = case[0].as_str().expect("a text");
            // llama.cpp makes any `</s>` a control token, even if the file says that it is ordinary text.
            if text.contains("</s>") && !tokenizer.vocabulary.id("</s>").is_none_or(|id| tokenizer.is_control(id)) {
                continue;
            }
            let modes = [(false, false), (false, true), (true, true)];
            for ((add_special, parse_special), expected) in modes.into_iter().zip([&case[1], &case[2], &case[3]]) {
                let found = tokenizer.encode(text, add_special, parse_special).expect("ids");
                assert_eq!(found, ids(expected), "{name}, special tokens {parse_special}: {text:?}");
            }
        }
    }
}

#[test]
fn llama_cpp_bytes_of_every_token() {
    for name in ALL {
        let (tokenizer, answers) = (tokenizer(name), answers(name));
        let left_out = ids(&answers["pieces_left_out"]);
        for (render_special, key) in [(false, "pieces_sha256"), (true, "pieces_special_sha256")] {
            let mut digest = Sha256::new();
            for id in 0..tokenizer.vocab_size() as TokenId {
                let piece = tokenizer.token_bytes(id, render_special);
                let piece = if left_out.contains(&id) { &[] } else { &*piece };
                digest.update((piece.len() as u32).to_le_bytes());
                digest.update(piece);
            }
            let found: String = digest.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(found, answers[key].as_str().expect("a hash"), "{name}: {key}");
        }
    }
}

#[test]
fn llama_cpp_texts() {
    // For the other two, llama.cpp removes spaces before punctuation (`clean_up_tokenization_spaces`).
    for name in ["llama-spm", "phi-3", "qwen2", "smollm2"] {
        let (tokenizer, answers) = (tokenizer(name), answers(name));
        let left_out = ids(&answers["pieces_left_out"]);
        for case in ["decode", "decode_no_bos"].iter().flat_map(|key| answers[*key].as_array().expect("cases")) {
            let tokens = ids(&case[0]);
            if tokens.iter().any(|token| left_out.contains(token)) {
                continue;
            }
            for (render_special, expected) in [(false, &case[1]), (true, &case[2])] {
                assert_eq!(
                    tokenizer.decode(&tokens, render_special),
                    expected.as_str().expect("a text"),
                    "{name}: {tokens:?}"
                );
            }
        }
    }
}

#[test]
fn llama_cpp_roles() {
    for name in ALL {
        let (tokenizer, answers) = (tokenizer(name), answers(name));
        let id = |key: &str| answers[key].as_u64().map(|id| id as TokenId);
        assert_eq!((tokenizer.bos(), tokenizer.eos()), (id("bos"), id("eos")), "{name}");
        assert_eq!(tokenizer.adds_bos(), answers["add_bos"].as_bool().expect("a boolean"), "{name}");
        // Unlike in llama.cpp, `</s>` is not an end token unless it is a control token.
        let is_text = |id: &TokenId| ids(&answers["pieces_left_out"]).contains(id) && !tokenizer.is_control(*id);
        let expected: Vec<_> = ids(&answers["end_tokens"]).into_iter().filter(|id| !is_text(id)).collect();
        assert_eq!(*tokenizer.end_tokens(), *expected, "{name}");
        assert!(expected.iter().all(|&id| tokenizer.is_control(id)), "{name}");
    }
}
