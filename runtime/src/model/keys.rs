//! Metadata keys of an architecture, read with clear errors and checked before anything is allocated by them.

use satchel_gguf::{Array, Metadata, Value};

use super::ModelError;
use super::error::shown;

/// Reads `<architecture>.<name>` keys with clear errors.
pub struct Keys<'a> {
    metadata: &'a Metadata,
    /// The architecture's name, the prefix of its keys.
    pub architecture: &'a str,
    /// The requested context length, if any.
    context: Option<usize>,
}

impl<'a> Keys<'a> {
    /// Keys of the architecture that the file names. `context` is the requested context length, if any.
    pub fn new(metadata: &'a Metadata, context: Option<usize>) -> Result<Self, ModelError> {
        match metadata.get("general.architecture") {
            Some(Value::String(architecture)) => Ok(Self { metadata, architecture, context }),
            Some(_) => Err(ModelError::Metadata("general.architecture is not a string".into())),
            None => Err(ModelError::Metadata(
                "the metadata key general.architecture is missing: this is not a model (an adapter or a vocabulary?)"
                    .into(),
            )),
        }
    }

    /// The full key: `<architecture>.<name>`.
    pub fn full(&self, name: &str) -> String {
        format!("{}.{name}", self.architecture)
    }

    /// Whether the key exists.
    pub fn has(&self, name: &str) -> bool {
        self.metadata.get(&self.full(name)).is_some()
    }

    /// An error about a key.
    pub fn wrong(&self, name: &str, value: impl ToString, why: impl Into<String>) -> ModelError {
        ModelError::Hyperparameter { key: self.full(name), value: shown(&value.to_string()), why: why.into() }
    }

    /// A whole number within `1..=most`, or `None` if the key is missing or 0, which writers use for "unset". An array whose
    /// elements are all equal counts as that number; one that varies by layer is refused.
    pub fn count(&self, name: &str, most: u64) -> Result<Option<usize>, ModelError> {
        let Some(value) = self.metadata.get(&self.full(name)) else { return Ok(None) };
        let number = match value {
            Value::Array(array) => {
                let first = array.get(0).and_then(|value| value.as_i128());
                let all_equal = (0..array.len()).all(|at| array.get(at).and_then(|value| value.as_i128()) == first);
                if !all_equal {
                    return Err(self.wrong(
                        name,
                        "different from layer to layer",
                        "this build supports only one value for all layers",
                    ));
                }
                first
            }
            value => value.as_i128(),
        };
        let Some(number) = number else {
            return Err(self.wrong(name, "not a whole number", "a count is expected"));
        };
        if number == 0 {
            return Ok(None);
        }
        if number < 0 || number > i128::from(most) {
            return Err(self.wrong(name, number, format!("it must lie between 1 and {most}")));
        }
        Ok(Some(number as usize))
    }

    /// Like [`Keys::count`], but an error if it is `None`.
    pub fn required_count(&self, name: &str, most: u64) -> Result<usize, ModelError> {
        self.count(name, most)?
            .ok_or_else(|| ModelError::Metadata(format!("the metadata key {} is missing", self.full(name))))
    }

    /// A finite number, or `None` if the key is missing.
    pub fn number(&self, name: &str) -> Result<Option<f32>, ModelError> {
        let number = match self.metadata.get(&self.full(name)) {
            None => return Ok(None),
            Some(Value::F32(number)) => *number,
            Some(Value::F64(number)) => *number as f32,
            Some(value) => match value.as_i128() {
                Some(whole) => whole as f32,
                None => return Err(self.wrong(name, "not a number", "a number is expected")),
            },
        };
        if number.is_finite() { Ok(Some(number)) } else { Err(self.wrong(name, number, "a finite number is expected")) }
    }

    /// A number above zero, or `default` if the key is missing or 0.
    pub fn positive(&self, name: &str, default: f32) -> Result<f32, ModelError> {
        match self.number(name)? {
            None | Some(0.0) => Ok(default),
            Some(number) if number > 0.0 => Ok(number),
            Some(number) => Err(self.wrong(name, number, "it must be above 0")),
        }
    }

