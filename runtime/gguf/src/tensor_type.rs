//! GGML's block types: id, name, and how many bytes hold how many elements.
//!
//! The table has every type a file may name, including those without kernels: such a file is then refused by type name rather
//! than by number.

/// A GGML tensor type. The discriminant is its id in GGUF files.
#[allow(non_camel_case_types, missing_docs)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum TensorType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q5_0 = 6,
    Q5_1 = 7,
    Q8_0 = 8,
    Q2_K = 10,
    Q3_K = 11,
    Q4_K = 12,
    Q5_K = 13,
    Q6_K = 14,
    IQ2_XXS = 16,
    IQ2_XS = 17,
    IQ3_XXS = 18,
    IQ1_S = 19,
    IQ4_NL = 20,
    IQ3_S = 21,
    IQ2_S = 22,
    IQ4_XS = 23,
    I8 = 24,
    I16 = 25,
    I32 = 26,
    I64 = 27,
    F64 = 28,
    IQ1_M = 29,
    BF16 = 30,
    TQ1_0 = 34,
    TQ2_0 = 35,
    MXFP4 = 39,
    NVFP4 = 40,
}

use TensorType::*;

/// (type, name, elements per block, bytes per block)
const TABLE: &[(TensorType, &str, u32, u32)] = &[
    (F32, "F32", 1, 4),
    (F16, "F16", 1, 2),
    (Q4_0, "Q4_0", 32, 18),
    (Q4_1, "Q4_1", 32, 20),
    (Q5_0, "Q5_0", 32, 22),
    (Q5_1, "Q5_1", 32, 24),
    (Q8_0, "Q8_0", 32, 34),
    (Q2_K, "Q2_K", 256, 84),
    (Q3_K, "Q3_K", 256, 110),
    (Q4_K, "Q4_K", 256, 144),
    (Q5_K, "Q5_K", 256, 176),
    (Q6_K, "Q6_K", 256, 210),
    (IQ2_XXS, "IQ2_XXS", 256, 66),
    (IQ2_XS, "IQ2_XS", 256, 74),
    (IQ3_XXS, "IQ3_XXS", 256, 98),
    (IQ1_S, "IQ1_S", 256, 50),
    (IQ4_NL, "IQ4_NL", 32, 18),
    (IQ3_S, "IQ3_S", 256, 110),
    (IQ2_S, "IQ2_S", 256, 82),
    (IQ4_XS, "IQ4_XS", 256, 136),
    (I8, "I8", 1, 1),
    (I16, "I16", 1, 2),
    (I32, "I32", 1, 4),
    (I64, "I64", 1, 8),
    (F64, "F64", 1, 8),
    (IQ1_M, "IQ1_M", 256, 56),
    (BF16, "BF16", 1, 2),
    (TQ1_0, "TQ1_0", 256, 54),
    (TQ2_0, "TQ2_0", 256, 66),
    (MXFP4, "MXFP4", 32, 17),
    (NVFP4, "NVFP4", 64, 36),
];

impl TensorType {
    /// Every type has a row: a test checks it.
    const fn row(self) -> &'static (TensorType, &'static str, u32, u32) {
        let mut at = 0;
        while TABLE[at].0 as u32 != self as u32 {
            at += 1;
        }
        &TABLE[at]
    }

    /// The type with this id, or `None` if GGML has no such type or removed it.
    pub fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().map(|row| row.0).find(|ty| *ty as u32 == id)
    }

    /// The type with this GGML name, e.g. `Q4_K`.
    pub fn from_name(name: &str) -> Option<Self> {
        TABLE.iter().find(|row| row.1 == name).map(|row| row.0)
    }

    /// Every type, by id.
    pub fn all() -> impl Iterator<Item = Self> {
        TABLE.iter().map(|row| row.0)
    }

    /// GGML's name, e.g. `Q4_K`.
    pub fn name(self) -> &'static str {
        self.row().1
    }

    /// Elements per block (1 for plain types).
    pub const fn block_elements(self) -> usize {
        self.row().2 as usize
    }

    /// Bytes per block.
    pub const fn block_bytes(self) -> usize {
        self.row().3 as usize
    }

    /// Bytes of a row of `columns` elements; `None` if it is not whole blocks or the size overflows.
    pub fn row_bytes(self, columns: u64) -> Option<u64> {
        let (_, _, elements, bytes) = *self.row();
        if !columns.is_multiple_of(u64::from(elements)) {
            return None;
        }
        (columns / u64::from(elements)).checked_mul(u64::from(bytes))
    }
}

impl std::fmt::Display for TensorType {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.pad(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_and_names_lead_back() {
        for ty in TensorType::all() {
            assert_eq!(TensorType::from_id(ty as u32), Some(ty));
            assert_eq!(TensorType::from_name(ty.name()), Some(ty));
            assert_eq!(ty.name(), format!("{ty:?}"));
        }
        assert_eq!(TensorType::from_id(4), None, "Q4_2 was removed from GGML");
    }

    #[test]
    fn rows_are_whole_blocks() {
        assert_eq!(Q4_1.row_bytes(576), Some(360));
        assert_eq!(Q4_K.row_bytes(576), None);
        assert_eq!(F64.row_bytes(u64::MAX), None);
    }
}
