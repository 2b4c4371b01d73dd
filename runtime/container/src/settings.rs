//! Settings that a bundle carries as its defaults (`pack --set key=value`).
//!
//! A closed list with types and ranges: a key or a value that this version does not know is an error, never ignored,
//! since it would change the answers.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

/// Defaults for sampling and serving. `None` leaves the program's own default in force.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// 0 always takes the most likely token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f32>,
    /// Keep this many most likely tokens; 0 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_k: Option<u32>,
    /// Keep the smallest set of tokens whose probabilities sum to this; 1 keeps all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub top_p: Option<f32>,
    /// Drop tokens less likely than this share of the most likely one; 0 drops none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_p: Option<f32>,
    /// Locally typical sampling; 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub typical_p: Option<f32>,
    /// 1 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_penalty: Option<f32>,
    /// How many of the last tokens the penalties look at; 0 none, -1 all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<i32>,
    /// 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Seed of the sampler.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seed: Option<u64>,
    /// Longest answer, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_tokens: Option<u32>,
    /// Context length of a sequence, in tokens.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub context: Option<u32>,
    /// How keys of the KV cache are stored: f16, q8_0 or q4_0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_type_k: Option<String>,
    /// The same for values.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache_type_v: Option<String>,
    /// Threads that compute.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Port the server asks for first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Address the server listens on: one of this machine alone. Only the person who starts it can open it to others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// The types that a KV cache can have.
const CACHE_TYPES: [&str; 3] = ["f16", "q8_0", "q4_0"];

impl Settings {
    /// Every key, in the order of the documentation.
    pub const KEYS: [&'static str; 17] = [
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "seed",
        "max_tokens",
        "context",
        "cache_type_k",
        "cache_type_v",
        "threads",
        "port",
        "host",
    ];

    /// Sets one key from text.
    ///
    /// # Errors
    /// An unknown key (with the list of known ones), a value that is not of the key's type, or one out of its range.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), String> {
        match key {
            "temperature" => self.temperature = parsed(key, value, "a number")?,
            "top_k" => self.top_k = parsed(key, value, "a whole number, 0 or more")?,
            "top_p" => self.top_p = parsed(key, value, "a number")?,
            "min_p" => self.min_p = parsed(key, value, "a number")?,
            "typical_p" => self.typical_p = parsed(key, value, "a number")?,
            "repeat_penalty" => self.repeat_penalty = parsed(key, value, "a number")?,
            "repeat_last_n" => self.repeat_last_n = parsed(key, value, "a whole number")?,
            "presence_penalty" => self.presence_penalty = parsed(key, value, "a number")?,
            "frequency_penalty" => self.frequency_penalty = parsed(key, value, "a number")?,
            "seed" => self.seed = parsed(key, value, "a whole number, 0 or more")?,
            "max_tokens" => self.max_tokens = parsed(key, value, "a whole number, 1 or more")?,
            "context" => self.context = parsed(key, value, "a whole number, 1 or more")?,
            "cache_type_k" => self.cache_type_k = Some(value.to_ascii_lowercase()),
            "cache_type_v" => self.cache_type_v = Some(value.to_ascii_lowercase()),
            "threads" => self.threads = parsed(key, value, "a whole number, 1 or more")?,
            "port" => self.port = parsed(key, value, "a port, 0 to 65535")?,
            "host" => self.host = Some(checked_host(value)?.to_owned()),
            _ => return Err(format!("unknown setting `{key}`; known are {}", Self::KEYS.join(", "))),
        }
        self.check()
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range, with the range.
    pub fn check(&self) -> Result<(), String> {
        number("temperature", self.temperature, 0.0, 100.0)?;
        number("top_p", self.top_p, 0.0, 1.0)?;
        number("min_p", self.min_p, 0.0, 1.0)?;
        number("typical_p", self.typical_p, 0.0, 1.0)?;
        number("repeat_penalty", self.repeat_penalty, 0.01, 100.0)?;
        number("presence_penalty", self.presence_penalty, -2.0, 2.0)?;
        number("frequency_penalty", self.frequency_penalty, -2.0, 2.0)?;
        if self.repeat_last_n.is_some_and(|n| n < -1) {
            return Err("`repeat_last_n` is -1 (all), 0 (none) or more".to_owned());
        }
        for (key, value) in [("max_tokens", self.max_tokens), ("context", self.context), ("threads", self.threads)] {
            if value == Some(0) {
                return Err(format!("`{key}` is 1 or more"));
            }
        }
        for (key, value) in [("cache_type_k", &self.cache_type_k), ("cache_type_v", &self.cache_type_v)] {
            if let Some(value) = value
                && !CACHE_TYPES.contains(&value.as_str())
            {
                return Err(format!("`{key}` is {}, not `{value}`", CACHE_TYPES.join(", ")));
            }
        }
        self.host.as_deref().map_or(Ok(()), |host| checked_host(host).map(|_| ()))
    }
}

