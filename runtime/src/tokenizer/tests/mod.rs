//! Compares the tokenizer with other implementations on complete vocabularies of real models (tests/data/tokenizers), and feeds
//! it damaged metadata.

mod conformance;
mod kinds;
mod metadata;
mod pieces;
mod properties;

use std::io::Read;
use std::path::PathBuf;

use flate2::read::GzDecoder;
use satchel_gguf::Gguf;

use super::Tokenizer;

const ALL: [&str; 6] = ["gpt-2", "llama-bpe", "llama-spm", "phi-3", "qwen2", "smollm2"];

fn data(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../tests/data/tokenizers").join(name);
    let bytes = std::fs::read(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    if !name.ends_with(".gz") {
        return bytes;
    }
    let mut plain = Vec::new();
    GzDecoder::new(&*bytes).read_to_end(&mut plain).expect("a sound gzip file");
    plain
}

/// A vocabulary, as GGUF.
pub(crate) fn vocabulary(name: &str) -> Vec<u8> {
    let mut gguf = Vec::new();
    lzma_rs::xz_decompress(&mut &*data(&format!("{name}.gguf.xz")), &mut gguf).expect("a sound xz file");
    gguf
}

fn tokenizer(name: &str) -> Tokenizer {
    let bytes = vocabulary(name);
    let gguf = Gguf::parse(&bytes).expect("a sound GGUF");
    Tokenizer::from_gguf(&gguf.metadata).expect("a known tokenizer")
}
