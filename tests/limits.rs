//! A limit on threads: work that can run on one thread does, and the rest fails with one line.

#![cfg(target_os = "linux")]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::support::{Printed, SATCHEL, Scratch, output, satchel, skip, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// An unused user id, since the limit counts all of a user's processes.
const NOBODY: &str = "47813";

/// A folder that this user can write to, with the program and a model in it.
fn folder_for_all() -> Scratch {
    let scratch = Scratch::new();
    fs::set_permissions(scratch.folder(), fs::Permissions::from_mode(0o777)).expect("it is ours");
    fs::copy(SATCHEL, scratch.path("satchel")).expect("scratch");
    fs::copy(stories(), scratch.path("model.gguf")).expect("scratch");
    scratch
}

/// Runs the program as that user, limited to `threads` threads.
fn limited(scratch: &Scratch, threads: u32, arguments: &[&str]) -> Printed {
    let mut command = Command::new("setpriv");
    command.args(["--reuid", NOBODY, "--regid", NOBODY, "--clear-groups", "prlimit", &format!("--nproc={threads}")]);
    output(command.arg(scratch.path("satchel")).args(arguments).current_dir(scratch.folder()), b"")
}

#[test]
fn file_commands_run_on_a_single_thread() {
    let scratch = folder_for_all();
    if limited(&scratch, 1, &["--version"]).code != Some(0) {
        return skip("a limit on threads", "this user may not become another one (setpriv, prlimit)");
    }
    satchel(&["pack", "-q", text(&stories()), "-o", text(&scratch.path("packed"))]).ok();
    fs::create_dir(scratch.path("out")).expect("scratch");
    fs::set_permissions(scratch.path("out"), fs::Permissions::from_mode(0o777)).expect("it is ours");
    for arguments in [
        &["verify", "packed"][..],
        &["inspect", "packed"],
        &["unpack", "-q", "packed", "-o", "out/unpacked"],
        &["upgrade", "-q", "packed", "-o", "out/upgraded"],
        &["quantize", "-q", "model.gguf", "out/quantized.gguf", "Q8_0", "--pure"],
    ] {
        let printed = limited(&scratch, 1, arguments);
        assert_eq!(printed.code, Some(0), "{arguments:?}: {}", printed.stderr);
    }
    let unpacked = fs::read(scratch.path("out/unpacked/model.gguf")).expect("it was unpacked");
    assert!(unpacked == fs::read(stories()).expect("it is there"));
    satchel(&["verify", "-q", text(&scratch.path("out/upgraded"))]).ok();
}

#[test]
fn commands_that_need_threads_fail_with_one_line() {
    let scratch = folder_for_all();
    if limited(&scratch, 1, &["--version"]).code != Some(0) {
        return skip("a limit on threads", "this user may not become another one (setpriv, prlimit)");
    }
    for (threads, arguments) in [
        (1, &["run", "-m", "model.gguf", "--raw", "Once", "-n", "2"][..]),
        (2, &["run", "-m", "model.gguf", "--raw", "Once", "-n", "2", "-t", "1"]),
        (2, &["run", "-m", "model.gguf", "--raw", "Once", "-n", "2", "-t", "4"]),
        (1, &["serve", "-m", "model.gguf", "--no-browser", "--port", "0"]),
    ] {
        let printed = limited(&scratch, threads, arguments);
        if printed.code != Some(0) {
            let line = printed.failed(1);
            assert!(line.starts_with("satchel: ") && line.contains("temporarily unavailable"), "{line}");
        }
    }
}
