//! The choice where no GPU can be used: the CPU, and why.

use super::{Adapter, Found, GpuChoice, Measured};
use crate::engine::Loaded;
use crate::plan::Plan;
use crate::session::open::{self, Compute, OpenError};
use crate::session::source::ModelSource;

/// Why there is none.
const WHY: &str = match (cfg!(feature = "gpu"), cfg!(windows)) {
    (false, _) => "this program was built without GPUs",
    (true, true) => "this program can use GPUs on Linux and macOS only",
    (true, false) => "the static build cannot open drivers; use the program for glibc",
};

/// Loads a plan on the CPU, unless a GPU was asked for.
pub(super) fn load(
    source: &ModelSource,
    compute: Compute,
    plan: Plan,
    choice: &GpuChoice,
) -> Result<(Loaded, String), OpenError> {
    match choice {
        GpuChoice::None | GpuChoice::Auto => Ok((open::load(source, plan, compute)?, format!("none: {WHY}"))),
        GpuChoice::Index(_) | GpuChoice::Named(_) => Err(choice.refused(WHY)),
    }
}

/// Finds none.
///
/// # Errors
/// Why.
pub fn find() -> Result<Found, String> {
    Err(WHY.to_owned())
}

/// Measures none.
///
/// # Errors
/// Why.
pub fn measure(_: usize) -> Result<Measured, String> {
    Err(WHY.to_owned())
}

/// What a probe prints: no adapters.
pub fn print_adapters() -> String {
    let adapters: Vec<Adapter> = Vec::new();
    serde_json::to_string(&Found { adapters }).unwrap_or_default()
}

/// What a probe prints of an adapter: why there is none.
pub fn print_measured(_: usize) -> String {
    serde_json::json!({"failed": WHY}).to_string()
}
