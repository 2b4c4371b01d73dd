//! Invalid metadata, and how valid metadata determine behaviour.

use satchel_gguf::{Array, GgufWriter, Metadata, Value};

use super::super::byte_alphabet::letter;
use super::*;
use crate::TokenId;
use crate::tokenizer::Piece;

pub(super) fn text(text: &str) -> Value {
    Value::String(text.to_owned())
}

pub(super) fn texts<S: AsRef<str>>(texts: &[S]) -> Value {
    Value::Array(Array::String(texts.iter().collect()))
}

pub(super) fn types(types: &[i32]) -> Value {
    Value::Array(Array::I32(types.to_vec()))
}

/// Entries by name without `tokenizer.ggml.`; a later entry replaces an earlier one.
pub(super) fn metadata(entries: &[(&str, Value)]) -> Metadata {
    let mut all: Vec<(String, Value)> = Vec::new();
    for (name, value) in entries {
        let key = if name.contains('.') { (*name).to_owned() } else { format!("tokenizer.ggml.{name}") };
        all.retain(|(other, _)| *other != key);
        all.push((key, value.clone()));
    }
    Metadata::new(all).expect("no key twice")
}

/// The 256 letters, then `more`.
pub(super) fn byte_level(more: &[&str], merges: &[&str]) -> Vec<(&'static str, Value)> {
    let mut tokens: Vec<String> = (0..=255).map(|byte| letter(byte).to_string()).collect();
    tokens.extend(more.iter().map(|&token| token.to_owned()));
    vec![("model", text("gpt2")), ("pre", text("gpt-2")), ("tokens", texts(&tokens)), ("merges", texts(merges))]
}

fn spm(tokens: &[(&str, f32, i32)]) -> Vec<(&'static str, Value)> {
    let all = [("<unk>", 0.0, 2), ("<s>", 0.0, 3), ("</s>", 0.0, 3)].iter().chain(tokens);
    let (mut names, mut scores, mut kinds) = (Vec::new(), Vec::new(), Vec::new());
    for &(name, score, kind) in all {
        names.push(name);
        scores.push(score);
        kinds.push(kind);
    }
    vec![
        ("model", text("llama")),
        ("tokens", texts(&names)),
        ("scores", Value::Array(Array::F32(scores))),
        ("token_type", types(&kinds)),
    ]
}

pub(super) fn open(entries: &[(&str, Value)]) -> Tokenizer {
    Tokenizer::from_gguf(&metadata(entries)).expect("a tokenizer")
}

