//! Parses request bodies, and files of the same form: stricter than serde_json, and with memory bounded before it is allocated.
//!
//! A duplicate key is an error, since parsers disagree on which value counts. A leading byte-order mark is skipped. The
//! cost of a body is estimated before it is parsed (`Weight`): a short text can hold many values, each of which takes far
//! more memory than its two bytes of text.

use serde::de::{DeserializeSeed, Deserializer, Error as _, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Number, Value};

use std::fmt;

/// Upper bound on a value's memory in bytes, without its text: 72 for itself, four times that in the smallest array, plus
/// a map entry with its key while the map grows.
const BYTES_PER_VALUE: usize = 384;
/// Upper bound on memory per byte of text while tokenizing; measured with one long word, merged letter by letter.
const BYTES_PER_BYTE: usize = 26;
/// Most values in a body: enough for a prompt of tokens as long as the longest context.
pub(super) const MAX_VALUES: usize = 150_000;

/// Upper bounds on what parsing a body and tokenizing its text cost, computed without allocating.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Weight {
    /// Number of values.
    pub(super) values: usize,
    /// Bytes, those of the body included.
    pub(super) bytes: usize,
}

impl Weight {
    /// Weighs a body: every value but the first follows one of `[`, `{`, `,` and `:` outside strings.
    pub(super) fn of(body: &[u8]) -> Self {
        let (mut values, mut in_string, mut escaped) = (1, false, false);
        for &byte in body {
            match byte {
                _ if escaped => escaped = false,
                b'\\' if in_string => escaped = true,
                b'"' => in_string = !in_string,
                b'[' | b'{' | b',' | b':' if !in_string => values += 1,
                _ => {}
            }
        }
        Self { values, bytes: BYTES_PER_BYTE * body.len() + values * BYTES_PER_VALUE }
    }
}

/// Parses a body.
///
/// # Errors
/// A one-line message with the position: not UTF-8, not JSON, or a duplicate key.
pub(super) fn parse(body: &[u8]) -> Result<Value, String> {
    let body = body.strip_prefix(b"\xef\xbb\xbf").unwrap_or(body);
    let text = std::str::from_utf8(body)
        .map_err(|error| format!("the request body is not valid UTF-8 at byte {}", error.valid_up_to()))?;
    parse_text(text).map_err(|error| format!("the request body is not valid JSON: {error}"))
}

/// Parses the text of a body, or of a file that could be one.
///
/// # Errors
/// What is wrong and where, in one line: not JSON, or a duplicate key.
pub(crate) fn parse_text(text: &str) -> Result<Value, String> {
    let mut reader = serde_json::Deserializer::from_str(text);
    let value = Strict.deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    value.map_err(|error| one_line(&error.to_string()))
}

/// Error messages quote keys, which may contain line breaks.
fn one_line(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).collect()
}

/// Builds a `Value` and refuses duplicate keys.
struct Strict;

impl<'de> DeserializeSeed<'de> for Strict {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Strict {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(Number::from_f64(value).map_or(Value::Null, Value::Number))
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(Value::String(value))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut array = Vec::new();
        while let Some(item) = items.next_element_seed(Strict)? {
            array.push(item);
        }
        Ok(Value::Array(array))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(key) = entries.next_key::<String>()? {
            if object.contains_key(&key) {
                let shown: String = key.chars().take(64).collect();
                return Err(A::Error::custom(format!("the key `{shown}` comes twice")));
            }
            let value = entries.next_value_seed(Strict)?;
            object.insert(key, value);
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn reads_what_serde_json_reads() {
        let text =
            r#"{"a": [1, -2, 1.5, 18446744073709551615, "x\u00e9\n", null, true, {}], "b": {"a": []}, "c": 1e300}"#;
        assert_eq!(parse(text.as_bytes()), Ok(serde_json::from_str(text).unwrap()));
        assert_eq!(parse(b"\xef\xbb\xbf {\"a\": 1}"), Ok(json!({"a": 1})));
    }

    #[test]
    fn a_duplicate_key_is_named_at_every_depth() {
        for text in
            [r#"{"temperature": 1, "temperature": 0}"#, r#"{"x": [{"temperature": 1, "b": 2, "temperature": 1}]}"#]
        {
            let line = parse(text.as_bytes()).unwrap_err();
            assert!(line.contains("the key `temperature` comes twice") && line.contains("line 1"), "{line}");
        }
        assert!(!parse(b"{\"a\\nb\": 1, \"a\\nb\": 1}").unwrap_err().contains('\n'));
    }

    #[test]
    fn invalid_json_is_refused_with_its_position() {
        for (body, part) in [
            (&b""[..], "line 1 column 0"),
            (b"{} x", "trailing characters"),
            (b"\xff", "byte 0"),
            (b"{}\xef\xbb\xbf", "trailing characters"),
            (b"{\"a\": NaN}", "line 1"),
        ] {
            let line = parse(body).unwrap_err();
            assert!(line.contains(part), "{line}");
        }
        assert!(parse("[".repeat(100_000).as_bytes()).unwrap_err().contains("recursion limit"));
    }

    #[test]
    fn the_weight_bounds_the_number_of_values() {
        for (text, values) in [("1", 1), ("[]", 2), (r#"{"a": [1, 2], "b,[:": "x\\\",{"}"#, 7)] {
            assert_eq!(Weight::of(text.as_bytes()).values, values, "{text}");
        }
        let many = format!("[{}]", "[],".repeat(1000));
        assert!(Weight::of(many.as_bytes()).values > 2000);
        // The heaviest body accepted fits the budget.
        let limits = crate::server::Limits::default();
        let heaviest = BYTES_PER_BYTE * limits.max_body_bytes + BYTES_PER_VALUE * MAX_VALUES;
        assert!(heaviest <= limits.max_bytes_in_flight);
    }
}
