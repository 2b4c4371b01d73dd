//! The whole file: header, metadata, tensor table, and the position of each tensor.
//!
//! Layout (all little-endian): `GGUF`, version (u32), tensor count (u64), metadata entry count (u64), the entries, the tensor
//! table, padding up to `general.alignment`, then the tensors' data, each aligned.
//! Source: the GGUF specification in the GGML repository (docs/gguf.md).

use crate::error::{Error, tensor_named};
use crate::names::NameIndex;
use crate::read::{Place, Reader};
use crate::{Metadata, TensorType, limits, other_files};

/// A file's first four bytes.
pub(crate) const MAGIC: &[u8; 4] = b"GGUF";
/// Alignment of tensor data if the file does not specify one.
pub(crate) const DEFAULT_ALIGNMENT: u64 = 32;

/// A validated file, or the combined parts of a split model.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct Gguf {
    /// 2 or 3.
    pub version: u32,
    /// Keys and values, from the first part.
    pub metadata: Metadata,
    /// The tensors in table order, part by part.
    pub tensors: Vec<TensorInfo>,
    /// Alignment of tensors in bytes.
    pub alignment: u64,
    /// Where the tensor data starts in the (first) file.
    pub data_offset: u64,
    /// Size of each file, in part order.
    pub part_bytes: Vec<u64>,
    by_name: NameIndex,
}

/// One row of the tensor table. Its bytes are known to lie inside the file and in no other tensor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TensorInfo {
    /// E.g. `blk.0.attn_q.weight`.
    pub name: String,
    /// In GGML's order: the first is the row length, contiguous in memory. Empty for a single number.
    pub dimensions: Vec<u64>,
    /// Block type.
    pub ty: TensorType,
    /// First byte, from the start of its file.
    pub offset: u64,
    /// Size of the data.
    pub bytes: u64,
    /// Index of the split model's file that holds it; 0 for a single file.
    pub part: usize,
}

impl TensorInfo {
    /// Number of elements.
    pub fn elements(&self) -> u64 {
        // Cannot overflow: `size` checked the product.
        self.dimensions.iter().product()
    }

    /// Row length, the first dimension.
    pub fn columns(&self) -> u64 {
        self.dimensions.first().copied().unwrap_or(1)
    }

    /// Number of rows, over all other dimensions.
    pub fn rows(&self) -> u64 {
        self.dimensions.iter().skip(1).product()
    }

    /// One past the last byte; validated not to overflow.
    pub fn end(&self) -> u64 {
        self.offset + self.bytes
    }
}

impl Gguf {
    /// Reads and validates a whole file.
    ///
    /// # Errors
    /// One user-readable line about the first problem; it does not name the file.
    pub fn parse(file: &[u8]) -> Result<Self, Error> {
        Self::parse_head(file, file.len() as u64)
    }

    /// Reads and validates a file of `file_bytes` bytes from its beginning, which must reach the tensor data.
    ///
    /// # Errors
    /// As [`Gguf::parse`]; if `head` is too short, as if the file were.
    pub fn parse_head(head: &[u8], file_bytes: u64) -> Result<Self, Error> {
        let mut reader = Reader::new(head);
        let version = read_version(&mut reader, head)?;
        let place = Place::Fixed("the file's head");
        let tensor_count = reader.u64(place)?;
        let entry_count = reader.u64(place)?;
        if tensor_count > limits::TENSORS {
            let (what, max) = ("tensors", limits::TENSORS);
            return Err(Error::TooMany { place: place.to_string(), what, count: tensor_count, max });
        }
        let metadata = Metadata::read(&mut reader, entry_count)?;
        let alignment = read_alignment(&metadata)?;
        let mut tensors = read_table(&mut reader, tensor_count)?;
        let by_name = index(&tensors)?;
        // Cannot overflow: both are far below 2^63.
        let data_offset = reader.position().next_multiple_of(alignment);
        place_tensors(&mut tensors, data_offset, alignment, file_bytes)?;
        let part_bytes = vec![file_bytes];
        Ok(Self { version, metadata, tensors, alignment, data_offset, part_bytes, by_name })
    }

    /// The tensor with this name.
    pub fn tensor(&self, name: &str) -> Option<&TensorInfo> {
        let at = self.by_name.find(name, |at| self.tensors.get(at).map_or("", |tensor| &tensor.name))?;
        self.tensors.get(at)
    }

    /// Number of elements in all tensors: the model's parameters.
    pub fn parameters(&self) -> u64 {
        self.tensors.iter().map(TensorInfo::elements).fold(0, u64::saturating_add)
    }

    /// Total bytes of all tensors.
    pub fn tensor_bytes(&self) -> u64 {
        self.tensors.iter().map(|tensor| tensor.bytes).fold(0, u64::saturating_add)
    }

    /// Replaces the table by the combined one of several parts.
    pub(crate) fn set_tensors(&mut self, tensors: Vec<TensorInfo>) -> Result<(), Error> {
        self.by_name = index(&tensors)?;
        self.tensors = tensors;
        Ok(())
    }
}

fn index(tensors: &[TensorInfo]) -> Result<NameIndex, Error> {
    NameIndex::new(tensors.len(), |at| &tensors[at].name)
        .map_err(|at| Error::DuplicateTensor(crate::error::shown(&tensors[at].name)))
}

fn read_version(reader: &mut Reader<'_>, file: &[u8]) -> Result<u32, Error> {
    let place = Place::Fixed("the file's head");
    if file.is_empty() || !file.starts_with(&MAGIC[..file.len().min(MAGIC.len())]) {
        return Err(Error::NotGguf(other_files::describe(file)));
    }
    reader.take(MAGIC.len() as u64, place)?;
    match reader.u32(place)? {
        1 => Err(Error::Version1),
        version @ (2 | 3) => Ok(version),
        version if version.swap_bytes() <= u32::from(u16::MAX) => Err(Error::BigEndian(version.swap_bytes())),
        version => Err(Error::UnknownVersion(version)),
    }
}

