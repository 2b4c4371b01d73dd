//! The metadata of a model: keys and typed values in the order of the file.
//!
//! The getters are what a model is built from. `get_…` gives `Ok(None)` for a key that is not there and an error,
//! which names the key and what was found, for a value of another kind; `require_…` makes the missing key an error
//! too. Whole numbers may have any width in the file, as long as they fit what is asked for: converters differ.

use crate::error::{Error, shown};
use crate::limits;
use crate::names::NameIndex;
use crate::read::{Place, Reader};
use crate::value::{Array, StringArray, Value};

/// Keys and values of a file.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metadata {
    entries: Vec<(String, Value)>,
    by_key: NameIndex,
}

/// Writes `get_x` and `require_x` for a kind of value.
macro_rules! getters {
    ($($get:ident, $require:ident -> $ty:ty: $doc:literal, $expected:literal, $from:expr;)*) => {$(
        #[doc = concat!("The value of `key` as ", $doc, ", or `None` where there is no such key.")]
        pub fn $get(&self, key: &str) -> Result<Option<$ty>, Error> {
            let Some(value) = self.get(key) else { return Ok(None) };
            let from: fn(&Value) -> Option<$ty> = $from;
            from(value).map(Some).ok_or_else(|| wrong(key, $expected, value))
        }

        #[doc = concat!("The value of `key` as ", $doc, "; a missing key is an error.")]
        pub fn $require(&self, key: &str) -> Result<$ty, Error> {
            self.$get(key)?.ok_or_else(|| Error::Missing(shown(key)))
        }
    )*};
}

fn wrong(key: &str, expected: &'static str, found: &Value) -> Error {
    Error::WrongType { key: shown(key), expected, found: found.describe() }
}

fn whole<T: TryFrom<i128>>(value: &Value) -> Option<T> {
    T::try_from(value.as_i128()?).ok()
}

fn real(value: &Value) -> Option<f64> {
    match *value {
        Value::F32(v) => Some(v.into()),
        Value::F64(v) => Some(v),
        _ => value.as_i128().map(|v| v as f64),
    }
}

impl Metadata {
    /// Metadata of these entries; an error where a key comes twice.
    pub fn new(entries: Vec<(String, Value)>) -> Result<Self, Error> {
        match NameIndex::new(entries.len(), |at| &entries[at].0) {
            Ok(by_key) => Ok(Self { entries, by_key }),
            Err(at) => Err(Error::DuplicateKey(shown(&entries[at].0))),
        }
    }

    /// Reads `count` entries.
    pub(crate) fn read(reader: &mut Reader<'_>, count: u64) -> Result<Self, Error> {
        let place = Place::Fixed("the file's head");
        if count > limits::ENTRIES {
            let (what, max) = ("metadata entries", limits::ENTRIES);
            return Err(Error::TooMany { place: place.to_string(), what, count, max });
        }
        // An entry is a key of no letters, a type and a byte, at the very least.
        let room = reader.room_for(count, 8 + 4 + 1, Place::Fixed("the metadata"))?;
        let mut entries = Vec::with_capacity(room);
        for number in 0..count {
            let key = reader.text(limits::NAME_BYTES, Place::Entry(number))?.to_owned();
            let value = Value::read(reader, &key)?;
            entries.push((key, value));
        }
        Self::new(entries)
    }

    /// The value of a key, whatever its type.
    pub fn get(&self, key: &str) -> Option<&Value> {
        self.by_key.find(key, |at| &self.entries[at].0).map(|at| &self.entries[at].1)
    }

    /// Whether there is such a key.
    pub fn contains(&self, key: &str) -> bool {
        self.get(key).is_some()
    }

    /// Keys and values in the order of the file.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (&str, &Value)> {
        self.entries.iter().map(|(key, value)| (key.as_str(), value))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether there are no entries.
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    getters! {
        get_u32, require_u32 -> u32: "a `u32`", "a whole number that fits 32 bits", whole;
        get_i32, require_i32 -> i32: "an `i32`", "a whole number that fits 31 bits and a sign", whole;
        get_u64, require_u64 -> u64: "a `u64`", "a whole number of at least 0", whole;
        get_usize, require_usize -> usize: "a `usize`", "a whole number of at least 0", whole;
        get_f32, require_f32 -> f32: "an `f32`", "a number", |value| real(value).map(|v| v as f32);
        get_f64, require_f64 -> f64: "an `f64`", "a number", real;
        get_bool, require_bool -> bool: "a `bool`", "a truth value", |value| match value {
            Value::Bool(v) => Some(*v),
            _ => None,
        };
    }

