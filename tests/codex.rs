//! Codex, headless and pinned, started by `launch`, has one turn with a tool call: `tests/codex` has the package.
//!
//! SmolLM2 has 8,192 positions and Codex's own instructions and tools take some 10,000, so `launch` leaves out what can be left
//! out. The template here shows the model three calls in place of all that, and it makes the fourth: the protocol is tested,
//! not the model.
#![cfg(unix)]

use std::process::Command;

use crate::support::{SATCHEL, Scratch, output, root, skip, smollm2};

/// Leaves the model nothing to do but to repeat a call, and to greet once there is a result.
const TEMPLATE: &str = r#"{%- set last = messages[-1] -%}
{%- if last.role == 'tool' or '<tool_response>' in last.content -%}
<|im_start|>user
Say hi.<|im_end|>
{% else -%}
{%- for turn in range(3) -%}
<|im_start|>user
{{ last.content }}<|im_end|>
<|im_start|>assistant
<tool_call>
{"name": "exec_command", "arguments": {"cmd": "echo satchel-was-here"}}
</tool_call><|im_end|>
{% endfor -%}
<|im_start|>user
{{ last.content }}<|im_end|>
{% endif -%}
<|im_start|>assistant
"#;

#[test]
fn codex_calls_a_tool() {
    let Some(model) = smollm2() else { return };
    let programs = root().join("tests/codex/node_modules/.bin");
    if !programs.join("codex").exists() {
        return skip("codex", "it is not here; tools/packages.sh tests/codex installs it");
    }
    let scratch = Scratch::new();
    let path = format!("{}:{}", programs.display(), std::env::var("PATH").unwrap_or_default());
    let template = scratch.path("template.jinja");
    std::fs::write(&template, TEMPLATE).expect("a file");
    let mut command = Command::new("timeout");
    command.args(["240", SATCHEL, "launch", "codex", "-t", "2", "--temperature", "0", "--max-tokens", "60"]);
    command.arg("--chat-template").arg(&template).arg("-m").arg(model);
    command.args(["--", "exec", "--strict-config", "--skip-git-repo-check", "--json"]);
    command.args(["--sandbox", "danger-full-access", "Call exec_command."]);
    command.env("PATH", path).env("TMPDIR", scratch.folder()).current_dir(scratch.folder());
    let printed = output(&mut command, b"");
    let called = |line: &str| line.contains("\"command_execution\"") && line.contains("satchel-was-here\\n");
    assert!(printed.stdout.lines().any(called), "{}\n{}", printed.stdout, printed.stderr);
    // The result went back and was answered.
    assert!(printed.stdout.contains("\"turn.completed\""), "{}\n{}", printed.stdout, printed.stderr);
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let left = std::fs::read_dir(scratch.folder()).expect("a folder").count();
    assert_eq!(left, 1, "nothing stays but the template");
}
