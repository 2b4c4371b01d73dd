//! Opens the chat page in the browser that the person has chosen, by the program that each system has for it.
//!
//! Nothing is said when none is there: the address stands in the terminal. What is not here: whether there is a display
//! (`environment.rs`).

use std::process::{Command, Stdio};

/// Opens `url` by the first way that works. It waits for the program that opens, which may stay until the browser is
/// closed: call it on a thread of its own.
pub(super) fn open(url: &str) -> bool {
    ways().into_iter().any(|(program, arguments)| start(Command::new(program).args(arguments).arg(url)))
}

/// Programs that open an address, and their arguments in front of it.
#[cfg(windows)]
fn ways() -> Vec<(std::path::PathBuf, &'static [&'static str])> {
    // By its full path: a bare name would also be looked for beside this program, in a folder of downloads.
    let system = super::environment::system_folder();
    vec![(system.join("rundll32.exe"), &["url.dll,FileProtocolHandler"])]
}

/// Programs that open an address, and their arguments in front of it.
#[cfg(target_os = "macos")]
fn ways() -> Vec<(&'static str, &'static [&'static str])> {
    vec![("/usr/bin/open", &[])]
}

/// Programs that open an address, and their arguments in front of it.
#[cfg(not(any(windows, target_os = "macos")))]
fn ways() -> Vec<(&'static str, &'static [&'static str])> {
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

/// Runs it apart from the terminal: its messages are not shown, and a Ctrl-C meant for the server does not end it.
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
    fn a_program_that_is_missing_or_fails_has_opened_nothing() {
        assert!(!start(&mut Command::new("satchel-no-such-program")));
        let this = std::env::current_exe().unwrap();
        assert!(start(Command::new(&this).arg("--list")));
        assert!(!start(Command::new(&this).arg("--no-such-flag")));
    }
}
