//! Metadata values: GGUF's thirteen types, and arrays of them.
//!
//! An array stores plain numbers, not values, and an array of strings is one text with end positions: a vocabulary of 250,000
//! tokens costs two allocations.

use crate::error::Error;
use crate::limits;
use crate::read::{Place, Reader};

/// The type of a metadata value. The discriminant is its id in GGUF files.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
#[repr(u32)]
pub enum ValueType {
    U8 = 0,
    I8 = 1,
    U16 = 2,
    I16 = 3,
    U32 = 4,
    I32 = 5,
    F32 = 6,
    Bool = 7,
    String = 8,
    Array = 9,
    U64 = 10,
    I64 = 11,
    F64 = 12,
}

impl ValueType {
    const ALL: [Self; 13] = [
        Self::U8,
        Self::I8,
        Self::U16,
        Self::I16,
        Self::U32,
        Self::I32,
        Self::F32,
        Self::Bool,
        Self::String,
        Self::Array,
        Self::U64,
        Self::I64,
        Self::F64,
    ];

    /// The type with this id.
    pub fn from_id(id: u32) -> Option<Self> {
        Self::ALL.get(id as usize).copied()
    }

    /// A short name, e.g. `u32`.
    pub fn name(self) -> &'static str {
        ["u8", "i8", "u16", "i16", "u32", "i32", "f32", "bool", "string", "array", "u64", "i64", "f64"][self as usize]
    }

    /// Minimum bytes per element in a file.
    fn least_bytes(self) -> u64 {
        match self {
            Self::U8 | Self::I8 | Self::Bool => 1,
            Self::U16 | Self::I16 => 2,
            Self::U32 | Self::I32 | Self::F32 => 4,
            Self::U64 | Self::I64 | Self::F64 | Self::String => 8,
            Self::Array => 12,
        }
    }

    fn read(reader: &mut Reader<'_>, place: Place<'_>) -> Result<Self, Error> {
        let id = reader.u32(place)?;
        Self::from_id(id).ok_or_else(|| Error::UnknownValueType { place: place.to_string(), id })
    }
}

/// One metadata value.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    U8(u8),
    I8(i8),
    U16(u16),
    I16(i16),
    U32(u32),
    I32(i32),
    F32(f32),
    Bool(bool),
    String(String),
    Array(Array),
    U64(u64),
    I64(i64),
    F64(f64),
}

/// The elements of an array, all of one type.
#[derive(Clone, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Array {
    U8(Vec<u8>),
    I8(Vec<i8>),
    U16(Vec<u16>),
    I16(Vec<i16>),
    U32(Vec<u32>),
    I32(Vec<i32>),
    F32(Vec<f32>),
    Bool(Vec<bool>),
    String(StringArray),
    Array(Vec<Array>),
    U64(Vec<u64>),
    I64(Vec<i64>),
    F64(Vec<f64>),
}

impl Value {
    /// The type as stored in files.
    pub fn value_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// An integer of any width, if it is one.
    pub fn as_i128(&self) -> Option<i128> {
        Some(match *self {
            Self::U8(v) => v.into(),
            Self::I8(v) => v.into(),
            Self::U16(v) => v.into(),
            Self::I16(v) => v.into(),
            Self::U32(v) => v.into(),
            Self::I32(v) => v.into(),
            Self::U64(v) => v.into(),
            Self::I64(v) => v.into(),
            _ => return None,
        })
    }

    /// A description for messages: type, and the value of numbers or the length of arrays.
    pub(crate) fn describe(&self) -> String {
        match self {
            Self::Array(array) => {
                format!("an array of {} elements of type {}", array.len(), array.element_type().name())
            }
            Self::Bool(v) => format!("the truth value {v}"),
            Self::F32(v) => format!("the number {v}"),
            Self::F64(v) => format!("the number {v}"),
            Self::String(v) => format!("the text {}", crate::error::shown(v)),
            _ => format!("the number {}", self.as_i128().unwrap_or_default()),
        }
    }

