//! The parameters of a request body, taken out one by one; those left at the end are unknown.
//!
//! Fail closed: a value of the wrong type or out of range, or an unknown parameter, is a 400 naming it. `null` is the
//! same as an absent parameter, as OpenAI's clients send it.

use std::ops::RangeInclusive;

use satchel_container::parameters::{Kind, Parameter, Value as Given};
use serde_json::{Map, Value};

use super::super::json;
use super::error::{ApiError, shown};

/// A request body's parameters.
pub struct Fields {
    map: Map<String, Value>,
}

impl From<Map<String, Value>> for Fields {
    /// The parameters of an object within a body.
    fn from(map: Map<String, Value>) -> Self {
        Self { map }
    }
}

impl Fields {
    /// Parses a body.
    ///
    /// # Errors
    /// 400, with the position if it is not UTF-8 or not JSON or has a duplicate key; also if it is not an object.
    pub fn parse(body: &[u8]) -> Result<Self, ApiError> {
        match json::parse(body).map_err(|line| ApiError::new(400, line))? {
            Value::Object(map) => Ok(Self { map }),
            other => Err(ApiError::new(400, format!("the request body must be a JSON object, not {}", kind(&other)))),
        }
    }

    /// A parameter, without taking it; `None` if absent or null.
    pub fn peek(&self, name: &str) -> Option<&Value> {
        self.map.get(name).filter(|value| !value.is_null())
    }

    /// Takes a parameter; `None` if absent or null.
    pub fn take(&mut self, name: &str) -> Option<Value> {
        self.map.remove(name).filter(|value| !value.is_null())
    }

    /// Takes a boolean.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn take_bool(&mut self, name: &str) -> Result<Option<bool>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Bool(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(name, "true or false", &other)),
        }
    }

    /// Takes a string.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn take_string(&mut self, name: &str) -> Result<Option<String>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::String(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(name, "a string", &other)),
        }
    }

    /// Takes an object.
    ///
    /// # Errors
    /// 400 for another type.
    pub fn take_object(&mut self, name: &str) -> Result<Option<Map<String, Value>>, ApiError> {
        match self.take(name) {
            None => Ok(None),
            Some(Value::Object(value)) => Ok(Some(value)),
            Some(other) => Err(wrong_type(name, "an object", &other)),
        }
    }

    /// Takes a parameter of the table.
    ///
    /// # Errors
    /// 400 for another type or a value out of range.
    pub fn take_parameter(&mut self, parameter: &Parameter) -> Result<Option<Given>, ApiError> {
        let name = parameter.name;
        let Some(value) = self.take(name) else { return Ok(None) };
        let given = match parameter.kind {
            Kind::Real { .. } => value.as_f64().map(Given::Real),
            Kind::Whole { .. } => integer(&value).map(Given::Whole),
        };
        let wanted = if matches!(parameter.kind, Kind::Real { .. }) { "a number" } else { "an integer" };
        let given = given.ok_or_else(|| wrong_type(name, wanted, &value))?;
        parameter.check(given).map_err(|line| ApiError::parameter(name, format!("`{name}` {line}")))?;
        Ok(Some(given))
    }

    /// Takes an integer in `range`; `1.0` is accepted, since JSON does not distinguish it from 1.
    ///
    /// # Errors
    /// 400 for another type or a number out of range.
    pub fn take_integer(&mut self, name: &str, range: RangeInclusive<i64>) -> Result<Option<i64>, ApiError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        let integer = integer(&value).ok_or_else(|| wrong_type(name, "an integer", &value))?;
        let (low, high) = (*range.start(), *range.end());
        match i64::try_from(integer) {
            Ok(integer) if range.contains(&integer) => Ok(Some(integer)),
            _ if high == i64::MAX => {
                Err(ApiError::parameter(name, format!("`{name}` must be at least {low} (it is {value})")))
            }
            _ => Err(ApiError::parameter(name, format!("`{name}` must be between {low} and {high} (it is {value})"))),
        }
    }

    /// Puts a parameter in, under the name that it is read by.
    pub fn put(&mut self, name: &str, value: Value) {
        self.map.insert(name.to_owned(), value);
    }

    /// Drops parameters that do not change the answer.
    pub fn ignore(&mut self, names: &[&str]) {
        for name in names {
            self.map.remove(*name);
        }
    }

    /// Refuses a parameter unless it is absent or its value is neutral, asking for nothing but the default behaviour.
    ///
    /// # Errors
    /// 400 naming it.
    pub fn refuse_unless(
        &mut self,
        name: &str,
        advice: &str,
        neutral: impl Fn(&Value) -> bool,
    ) -> Result<(), ApiError> {
        match self.take(name) {
            Some(value) if !neutral(&value) => {
                Err(ApiError::parameter(name, format!("`{name}` is not supported by this server: {advice}"))
                    .code("unsupported_parameter"))
            }
            _ => Ok(()),
        }
    }

    /// Checks that every parameter was taken.
    ///
    /// # Errors
    /// 400 naming an unknown parameter.
    pub fn finish(self) -> Result<(), ApiError> {
        match self.map.into_iter().find(|(_, value)| !value.is_null()) {
            None => Ok(()),
            Some((name, _)) => {
                let shown = shown(&name);
                Err(ApiError::parameter(
                    shown.clone(),
                    format!(
                        "unknown parameter `{shown}`: it is not ignored, since it could change the answer; leave it out"
                    ),
                )
                .code("unknown_parameter"))
            }
        }
    }
}

/// The exact integer value of a JSON number, if it has one.
pub(super) fn integer(value: &Value) -> Option<i128> {
    if let Some(integer) = value.as_i64() {
        return Some(integer.into());
    }
    if let Some(integer) = value.as_u64() {
        return Some(integer.into());
    }
    let number = value.as_f64()?;
    // Beyond 2^53, f64 does not represent every integer.
    (number.fract() == 0.0 && number.abs() <= 9_007_199_254_740_992.0).then_some(number as i128)
}

/// A 400 for a value of the wrong type.
pub(in crate::server) fn wrong_type(name: &str, wanted: &str, found: &Value) -> ApiError {
    ApiError::parameter(name, format!("`{name}` must be {wanted}, not {}", kind(found)))
}

/// A JSON value's type, for a message.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(number) if number.is_f64() => "a number",
        Value::Number(_) => "an integer",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}
