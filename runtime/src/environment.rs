//! Environment variables: the one place that reads them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::str::FromStr;

/// The default of `--gpu`.
pub(crate) const GPU: &str = "SATCHEL_GPU";

/// The variables by which tests make GPUs and their drivers fail, besides [`FORCE_MATRICES`].
#[cfg_attr(not(with_gpu), allow(dead_code, reason = "without GPUs none can fail"))]
pub(crate) mod faults {
    /// How the probe's child ends: `crash` or `hang`.
    pub(crate) const PROBE: &str = "SATCHEL_TEST_PROBE_FAULT";
    /// Numbers of steps after which devices are lost: `5,3` loses the first after five steps, and the one opened in its place after
    /// three.
    pub(crate) const LOST: &str = "SATCHEL_TEST_GPU_LOST";
    /// Bytes of memory that a GPU has.
    pub(crate) const MEMORY: &str = "SATCHEL_TEST_GPU_MEMORY";
    /// Bytes of a GPU's largest buffer.
    pub(crate) const BUFFER: &str = "SATCHEL_TEST_GPU_BUFFER";
    /// Set: a GPU's predictions are those of other tokens.
    pub(crate) const WRONG: &str = "SATCHEL_TEST_GPU_WRONG";
}

/// `0`: prompts are multiplied without cooperative matrices, `1`: with them, whatever the probe says.
#[cfg_attr(not(with_gpu), allow(dead_code, reason = "without GPUs there are none"))]
pub(crate) const FORCE_MATRICES: &str = "SATCHEL_GPU_MATRICES";

/// A variable's value, if it is set to something.
pub(crate) fn text(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}

/// A variable's value, if it is one of this type.
#[cfg_attr(not(with_gpu), allow(dead_code, reason = "these are about GPUs"))]
pub(crate) fn value<T: FromStr>(name: &str) -> Option<T> {
    text(name)?.parse().ok()
}

/// The folder for what a later start need not find out again: `$XDG_CACHE_HOME/satchel` if that variable is set, else
/// `~/.cache/satchel` if that is there already. `None`: the user lets programs keep nothing.
#[cfg_attr(not(with_gpu), allow(dead_code, reason = "only what was measured of GPUs is kept"))]
pub(crate) fn cache_folder() -> Option<PathBuf> {
    let set = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
    let at_home = || Some(std::env::home_dir()?.join(".cache/satchel")).filter(|folder| folder.is_dir());
    set.map(|cache| cache.join("satchel")).or_else(at_home)
}

/// The folders in which shared libraries are looked for first.
#[cfg_attr(not(with_gpu), allow(dead_code, reason = "only drivers of GPUs are shared libraries"))]
pub(crate) fn library_folders() -> Vec<PathBuf> {
    std::env::var_os("LD_LIBRARY_PATH").map_or_else(Vec::new, |path| std::env::split_paths(&path).collect())
}

/// Whether a browser window could be shown here.
pub(crate) fn has_display() -> bool {
    if cfg!(any(windows, target_os = "macos")) {
        return true;
    }
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// A program by its name, in the folders of PATH.
pub(crate) fn find_program(name: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    // What npm installs on Windows is a script.
    let endings: &[&str] = if cfg!(windows) { &[".exe", ".cmd", ".bat"] } else { &[""] };
    std::env::split_paths(&folders)
        .flat_map(|folder| endings.iter().map(move |ending| folder.join(format!("{name}{ending}"))))
        .find(|path| is_program(path))
}

#[cfg(unix)]
fn is_program(path: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    path.metadata().is_ok_and(|metadata| metadata.is_file() && metadata.permissions().mode() & 0o111 != 0)
}

#[cfg(not(unix))]
fn is_program(path: &Path) -> bool {
    path.is_file()
}

/// Variables by which a program that uses a proxy reaches this machine without it.
pub(crate) fn without_proxy() -> Vec<(&'static str, OsString)> {
    let with_loopback = |name| {
        let mut hosts = std::env::var_os(name).filter(|hosts| !hosts.is_empty()).unwrap_or_default();
        if !hosts.is_empty() {
            hosts.push(",");
        }
        hosts.push("127.0.0.1,localhost");
        (name, hosts)
    };
    ["NO_PROXY", "no_proxy"].map(with_loopback).into()
}

/// The System32 folder.
#[cfg(windows)]
pub(crate) fn system_folder() -> PathBuf {
    let windows = std::env::var_os("SystemRoot").filter(|value| !value.is_empty());
    PathBuf::from(windows.unwrap_or_else(|| r"C:\Windows".into())).join("System32")
}