    /// Reads a value: its type, then its data.
    pub(crate) fn read(reader: &mut Reader<'_>, key: &str) -> Result<Self, Error> {
        let place = Place::Value(key);
        Ok(match ValueType::read(reader, place)? {
            ValueType::U8 => Self::U8(u8::from_le_bytes(reader.array(place)?)),
            ValueType::I8 => Self::I8(i8::from_le_bytes(reader.array(place)?)),
            ValueType::U16 => Self::U16(u16::from_le_bytes(reader.array(place)?)),
            ValueType::I16 => Self::I16(i16::from_le_bytes(reader.array(place)?)),
            ValueType::U32 => Self::U32(reader.u32(place)?),
            ValueType::I32 => Self::I32(i32::from_le_bytes(reader.array(place)?)),
            ValueType::F32 => Self::F32(f32::from_le_bytes(reader.array(place)?)),
            ValueType::Bool => Self::Bool(truth(reader.array::<1>(place)?[0], place)?),
            ValueType::String => Self::String(reader.text(limits::STRING_BYTES, place)?.to_owned()),
            ValueType::Array => {
                let mut inner_arrays = limits::INNER_ARRAYS;
                Self::Array(Array::read(reader, key, 1, &mut inner_arrays)?)
            }
            ValueType::U64 => Self::U64(reader.u64(place)?),
            ValueType::I64 => Self::I64(i64::from_le_bytes(reader.array(place)?)),
            ValueType::F64 => Self::F64(f64::from_le_bytes(reader.array(place)?)),
        })
    }
}

fn truth(byte: u8, place: Place<'_>) -> Result<bool, Error> {
    match byte {
        0 => Ok(false),
        1 => Ok(true),
        found => Err(Error::BadBool { place: place.to_string(), found }),
    }
}

/// Splits `bytes`, a whole number of them, into numbers.
fn numbers<const N: usize, T>(bytes: &[u8], from: impl Fn([u8; N]) -> T) -> Vec<T> {
    bytes.as_chunks::<N>().0.iter().map(|chunk| from(*chunk)).collect()
}

impl Array {
    /// Number of elements.
    pub fn len(&self) -> usize {
        match self {
            Self::U8(v) => v.len(),
            Self::I8(v) => v.len(),
            Self::U16(v) => v.len(),
            Self::I16(v) => v.len(),
            Self::U32(v) => v.len(),
            Self::I32(v) => v.len(),
            Self::F32(v) => v.len(),
            Self::Bool(v) => v.len(),
            Self::String(v) => v.len(),
            Self::Array(v) => v.len(),
            Self::U64(v) => v.len(),
            Self::I64(v) => v.len(),
            Self::F64(v) => v.len(),
        }
    }

    /// Whether there are no elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The type of the elements.
    pub fn element_type(&self) -> ValueType {
        match self {
            Self::U8(_) => ValueType::U8,
            Self::I8(_) => ValueType::I8,
            Self::U16(_) => ValueType::U16,
            Self::I16(_) => ValueType::I16,
            Self::U32(_) => ValueType::U32,
            Self::I32(_) => ValueType::I32,
            Self::F32(_) => ValueType::F32,
            Self::Bool(_) => ValueType::Bool,
            Self::String(_) => ValueType::String,
            Self::Array(_) => ValueType::Array,
            Self::U64(_) => ValueType::U64,
            Self::I64(_) => ValueType::I64,
            Self::F64(_) => ValueType::F64,
        }
    }

    /// The element at this position, as a value.
    pub fn get(&self, at: usize) -> Option<Value> {
        Some(match self {
            Self::U8(v) => Value::U8(*v.get(at)?),
            Self::I8(v) => Value::I8(*v.get(at)?),
            Self::U16(v) => Value::U16(*v.get(at)?),
            Self::I16(v) => Value::I16(*v.get(at)?),
            Self::U32(v) => Value::U32(*v.get(at)?),
            Self::I32(v) => Value::I32(*v.get(at)?),
            Self::F32(v) => Value::F32(*v.get(at)?),
            Self::Bool(v) => Value::Bool(*v.get(at)?),
            Self::String(v) => Value::String(v.get(at)?.to_owned()),
            Self::Array(v) => Value::Array(v.get(at)?.clone()),
            Self::U64(v) => Value::U64(*v.get(at)?),
            Self::I64(v) => Value::I64(*v.get(at)?),
            Self::F64(v) => Value::F64(*v.get(at)?),
        })
    }

