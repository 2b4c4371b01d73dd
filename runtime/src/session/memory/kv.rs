//! What a KV cache takes for each position, by the metadata and the types it is stored in.
//!
//! Read from the same keys for every architecture that caches a key and a value vector for each head and position.
//! Where a model keeps something else, or the keys are missing, the answer is "unknown" with its reason, not a guess.

use satchel_gguf::{Error, Metadata};

use crate::backend::{CacheType, CacheTypes};

/// Layers that a file may claim; see the engine's own limit for what it runs.
const LAYERS_MAX: u32 = 4096;

/// Why a size is not known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown(pub String);

impl From<Error> for Unknown {
    fn from(error: Error) -> Self {
        Self(error.to_string())
    }
}

/// What the KV cache takes for each position, bytes.
pub fn kv_bytes_per_token(metadata: &Metadata, types: CacheTypes) -> Result<u64, Unknown> {
    let architecture = metadata.require_str("general.architecture")?;
    let key = |name: &str| format!("{architecture}.{name}");
    if metadata.get_bool(&key("attention.causal"))? == Some(false) {
        return Err(Unknown(format!("{architecture} reads the whole text at once and keeps no cache")));
    }
    for other in ["attention.kv_lora_rank", "ssm.state_size", "wkv.head_size", "shortconv.l_cache"] {
        if metadata.get_u32(&key(other))?.is_some_and(|size| size > 0) {
            return Err(Unknown(format!(
                "{architecture} keeps another state than keys and values for each head ({})",
                key(other)
            )));
        }
    }
    let layers = metadata.require_u32(&key("block_count"))?;
    if layers == 0 || layers > LAYERS_MAX {
        return Err(Unknown(format!("{} is {layers}", key("block_count"))));
    }
    let per_layer = |name: &str| metadata.get_u32_per_layer(&key(name), layers as usize);
    let heads = per_layer("attention.head_count")?;
    let kv_heads = per_layer("attention.head_count_kv")?.or_else(|| heads.clone());
    let Some(kv_heads) = kv_heads else {
        return Err(Error::Missing(key("attention.head_count")).into());
    };
    let of_key = head_length(metadata, &key, "attention.key_length", heads.as_deref())?;
    let of_value = head_length(metadata, &key, "attention.value_length", heads.as_deref())?;
    let total_heads: u64 = kv_heads.iter().map(|&heads| u64::from(heads)).sum();
    let row = |ty: CacheType, length: u64| {
        let whole = || Unknown(format!("heads of {length} elements cannot be stored in {ty}"));
        ty.row_bytes(length as usize).ok_or_else(whole)
    };
    Ok(total_heads * (row(types.keys, of_key)? + row(types.values, of_value)?))
}

/// Elements of one head: as the file says, or the embedding divided by the heads.
fn head_length(
    metadata: &Metadata,
    key: &impl Fn(&str) -> String,
    name: &str,
    heads: Option<&[u32]>,
) -> Result<u64, Unknown> {
    // Fits: a head count is below 2^32 and there are few layers, so what is multiplied later stays below 2^64.
    const LENGTH_MAX: u64 = 1 << 16;
    let length = match metadata.get_u32(&key(name))?.filter(|&length| length > 0) {
        Some(length) => u64::from(length),
        None => {
            let embedding = metadata.require_u32(&key("embedding_length"))?;
            let first = heads.and_then(|heads| heads.iter().copied().find(|&heads| heads > 0));
            let first = first.ok_or_else(|| Unknown(format!("{} gives no heads", key("attention.head_count"))))?;
            u64::from(embedding / first)
        }
    };
    if length == 0 || length > LENGTH_MAX {
        return Err(Unknown(format!("a head of {length} elements cannot be")));
    }
    Ok(length)
}

#[cfg(test)]
mod tests {
    use satchel_gguf::{Array, Value};

    use super::*;

    fn metadata(entries: &[(&str, Value)]) -> Metadata {
        let mut all = vec![("general.architecture".to_owned(), Value::String("llama".into()))];
        all.extend(entries.iter().map(|(key, value)| (format!("llama.{key}"), value.clone())));
        Metadata::new(all).unwrap()
    }

    fn in_f16(entries: &[(&str, Value)]) -> Result<u64, Unknown> {
        kv_bytes_per_token(&metadata(entries), CacheTypes::default())
    }

    #[test]
    fn keys_and_values_of_every_head_and_layer_count() {
        // SmolLM2-135M: 30 layers, 3 of 9 heads cached, 64 elements each, keys and values, 2 bytes.
        let smollm2 = [
            ("block_count", Value::U32(30)),
            ("embedding_length", Value::U32(576)),
            ("attention.head_count", Value::U32(9)),
            ("attention.head_count_kv", Value::U32(3)),
        ];
        assert_eq!(in_f16(&smollm2), Ok(30 * 3 * (64 + 64) * 2));
        let mixed = CacheTypes { keys: CacheType::Q8_0, values: CacheType::Q4_0 };
        assert_eq!(kv_bytes_per_token(&metadata(&smollm2), mixed), Ok(30 * 3 * (2 * 34 + 2 * 18)));
        let mut other = smollm2.to_vec();
        other.extend([("attention.key_length", Value::U32(32)), ("attention.value_length", Value::U32(16))]);
        assert_eq!(in_f16(&other), Ok(30 * 3 * (32 + 16) * 2));
        let line = kv_bytes_per_token(&metadata(&other), CacheTypes::both(CacheType::Q4_0)).unwrap_err().0;
        assert!(line.contains("heads of 16 elements cannot be stored in Q4_0"), "{line}");
        // Without head_count_kv, all heads are cached; with one for each layer, as many as there are.
        assert_eq!(in_f16(&smollm2[..3]), Ok(30 * 9 * 128 * 2));
        let varied = [
            ("block_count", Value::U32(3)),
            ("embedding_length", Value::U32(64)),
            ("attention.head_count", Value::U32(4)),
            ("attention.head_count_kv", Value::Array(Array::I32(vec![0, 2, 1]))),
        ];
        assert_eq!(in_f16(&varied), Ok(3 * 32 * 2));
    }

    #[test]
    fn what_cannot_be_known_is_said() {
        let line = |entries: &[(&str, Value)]| in_f16(entries).unwrap_err().0;
        assert!(line(&[]).contains("llama.block_count"));
        assert!(line(&[("block_count", Value::U32(u32::MAX))]).contains("4294967295"));
        assert!(line(&[("attention.kv_lora_rank", Value::U32(512))]).contains("another state"));
        assert!(line(&[("attention.causal", Value::Bool(false))]).contains("no cache"));
        assert!(line(&[("block_count", Value::U32(2))]).contains("attention.head_count"));
        let no_width = [("block_count", Value::U32(2)), ("attention.head_count", Value::U32(2))];
        assert!(line(&no_width).contains("embedding_length"));
        assert!(
            kv_bytes_per_token(&Metadata::default(), CacheTypes::default())
                .unwrap_err()
                .0
                .contains("general.architecture")
        );
    }
}
