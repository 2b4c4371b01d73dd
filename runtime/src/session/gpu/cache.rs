//! What was measured of GPUs, kept by adapter and driver version, so that a later start need not measure again.
//!
//! Kept only where the user lets programs keep such things: in `$XDG_CACHE_HOME/satchel` if that variable is set, else in
//! `~/.cache/satchel` if that folder is there already. Elsewhere, and where nothing can be written, each start measures.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{Adapter, Measured};

/// More adapters and versions than this are not kept.
const MOST: usize = 32;

/// The file.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    /// The program's version: another's shaders are other shaders.
    version: String,
    measured: Vec<(Adapter, Measured)>,
}

fn folder() -> Option<PathBuf> {
    let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
    match set("XDG_CACHE_HOME") {
        Some(cache) => Some(cache.join("satchel")),
        None => set("HOME").map(|home| home.join(".cache/satchel")).filter(|folder| folder.is_dir()),
    }
}

fn read(folder: &std::path::Path) -> Kept {
    let read = std::fs::read(folder.join("gpu.json")).ok().and_then(|bytes| serde_json::from_slice(&bytes).ok());
    read.filter(|kept: &Kept| kept.version == env!("CARGO_PKG_VERSION")).unwrap_or_default()
}

/// The same adapter with the same driver, whatever its number.
fn same(a: &Adapter, b: &Adapter) -> bool {
    Adapter { index: 0, ..a.clone() } == Adapter { index: 0, ..b.clone() }
}

/// What was measured of this adapter with this driver.
pub(super) fn known(adapter: &Adapter) -> Option<Measured> {
    let kept = read(&folder()?);
    kept.measured.into_iter().find(|(known, _)| same(known, adapter)).map(|(_, measured)| measured)
}

/// Keeps what was measured; what cannot be written is measured again.
pub(super) fn keep(adapter: &Adapter, measured: Measured) {
    if let Some(folder) = folder() {
        let _ = write(&folder, adapter, measured);
    }
}

fn write(folder: &std::path::Path, adapter: &Adapter, measured: Measured) -> std::io::Result<()> {
    let mut kept = read(folder);
    kept.version = env!("CARGO_PKG_VERSION").to_owned();
    kept.measured.retain(|(known, _)| !same(known, adapter));
    kept.measured.push((adapter.clone(), measured));
    let surplus = kept.measured.len().saturating_sub(MOST);
    kept.measured.drain(..surplus);
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
        write(folder.path(), &named("1.0"), measured).expect("it is written");
        write(folder.path(), &named("1.1"), Measured { error: 0.5, ..measured }).expect("it is written");
        let kept = read(folder.path());
        let of =
            |adapter: Adapter| kept.measured.iter().find(|(known, _)| same(known, &adapter)).map(|(_, it)| it.error);
        assert_eq!(of(Adapter { index: 0, ..named("1.0") }), Some(1e-7));
        assert_eq!((of(named("1.1")), of(named("1.2"))), (Some(0.5), None));
        std::fs::write(folder.path().join("gpu.json"), "{").expect("it is written");
        assert!(read(folder.path()).measured.is_empty(), "what is no such file is as if there were none");
    }
}
