//! Environments a packed file has to run in: read-only media, no /proc, a noexec home folder.

use crate::bad_bundle::run_mounted;
use crate::support::{Scratch, satchel, skip, stories};

const ASK: &str = "run --raw --temp 0 --max-tokens 40 'Once upon a time'";

fn expected() -> String {
    let model = stories();
    satchel(&["run", "--raw", "--temp", "0", "--max-tokens", "40", "Once upon a time", "-m", model.to_str().unwrap()])
        .ok()
}

/// Packs the small model to `here/chat`, runs `prepare` in a mount namespace and asks it; `None` if this user may not mount.
fn asked(prepare: &str, start: &str) -> Option<crate::support::Printed> {
    let scratch = Scratch::new();
    let prepare = format!("\"$1\" pack \"$2\" -q -o here/chat\n{prepare}");
    run_mounted(&scratch, &prepare, &format!("{start} {ASK}"))
}

#[test]
fn a_packed_file_runs_from_read_only_media() {
    let prepare = "mount --bind here here\nmount -o remount,ro,bind here\n! touch here/x 2>/dev/null";
    match asked(prepare, "cd here && HOME=$PWD TMPDIR=$PWD XDG_CACHE_HOME= ./chat") {
        Some(run) => assert_eq!(run.ok(), expected()),
        None => skip("read-only media", "this user may not mount"),
    }
}

#[test]
fn a_packed_file_runs_without_proc() {
    // By path, and by a name found in PATH.
    for start in ["here/chat", "PATH=$PWD/here:$PATH chat"] {
        match asked("mount -t tmpfs none /proc\n! [ -e /proc/self ]", start) {
            Some(run) => assert_eq!(run.ok(), expected(), "{start}"),
            None => return skip("no /proc", "this user may not mount"),
        }
    }
}

#[test]
fn a_packed_file_runs_with_a_noexec_home() {
    let prepare = "mkdir home\nmount -t tmpfs -o noexec none home\nmkdir home/.cache";
    match asked(prepare, "HOME=$PWD/home TMPDIR=$PWD/home XDG_CACHE_HOME= here/chat") {
        Some(run) => assert_eq!(run.ok(), expected()),
        None => skip("a noexec home", "this user may not mount"),
    }
}
