//! The model in Ollama's format: version, list, properties, and what is in memory.

use satchel_container::Digest;
use satchel_container::parameters::PARAMETERS;
use satchel_gguf::Value as Entry;
use serde_json::{Map, Value, json};

use crate::server::unix_seconds;
use crate::session::{Defaults, Facts};

/// The version of Ollama whose API this is. Clients compare it, and refuse older ones than 0.6.4.
const VERSION: &str = "0.6.4";
/// How far away `expires_at` is: the model stays in memory as long as the server runs, and clients want a time.
const FOREVER_SECONDS: u64 = 100 * 365 * 86_400;

pub(super) fn version() -> Value {
    json!({ "version": VERSION })
}

/// A name with a tag, as clients expect: `latest` unless an adapter's name follows the model's.
pub(super) fn tagged(name: &str) -> String {
    if name.contains(':') { name.to_owned() } else { format!("{name}:latest") }
}

/// `/api/tags`: the names of the model.
pub(super) fn tags(facts: &Facts, names: &[String]) -> Value {
    let model = |name: &String| {
        let mut model = entry(facts, name);
        model["modified_at"] = time(facts.created).into();
        model
    };
    json!({"models": names.iter().map(model).collect::<Vec<_>>()})
}

/// `/api/ps`: likewise, all of them in memory.
pub(super) fn running(facts: &Facts, names: &[String]) -> Value {
    let bytes = facts.memory.as_ref().map_or(facts.file_bytes, |memory| memory.total_bytes());
    let model = |name: &String| {
        let mut model = entry(facts, name);
        model["size"] = bytes.into();
        model["size_vram"] = 0.into();
        model["context_length"] = facts.context_length.into();
        model["expires_at"] = time(unix_seconds() + FOREVER_SECONDS).into();
        model
    };
    json!({"models": names.iter().map(model).collect::<Vec<_>>()})
}

fn entry(facts: &Facts, name: &str) -> Value {
    json!({
        "name": name,
        "model": name,
        "size": facts.file_bytes,
        "digest": digest(facts, name).to_string(),
        "details": details(facts),
    })
}

/// The file's SHA-256 where a packed file's manifest records it. A plain GGUF is not read for it, and with an adapter a model
/// is another one: there it is the SHA-256 of name and size, which is as stable.
fn digest(facts: &Facts, name: &str) -> Digest {
    let whole = facts.card.sha256.filter(|_| name == tagged(&facts.name));
    whole.unwrap_or_else(|| Digest::of(format!("{name}\n{}", facts.file_bytes).as_bytes()))
}

fn details(facts: &Facts) -> Value {
    json!({
        "parent_model": "",
        "format": "gguf",
        "family": facts.architecture,
        "families": [facts.architecture],
        "parameter_size": parameter_size(facts.parameters),
        "quantization_level": facts.card.quantization,
    })
}

/// 134515008 -> "134.52M"
fn parameter_size(parameters: u64) -> String {
    match parameters {
        1_000_000_000.. => format!("{:.1}B", parameters as f64 / 1e9),
        1_000_000.. => format!("{:.2}M", parameters as f64 / 1e6),
        1_000.. => format!("{:.0}K", parameters as f64 / 1e3),
        _ => parameters.to_string(),
    }
}

/// What `/api/show` says beside the file's properties.
pub(super) struct Shown<'a> {
    pub(super) name: &'a str,
    /// The chat template's source; empty if there is none.
    pub(super) template: &'a str,
    /// Defaults of an answer's parameters; `None` for an embedding model.
    pub(super) defaults: Option<&'a Defaults>,
    /// Whether the caller may see the system prompt.
    pub(super) known: bool,
}

