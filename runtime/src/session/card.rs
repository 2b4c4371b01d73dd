//! What a model's file says of itself, kept for descriptions after the file's headers are gone.

use satchel_container::Digest;
use satchel_gguf::Value;

use super::source::ModelSource;
use crate::model::file_type::type_name;

/// A model's metadata without its vocabulary, its block type and its hash.
#[derive(Clone, Debug)]
pub struct Card {
    /// Keys and values in file order. Arrays, which may hold a vocabulary, and chat templates are left out.
    pub metadata: Vec<(String, Value)>,
    /// Block type or mixture of the weights, such as `Q4_K_M`.
    pub quantization: String,
    /// SHA-256 of the GGUF, if the bundle's manifest records it.
    pub sha256: Option<Digest>,
}

impl Card {
    /// The card of an open source.
    pub(super) fn of(source: &ModelSource) -> Self {
        let entries = source.gguf.metadata.iter();
        let short = entries
            .filter(|(key, value)| !matches!(value, Value::Array(_)) && !key.starts_with("tokenizer.chat_template"));
        let sha256 = source.packed.as_ref().and_then(|packed| match packed.bundle.model_entries() {
            [whole] => Some(whole.sha256),
            _ => None,
        });
        Self {
            metadata: short.map(|(key, value)| (key.to_owned(), value.clone())).collect(),
            quantization: type_name(&source.gguf),
            sha256,
        }
    }

    /// The string at `key`.
    pub fn text(&self, key: &str) -> Option<&str> {
        self.metadata.iter().find_map(|(found, value)| match value {
            Value::String(text) if found == key => Some(text.as_str()),
            _ => None,
        })
    }
}
