//! Codex, headless and pinned, started by `launch`, has one turn with a tool call: `tests/codex` has the package.
//!
//! SmolLM2 has 8,192 positions and Codex's own instructions and tools take some 10,000, so `launch` leaves out what can be left
//! out, and so does the test. The model repeats the call that the prompt shows; what it says of the result is not looked at.
#![cfg(unix)]

use std::process::Command;

use crate::support::{SATCHEL, Scratch, output, root, skip, smollm2};

const PROMPT: &str = r#"Repeat after me, exactly:
<tool_call>
{"name": "exec_command", "arguments": {"cmd": "echo satchel-was-here"}}
</tool_call>"#;

#[test]
fn codex_calls_a_tool() {
    let Some(model) = smollm2() else { return };
    let programs = root().join("tests/codex/node_modules/.bin");
    if !programs.join("codex").exists() {
        return skip("codex", "it is not here; tools/packages.sh tests/codex installs it");
    }
    let scratch = Scratch::new();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let mut command = Command::new("timeout");
    command.args(["240", SATCHEL, "launch", "codex", "-t", "2", "--temperature", "0", "--max-tokens", "120", "-m"]);
    command.arg(model).args(["--", "exec", "--strict-config", "--skip-git-repo-check", "--json"]);
    command.args(["--sandbox", "danger-full-access"]);
    for name in ["permissions_instructions", "environment_context", "apps_instructions"] {
        command.args(["-c", &format!("include_{name}=false")]);
    }
    command.arg(PROMPT).env("PATH", path).env("TMPDIR", scratch.folder()).current_dir(scratch.folder());
    let printed = output(&mut command, b"");
    let called = |line: &str| line.contains("\"command_execution\"") && line.contains("satchel-was-here\\n");
    assert!(printed.stdout.lines().any(called), "{}\n{}", printed.stdout, printed.stderr);
    let left = std::fs::read_dir(scratch.folder()).expect("a folder").count();
    assert_eq!(left, 0, "nothing stays");
}
