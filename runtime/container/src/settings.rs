//! Settings that a bundle carries as its defaults (`pack --set key=value`).
//!
//! A closed list with types and ranges: an unknown key or value is an error rather than ignored, since it would change
//! the answers. Ranges of sampling parameters are those of `parameters`.

use std::net::{IpAddr, Ipv4Addr};

use serde::{Deserialize, Serialize};

use crate::parameters::{Parameter, Value};

/// Defaults for sampling and serving. `None` means the program's own default.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Settings {
    /// 0 is greedy decoding.
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
    /// How many of the last tokens the penalties apply to; 0 none, -1 all.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub repeat_last_n: Option<i32>,
    /// 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub presence_penalty: Option<f32>,
    /// 0 is off.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub frequency_penalty: Option<f32>,
    /// Seed of the sampler; a negative one is stored as its two's complement.
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
    /// Number of compute threads.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub threads: Option<u32>,
    /// Port the server tries first.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Address the server listens on; must be a loopback address. Only the user can open the server to others, by flag.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub host: Option<String>,
}

/// Storage types of a KV cache.
const CACHE_TYPES: [&str; 3] = ["f16", "q8_0", "q4_0"];

impl Settings {
    /// Every key, in documentation order.
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
        if let Some(parameter) = Parameter::named(key) {
            let value = parameter.parse(value).map_err(|line| format!("`{key}` {line}"))?;
            return self.set_sampling(parameter, value);
        }
        match key {
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

    /// Sets a sampling parameter to a checked value. A negative seed is stored as its two's complement.
    fn set_sampling(&mut self, parameter: &Parameter, value: Value) -> Result<(), String> {
        let narrow = || format!("`{}` does not fit into 32 bits", parameter.name);
        let count = || u32::try_from(value.as_count()).map_err(|_| narrow());
        match parameter.name {
            "temperature" => self.temperature = Some(value.as_f32()),
            // -1 (all) is stored as 0.
            "top_k" => self.top_k = Some(u32::try_from(value.as_count()).unwrap_or(0)),
            "top_p" => self.top_p = Some(value.as_f32()),
            "min_p" => self.min_p = Some(value.as_f32()),
            "typical_p" => self.typical_p = Some(value.as_f32()),
            "repeat_penalty" => self.repeat_penalty = Some(value.as_f32()),
            "repeat_last_n" => self.repeat_last_n = Some(i32::try_from(value.as_count()).unwrap_or(-1)),
            "presence_penalty" => self.presence_penalty = Some(value.as_f32()),
            "frequency_penalty" => self.frequency_penalty = Some(value.as_f32()),
            "seed" => self.seed = value.as_seed(),
            "max_tokens" => self.max_tokens = Some(count()?),
            other => return Err(format!("`{other}` cannot be packed")),
        }
        Ok(())
    }

    /// The sampling parameters that are set, in the table's order.
    pub fn sampling(&self) -> Vec<(&'static Parameter, Value)> {
        let whole = |value: Option<u32>| value.map(|value| Value::Whole(value.into()));
        let values = [
            ("temperature", self.temperature.map(Value::from)),
            ("top_k", whole(self.top_k)),
            ("top_p", self.top_p.map(Value::from)),
            ("min_p", self.min_p.map(Value::from)),
            ("typical_p", self.typical_p.map(Value::from)),
            ("repeat_penalty", self.repeat_penalty.map(Value::from)),
            ("repeat_last_n", self.repeat_last_n.map(|value| Value::Whole(value.into()))),
            ("presence_penalty", self.presence_penalty.map(Value::from)),
            ("frequency_penalty", self.frequency_penalty.map(Value::from)),
            ("seed", self.seed.map(|value| Value::Whole(value.into()))),
            ("max_tokens", whole(self.max_tokens)),
        ];
        values.into_iter().filter_map(|(name, value)| Some((Parameter::named(name)?, value?))).collect()
    }

    /// Checks every value against its range.
    ///
    /// # Errors
    /// The first value out of range, with the range.
    pub fn check(&self) -> Result<(), String> {
        for (parameter, value) in self.sampling() {
            parameter.check(value).map_err(|line| format!("`{}` {line}", parameter.name))?;
        }
        for (key, value) in [("context", self.context), ("threads", self.threads)] {
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

/// `text`, if it is a loopback address.
fn checked_host(text: &str) -> Result<&str, String> {
    match host_address(text) {
        Some(ip) if ip.is_loopback() => Ok(text.trim()),
        Some(ip) => Err(format!(
            "`host` must be a loopback address, such as 127.0.0.1; the user can open the server to others with --host {ip}"
        )),
        None => Err(format!("`host` must be the IP address of a loopback interface, such as 127.0.0.1, not `{text}`")),
    }
}

/// Parses a `host`; `localhost` is accepted without a name lookup.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_key_can_be_set_round_trips_in_json_and_is_its_field_name() {
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
    fn wrong_keys_types_and_ranges_each_give_a_one_line_error() {
        for (key, value, part) in [
            ("temprature", "1", "known are temperature, top_k"),
            ("temperature", "warm", "a number"),
            ("temperature", "-1", "between 0 and 100"),
            ("temperature", "NaN", "between 0 and 100"),
            ("top_p", "1.5", "between 0 and 1"),
            ("repeat_last_n", "-2", "-1 or more"),
            ("context", "0", "1 or more"),
            ("cache_type_k", "q5_0", "f16, q8_0, q4_0, not `q5_0`"),
            ("port", "70000", "a port"),
            ("host", "a b", "the IP address"),
            ("host", "example.com", "the IP address"),
            ("host", "0.0.0.0", "--host 0.0.0.0"),
            ("host", "::", "a loopback address"),
            ("seed", "1.5", "a whole number"),
            ("max_tokens", "99999999999", "32 bits"),
        ] {
            let line = Settings::default().set(key, value).unwrap_err();
            assert!(line.contains(part) && !line.contains('\n'), "{line}");
        }
        assert!(serde_json::from_str::<Settings>(r#"{"temprature": 1}"#).is_err());
    }

    #[test]
    fn every_parameter_of_the_table_can_be_set_and_is_listed() {
        let mut settings = Settings::default();
        for parameter in &crate::parameters::PARAMETERS {
            assert!(Settings::KEYS.contains(&parameter.name), "{}", parameter.name);
            settings.set(parameter.name, "1").unwrap();
        }
        let found: Vec<_> = settings.sampling().iter().map(|(parameter, _)| parameter.name).collect();
        assert_eq!(found, crate::parameters::PARAMETERS.each_ref().map(|parameter| parameter.name));
        settings.set("repeat_last_n", "-1").unwrap();
        assert_eq!(settings.repeat_last_n, Some(-1));
    }
}