    /// Reads an array: element type, count, elements.
    fn read(reader: &mut Reader<'_>, key: &str, depth: usize, inner_arrays: &mut u64) -> Result<Self, Error> {
        let place = Place::Value(key);
        if depth > limits::ARRAY_DEPTH {
            return Err(Error::TooDeep { place: place.to_string(), max: limits::ARRAY_DEPTH });
        }
        let ty = ValueType::read(reader, place)?;
        let claimed = reader.u64(place)?;
        let too_many = |what, max| Err(Error::TooMany { place: place.to_string(), what, count: claimed, max });
        if claimed > limits::ARRAY_ELEMENTS {
            return too_many("array elements", limits::ARRAY_ELEMENTS);
        }
        // From here on the bytes implied by the count are known to exist.
        let count = reader.room_for(claimed, ty.least_bytes(), place)?;
        match ty {
            ValueType::String => return StringArray::read(reader, key, count).map(Self::String),
            ValueType::Array => {
                *inner_arrays = match inner_arrays.checked_sub(claimed) {
                    Some(left) => left,
                    None => return too_many("arrays in arrays", limits::INNER_ARRAYS),
                };
                let inner = (0..count).map(|_| Self::read(reader, key, depth + 1, inner_arrays));
                return inner.collect::<Result<_, _>>().map(Self::Array);
            }
            _ => {}
        }
        let bytes = reader.take(claimed * ty.least_bytes(), place)?;
        Ok(match ty {
            ValueType::U8 => Self::U8(bytes.to_vec()),
            ValueType::I8 => Self::I8(numbers(bytes, i8::from_le_bytes)),
            ValueType::U16 => Self::U16(numbers(bytes, u16::from_le_bytes)),
            ValueType::I16 => Self::I16(numbers(bytes, i16::from_le_bytes)),
            ValueType::U32 => Self::U32(numbers(bytes, u32::from_le_bytes)),
            ValueType::I32 => Self::I32(numbers(bytes, i32::from_le_bytes)),
            ValueType::F32 => Self::F32(numbers(bytes, f32::from_le_bytes)),
            ValueType::U64 => Self::U64(numbers(bytes, u64::from_le_bytes)),
            ValueType::I64 => Self::I64(numbers(bytes, i64::from_le_bytes)),
            ValueType::F64 => Self::F64(numbers(bytes, f64::from_le_bytes)),
            ValueType::Bool | ValueType::String | ValueType::Array => {
                let one = |(at, byte)| truth(byte, Place::Element(key, at));
                Self::Bool((0..).zip(bytes.iter().copied()).map(one).collect::<Result<_, _>>()?)
            }
        })
    }
}

/// Strings concatenated into one text.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StringArray {
    text: String,
    /// The end of each string in `text`; it starts where the previous one ends.
    ends: Vec<usize>,
}

impl StringArray {
    /// Number of strings.
    pub fn len(&self) -> usize {
        self.ends.len()
    }

    /// Whether there are no strings.
    pub fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// The string at this position.
    pub fn get(&self, at: usize) -> Option<&str> {
        let end = *self.ends.get(at)?;
        let start = at.checked_sub(1).map_or(0, |before| self.ends[before]);
        self.text.get(start..end)
    }

    /// All strings in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &str> + Clone {
        (0..self.len()).map(|at| self.get(at).unwrap_or_default())
    }

    /// Adds a string.
    #[inline]
    pub fn push(&mut self, string: &str) {
        self.text.push_str(string);
        self.ends.push(self.text.len());
    }

    /// Reads `count` strings. UTF-8 is checked once for the whole text and then at each boundary, which is equivalent to checking
    /// each string and takes a fraction of the time for a vocabulary.
    fn read(reader: &mut Reader<'_>, key: &str, count: usize) -> Result<Self, Error> {
        let mut bytes = Vec::new();
        let mut ends = Vec::with_capacity(count);
        for at in 0..count as u64 {
            bytes.extend_from_slice(reader.text_bytes(limits::STRING_BYTES, Place::Element(key, at))?);
            ends.push(bytes.len());
        }
        bytes.shrink_to_fit();
        let not_utf8 = |at: usize| Error::NotUtf8 { place: Place::Element(key, at as u64).to_string() };
        let text = String::from_utf8(bytes).map_err(|error| {
            let valid = error.utf8_error().valid_up_to();
            not_utf8(ends.partition_point(|&end| end <= valid))
        })?;
        match ends.iter().position(|&end| !text.is_char_boundary(end)) {
            Some(at) => Err(not_utf8(at)),
            None => Ok(Self { text, ends }),
        }
    }
}

impl<S: AsRef<str>> FromIterator<S> for StringArray {
    fn from_iter<I: IntoIterator<Item = S>>(strings: I) -> Self {
        let mut all = Self::default();
        for string in strings {
            all.push(string.as_ref());
        }
        all
    }
}
