//! Environment variables: the one place that reads them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// Whether a browser window could be shown here.
pub(super) fn has_display() -> bool {
    if cfg!(any(windows, target_os = "macos")) {
        return true;
    }
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// A program by its name, in the folders of PATH.
pub(super) fn find_program(name: &str) -> Option<PathBuf> {
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
pub(super) fn without_proxy() -> Vec<(&'static str, OsString)> {
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
pub(super) fn system_folder() -> PathBuf {
    let windows = std::env::var_os("SystemRoot").filter(|value| !value.is_empty());
    PathBuf::from(windows.unwrap_or_else(|| r"C:\Windows".into())).join("System32")
}
