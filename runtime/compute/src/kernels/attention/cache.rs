//! Layout of keys and values in a page of the KV cache, and how they are written.
//!
//! Quantised types are GGML's blocks of 32 elements of a head's row (`quant`), split up: a page's scales come first, its levels
//! after them. Page sizes are in f16 units, the type of the scales; two bytes of levels take one. For one KV head, with `d`
//! elements and `L` bytes of levels per block (32 for Q8_0, 16 for Q4_0):
//!
//! ```text
//!             F16        quantised
//!   keys      (d, 64)    centre (d) of Q4_0, scales (d / 32, 64), levels (d / 32 · L, 64)
//!   values    (64, d)    scales (d / 32, 64), levels (64, d / 32 · L)
//! ```
//!
//! Keys of a sequence have much in common, and four bits are too few to repeat it in every key: a page of Q4_0 keys stores what
//! they differ by from its *centre*, which [`begin_page`] sets to the mean of the page before. That page is complete by then,
//! so the centre depends on the sequence alone, however its prompt was cut into steps.
//!
//! Products read keys with positions adjacent and values with elements adjacent. They are stored in that order once, so that
//! reading is only loads and multiplications. In return, storing a key touches one element in each of many cache lines: some
//! hundred kilobytes per token, against hundreds of megabytes of weights.

use std::fmt;
use std::str::FromStr;

use half::f16;
use satchel_gguf::TensorType;

use super::PAGE_TOKENS;
use crate::quant::{GROUP, encode};

/// How an element of the KV cache is stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum CacheType {
    /// 16 bits.
    #[default]
    F16,
    /// 8.5 bits: an f16 scale and 32 signed bytes.
    Q8_0,
    /// 4.5 bits: an f16 scale and 32 levels of four bits.
    Q4_0,
}

impl CacheType {
    /// Every type.
    pub const ALL: [Self; 3] = [Self::F16, Self::Q8_0, Self::Q4_0];

    /// The GGUF type with the same blocks.
    fn blocks(self) -> TensorType {
        match self {
            Self::F16 => TensorType::F16,
            Self::Q8_0 => TensorType::Q8_0,
            Self::Q4_0 => TensorType::Q4_0,
        }
    }

    /// Bytes per row of `head_dim` elements; `None` if that is not a whole number of blocks.
    pub fn row_bytes(self, head_dim: usize) -> Option<u64> {
        self.blocks().row_bytes(head_dim as u64)
    }

    /// Bytes of levels per block, without the scale.
    fn level_bytes(self) -> usize {
        self.blocks().block_bytes() - size_of::<f16>()
    }

    /// f16 units of a page's centre for one head.
    pub(super) fn centre(self, role: Role, head_dim: usize) -> usize {
        if self == Self::Q4_0 && role == Role::Keys { head_dim } else { 0 }
    }

    /// f16 units that a page takes for one head.
    pub(super) fn page(self, role: Role, head_dim: usize) -> usize {
        let bytes = self.row_bytes(head_dim).expect("the shape was checked");
        self.centre(role, head_dim) + PAGE_TOKENS * bytes as usize / size_of::<f16>()
    }
}

impl fmt::Display for CacheType {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.blocks().name())
    }
}

impl FromStr for CacheType {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let named = |ty: &Self| ty.to_string().eq_ignore_ascii_case(name);
        Self::ALL.into_iter().find(named).ok_or_else(|| "it must be f16, q8_0 or q4_0".to_owned())
    }
}

/// How keys and values are stored.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct CacheTypes {
    /// Keys.
    pub keys: CacheType,
    /// Values.
    pub values: CacheType,
}

impl CacheTypes {
    /// The same type for both.
    pub const fn both(ty: CacheType) -> Self {
        Self { keys: ty, values: ty }
    }

    /// f16 units that a page takes for one KV head.
    pub(super) fn page(self, key_dim: usize, value_dim: usize) -> usize {
        self.keys.page(Role::Keys, key_dim) + self.values.page(Role::Values, value_dim)
    }

    /// Bytes that a page takes for one KV head of sizes that [`CacheTypes::check`] accepts.
    pub fn page_bytes(self, key_dim: usize, value_dim: usize) -> u64 {
        (self.page(key_dim, value_dim) * size_of::<f16>()) as u64
    }

    /// Checks that heads of these sizes can be stored.
    ///
    /// # Errors
    /// One line for the user who chose the types.
    pub fn check(self, key_dim: usize, value_dim: usize) -> Result<(), String> {
        let sides =
            [("--cache-type-k", self.keys, "key", key_dim), ("--cache-type-v", self.values, "value", value_dim)];
        for (flag, ty, of, dim) in sides {
            if ty.row_bytes(dim).is_none() {
                return Err(format!(
                    "{flag} {}: a {of} head of this model has {dim} elements, but the type stores whole blocks of {GROUP}; use f16",
                    ty.to_string().to_lowercase()
                ));
            }
        }
        Ok(())
    }
}