/// The error of opening `base` with one more entry.
pub(super) fn error(base: &[(&'static str, Value)], name: &'static str, value: Value) -> String {
    let mut entries = base.to_vec();
    entries.push((name, value));
    Tokenizer::from_gguf(&metadata(&entries)).expect_err("must be refused").to_string()
}

pub(super) fn encode(tokenizer: &Tokenizer, text: &str) -> Vec<TokenId> {
    tokenizer.encode(text, false, true).expect("ids")
}

#[test]
fn unknown_kinds_and_pre_tokenisers_are_refused_with_the_known_ones() {
    let base = byte_level(&[], &[]);
    let unknown = error(&base, "pre", text("my-own"));
    assert!(unknown.contains("\"my-own\"") && unknown.contains("smollm") && unknown.contains("qwen2"), "{unknown}");
    for kind in ["rwkv", "plamo2", "", "GPT2"] {
        let unknown = error(&base, "model", text(kind));
        assert!(unknown.contains(&format!("{kind:?}")) && unknown.contains("gpt2"), "{unknown}");
    }
}

#[test]
fn a_missing_pre_tokeniser_gives_a_warning() {
    let mut base = byte_level(&[], &[]);
    assert_eq!(open(&base).warning(), None);
    base.retain(|(name, _)| *name != "pre");
    let tokenizer = open(&base);
    assert!(tokenizer.warning().expect("a warning").contains("tokenizer.ggml.pre"));
    assert_eq!(encode(&tokenizer, "ab"), [97, 98]);
}

#[test]
fn invalid_entries_are_refused_with_their_key() {
    let base = byte_level(&["ab"], &["a b"]);
    let cases = [
        ("token_type", types(&[1; 256]), "tokenizer.ggml.token_type has 256 elements, but there are 257 tokens"),
        ("token_type", types(&[7; 257]), "token 0 has type 7"),
        ("token_type", texts(&["a"]), "tokenizer.ggml.token_type"),
        ("scores", Value::Array(Array::F32(vec![0.0; 258])), "tokenizer.ggml.scores has 258 elements"),
        ("tokens", types(&[1]), "tokenizer.ggml.tokens"),
        ("tokens", texts(&["a", "b", "a"]), "tokens 0 and 2 are both \"a\""),
        ("merges", texts(&["a b", "ab"]), "merge 1 is \"ab\""),
        ("merges", texts(&["a "]), "merge 0 is \"a \""),
        ("merges", texts(&[""]), "merge 0 is \"\""),
        ("merges", types(&[1]), "tokenizer.ggml.merges"),
        ("bos_token_id", Value::U32(257), "tokenizer.ggml.bos_token_id is 257, but there are 257 tokens"),
        ("eos_token_id", Value::I32(-1), "tokenizer.ggml.eos_token_id"),
        ("eot_token_id", Value::U32(u32::MAX), "tokenizer.ggml.eot_token_id"),
        ("add_bos_token", Value::Bool(true), "there is no tokenizer.ggml.bos_token_id"),
        ("add_eos_token", Value::Bool(true), "there is no tokenizer.ggml.eos_token_id"),
        ("add_bos_token", Value::U32(1), "tokenizer.ggml.add_bos_token"),
    ];
    for (name, value, expected) in cases {
        let found = error(&base, name, value);
        assert!(found.contains(expected) && !found.contains('\n'), "{name}: {found}");
    }
    let without_merges: Vec<_> = base.iter().filter(|(name, _)| *name != "merges").cloned().collect();
    let found = Tokenizer::from_gguf(&metadata(&without_merges)).expect_err("no merges").to_string();
    assert!(found.contains("tokenizer.ggml.merges"), "{found}");
}

#[test]
fn models_without_text_open() {
    let test = metadata(&[("model", text("test")), ("tokens", texts(&["a", "b"])), ("token_type", types(&[1, 1]))]);
    for (metadata, kind, tokens) in [(test, "test", 2), (Metadata::default(), "none", 0)] {
        let tokenizer = Tokenizer::from_gguf(&metadata).expect("opens");
        assert_eq!((tokenizer.kind(), tokenizer.vocab_size()), (kind, tokens));
        let error = tokenizer.encode("a", true, true).expect_err("no text").to_string();
        assert!(error.contains(&format!("{kind:?}")), "{error}");
        assert!(tokenizer.end_tokens().is_empty());
    }
}

#[test]
fn merges_whose_result_is_not_a_token_are_harmless() {
    // "abc" is not a token, so its letters are used; (x, y) merge although "xy" is not a token, as a step to "xyz".
    let tokenizer = open(&byte_level(&["ab", "xyz"], &["a b", "ab c", "x y", "xy z", "a b"]));
    assert_eq!(encode(&tokenizer, "ab"), [256]);
    assert_eq!(encode(&tokenizer, "abc"), [97, 98, 99]);
    assert_eq!(encode(&tokenizer, "xyz"), [257]);
    assert_eq!(encode(&tokenizer, "xy"), [120, 121]);
}

#[test]
fn a_byte_without_a_letter_is_dropped() {
    let entries =
        [("model", text("gpt2")), ("pre", text("gpt-2")), ("tokens", texts(&["a"])), ("merges", texts::<&str>(&[]))];
    assert_eq!(encode(&open(&entries), "abä a"), [0, 0]);
}

#[test]
fn ids_out_of_range_decode_to_nothing() {
    for tokenizer in [open(&byte_level(&[], &[])), open(&spm(&[]))] {
        for id in [256, 1 << 20, u32::MAX] {
            assert!(tokenizer.token_bytes(id, true).is_empty() && tokenizer.token_text(id).is_empty());
            assert!(!tokenizer.is_control(id));
        }
    }
}

#[test]
fn begin_and_end_tokens_are_added_as_the_metadata_say() {
    let mut entries = byte_level(&["<s>", "</s>"], &[]);
    entries.extend([("bos_token_id", Value::U32(256)), ("eos_token_id", Value::U32(257))]);
    assert_eq!(open(&entries).encode("a", true, false).expect("ids"), [97]);
    entries.extend([("add_bos_token", Value::Bool(true)), ("add_eos_token", Value::Bool(true))]);
    assert_eq!(open(&entries).encode("a", true, false).expect("ids"), [256, 97, 257]);
    assert_eq!(open(&entries).encode("", true, false).expect("ids"), [256, 257]);
    assert_eq!(open(&entries).encode("a", false, false).expect("ids"), [97]);
    // Llama 3's pre-tokeniser implies a begin token, if there is one.
    let llama = byte_level(&["<s>"], &[]).into_iter().chain([("pre", text("llama-bpe"))]).collect::<Vec<_>>();
    assert!(!open(&llama).adds_bos());
    let with_bos: Vec<_> = llama.into_iter().chain([("bos_token_id", Value::U32(256))]).collect();
    assert_eq!(open(&with_bos).encode("a", true, false).expect("ids"), [256, 97]);
}

#[test]
fn end_tokens_are_found_by_key_and_text() {
    let names = ["</s>", "<|im_end|>", "<|end|>", "<eos>"];
    let mut entries = byte_level(&names, &[]);
    let mut kinds = vec![1; 260];
    kinds[259] = 3;
    entries.push(("token_type", types(&kinds)));
    let tokenizer = open(&entries);
    assert_eq!(*tokenizer.end_tokens(), [257, 258, 259], "`</s>` is text here");
    assert!(tokenizer.is_control(257) && !tokenizer.is_control(256), "a chat marker that the file calls text");
    assert_eq!(encode(&tokenizer, "a<|im_end|>"), [97, 257]);

    let harmony = open(&byte_level(&["<|end|>", "<|return|>", "<|call|>"], &[]));
    assert_eq!(*harmony.end_tokens(), [257, 258], "`<|end|>` ends a part only");
    let named: Vec<_> = byte_level(&["x!"], &[]).into_iter().chain([("eot_token_id", Value::U32(256))]).collect();
    assert_eq!(*open(&named).end_tokens(), [256]);
}

#[test]
fn some_special_tokens_strip_white_space() {
    let phi = spm(&[("<|end|>", 0.0, 3), ("<|user|>", 0.0, 4), ("▁", -1.0, 1), ("a", -2.0, 1), ("\n", -3.0, 1)]);
    let named: Vec<_> = phi.iter().cloned().chain([("general.name", text("Phi-3 mini"))]).collect();
    assert_eq!(encode(&open(&phi), "<|end|>\n a"), [3, 5, 7, 5, 6]);
    assert_eq!(encode(&open(&named), "<|end|>\n a"), [3, 5, 6]);
    assert_eq!(encode(&open(&named), "<s> a"), [1, 5, 5, 6], "`<s>` does not strip");

    let mut jina = byte_level(&["<mask>"], &[]);
    let kinds: Vec<i32> = (0..257).map(|id| if id == 256 { 3 } else { 1 }).collect();
    jina.extend([("token_type", types(&kinds)), ("pre", text("jina-v2-es"))]);
    assert_eq!(encode(&open(&jina), "a \n<mask> a"), [97, 256, 32, 97]);
}

#[test]
fn control_tokens_are_recognised_only_if_requested() {
    let mut entries = byte_level(&["<c>", "<u>", "<c><c>"], &[]);
    let mut kinds = vec![1; 259];
    (kinds[256], kinds[257], kinds[258]) = (3, 4, 3);
    entries.push(("token_type", types(&kinds)));
    let tokenizer = open(&entries);
    assert_eq!(encode(&tokenizer, "<c><u>a<c><c>"), [256, 257, 97, 258], "the longest counts");
    assert_eq!(tokenizer.encode("<c><u>", false, false).expect("ids"), [60, 99, 62, 257], "user-defined ones always");
    assert_eq!((&*tokenizer.token_bytes(256, false), &*tokenizer.token_bytes(256, true)), (&b""[..], &b"<c>"[..]));
    assert_eq!(&*tokenizer.token_bytes(257, false), b"<u>");
}

#[test]
fn user_defined_tokens_are_recognised_in_any_piece() {
    let mut entries = byte_level(&["<c>", "<u>", "<u><c>"], &[]);
    let kinds: Vec<i32> =
        (0..259).map(|id| [3, 4, 3].get(usize::wrapping_sub(id, 256)).copied().unwrap_or(1)).collect();
    entries.push(("token_type", types(&kinds)));
    let tokenizer = open(&entries);
    let encode = |pieces: &[(&str, bool)]| {
        let pieces: Vec<_> = pieces.iter().map(|&(text, special)| Piece { text, special }).collect();
        tokenizer.encode_pieces(&pieces, false).expect("ids")
    };
    assert_eq!(encode(&[("<u", false), (">", true), ("<c>", true)]), [257, 256]);
    assert_eq!(encode(&[("<u", false), ("><c>", true)]), [257, 256]);
    assert_eq!(encode(&[("<c><u>", false)]), [60, 99, 62, 257]);
    assert_eq!(encode(&[("<u><c>", true)]), [258]);
    assert_eq!(encode(&[("<u>", false), ("<c>", true)]), [257, 256], "the longer one overlaps user text");
}

#[test]
fn spm_uses_the_unknown_token_for_bytes_without_a_token() {
    let bytes = spm(&[("▁", -1.0, 1), ("<0xC3>", 0.0, 6), ("<0xA4>", 0.0, 6)]);
    assert_eq!(encode(&open(&bytes), "ä?"), [3, 4, 5, 0], "byte tokens, or the unknown token");
    let mut without_unknown = spm(&[("▁", -1.0, 1)]);
    without_unknown.retain(|(name, _)| *name != "tokens");
    without_unknown.push(("tokens", texts(&["<unk>", "<s>", "</s>", "▁"])));
    assert_eq!(encode(&open(&without_unknown), "ä"), [3, 0, 0], "the unknown token is 0 by default");
}

#[test]
fn spm_merges_across_words_if_a_token_spans_them() {
    let tokens = [("▁", -9.0, 1), ("a", -9.0, 1), ("b", -9.0, 1), ("▁b", -2.0, 1)];
    let across = [("a▁", -1.0, 1), ("a▁b", -1.0, 1)];
    assert_eq!(encode(&open(&spm(&tokens)), "a b"), [3, 4, 6]);
    assert_eq!(encode(&open(&spm(&[&tokens[..], &across].concat())), "a b"), [3, 8]);
}

#[test]
fn spm_adds_and_removes_a_leading_space() {
    let mut entries = spm(&[("▁", -1.0, 1), ("a", -2.0, 1), ("▁a", 0.0, 1)]);
    let tokenizer = open(&entries);
    assert_eq!(encode(&tokenizer, "a"), [5]);
    assert!(encode(&tokenizer, "").is_empty());
    assert_eq!(tokenizer.decode(&[5, 5], false), "a a");
    assert_eq!(tokenizer.decode(&[1, 5], false), " a", "after another token it is an ordinary space");
    entries.push(("add_space_prefix", Value::Bool(false)));
    let tokenizer = open(&entries);
    assert_eq!(encode(&tokenizer, "a"), [4]);
    assert_eq!(tokenizer.decode(&[5], false), " a");
}

/// A damaged file either opens and can be used, or is refused.
#[test]
fn damaged_metadata_never_panic() {
    let bases = [
        byte_level(&["ab", "<|im_end|>", "abc"], &["a b", "ab c"]),
        spm(&[("▁", -1.0, 1), ("a", -2.0, 1), ("<0x0A>", 0.0, 6), ("<|u|>", 0.0, 4)]),
    ];
    let mut random = oorandom::Rand32::new(3);
    let (mut opened, mut refused) = (0, 0);
    for base in bases {
        let whole =
            GgufWriter::with_metadata(&metadata(&base)).layout().expect("sound").to_bytes(&[]).expect("written");
        for _ in 0..4000 {
            let mut bytes = whole.clone();
            for _ in 0..random.rand_range(1..4) {
                bytes[random.rand_range(0..whole.len() as u32) as usize] ^= 1 << random.rand_range(0..8);
            }
            let Ok(gguf) = Gguf::parse(&bytes) else { continue };
            let Ok(tokenizer) = Tokenizer::from_gguf(&gguf.metadata) else {
                refused += 1;
                continue;
            };
            opened += 1;
            if let Ok(ids) = tokenizer.encode("abc a\n<|im_end|>ä <|u|>", true, true) {
                assert!(ids.iter().all(|&id| (id as usize) < tokenizer.vocab_size()));
                tokenizer.decode(&ids, true);
            }
        }
    }
    assert!(opened > 100 && refused > 10, "{opened} opened, {refused} refused: the test does not cover both");
}
