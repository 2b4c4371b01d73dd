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

/// Suffix for a context length in messages: names cache types other than F16.
pub(super) fn kept_in(cache: CacheTypes) -> String {
    match cache == CacheTypes::default() {
        true => String::new(),
        false => format!(", kept in {cache}"),
    }
}