/// `F16`, or `K Q8_0, V F16` if they differ.
impl fmt::Display for CacheTypes {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.keys == self.values {
            true => self.keys.fmt(out),
            false => write!(out, "K {}, V {}", self.keys, self.values),
        }
    }
}

/// Keys or values: their levels are ordered differently.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Keys,
    Values,
}

/// One head's keys or values of a page.
#[derive(Clone, Copy)]
pub(crate) enum Head<'a> {
    /// Keys `(head_dim, PAGE_TOKENS)`, values `(PAGE_TOKENS, head_dim)`.
    F16(&'a [f16]),
    /// Signed bytes.
    Q8_0(Blocks<'a>),
    /// Nibbles 0 to 15 with zero point 8: a byte's low nibble comes 16 elements before its high one.
    Q4_0(Blocks<'a>),
}

/// Scales `(head_dim / 32, PAGE_TOKENS)` and levels, in the order of the [`Role`].
#[derive(Clone, Copy)]
pub(crate) struct Blocks<'a> {
    /// `(head_dim)`, to be added to every row; empty if there is none.
    pub(crate) centre: &'a [f16],
    pub(crate) scales: &'a [f16],
    pub(crate) levels: &'a [u8],
}

impl<'a> Head<'a> {
    /// A head's part of a page, as long as [`CacheType::page`] says.
    pub(super) fn new(ty: CacheType, role: Role, head_dim: usize, part: &'a [f16]) -> Self {
        let blocks = || {
            let (centre, part) = part.split_at(ty.centre(role, head_dim));
            let (scales, levels) = part.split_at(head_dim / GROUP * PAGE_TOKENS);
            // SAFETY: the same memory; bytes need no alignment, and every byte value is valid.
            let levels = unsafe { std::slice::from_raw_parts(levels.as_ptr().cast(), size_of_val(levels)) };
            Blocks { centre, scales, levels }
        };
        match ty {
            CacheType::F16 => Self::F16(part),
            CacheType::Q8_0 => Self::Q8_0(blocks()),
            CacheType::Q4_0 => Self::Q4_0(blocks()),
        }
    }

    /// Dequantises the row of one position: plain code that defines the layout.
    pub(crate) fn row(&self, role: Role, position: usize, out: &mut [f32]) {
        let (ty, blocks) = match self {
            Self::F16(elements) => {
                let columns = out.len();
                let element = |at| elements[place(role, columns, position, at)].to_f32();
                return out.iter_mut().enumerate().for_each(|(at, out)| *out = element(at));
            }
            Self::Q8_0(blocks) => (CacheType::Q8_0, blocks),
            Self::Q4_0(blocks) => (CacheType::Q4_0, blocks),
        };
        let bytes = ty.level_bytes();
        let row_bytes = out.len() / GROUP * bytes;
        for (index, out) in out.chunks_exact_mut(GROUP).enumerate() {
            let mut block = [0; BLOCK_BYTES_MOST];
            block[..2].copy_from_slice(&blocks.scales[index * PAGE_TOKENS + position].to_le_bytes());
            for (at, level) in block[2..2 + bytes].iter_mut().enumerate() {
                *level = blocks.levels[place(role, row_bytes, position, index * bytes + at)];
            }
            crate::quant::dequantize_row(ty.blocks(), &block[..2 + bytes], out);
        }
        out.iter_mut().zip(blocks.centre).for_each(|(out, centre)| *out += centre.to_f32());
    }
}

/// Bytes of the largest block, Q8_0's.
const BLOCK_BYTES_MOST: usize = 34;

/// Index of element `at` (or byte `at` of the levels) of a position, of `columns` in all.
fn place(role: Role, columns: usize, position: usize, at: usize) -> usize {
    match role {
        Role::Keys => at * PAGE_TOKENS + position,
        Role::Values => position * columns + at,
    }
}

/// Writes the row of position `slot` into a head's part of an F16 page; `convert` is the table's, for slices of equal length.
pub(super) fn store_f16(convert: impl Fn(&[f32], &mut [f16]), role: Role, part: &mut [f16], slot: usize, row: &[f32]) {
    if role == Role::Values {
        return convert(row, &mut part[slot * row.len()..][..row.len()]);
    }
    let mut converted = [f16::ZERO; 64];
    for (index, row) in row.chunks(converted.len()).enumerate() {
        let converted = &mut converted[..row.len()];
        convert(row, converted);
        let part = &mut part[index * 64 * PAGE_TOKENS..];
        converted.iter().enumerate().for_each(|(at, element)| part[at * PAGE_TOKENS + slot] = *element);
    }
}

/// Writes the row of position `slot` into a head's part of a page as GGML blocks of `ty`, a quantised type.
///
/// Plain code on every table: it is a hundredth of a prompt's work, and the cache is bit-identical on all of them.
pub(super) fn store_blocks(ty: CacheType, role: Role, part: &mut [f16], slot: usize, row: &[f32]) {
    let encode = match ty {
        CacheType::Q4_0 => encode::q4_0_fitted,
        _ => encode::encoder(ty.blocks()).expect("quantised cache types can be written"),
    };
    let bytes = ty.level_bytes();
    let row_bytes = row.len() / GROUP * bytes;
    let (centre, part) = part.split_at_mut(ty.centre(role, row.len()));
    let (scales, levels) = part.split_at_mut(row.len() / GROUP * PAGE_TOKENS);
    // SAFETY: the same memory; bytes need no alignment, and any two of them are a valid f16.
    let levels: &mut [u8] =
        unsafe { std::slice::from_raw_parts_mut(levels.as_mut_ptr().cast(), size_of_val(&*levels)) };
    for (index, values) in row.as_chunks::<GROUP>().0.iter().enumerate() {
        let mut block = [0; BLOCK_BYTES_MOST];
        let block = &mut block[..2 + bytes];
        let mut values = values.map(storable);
        let centre = centre.iter().skip(index * GROUP);
        values.iter_mut().zip(centre).for_each(|(value, centre)| *value = storable(*value - centre.to_f32()));
        encode(&values, block);
        scales[index * PAGE_TOKENS + slot] = f16::from_le_bytes([block[0], block[1]]);
        for (at, &level) in block[2..].iter().enumerate() {
            levels[place(role, row_bytes, slot, index * bytes + at)] = level;
        }
    }
}

/// Sets the centre of a head's part of a page of Q4_0 keys: the mean of the page before, or the first key if there is none.
/// Other types have no centre.
pub(super) fn set_centre(ty: CacheType, part: &mut [f16], before: Option<&[f16]>, first: &[f32]) {
    let dim = first.len();
    let centre = &mut part[..ty.centre(Role::Keys, dim)];
    if centre.is_empty() {
        return;
    }
    let mut mean: Vec<f32> = first.iter().map(|&value| storable(value)).collect();
    if let Some(before) = before {
        let (keys, mut key) = (Head::new(ty, Role::Keys, dim, before), vec![0.0; dim]);
        mean.fill(0.0);
        for position in 0..PAGE_TOKENS {
            keys.row(Role::Keys, position, &mut key);
            mean.iter_mut().zip(&key).for_each(|(mean, key)| *mean += key / PAGE_TOKENS as f32);
        }
    }
    centre.iter_mut().zip(mean).for_each(|(centre, mean)| *centre = f16::from_f32(storable(mean)));
}

/// The value to store: clamped to the range of F16, so that an infinity does not ruin its block's scale; NaN, which levels cannot
/// represent, becomes 0.
fn storable(value: f32) -> f32 {
    let most = f16::MAX.to_f32();
    if value.is_nan() { 0.0 } else { value.clamp(-most, most) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_have_names_and_sizes() {
        for ty in CacheType::ALL {
            assert_eq!(ty.to_string().to_lowercase().parse(), Ok(ty));
        }
        assert!("q5_0".parse::<CacheType>().unwrap_err().contains("f16, q8_0 or q4_0"));
        assert_eq!(CacheType::ALL.map(|ty| ty.row_bytes(64)), [Some(128), Some(68), Some(36)]);
        assert_eq!(CacheType::ALL.map(|ty| ty.row_bytes(80)), [Some(160), None, None]);
    }

    #[test]
    fn heads_that_are_no_whole_blocks_are_told_with_the_flag() {
        let mixed = CacheTypes { keys: CacheType::F16, values: CacheType::Q8_0 };
        assert_eq!(mixed.to_string(), "K F16, V Q8_0");
        assert_eq!(CacheTypes::both(CacheType::Q4_0).to_string(), "Q4_0");
        assert_eq!(mixed.check(80, 96), Ok(()));
        let line = mixed.check(96, 80).unwrap_err();
        assert!(line.starts_with("--cache-type-v q8_0: a value head of this model has 80 elements"), "{line}");
        assert_eq!(CacheTypes::default().check(80, 40), Ok(()));
    }
}
