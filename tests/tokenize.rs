//! `tokenize` and `detokenize` end to end: sources of text and ids, output, and errors.

use std::path::PathBuf;
use std::process::Command;

use crate::support::{self, SATCHEL, Scratch, output, satchel};

/// SmolLM2's vocabulary as a file.
fn vocabulary(scratch: &Scratch) -> PathBuf {
    let bytes = std::fs::read(support::data("tokenizers/smollm2.gguf.xz")).expect("test data");
    let mut gguf = Vec::new();
    lzma_rs::xz_decompress(&mut &*bytes, &mut gguf).expect("a sound xz file");
    let path = scratch.path("smollm2.gguf");
    std::fs::write(&path, gguf).expect("scratch is writable");
    path
}

fn piped(command: &str, model: &PathBuf, more: &[&str], input: &[u8]) -> support::Printed {
    output(Command::new(SATCHEL).arg(command).arg("-m").arg(model).args(more), input)
}

#[test]
fn ids_are_the_same_whatever_the_source_of_the_text() {
    let scratch = Scratch::new();
    let model = vocabulary(&scratch);
    let text = "<|im_start|>Hi 🙂 123\r\n";
    let ids = "1 26843 47526 216 33 34 35 2738\n";
    let file = scratch.path("text");
    std::fs::write(&file, text).expect("scratch is writable");
    let file = file.to_str().expect("UTF-8");
    for (arguments, input) in
        [(vec!["--text", text], ""), (vec![file], ""), (vec!["-f", file], ""), (vec![], text), (vec!["-"], text)]
    {
        assert_eq!(piped("tokenize", &model, &arguments, input.as_bytes()).ok(), ids, "{arguments:?}");
    }
    assert_eq!(
        piped("tokenize", &model, &["--no-special", "--text", "<|im_end|>"], b"").ok(),
        "44 108 306 79 486 108 46\n"
    );

    std::fs::write(scratch.path("ids"), ids).expect("scratch is writable");
    let ids_file = scratch.path("ids");
    let separate: Vec<&str> = ids.split_whitespace().collect();
    for (arguments, input) in
        [(separate, ""), (vec![ids_file.to_str().expect("UTF-8")], ""), (vec![], ids), (vec!["-"], ids)]
    {
        assert_eq!(piped("detokenize", &model, &arguments, input.as_bytes()).ok(), text, "{arguments:?}");
    }
    assert_eq!(piped("detokenize", &model, &["--no-special", "1", "26843"], b"").ok(), "Hi");
    assert_eq!(piped("tokenize", &model, &[], b"").ok(), "\n");
    assert_eq!(piped("detokenize", &model, &[], b"\n").ok(), "");
}

#[test]
fn pieces_as_json() {
    let scratch = Scratch::new();
    let printed = piped("tokenize", &vocabulary(&scratch), &["--json", "--text", "a ᚠ<|im_end|>"], b"").ok();
    let json: serde_json::Value = serde_json::from_str(&printed).expect("JSON");
    let tokens = json["tokens"].as_array().expect("tokens");
    assert_eq!(json["count"], tokens.len());
    assert_eq!(tokens[0], serde_json::json!({ "id": 81, "piece": "a" }));
    assert_eq!(tokens[tokens.len() - 1], serde_json::json!({ "id": 2, "piece": "<|im_end|>" }));
    let bytes = |piece: &serde_json::Value| match piece.as_str() {
        Some(text) => text.as_bytes().to_vec(),
        None => serde_json::from_value(piece.clone()).expect("bytes"),
    };
    let all: Vec<u8> = tokens.iter().flat_map(|token| bytes(&token["piece"])).collect();
    assert_eq!(all, "a ᚠ<|im_end|>".as_bytes());
    assert!(tokens.iter().any(|token| token["piece"].is_array()), "a character in parts: {printed}");
}

#[test]
fn errors_are_one_line() {
    let scratch = Scratch::new();
    let model = vocabulary(&scratch);
    let cases: [(&str, &[&str], &[u8], &str); 6] = [
        ("tokenize", &[], b"abc\xff", "stdin is not UTF-8 text: byte 3"),
        ("tokenize", &["no such file"], b"", "no such file"),
        ("detokenize", &["1", "49152"], b"", "token 2 is 49152, but there are 49152 tokens"),
        ("detokenize", &["1", "-f"], b"", "-f"),
        ("detokenize", &[], b"1 two 3", "token 2 is not a number: \"two\""),
        ("detokenize", &[], b"99999999999999999999", "token 1 is not a number"),
    ];
    for (command, arguments, input, expected) in cases {
        let printed = piped(command, &model, arguments, input);
        assert!(matches!(printed.code, Some(1 | 2)), "{command} {arguments:?}: {printed:?}");
        assert!(printed.stderr.contains(expected) && printed.stdout.is_empty(), "{command} {arguments:?}: {printed:?}");
    }
    let ids_only = support::data("reference/llama-dense.gguf");
    for command in ["tokenize", "detokenize"] {
        let line = piped(command, &ids_only, &[], b"1").failed(1);
        assert!(line.contains("llama-dense.gguf") && line.contains("kind \"test\""), "{line}");
    }
    let line = satchel(&["tokenize", "--text", "a"]).failed(1);
    assert!(line.contains("-m MODEL.gguf"), "{line}");
}
