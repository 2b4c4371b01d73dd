//! Codex, headless and pinned, has one turn with a tool call: `tests/codex` has the package.
//!
//! SmolLM2 has 8,192 positions and Codex's own instructions and tools take some 10,000, so its settings leave out what can be
//! left out. The model repeats the call that the prompt shows; what it says of the result is not looked at.

use std::process::Command;

use crate::served::Served;
use crate::support::{Scratch, output, root, skip, smollm2};

const PROMPT: &str = r#"Repeat after me, exactly:
<tool_call>
{"name": "exec_command", "arguments": {"cmd": "echo satchel-was-here"}}
</tool_call>"#;

/// The settings of a folder of its own; nothing of the user's is read.
fn settings(instructions: &str, port: u16) -> String {
    format!(
        r#"model = "satchel"
model_provider = "satchel"
model_instructions_file = "{instructions}"
web_search = "disabled"
include_permissions_instructions = false
include_apps_instructions = false
include_environment_context = false
include_collaboration_mode_instructions = false
[skills]
include_instructions = false
[agents]
enabled = false
[features]
goals = false
plugins = false
apps = false
shell_snapshot = false
[model_providers.satchel]
name = "Satchel"
base_url = "http://127.0.0.1:{port}/v1"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
"#
    )
}

#[test]
fn codex_calls_a_tool() {
    let Some(model) = smollm2() else { return };
    let codex = root().join("tests/codex/node_modules/.bin/codex");
    if !codex.exists() {
        return skip("codex", "it is not here; tools/packages.sh tests/codex installs it");
    }
    let server = Served::start(&model, &["--temperature", "0", "--max-tokens", "120"]);
    let scratch = Scratch::new();
    let (instructions, home) = (scratch.path("instructions.md"), scratch.path("home"));
    std::fs::write(&instructions, "You are a helpful assistant.\n").expect("a file");
    std::fs::create_dir(&home).expect("a folder");
    let text = settings(instructions.to_str().expect("UTF-8"), server.port);
    std::fs::write(home.join("config.toml"), text).expect("a file");
    let mut command = Command::new("timeout");
    command.arg("180").arg(codex).args(["exec", "--skip-git-repo-check", "--sandbox", "danger-full-access", "--json"]);
    command.arg(PROMPT).env("CODEX_HOME", &home).current_dir(scratch.folder());
    let printed = output(&mut command, b"");
    let called = |line: &str| line.contains("\"command_execution\"") && line.contains("satchel-was-here\\n");
    assert!(printed.stdout.lines().any(called), "{}\n{}", printed.stdout, printed.stderr);
}
