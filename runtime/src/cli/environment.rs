//! Environment variables: the one place that reads them.

/// Whether a browser window could be shown here.
pub(super) fn has_display() -> bool {
    if cfg!(any(windows, target_os = "macos")) {
        return true;
    }
    let set = |name| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    set("DISPLAY") || set("WAYLAND_DISPLAY")
}

/// The System32 folder.
#[cfg(windows)]
pub(super) fn system_folder() -> std::path::PathBuf {
    let windows = std::env::var_os("SystemRoot").filter(|value| !value.is_empty());
    std::path::PathBuf::from(windows.unwrap_or_else(|| r"C:\Windows".into())).join("System32")
}
