//! A GGUF's vocabulary and a text, both arbitrary: the text follows the file, divided by `DIVIDER`.
//!
//! A vocabulary that is accepted must encode any text to tokens of its own, always the same ones, and decode any of its tokens.

#![no_main]

mod seeds;

use libfuzzer_sys::fuzz_target;
use satchel::tokenizer::Tokenizer;
use satchel_gguf::{Array, Gguf, GgufWriter, Value};

const DIVIDER: &[u8] = b"\n--text--\n";

fuzz_target!(init: seeds::write(make_seeds()), |bytes: &[u8]| {
    let at = bytes.windows(DIVIDER.len()).position(|window| window == DIVIDER);
    let (file, text) = at.map_or((bytes, &b"Hello  world"[..]), |at| (&bytes[..at], &bytes[at + DIVIDER.len()..]));
    let Ok(gguf) = Gguf::parse(file) else { return };
    match Tokenizer::from_gguf(&gguf.metadata) {
        Err(error) => {
            let line = error.to_string();
            assert!(!line.contains(['\n', '\r', '\u{1b}']), "one line, safe on a terminal: {line:?}");
        }
        Ok(tokenizer) => hold(&tokenizer, &String::from_utf8_lossy(text)),
    }
});

fn hold(tokenizer: &Tokenizer, text: &str) {
    let size = tokenizer.vocab_size() as u32;
    for (add_special, parse_special) in [(false, false), (true, true)] {
        let Ok(tokens) = tokenizer.encode(text, add_special, parse_special) else { continue };
        assert!(tokens.iter().all(|&token| token < size));
        let again = tokenizer.encode(text, add_special, parse_special);
        assert!(again.is_ok_and(|again| again == tokens), "the same text has the same tokens");
        let _ = tokenizer.decode(&tokens, true);
    }
    let all: Vec<u32> = (0..size.min(1000)).collect();
    let _ = tokenizer.decode_bytes(&all, false);
}

/// Seeds: a vocabulary of each kind with a text behind it.
fn make_seeds() -> Vec<Vec<u8>> {
    let letters = ["<unk>", "<s>", "</s>", "▁", "a", "b", "ab", "▁a", "<0x0A>", "<0x20>"];
    let kinds = [2, 3, 3, 1, 1, 1, 1, 1, 6, 6];
    let scores = [0.0, 0.0, 0.0, -1.0, -2.0, -3.0, -1.5, -1.2, 0.0, 0.0];
    let vocabulary = |kind: &str| {
        let mut writer = GgufWriter::new();
        let texts = |texts: &[&str]| Value::Array(Array::String(texts.iter().collect()));
        writer.set("tokenizer.ggml.model", Value::String(kind.to_owned()));
        writer.set("tokenizer.ggml.tokens", texts(&letters));
        writer.set("tokenizer.ggml.token_type", Value::Array(Array::I32(kinds.to_vec())));
        writer.set("tokenizer.ggml.scores", Value::Array(Array::F32(scores.to_vec())));
        writer.set("tokenizer.ggml.bos_token_id", Value::U32(1)).set("tokenizer.ggml.eos_token_id", Value::U32(2));
        if kind == "gpt2" {
            writer.set("tokenizer.ggml.pre", Value::String("gpt-2".to_owned()));
            writer.set("tokenizer.ggml.merges", texts(&["a b", "ab a"]));
        }
        let file = writer.layout().expect("a seed is right").to_bytes(&[]).expect("memory can be written");
        [&file[..], DIVIDER, b"a ba</s>  ab\n\xff"].concat()
    };
    ["llama", "gpt2", "bert", "t5"].map(vocabulary).into()
}
