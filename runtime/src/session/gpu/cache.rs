//! What was measured of GPUs, kept by adapter and driver version, so that a later start need not measure again.
//!
//! Kept only where the user lets programs keep such things ([`cache_folder`]). Elsewhere, and where nothing can be written, each start
//! measures.

use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Adapter, Measured};
use crate::environment::cache_folder;

/// More adapters and versions than this are not kept.
const MOST: usize = 32;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The program's version: another's shaders are other shaders.
    version: String,
    measured: Vec<(Adapter, Measured)>,
    /// The mean KL divergence of an adapter's predictions from the CPU's, of what a trial's fingerprint identifies.
    #[serde(default)]
    compared: Vec<(Adapter, String, f64)>,
}

fn read(folder: &Path) -> Kept {
    let read = std::fs::read(folder.join("gpu.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.filter(|kept: &Kept| kept.version == env!("CARGO_PKG_VERSION")).unwrap_or_default()
}

/// The same adapter with the same driver, whatever its number.
fn same(a: &Adapter, b: &Adapter) -> bool {
    Adapter { index: 0, ..a.clone() } == Adapter { index: 0, ..b.clone() }
}

/// What was measured of this adapter with this driver.
pub(super) fn known(adapter: &Adapter) -> Option<Measured> {
    let kept = read(&cache_folder()?);
    kept.measured.into_iter().find(|(known, _)| same(known, adapter)).map(|(_, measured)| measured)
}

/// Keeps what was measured; what cannot be written is measured again.
pub(super) fn keep(adapter: &Adapter, measured: Measured) {
    if let Some(folder) = cache_folder() {
        let _ = write(&folder, |kept| {
            kept.measured.retain(|(known, _)| !same(known, adapter));
            kept.measured.push((adapter.clone(), measured));
        });
    }
}

/// What an earlier trial found.
pub(super) fn agreement(adapter: &Adapter, what: &str) -> Option<f64> {
    let kept = read(&cache_folder()?);
    let found = kept.compared.into_iter().find(|(known, tried, _)| same(known, adapter) && tried == what);
    found.map(|(_, _, divergence)| divergence)
}

/// Keeps what a trial found.
pub(super) fn keep_agreement(adapter: &Adapter, what: &str, divergence: f64) {
    if let Some(folder) = cache_folder().filter(|_| divergence.is_finite()) {
        let _ = write(&folder, |kept| {
            kept.compared.retain(|(known, tried, _)| !(same(known, adapter) && tried == what));
            kept.compared.push((adapter.clone(), what.to_owned(), divergence));
        });
    }
}

/// Changes the file.
fn write(folder: &Path, change: impl FnOnce(&mut Kept)) -> std::io::Result<()> {
    let mut kept = read(folder);
    kept.version = env!("CARGO_PKG_VERSION").to_owned();
    change(&mut kept);
    let surplus = kept.measured.len().saturating_sub(MOST);
    kept.measured.drain(..surplus);
    let surplus = kept.compared.len().saturating_sub(MOST);
    kept.compared.drain(..surplus);
    std::fs::create_dir_all(folder)?;
    // Other processes see the old file or the new one.
    let file = tempfile::NamedTempFile::new_in(folder)?;
    serde_json::to_writer(&file, &kept)?;
    file.persist(folder.join("gpu.json")).map(|_| ()).map_err(|error| error.error)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn another_driver_is_measured_anew() {
        let folder = tempfile::tempdir().expect("a folder");
        let named = |driver: &str| Adapter {
            index: 1,
            name: "A GPU".to_owned(),
            kind: "discrete".to_owned(),
            interface: "vulkan".to_owned(),
            driver: driver.to_owned(),
            binding_bytes: 1 << 27,
            memory_bytes: Some(1 << 33),
        };
        let measured = Measured { error: 1e-7, bytes_per_second: 1e11, matrices: false };
        let keep = |driver: &str, measured: Measured| {
            write(folder.path(), |kept| kept.measured.push((named(driver), measured))).expect("it is written");
        };
        keep("1.0", measured);
        keep("1.1", Measured { error: 0.5, ..measured });
        let kept = read(folder.path());
        let of =
            |adapter: Adapter| kept.measured.iter().find(|(known, _)| same(known, &adapter)).map(|(_, it)| it.error);
        assert_eq!(of(Adapter { index: 0, ..named("1.0") }), Some(1e-7));
        assert_eq!((of(named("1.1")), of(named("1.2"))), (Some(0.5), None));
        std::fs::write(folder.path().join("gpu.json"), "{").expect("it is written");
        assert!(read(folder.path()).measured.is_empty(), "what is no such file is as if there were none");
    }
}
