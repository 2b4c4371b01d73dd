//! Writes GGUF v3: metadata and a tensor table with computed offsets, then the data, from any source.
//!
//! [`GgufWriter`] collects and checks; [`Layout`] has the header's bytes and each tensor's position, so that data of any size can
//! be streamed after it.

use std::io::{self, Write};

use crate::error::{Error, shown};
use crate::parse::{DEFAULT_ALIGNMENT, Gguf, size};
use crate::{Metadata, TensorInfo, TensorType, Value, build, limits};

/// A file being built.
#[derive(Clone, Debug, Default)]
pub struct GgufWriter {
    entries: Vec<(String, Value)>,
    tensors: Vec<TensorInfo>,
}

/// A file with all offsets known.
#[derive(Clone, Debug)]
pub struct Layout {
    /// Header, metadata, tensor table and padding: everything up to the first tensor.
    pub head: Vec<u8>,
    /// The tensors in writing order, with file offsets.
    pub tensors: Vec<TensorInfo>,
    /// Size of the whole file, including padding after the last tensor.
    pub file_bytes: u64,
    alignment: u64,
}

impl GgufWriter {
    /// An empty file.
    pub fn new() -> Self {
        Self::default()
    }

    /// A file with another file's metadata and no tensors yet.
    pub fn with_metadata(metadata: &Metadata) -> Self {
        let entries = metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Self { entries, tensors: Vec::new() }
    }

    /// Sets a metadata value; an existing key keeps its position.
    pub fn set(&mut self, key: &str, value: Value) -> &mut Self {
        match self.entries.iter_mut().find(|(there, _)| there == key) {
            Some(entry) => entry.1 = value,
            None => self.entries.push((key.to_owned(), value)),
        }
        self
    }

    /// Adds a row to the tensor table. Dimensions are in GGML's order, row length first.
    ///
    /// # Errors
    /// If the shape is invalid or not a whole number of blocks.
    pub fn tensor(&mut self, name: &str, dimensions: &[u64], ty: TensorType) -> Result<&mut Self, Error> {
        if dimensions.len() > limits::DIMENSIONS as usize {
            let (tensor, count) = (shown(name), u32::try_from(dimensions.len()).unwrap_or(u32::MAX));
            return Err(Error::TooManyDimensions { tensor, count, max: limits::DIMENSIONS });
        }
        let bytes = size(name, dimensions, ty)?;
        let (name, dimensions) = (name.to_owned(), dimensions.to_vec());
        self.tensors.push(TensorInfo { name, dimensions, ty, offset: 0, bytes, part: 0 });
        Ok(self)
    }

    /// Computes where everything goes.
    ///
    /// # Errors
    /// If [`Gguf::parse`] would refuse the file: duplicate tensor names, a value beyond its limit, an invalid
    /// `general.alignment`.
    pub fn layout(&self) -> Result<Layout, Error> {
        let alignment = match self.entries.iter().find(|(key, _)| key == "general.alignment") {
            Some((_, Value::U32(alignment))) => u64::from(*alignment),
            Some(_) => {
                return Err(Error::Unwritable("general.alignment must be a u32".to_owned()));
            }
            None => DEFAULT_ALIGNMENT,
        };
        if alignment < 8 || !alignment.is_power_of_two() {
            return Err(Error::BadAlignment(alignment));
        }
        let mut tensors = self.tensors.clone();
        let too_long = || Error::Unwritable("its tensors together pass 2^63 bytes".to_owned());
        let mut data_bytes = 0u64;
        for tensor in &mut tensors {
            tensor.offset = data_bytes;
            let end = data_bytes.checked_add(tensor.bytes).and_then(|end| end.checked_next_multiple_of(alignment));
            data_bytes = end.filter(|&end| i64::try_from(end).is_ok()).ok_or_else(too_long)?;
        }
        let mut head = Vec::new();
        build::head(&mut head, 3, tensors.len() as u64, self.entries.len() as u64);
        self.entries.iter().for_each(|(key, value)| build::entry(&mut head, key, value));
        for tensor in &tensors {
            build::row(&mut head, &tensor.name, &tensor.dimensions, tensor.ty as u32, tensor.offset);
        }
        build::pad(&mut head, alignment as usize);
        let file_bytes = data_bytes.checked_add(head.len() as u64).ok_or_else(too_long)?;
        // Parse what was written before anyone relies on it: the parser's limits are the writer's.
        let read = Gguf::parse_head(&head, file_bytes)?;
        Ok(Layout { head, tensors: read.tensors, file_bytes, alignment })
    }
}

