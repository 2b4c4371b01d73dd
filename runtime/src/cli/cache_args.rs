//! KV cache flags, shared by every command that keeps a context.

use crate::plan::{CacheType, CacheTypes};
use crate::session::OpenOptions;

/// How the KV cache is stored.
#[derive(clap::Args, Clone, Copy, Debug, Default)]
pub struct CacheArgs {
    /// How keys of the context are kept: f16, q8_0 (half the memory, nearly the same answers) or q4_0 (a quarter, answers that
    /// are a little worse, of small models above all) [default: f16]
    #[arg(long, value_name = "TYPE", help_heading = "Model")]
    cache_type_k: Option<CacheType>,
    /// The same for values, which bear q4_0 better than keys do [default: f16]
    #[arg(long, value_name = "TYPE", help_heading = "Model")]
    cache_type_v: Option<CacheType>,
}

impl CacheArgs {
    /// The options with these cache types.
    pub fn apply(self, options: OpenOptions) -> OpenOptions {
        OpenOptions { cache_type_k: self.cache_type_k, cache_type_v: self.cache_type_v, ..options }
    }

    /// The cache types; F16 by default.
    pub fn types(self) -> CacheTypes {
        self.apply(OpenOptions::default()).cache()
    }
}

/// A size in bytes: a number, with or without a unit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size(pub u64);

impl std::str::FromStr for Size {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.find(|letter: char| !letter.is_ascii_digit()).unwrap_or(text.len());
        let (number, unit) = text.split_at(digits);
        let shift = match unit.trim().to_ascii_lowercase().as_str() {
            "" | "b" => 0,
            "k" | "kib" => 10,
            "m" | "mib" => 20,
            "g" | "gib" => 30,
            "t" | "tib" => 40,
            _ => return Err("it must be a size, such as 512MiB or 2GiB".to_owned()),
        };
        let bytes = number.parse::<u64>().ok().and_then(|number| number.checked_mul(1 << shift));
        bytes.map(Self).ok_or_else(|| "it must be a whole number with a unit, such as 512MiB or 2GiB".to_owned())
    }
}

/// Suffix for a context length in messages: names cache types other than F16.
pub(super) fn kept_in(cache: CacheTypes) -> String {
    match cache == CacheTypes::default() {
        true => String::new(),
        false => format!(", kept in {cache}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_have_units() {
        let parse = |text: &str| text.parse::<Size>().map(|Size(bytes)| bytes);
        assert_eq!(parse("0"), Ok(0));
        assert_eq!((parse("512MiB"), parse("2g"), parse("3 KiB")), (Ok(512 << 20), Ok(2 << 30), Ok(3 << 10)));
        for bad in ["", "GiB", "-1", "1.5GiB", "5 apples", "99999999999T"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}
