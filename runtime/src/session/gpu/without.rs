//! The choice where no GPU can be used: the CPU, and why.

use std::sync::Arc;

use super::{Adapter, Asked, Found, GpuStatus, Measured};
use crate::device::Program;
use crate::session::open::OpenError;

/// Why there is none.
pub(super) const WHY: &str = match cfg!(feature = "gpu") {
    false => "this program was built without GPUs",
    true => "the static build cannot open drivers; use the program for glibc",
};

/// Refuses the GPU that was named: for any other choice, nothing was looked for.
pub(super) fn load(asked: &Arc<Asked>, _: &Arc<GpuStatus>) -> Result<Box<dyn Program>, OpenError> {
    Err(asked.choice.refused(WHY))
}

/// Finds none.
///
/// # Errors
/// Why.
pub fn find() -> Result<Found, String> {
    Err(WHY.to_owned())
}

/// Why there is none.
pub fn none_shown() -> &'static str {
    WHY
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

/// What a probe prints of an adapter's cooperative matrices: that there are none.
pub fn print_matrices(_: usize) -> String {
    serde_json::json!(false).to_string()
}