impl Layout {
    /// Writes the file: the header, then each tensor via `data`, which gets the tensor's index in [`Layout::tensors`] and must
    /// write exactly its bytes.
    ///
    /// # Errors
    /// The writer's own, and `InvalidData` if `data` wrote a different number of bytes.
    pub fn write<W: Write>(
        &self,
        out: &mut W,
        mut data: impl FnMut(usize, &mut Counted<'_, W>) -> io::Result<()>,
    ) -> io::Result<()> {
        out.write_all(&self.head)?;
        for (at, tensor) in self.tensors.iter().enumerate() {
            let mut counted = Counted { out, written: 0 };
            data(at, &mut counted)?;
            if counted.written != tensor.bytes {
                let (name, wrote, bytes) = (shown(&tensor.name), counted.written, tensor.bytes);
                let line = format!("{wrote} bytes were written for tensor {name}, which has {bytes}");
                return Err(io::Error::new(io::ErrorKind::InvalidData, line));
            }
            let padding = tensor.bytes.next_multiple_of(self.alignment) - tensor.bytes;
            io::copy(&mut io::Read::take(io::repeat(0), padding), out)?;
        }
        Ok(())
    }

    /// The whole file in memory, for small ones; `data` has the bytes of each tensor.
    ///
    /// # Errors
    /// If `data` does not have exactly the bytes of each tensor.
    pub fn to_bytes(&self, data: &[&[u8]]) -> io::Result<Vec<u8>> {
        let mut out = Vec::new();
        self.write(&mut out, |at, out| out.write_all(data.get(at).copied().unwrap_or_default()))?;
        Ok(out)
    }
}

/// A writer that counts bytes.
pub struct Counted<'a, W> {
    out: &'a mut W,
    written: u64,
}

impl<W: Write> Write for Counted<'_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.out.write(bytes)?;
        self.written += written as u64;
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.out.flush()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Array, StringArray};

    /// A value of each type, and an array of each.
    fn every_value() -> Vec<Value> {
        let strings: StringArray = ["", "a", "日本語", "\n"].iter().collect();
        let nested = Array::Array(vec![Array::U8(vec![1, 2]), Array::Array(vec![Array::String(strings.clone())])]);
        vec![
            Value::U8(255),
            Value::I8(-128),
            Value::U16(65535),
            Value::I16(-32768),
            Value::U32(u32::MAX),
            Value::I32(i32::MIN),
            Value::F32(-0.5),
            Value::Bool(true),
            Value::String("äöü".into()),
            Value::U64(u64::MAX),
            Value::I64(i64::MIN),
            Value::F64(1e300),
            Value::Array(Array::U8(vec![0, 255])),
            Value::Array(Array::I8(vec![-1])),
            Value::Array(Array::U16(vec![1, 2, 3])),
            Value::Array(Array::I16(vec![-1])),
            Value::Array(Array::U32(vec![u32::MAX])),
            Value::Array(Array::I32(vec![i32::MIN, 7])),
            Value::Array(Array::F32(vec![1.5, -2.5])),
            Value::Array(Array::Bool(vec![true, false])),
            Value::Array(Array::String(strings)),
            Value::Array(Array::U64(vec![u64::MAX])),
            Value::Array(Array::I64(vec![])),
            Value::Array(Array::F64(vec![0.1])),
            Value::Array(nested),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        for alignment in [None, Some(8u32), Some(64), Some(4096)] {
            let mut writer = GgufWriter::new();
            for (at, value) in every_value().into_iter().enumerate() {
                writer.set(&format!("key.{at}"), value);
            }
            if let Some(alignment) = alignment {
                writer.set("general.alignment", Value::U32(alignment));
            }
            writer.tensor("norm", &[3], TensorType::F32).unwrap();
            writer.tensor("weight", &[256, 2], TensorType::Q4_K).unwrap();
            writer.tensor("one", &[], TensorType::F16).unwrap();
            let data: Vec<Vec<u8>> = vec![vec![1; 12], vec![2; 288], vec![3; 2]];
            let slices: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
            let layout = writer.layout().unwrap();
            let file = layout.to_bytes(&slices).unwrap();
            assert_eq!(file.len() as u64, layout.file_bytes);

            let read = Gguf::parse(&file).unwrap();
            assert_eq!(read.alignment, u64::from(alignment.unwrap_or(32)));
            assert_eq!(read.metadata, Metadata::new(writer.entries.clone()).unwrap());
            assert_eq!(read.tensors, layout.tensors);
            for (tensor, data) in read.tensors.iter().zip(&data) {
                assert_eq!(tensor.offset % read.alignment, 0);
                assert_eq!(&file[tensor.offset as usize..tensor.end() as usize], data.as_slice());
            }
            let again = GgufWriter::with_metadata(&read.metadata);
            assert_eq!(again.entries, writer.entries);
        }
    }

    #[test]
    fn a_file_that_could_not_be_read_is_not_written() {
        let mut writer = GgufWriter::new();
        assert!(writer.tensor("t", &[33], TensorType::Q8_0).is_err());
        assert!(writer.tensor("t", &[1, 1, 1, 1, 1], TensorType::F32).is_err());
        writer.tensor("t", &[32], TensorType::Q8_0).unwrap();
        writer.tensor("t", &[32], TensorType::Q8_0).unwrap();
        assert_eq!(writer.layout().unwrap_err(), Error::DuplicateTensor("'t'".into()));
        assert!(GgufWriter::new().set("general.alignment", Value::U32(24)).layout().is_err());
        assert!(GgufWriter::new().set("general.alignment", Value::U64(32)).layout().is_err());
    }

    #[test]
    fn data_of_the_wrong_size_is_an_error() {
        let mut writer = GgufWriter::new();
        writer.tensor("t", &[2], TensorType::F32).unwrap();
        let layout = writer.layout().unwrap();
        assert!(layout.to_bytes(&[&[0; 7]]).unwrap_err().to_string().contains("7 bytes were written"));
        assert!(layout.to_bytes(&[]).is_err());
    }
}
