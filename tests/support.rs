//! What every test needs: the executable, its output, scratch folders, test data, and an honest way to skip.

#![allow(dead_code, unreachable_pub, missing_docs, reason = "one binary: each behaviour uses what it needs")]

use std::ffi::OsStr;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The built executable.
pub const SATCHEL: &str = env!("CARGO_BIN_EXE_satchel");

/// What a program printed, and how it ended.
#[derive(Debug)]
pub struct Printed {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Printed {
    /// Its stdout; the test fails where the program did.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self.stdout
    }

    /// Its one line on stderr; the test fails where the program did not fail with this code, or said more than a line.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        assert_eq!(self.stderr.trim_end().lines().count(), 1, "more than one line: {}", self.stderr);
        self.stderr.trim_end().to_owned()
    }
}

/// Runs the executable with no input, or in its place the program that `SATCHEL_TEST_PROGRAM` names: a build for another
/// processor in its emulator.
pub fn satchel<A: AsRef<OsStr>>(arguments: &[A]) -> Printed {
    let program = std::env::var_os("SATCHEL_TEST_PROGRAM").unwrap_or_else(|| SATCHEL.into());
    output(Command::new(program).args(arguments), b"")
}

/// Runs a program to its end with `input` on stdin.
pub fn output(command: &mut Command, input: &[u8]) -> Printed {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let mut stdin = child.stdin.take().expect("stdin is piped");
    std::thread::scope(|scope| {
        // A program that does not read its input closes the pipe; that is its right.
        scope.spawn(move || drop(stdin.write_all(input)));
        let output = child.wait_with_output().expect("the program can be waited for");
        Printed {
            code: output.status.code(),
            stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
            stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
        }
    })
}

/// A folder that goes with the test.
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

/// The demo model, where `tools/model.sh` has put it.
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

/// Says what was not tested and why; fails in CI, which installs everything.
#[track_caller]
pub fn skip(what: &str, why: &str) {
    assert!(std::env::var_os("CI").is_none(), "{what} cannot be skipped in CI: {why}");
    // Not by a macro, whose output the harness keeps to itself where a test passes.
    std::io::stderr().write_all(format!("SKIPPED {what}: {why}\n").as_bytes()).expect("stderr can be written");
}