    /// The text of `key`, or `None` where there is no such key.
    pub fn get_str(&self, key: &str) -> Result<Option<&str>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::String(text)) => Ok(Some(text)),
            Some(other) => Err(wrong(key, "a text", other)),
        }
    }

    /// The text of `key`; a missing key is an error.
    pub fn require_str(&self, key: &str) -> Result<&str, Error> {
        self.get_str(key)?.ok_or_else(|| Error::Missing(shown(key)))
    }

    /// The array of `key`, whatever its elements, or `None` where there is no such key.
    pub fn get_array(&self, key: &str) -> Result<Option<&Array>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(array)) => Ok(Some(array)),
            Some(other) => Err(wrong(key, "an array", other)),
        }
    }

    /// The array of texts of `key`, or `None` where there is no such key.
    pub fn get_str_array(&self, key: &str) -> Result<Option<&StringArray>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::String(strings))) => Ok(Some(strings)),
            Some(other) => Err(wrong(key, "an array of texts", other)),
        }
    }

    /// The array of texts of `key`; a missing key is an error.
    pub fn require_str_array(&self, key: &str) -> Result<&StringArray, Error> {
        self.get_str_array(key)?.ok_or_else(|| Error::Missing(shown(key)))
    }

    /// The array of truth values of `key`, or `None` where there is no such key.
    pub fn get_bool_array(&self, key: &str) -> Result<Option<&[bool]>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::Bool(values))) => Ok(Some(values)),
            Some(other) => Err(wrong(key, "an array of truth values", other)),
        }
    }

    /// The array of bytes of `key`, or `None` where there is no such key. Signed bytes are taken as they lie.
    pub fn get_byte_array(&self, key: &str) -> Result<Option<Vec<u8>>, Error> {
        match self.get(key) {
            None => Ok(None),
            Some(Value::Array(Array::U8(values))) => Ok(Some(values.clone())),
            Some(Value::Array(Array::I8(values))) => Ok(Some(values.iter().map(|v| v.cast_unsigned()).collect())),
            Some(other) => Err(wrong(key, "an array of bytes", other)),
        }
    }

    /// The array of numbers of `key` as `f32`, or `None` where there is no such key.
    pub fn get_f32_array(&self, key: &str) -> Result<Option<Vec<f32>>, Error> {
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        match value {
            Value::Array(Array::F32(values)) => Ok(Some(values.clone())),
            Value::Array(Array::F64(values)) => Ok(Some(values.iter().map(|v| *v as f32).collect())),
            Value::Array(array) if array.is_empty() => Ok(Some(Vec::new())),
            other => Err(wrong(key, "an array of numbers", other)),
        }
    }

    /// The array of whole numbers of `key` as `u32`, or `None` where there is no such key.
    pub fn get_u32_array(&self, key: &str) -> Result<Option<Vec<u32>>, Error> {
        self.whole_array(key, "an array of whole numbers that fit 32 bits")
    }

    /// The array of whole numbers of `key` as `i32`, or `None` where there is no such key.
    pub fn get_i32_array(&self, key: &str) -> Result<Option<Vec<i32>>, Error> {
        self.whole_array(key, "an array of whole numbers that fit 31 bits and a sign")
    }

    /// A number for each of `layers` layers: `key` holds one for all, or an array with one each.
    pub fn get_u32_per_layer(&self, key: &str, layers: usize) -> Result<Option<Vec<u32>>, Error> {
        match self.get(key) {
            Some(Value::Array(array)) if array.len() != layers => {
                Err(Error::WrongLength { key: shown(key), expected: layers, found: array.len() })
            }
            Some(Value::Array(_)) => self.get_u32_array(key),
            // The file says how many; nothing in it has to be as long as that.
            Some(_) if layers > limits::LAYERS => Err(Error::TooMany {
                place: Place::Value(key).to_string(),
                what: "layers",
                count: layers as u64,
                max: limits::LAYERS as u64,
            }),
            _ => Ok(self.get_u32(key)?.map(|one| vec![one; layers])),
        }
    }

    fn whole_array<T: TryFrom<i128>>(&self, key: &str, expected: &'static str) -> Result<Option<Vec<T>>, Error> {
        fn all<T: TryFrom<i128>, V: Copy + Into<i128>>(values: &[V]) -> Option<Vec<T>> {
            values.iter().map(|v| T::try_from((*v).into()).ok()).collect()
        }
        let Some(value) = self.get(key) else {
            return Ok(None);
        };
        let numbers = match value {
            Value::Array(Array::U8(v)) => all(v),
            Value::Array(Array::I8(v)) => all(v),
            Value::Array(Array::U16(v)) => all(v),
            Value::Array(Array::I16(v)) => all(v),
            Value::Array(Array::U32(v)) => all(v),
            Value::Array(Array::I32(v)) => all(v),
            Value::Array(Array::U64(v)) => all(v),
            Value::Array(Array::I64(v)) => all(v),
            Value::Array(array) if array.is_empty() => Some(Vec::new()),
            _ => None,
        };
        numbers.map(Some).ok_or_else(|| wrong(key, expected, value))
    }
}