/// `/api/show`.
pub(super) fn show(facts: &Facts, shown: &Shown<'_>) -> Value {
    let parameters = shown.defaults.map(parameters).unwrap_or_default();
    let lines = |prefix: &str| {
        parameters.iter().map(|(name, value)| format!("{prefix}{name:<30} {value}")).collect::<Vec<_>>().join("\n")
    };
    let mut answer = json!({
        "modelfile": format!("FROM {}\n{}\n", shown.name.replace(char::is_control, " "), lines("PARAMETER ")),
        "parameters": lines(""),
        "template": shown.template,
        "details": details(facts),
        "model_info": model_info(facts),
        "capabilities": [if shown.defaults.is_some() { "completion" } else { "embedding" }],
        "modified_at": time(facts.created),
    });
    if let Some(license) = facts.card.text("general.license") {
        answer["license"] = license.into();
    }
    if let Some(system) = shown.defaults.and_then(|defaults| defaults.system_prompt.as_deref()).filter(|_| shown.known)
    {
        answer["system"] = system.into();
    }
    answer
}

/// Default parameters by Ollama's names. A fixed seed is left out: like the system prompt, it is not for everyone.
fn parameters(defaults: &Defaults) -> Vec<(&'static str, String)> {
    let mut all: Vec<(&str, String)> = PARAMETERS
        .iter()
        .filter(|parameter| parameter.name != "seed")
        .filter_map(|parameter| Some((parameter.name, defaults.sampling.get(parameter)?.to_string())))
        .collect();
    all.extend(defaults.max_tokens.map(|tokens| ("num_predict", tokens.to_string())));
    all
}

/// The file's metadata, and what clients rely on. The context is the one that this server has: a longer one is refused.
fn model_info(facts: &Facts) -> Value {
    let metadata = facts.card.metadata.iter().filter_map(|(key, value)| Some((key.clone(), scalar(value)?)));
    let mut info: Map<String, Value> = metadata.collect();
    info.entry("general.basename").or_insert_with(|| facts.name.as_str().into());
    info.insert("general.architecture".into(), facts.architecture.as_str().into());
    info.insert("general.parameter_count".into(), facts.parameters.into());
    info.insert(format!("{}.context_length", facts.architecture), facts.context_length.into());
    info.into()
}

fn scalar(value: &Entry) -> Option<Value> {
    Some(match value {
        Entry::String(text) => text.as_str().into(),
        Entry::Bool(flag) => (*flag).into(),
        // Through text, so that 1e-5 stays what it is.
        Entry::F32(number) => number.to_string().parse::<f64>().ok()?.into(),
        Entry::F64(number) => (*number).into(),
        other => i64::try_from(other.as_i128()?).map_or_else(|_| other.as_i128().map(|n| n as f64).into(), Value::from),
    })
}

/// Unix seconds as ISO 8601.
fn time(seconds: u64) -> String {
    let time = i64::try_from(seconds).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    time.unwrap_or(jiff::Timestamp::MAX).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_version_is_numeric_and_not_older_than_clients_want() {
        let text = version()["version"].as_str().unwrap().to_owned();
        let numbers: Vec<u32> = text.split('.').map(|part| part.parse().expect("a number")).collect();
        assert!(numbers.len() == 3 && numbers >= vec![0, 6, 4], "{text}");
    }

    #[test]
    fn sizes_and_names_are_written_as_clients_know_them() {
        let sizes = [(999, "999"), (260_032, "260K"), (134_515_008, "134.52M"), (7_241_732_096, "7.2B")];
        for (parameters, text) in sizes {
            assert_eq!(parameter_size(parameters), text);
        }
        assert_eq!((tagged("tiny").as_str(), tagged("tiny:pirate").as_str()), ("tiny:latest", "tiny:pirate"));
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
    }

    #[test]
    fn metadata_keep_their_values() {
        let values = [
            (Entry::F32(1e-5), json!(1e-5)),
            (Entry::U64(u64::MAX), json!(u64::MAX as f64)),
            (Entry::U32(7), json!(7)),
            (Entry::Bool(true), json!(true)),
            (Entry::String("a".into()), json!("a")),
        ];
        for (entry, value) in values {
            assert_eq!(scalar(&entry), Some(value));
        }
    }
}