/// An address that only this machine reaches.
fn checked_host(text: &str) -> Result<&str, String> {
    match host_address(text) {
        Some(ip) if ip.is_loopback() => Ok(text.trim()),
        Some(ip) => Err(format!(
            "`host` is an address of this machine alone, such as 127.0.0.1; whoever starts the file may open it to others \
             with --host {ip}"
        )),
        None => Err(format!("`host` is an IP address of this machine alone, such as 127.0.0.1, not `{text}`")),
    }
}

/// The address that a `host` means; `localhost` is one too, without asking a name server.
pub fn host_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    if text.eq_ignore_ascii_case("localhost") {
        return Some(Ipv4Addr::LOCALHOST.into());
    }
    text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')).unwrap_or(text).parse().ok()
}

fn parsed<T: std::str::FromStr>(key: &str, value: &str, expected: &str) -> Result<Option<T>, String> {
    value.trim().parse().map(Some).map_err(|_| format!("`{key}` is {expected}, not `{value}`"))
}

fn number(key: &str, value: Option<f32>, least: f32, most: f32) -> Result<(), String> {
    match value {
        // NaN is in no range.
        Some(value) if !(least..=most).contains(&value) => Err(format!("`{key}` is {least} to {most}, not {value}")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_is_set_kept_in_json_and_known_by_its_field_name() {
        let mut settings = Settings::default();
        for key in Settings::KEYS {
            let value = match key {
                "cache_type_k" | "cache_type_v" => "Q8_0",
                "host" => "::1",
                _ => "1",
            };
            settings.set(key, value).unwrap();
        }
        let json = serde_json::to_value(&settings).unwrap();
        let fields: Vec<_> = json.as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!(fields, Settings::KEYS);
        assert_eq!(serde_json::from_value::<Settings>(json).unwrap(), settings);
    }

    #[test]
    fn wrong_keys_types_and_ranges_are_each_a_line() {
        for (key, value, part) in [
            ("temprature", "1", "known are temperature, top_k"),
            ("temperature", "warm", "a number"),
            ("temperature", "-1", "0 to 100"),
            ("temperature", "NaN", "0 to 100"),
            ("top_p", "1.5", "0 to 1"),
            ("repeat_last_n", "-2", "-1 (all)"),
            ("context", "0", "1 or more"),
            ("cache_type_k", "q5_0", "f16, q8_0, q4_0, not `q5_0`"),
            ("port", "70000", "a port"),
            ("host", "a b", "an IP address"),
            ("host", "example.com", "an IP address"),
            ("host", "0.0.0.0", "--host 0.0.0.0"),
            ("host", "::", "this machine alone"),
            ("seed", "-1", "a whole number"),
        ] {
            let line = Settings::default().set(key, value).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
        assert!(serde_json::from_str::<Settings>(r#"{"temprature": 1}"#).is_err());
    }
}
