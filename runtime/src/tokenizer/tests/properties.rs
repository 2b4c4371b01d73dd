//! Round trips through encoding and decoding.

use super::*;

fn random_text(random: &mut oorandom::Rand32) -> String {
    let mut text = String::new();
    for _ in 0..random.rand_range(0..60) {
        let end = [0x80, 0x80, 0x800, 0x3100, 0x1_0000, 0x11_0000][random.rand_range(0..6) as usize];
        text.extend(char::from_u32(random.rand_range(0..end)));
    }
    text
}

#[test]
fn byte_level_round_trip() {
    for name in ["gpt-2", "llama-bpe", "qwen2", "deepseek-coder", "deepseek-llm", "mpt"] {
        let tokenizer = tokenizer(name);
        let mut random = oorandom::Rand32::new(11);
        for _ in 0..500 {
            let text = random_text(&mut random);
            let ids = tokenizer.encode(&text, false, false).expect("ids");
            assert_eq!(tokenizer.decode(&ids, false), text, "{name}");
        }
    }
}

/// Lossy vocabularies: SentencePiece does not distinguish a space from `▁`, some have no letter for bytes that are very rare in
/// text, and Unigram and BERT normalise. Other text survives.
#[test]
fn lossy_vocabularies_round_trip_representable_text() {
    let text = "Hello there, 12 apples;  naïve Ünïcode and 中文 text";
    for name in ["llama-spm", "phi-3", "falcon", "starcoder"] {
        let tokenizer = tokenizer(name);
        let ids = tokenizer.encode(text, false, false).expect("ids");
        assert_eq!(tokenizer.decode(&ids, false), text, "{name}");
    }
    for (name, text, expected) in [
        ("nomic-bert-moe", " Hello there,  12 ﬁgs and 中文", "Hello there, 12 figs and 中文"),
        ("bert-bge", "Hello  Thére 12", "hello there 12"),
    ] {
        let tokenizer = tokenizer(name);
        let ids = tokenizer.encode(text, false, false).expect("ids");
        assert_eq!(tokenizer.decode(&ids, false), expected, "{name}");
    }
}
