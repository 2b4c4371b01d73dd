//! Seeds: valid inputs for the fuzzer to mutate. Each target makes its own.

use std::path::PathBuf;

/// Writes the seeds into the folder that `SATCHEL_FUZZ_SEEDS` names; without it, does nothing.
pub fn write(seeds: impl IntoIterator<Item = Vec<u8>>) {
    let Some(folder) = std::env::var_os("SATCHEL_FUZZ_SEEDS").map(PathBuf::from) else { return };
    for (number, seed) in seeds.into_iter().enumerate() {
        std::fs::write(folder.join(format!("seed-{number:03}")), seed).expect("the folder of the seeds can be written");
    }
}
