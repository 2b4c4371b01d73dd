//! Which GPU computes: what the user chose, what a probe found, and a sentence that says so.
//!
//! A driver's code first runs in a child process with a time limit (`probe`), so that one that crashes or hangs takes only that
//! down. A GPU is used by itself (`auto`) only if it computed a product right and reads weights faster than this CPU.

#[cfg(all(feature = "gpu", not(any(windows, target_env = "musl"))))]
mod probe;
#[cfg(all(feature = "gpu", not(any(windows, target_env = "musl"))))]
mod with;
#[cfg(not(all(feature = "gpu", not(any(windows, target_env = "musl")))))]
mod without;

use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::open::{self, Compute, OpenError};
use super::source::ModelSource;
use crate::engine::Loaded;
use crate::plan::Plan;

#[cfg(all(feature = "gpu", not(any(windows, target_env = "musl"))))]
pub use probe::{find, measure, print_adapters, print_measured};
#[cfg(all(feature = "gpu", not(any(windows, target_env = "musl"))))]
use with::load as load_chosen;
#[cfg(not(all(feature = "gpu", not(any(windows, target_env = "musl")))))]
use without::load as load_chosen;
#[cfg(not(all(feature = "gpu", not(any(windows, target_env = "musl")))))]
pub use without::{find, measure, print_adapters, print_measured};

/// An adapter, as the child tells of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Adapter {
    /// Its number.
    pub index: usize,
    /// Its name.
    pub name: String,
    /// `discrete`, `integrated`, `virtual`, `software` or `other`.
    pub kind: String,
    /// `vulkan`, `dx12` or `metal`.
    pub interface: String,
    /// The driver and its version.
    pub driver: String,
    /// The most bytes that a shader can address in one buffer.
    pub binding_bytes: u64,
}

impl Adapter {
    /// Whether a user means it by this part of a name, in any case.
    pub fn is_named(&self, name: &str) -> bool {
        self.name.to_lowercase().contains(&name.to_lowercase())
    }
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Found {
    /// In the order of their numbers.
    pub adapters: Vec<Adapter>,
}

/// What was measured of an adapter.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Measured {
    /// The largest error of a product, relative to the sum of its terms' magnitudes; `f32::MAX` if it is NaN.
    pub error: f32,
    /// Bytes of weights per second, in products.
    pub bytes_per_second: f64,
}

/// What the user chose.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum GpuChoice {
    /// The CPU computes.
    #[default]
    None,
    /// The fastest GPU, if it is faster than the CPU.
    Auto,
    /// By its number in `satchel doctor`.
    Index(usize),
    /// By a part of its name.
    Named(String),
}

impl FromStr for GpuChoice {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "none" => Ok(Self::None),
            "auto" => Ok(Self::Auto),
            "" => Err("it must be none, auto, a GPU's number or a part of its name".to_owned()),
            _ => Ok(text.parse().map_or_else(|_| Self::Named(text.to_owned()), Self::Index)),
        }
    }
}

impl std::fmt::Display for GpuChoice {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::None => out.write_str("none"),
            Self::Auto => out.write_str("auto"),
            Self::Index(index) => index.fmt(out),
            Self::Named(name) => out.write_str(name),
        }
    }
}

impl GpuChoice {
    /// Embeddings have no shaders yet: an error if a GPU was asked for by name.
    pub(super) fn refuse_for_embeddings(&self) -> Result<(), OpenError> {
        match self {
            Self::None | Self::Auto => Ok(()),
            Self::Index(_) | Self::Named(_) => Err(self.refused("there are no shaders yet for embeddings and scores")),
        }
    }

    fn refused(&self, why: &str) -> OpenError {
        OpenError::Gpu(format!("--gpu {self}: {why}; without --gpu the CPU computes, `satchel doctor` lists the GPUs"))
    }
}

/// Loads a plan on the GPU that was chosen if it can be used, else on the CPU; says which, or why none.
pub(super) fn load(
    source: &ModelSource,
    compute: Compute,
    plan: Plan,
    choice: &GpuChoice,
) -> Result<(Loaded, String), OpenError> {
    match choice {
        GpuChoice::None => Ok((open::load(source, plan, compute)?, "none was asked for (--gpu auto)".to_owned())),
        _ => load_chosen(source, compute, plan, choice),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn choices_are_read_and_written() {
        for (text, choice) in [
            ("none", GpuChoice::None),
            ("auto", GpuChoice::Auto),
            ("1", GpuChoice::Index(1)),
            ("GeForce", GpuChoice::Named("GeForce".to_owned())),
        ] {
            assert_eq!(text.parse(), Ok(choice.clone()));
            assert_eq!(choice.to_string(), text);
        }
        assert!("".parse::<GpuChoice>().is_err());
    }
}
