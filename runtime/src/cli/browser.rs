//! Opens the chat page in the user's default browser, with each system's own launcher.
//!
//! Failure is silent: the terminal shows the address anyway. Whether there is a display is `environment.rs`'s question.

use std::process::{Command, Stdio};

/// Opens `url` with the first launcher that works. Blocks until the launcher exits, which may be when the browser is
/// closed: call it on its own thread.
pub(super) fn open(url: &str) -> bool {
    launchers().into_iter().any(|(program, arguments)| start(Command::new(program).args(arguments).arg(url)))
}

/// Programs that open a URL, with the arguments that precede it.
#[cfg(windows)]
fn launchers() -> Vec<(std::path::PathBuf, &'static [&'static str])> {
    // Full path: a bare name is also searched for next to this executable, possibly a downloads folder.
    let system = crate::environment::system_folder();
    vec![(system.join("rundll32.exe"), &["url.dll,FileProtocolHandler"])]
}

/// Programs that open a URL, with the arguments that precede it.
#[cfg(target_os = "macos")]
fn launchers() -> Vec<(&'static str, &'static [&'static str])> {
    vec![("/usr/bin/open", &[])]
}

/// Programs that open a URL, with the arguments that precede it.
#[cfg(not(any(windows, target_os = "macos")))]
fn launchers() -> Vec<(&'static str, &'static [&'static str])> {
    vec![
        ("xdg-open", &[]),
        ("gio", &["open"]),
        ("wslview", &[]),
        ("x-www-browser", &[]),
        ("sensible-browser", &[]),
        ("firefox", &[]),
        ("chromium", &[]),
    ]
}

/// Runs it detached from the terminal: its output is discarded, and its own process group keeps Ctrl-C from reaching it.
fn start(command: &mut Command) -> bool {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    #[cfg(unix)]
    std::os::unix::process::CommandExt::process_group(command, 0);
    command.status().is_ok_and(|status| status.success())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missing_or_failing_launcher_is_reported() {
        assert!(!start(&mut Command::new("satchel-no-such-program")));
        let this = std::env::current_exe().unwrap();
        assert!(start(Command::new(&this).arg("--list")));
        assert!(!start(Command::new(&this).arg("--no-such-flag")));
    }
}
