//! llama.cpp's names for quantised files, and the type that most of the weights have in each.

use std::collections::HashMap;

use satchel_gguf::{Gguf, TensorType};

/// A type or mixture for a file's weights. The discriminant is the value of `general.file_type`.
#[allow(non_camel_case_types)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub(crate) enum FileType {
    F32 = 0,
    F16 = 1,
    Q4_0 = 2,
    Q4_1 = 3,
    Q8_0 = 7,
    Q5_0 = 8,
    Q5_1 = 9,
    Q2_K = 10,
    Q3_K_S = 11,
    Q3_K_M = 12,
    Q3_K_L = 13,
    Q4_K_S = 14,
    Q4_K_M = 15,
    Q5_K_S = 16,
    Q5_K_M = 17,
    Q6_K = 18,
    Q2_K_S = 21,
    BF16 = 32,
}

use FileType::*;

/// (name, file type, type of most tensors)
const TABLE: [(&str, FileType, TensorType); 21] = [
    ("F32", F32, TensorType::F32),
    ("F16", F16, TensorType::F16),
    ("BF16", BF16, TensorType::BF16),
    ("Q8_0", Q8_0, TensorType::Q8_0),
    ("Q4_0", Q4_0, TensorType::Q4_0),
    ("Q4_1", Q4_1, TensorType::Q4_1),
    ("Q5_0", Q5_0, TensorType::Q5_0),
    ("Q5_1", Q5_1, TensorType::Q5_1),
    ("Q2_K", Q2_K, TensorType::Q2_K),
    ("Q2_K_S", Q2_K_S, TensorType::Q2_K),
    ("Q3_K_S", Q3_K_S, TensorType::Q3_K),
    ("Q3_K_M", Q3_K_M, TensorType::Q3_K),
    ("Q3_K_L", Q3_K_L, TensorType::Q3_K),
    ("Q4_K_S", Q4_K_S, TensorType::Q4_K),
    ("Q4_K_M", Q4_K_M, TensorType::Q4_K),
    ("Q5_K_S", Q5_K_S, TensorType::Q5_K),
    ("Q5_K_M", Q5_K_M, TensorType::Q5_K),
    ("Q6_K", Q6_K, TensorType::Q6_K),
    // Without a suffix, the medium one.
    ("Q3_K", Q3_K_M, TensorType::Q3_K),
    ("Q4_K", Q4_K_M, TensorType::Q4_K),
    ("Q5_K", Q5_K_M, TensorType::Q5_K),
];

impl FileType {
    /// For `--help`.
    pub(crate) fn help() -> String {
        let full: Vec<&str> = TABLE.iter().filter(|row| row.1.name() == row.0).map(|row| row.0).collect();
        format!(
            "Types: {}; Q3_K, Q4_K and Q5_K are the ones with M. From Q2_K on these are mixtures, which give more bits to the \
             tensors that need them; --pure uses one type throughout.",
            full.join(", ")
        )
    }

    /// Parses a name, ignoring case. The error lists the names.
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        match TABLE.iter().find(|row| row.0.eq_ignore_ascii_case(name)) {
            Some(row) => Ok(row.1),
            None => {
                let known: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
                Err(format!("there are {}", known.join(", ")))
            }
        }
    }

    /// The type with this `general.file_type` number.
    pub(crate) fn from_id(id: u32) -> Option<Self> {
        TABLE.iter().map(|row| row.1).find(|ty| *ty as u32 == id)
    }

    /// Its full name.
    pub(crate) fn name(self) -> &'static str {
        self.row().0
    }

    /// The block type of most tensors.
    pub(crate) fn base(self) -> TensorType {
        self.row().2
    }

    fn row(self) -> &'static (&'static str, Self, TensorType) {
        TABLE.iter().find(|row| row.1 == self).expect("every type has a row")
    }
}

/// The type that a file's metadata name, or else the type with the most bytes.
pub(crate) fn type_name(gguf: &Gguf) -> String {
    let declared = gguf.metadata.get_u32("general.file_type").ok().flatten();
    if let Some(ty) = declared.and_then(FileType::from_id) {
        return ty.name().to_owned();
    }
    let mut bytes: HashMap<TensorType, u64> = HashMap::new();
    for tensor in &gguf.tensors {
        *bytes.entry(tensor.ty).or_default() += tensor.bytes;
    }
    bytes.into_iter().max_by_key(|&(ty, bytes)| (bytes, ty)).map_or_else(String::new, |(ty, _)| ty.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_types_round_trip() {
        for (name, ty, base) in TABLE {
            assert_eq!(FileType::parse(&name.to_lowercase()), Ok(ty));
            assert!(ty.name().starts_with(name) && ty.base() == base, "{name}");
        }
        assert_eq!(FileType::parse("Q4_K").unwrap().name(), "Q4_K_M");
        assert_eq!(
            (FileType::from_id(21), FileType::from_id(32), FileType::from_id(4)),
            (Some(Q2_K_S), Some(BF16), None)
        );
        assert!(FileType::parse("Q9").unwrap_err().contains("Q4_K_M"));
    }
}
