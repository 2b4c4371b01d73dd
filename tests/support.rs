//! Shared by all tests: the executable, its output, scratch folders, test data, and reported skips.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "one binary: each behaviour uses what it needs")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The built executable.
pub const SATCHEL: &str = env!("CARGO_BIN_EXE_satchel");

/// A program's output and exit status.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Printed {
    /// Asserts success; returns stdout.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Asserts this exit status and a single line on stderr; returns the line.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "more than one line: {}", self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

/// Runs the executable without input, or the program named by `SATCHEL_TEST_PROGRAM` instead, such as a build for another
/// processor in an emulator.
pub fn satchel<A: AsRef<OsStr>>(arguments: &[A]) -> Printed {
    let program = std::env::var_os("SATCHEL_TEST_PROGRAM").unwrap_or_else(|| SATCHEL.into());
    output(Command::new(program).args(arguments), b"")
}

/// Runs a program to completion with `input` on stdin.
pub fn output(command: &mut Command, input: &[u8]) -> Printed {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        // A program need not read its input, so a broken pipe is fine.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().expect("the program can be waited for");
        Printed {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    })
}

/// A temporary folder, removed when dropped.
#[derive(Debug)]
pub struct Scratch(tempfile::TempDir);

impl Scratch {
    #[allow(clippy::new_without_default)]
    pub fn new() -> Self {
        Self(tempfile::tempdir().expect("a scratch folder"))
    }

    pub fn folder(&self) -> &Path {
        self.0.path()
    }

    pub fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }
}

/// The repository's root.
pub fn root() -> &'static Path {
    Path::new(concat!(env!("CARGO_MANIFEST_DIR"), "/.."))
}

/// A file under `tests/data`.
pub fn data(name: &str) -> PathBuf {
    root().join("tests/data").join(name)
}

/// A tiny real model: `llama`, SPM vocabulary of 512, F32.
pub fn stories() -> PathBuf {
    data("models/stories260K-f32.v3.gguf")
}

/// The demo model, if `tools/model.sh` has fetched it.
pub fn smollm2() -> Option<PathBuf> {
    let path = match std::env::var_os("SATCHEL_TEST_MODEL") {
        Some(path) => PathBuf::from(path),
        None => root().join(".cache/SmolLM2-135M-Instruct.Q4_1.gguf"),
    };
    if path.is_file() {
        return Some(path);
    }
    skip("SmolLM2", "the model is not here; tools/model.sh fetches it");
    None
}

/// Reports what was not tested and why; fails in CI, which installs everything.
#[track_caller]
pub fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} cannot be skipped in CI: {why}");
    // Not with `eprintln!`, whose output the harness captures if the test passes.
    std::io::stderr().write_all(format!("SKIPPED {what}: {why}\n").as_bytes()).expect("stderr can be written");
}