/// `general.alignment`; users of the tensors rely on at least 8, as the specification guarantees.
fn read_alignment(metadata: &Metadata) -> Result<u64, Error> {
    let alignment = metadata.get_u32("general.alignment")?.map_or(DEFAULT_ALIGNMENT, u64::from);
    if alignment < 8 || !alignment.is_power_of_two() {
        return Err(Error::BadAlignment(alignment));
    }
    Ok(alignment)
}

/// Reads the table; offsets are still relative to the start of the tensor data.
fn read_table(reader: &mut Reader<'_>, count: u64) -> Result<Vec<TensorInfo>, Error> {
    // A row is at least an empty name, a dimension count, a type and an offset.
    let room = reader.room_for(count, 8 + 4 + 4 + 8, Place::Fixed("the tensor table"))?;
    let mut tensors = Vec::with_capacity(room);
    for number in 0..count {
        let name = reader.text(limits::NAME_BYTES, Place::Row(number))?;
        tensors.push(read_row(reader, name)?);
    }
    Ok(tensors)
}

fn read_row(reader: &mut Reader<'_>, name: &str) -> Result<TensorInfo, Error> {
    let place = Place::Tensor(name);
    let count = reader.u32(place)?;
    if count > limits::DIMENSIONS {
        return Err(Error::TooManyDimensions { tensor: tensor_named(name), count, max: limits::DIMENSIONS });
    }
    let mut dimensions = Vec::with_capacity(count as usize);
    for _ in 0..count {
        dimensions.push(reader.u64(place)?);
    }
    let id = reader.u32(place)?;
    let offset = reader.u64(place)?;
    let ty = TensorType::from_id(id).ok_or_else(|| Error::UnknownTensorType { tensor: tensor_named(name), id })?;
    let bytes = size(name, &dimensions, ty)?;
    Ok(TensorInfo { name: name.to_owned(), dimensions, ty, offset, bytes, part: 0 })
}

/// Bytes of a tensor; both they and the element count fit 63 bits.
pub(crate) fn size(name: &str, dimensions: &[u64], ty: TensorType) -> Result<u64, Error> {
    let tensor = || tensor_named(name);
    if dimensions.contains(&0) {
        return Err(Error::EmptyTensor { tensor: tensor(), dimensions: dimensions.to_vec() });
    }
    let overflow = || Error::ShapeOverflow { tensor: tensor(), dimensions: dimensions.to_vec() };
    let fits = |n: &u64| i64::try_from(*n).is_ok();
    let elements = dimensions.iter().try_fold(1u64, |all, &n| all.checked_mul(n)).filter(fits);
    let elements = elements.ok_or_else(overflow)?;
    let columns = dimensions.first().copied().unwrap_or(1);
    if !columns.is_multiple_of(ty.block_elements() as u64) {
        let (block, ty) = (ty.block_elements(), ty.name());
        return Err(Error::PartialBlock { tensor: tensor(), columns, block, ty });
    }
    let rows = elements / columns;
    ty.row_bytes(columns).and_then(|row| row.checked_mul(rows)).filter(fits).ok_or_else(overflow)
}

fn past_end(tensor: &TensorInfo, file_bytes: u64) -> Error {
    let (name, offset, bytes) = (tensor_named(&tensor.name), tensor.offset, tensor.bytes);
    Error::PastEnd { tensor: name, offset, bytes, file_bytes }
}

/// Makes offsets relative to the file, and checks that every tensor is inside it and overlaps no other.
fn place_tensors(tensors: &mut [TensorInfo], data_offset: u64, alignment: u64, file_bytes: u64) -> Result<(), Error> {
    for tensor in tensors.iter_mut() {
        if !tensor.offset.is_multiple_of(alignment) {
            let (tensor, offset) = (tensor_named(&tensor.name), tensor.offset);
            return Err(Error::Misaligned { tensor, offset, alignment });
        }
        let offset = tensor.offset.checked_add(data_offset);
        let offset = offset.filter(|offset| offset.checked_add(tensor.bytes).is_some());
        tensor.offset = offset.ok_or_else(|| past_end(tensor, file_bytes))?;
    }
    let mut order: Vec<&TensorInfo> = tensors.iter().collect();
    order.sort_by_key(|tensor| (tensor.offset, tensor.bytes));
    if let Some(pair) = order.windows(2).find(|pair| pair[0].end() > pair[1].offset) {
        return Err(Error::Overlap { first: tensor_named(&pair[0].name), second: tensor_named(&pair[1].name) });
    }
    check_end(&order, data_offset, alignment, file_bytes)
}

/// Distinguishes a truncated file, which is consistent except for its missing end, from one with a wrong offset. `order` is
/// sorted by offset.
fn check_end(order: &[&TensorInfo], data_offset: u64, alignment: u64, file_bytes: u64) -> Result<(), Error> {
    let Some(first_outside) = order.iter().find(|tensor| tensor.end() > file_bytes) else {
        return Ok(());
    };
    let mut packed = data_offset;
    for tensor in order {
        let placed = packed.checked_next_multiple_of(alignment);
        if placed != Some(tensor.offset) {
            let stray = if tensor.end() > file_bytes { tensor } else { first_outside };
            return Err(past_end(stray, file_bytes));
        }
        packed = tensor.end();
    }
    Err(Error::CutOff { file_bytes, expected_bytes: packed, tensor: tensor_named(&first_outside.name) })
}