    /// A string, or `None` if the key is missing.
    pub fn text(&self, name: &str) -> Result<Option<&'a str>, ModelError> {
        match self.metadata.get(&self.full(name)) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(_) => Err(self.wrong(name, "not a string", "a string is expected")),
        }
    }

    /// A whole number within `0..=most` for each of `layers` layers: the key holds one for all layers, or an array with one
    /// each. `None` if the key is missing, or 0 for all layers, which writers use for "unset".
    pub fn per_layer(&self, name: &str, layers: usize, most: u64) -> Result<Option<Vec<usize>>, ModelError> {
        let numbers = self.metadata.get_u32_per_layer(&self.full(name), layers);
        let numbers = numbers.map_err(|error| ModelError::Metadata(error.to_string()))?;
        let Some(numbers) = numbers.filter(|numbers| numbers.iter().any(|&number| number > 0)) else { return Ok(None) };
        if let Some(&number) = numbers.iter().find(|&&number| u64::from(number) > most) {
            return Err(self.wrong(name, number, format!("it must lie between 0 and {most}")));
        }
        Ok(Some(numbers.into_iter().map(|number| number as usize).collect()))
    }

    /// A flag for each layer, or `None` if the key is not an array.
    pub fn layer_flags(&self, name: &str, layers: usize) -> Result<Option<Vec<bool>>, ModelError> {
        let key = self.full(name);
        let flags = match self.metadata.get(&key) {
            Some(Value::Array(Array::Bool(flags))) => flags.clone(),
            Some(Value::Array(_)) => {
                let numbers = self.metadata.get_u32_per_layer(&key, layers);
                let numbers = numbers.map_err(|error| ModelError::Metadata(error.to_string()))?;
                numbers.unwrap_or_default().into_iter().map(|number| number != 0).collect()
            }
            _ => return Ok(None),
        };
        if flags.len() != layers {
            let why = format!("one for each of the {layers} layers is expected");
            return Err(self.wrong(name, format!("{} values", flags.len()), why));
        }
        Ok(Some(flags))
    }

    /// Four whole numbers, possibly 0, or `None` if the key is missing; shorter arrays are padded with 0.
    pub fn sections(&self, name: &str) -> Result<Option<[usize; 4]>, ModelError> {
        let Some(value) = self.metadata.get(&self.full(name)) else { return Ok(None) };
        let wrong = || self.wrong(name, "something else", "an array of at most four counts is expected");
        let Value::Array(array) = value else { return Err(wrong()) };
        let mut sections = [0; 4];
        if array.len() > sections.len() {
            return Err(wrong());
        }
        for (at, section) in sections.iter_mut().enumerate().take(array.len()) {
            let number = array.get(at).and_then(|value| value.as_i128()).and_then(|number| u16::try_from(number).ok());
            *section = usize::from(number.ok_or_else(wrong)?);
        }
        Ok(Some(sections))
    }

    /// A flag, or `None` if the key is missing.
    pub fn flag(&self, name: &str) -> Result<Option<bool>, ModelError> {
        match self.metadata.get(&self.full(name)) {
            None => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(*flag)),
            Some(_) => Err(self.wrong(name, "not a boolean", "a boolean is expected")),
        }
    }

    /// Refuses limits on activations (one for all layers, or one each), which are not implemented: an error if any is set.
    pub fn refuse_limits(&self, name: &str) -> Result<(), ModelError> {
        let number = |value: &Value| match value {
            Value::F32(number) => f64::from(*number),
            Value::F64(number) => *number,
            value => value.as_i128().map_or(f64::NAN, |whole| whole as f64),
        };
        let limits: Vec<f64> = match self.metadata.get(&self.full(name)) {
            None => return Ok(()),
            Some(Value::Array(array)) => (0..array.len()).filter_map(|at| Some(number(&array.get(at)?))).collect(),
            Some(value) => vec![number(value)],
        };
        match limits.into_iter().find(|&limit| limit != 0.0) {
            Some(limit) => Err(self.wrong(name, limit, "this build does not support limits on activations")),
            None => Ok(()),
        }
    }

    /// The requested context length, if any.
    pub fn context(&self) -> Option<usize> {
        self.context
    }
}
