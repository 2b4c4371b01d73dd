//! `satchel launch`: what a client is given, how it ends, and that nothing stays. Scripts stand for the clients.
#![cfg(unix)]

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::support::{Printed, SATCHEL, Scratch, output, satchel, stories};

/// Asks the server as a client would, and prints what it was told.
const CLIENT: &str = r#"#!/bin/sh
echo "base $ANTHROPIC_BASE_URL"
echo "token $ANTHROPIC_AUTH_TOKEN"
echo "model $ANTHROPIC_MODEL"
echo "folder $CLAUDE_CONFIG_DIR"
echo "key ${ANTHROPIC_API_KEY-none}"
echo "file $(cat "$CLAUDE_CONFIG_DIR/.claude.json")"
echo "arguments $*"
for key in "$ANTHROPIC_AUTH_TOKEN" wrong; do
    python3 - "$ANTHROPIC_BASE_URL/v1/models" "$key" <<'P'
import sys, urllib.error, urllib.request
request = urllib.request.Request(sys.argv[1], headers={"x-api-key": sys.argv[2], "anthropic-version": "2023-06-01"})
try:
    print("models", urllib.request.urlopen(request).read().decode())
except urllib.error.HTTPError as error:
    print("refused", error.code)
P
done
touch "$CLAUDE_CONFIG_DIR/state"
exit 7
"#;

fn script(scratch: &Scratch, name: &str, content: &str) {
    let path = scratch.path(name);
    fs::write(&path, content).expect("a script");
    fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("it can be run");
}

fn launch(scratch: &Scratch, arguments: &[&str]) -> Command {
    let mut command = Command::new(SATCHEL);
    let path = std::env::var("PATH").unwrap_or_default();
    command.arg("launch").args(arguments).env("PATH", format!("{}:{path}", scratch.folder().display()));
    command.env("ANTHROPIC_API_KEY", "of the user").env("TMPDIR", scratch.folder());
    command
}

fn line<'a>(printed: &'a Printed, name: &str) -> &'a str {
    let found = printed.stdout.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
    found.unwrap_or_else(|| panic!("no {name}: {printed:?}"))
}

#[test]
fn a_client_finds_the_server_and_leaves_nothing() {
    let scratch = Scratch::new();
    script(&scratch, "claude", CLIENT);
    let model = stories();
    let model = model.to_str().expect("UTF-8");
    let printed = output(&mut launch(&scratch, &["claude", "-m", model, "-t", "1", "--", "-p", "two words"]), b"");
    assert_eq!(printed.code, Some(7), "{printed:?}");
    assert!(line(&printed, "base").starts_with("http://127.0.0.1:"));
    assert_eq!(line(&printed, "token").len(), 32);
    assert_eq!((line(&printed, "key"), line(&printed, "arguments")), ("none", "-p two words"));
    assert!(line(&printed, "file").contains("hasCompletedOnboarding"));
    assert!(line(&printed, "models").contains(line(&printed, "model")), "{printed:?}");
    assert_eq!(line(&printed, "refused"), "401");
    assert!(!Path::new(line(&printed, "folder")).exists());
    let left: Vec<_> = fs::read_dir(scratch.folder()).expect("the folder").flatten().map(|e| e.file_name()).collect();
    assert_eq!(left, ["claude"], "the temporary folder is gone");
}

#[test]
fn the_end_of_this_program_is_the_clients() {
    let scratch = Scratch::new();
    script(
        &scratch,
        "claude",
        "#!/bin/sh\ntrap 'echo ended; exit 3' TERM\necho ready >ready\nwhile :; do sleep 0.05; done\n",
    );
    let model = stories();
    let mut command = launch(&scratch, &["claude", "-m", model.to_str().expect("UTF-8"), "-t", "1"]);
    let mut child = command.current_dir(scratch.folder()).stdout(Stdio::piped()).spawn().expect("it starts");
    let begun = Instant::now();
    while !scratch.path("ready").exists() {
        assert!(begun.elapsed() < Duration::from_secs(60), "the client does not start");
        std::thread::sleep(Duration::from_millis(10));
    }
    // Ctrl-C is the client's; a request to end is passed on.
    for signal in ["INT", "TERM"] {
        let status = Command::new("kill").args(["-s", signal, &child.id().to_string()]).status().expect("kill runs");
        assert!(status.success());
    }
    assert_eq!(child.wait().expect("it ends").code(), Some(3));
    let left = fs::read_dir(scratch.folder()).expect("the folder").flatten();
    assert!(!left.map(|entry| entry.file_name()).any(|name| name.to_string_lossy().starts_with("satchel-")));
}

#[test]
fn what_would_be_set_can_be_printed() {
    let scratch = Scratch::new();
    let model = stories();
    let model = model.to_str().expect("UTF-8");
    let lines = output(&mut launch(&scratch, &["claude", "--print", "-m", model, "--port", "7777"]), b"").ok();
    let script =
        format!("{lines}\necho \"$ANTHROPIC_BASE_URL ${{ANTHROPIC_API_KEY-none}}\"; ls -A \"$CLAUDE_CONFIG_DIR\"");
    let mut shell = Command::new("sh");
    let printed = output(shell.arg("-c").arg(script).env("TMPDIR", scratch.folder()), b"").ok();
    assert_eq!(printed, "http://127.0.0.1:7777 none\n.claude.json\n", "{lines}");
}

#[test]
fn a_client_that_is_not_there_is_one_line() {
    let model = stories();
    let model = model.to_str().expect("UTF-8");
    let mut command = Command::new(SATCHEL);
    command.args(["launch", "claude", "-m", model]).env("PATH", "/nonexistent");
    let failed = output(&mut command, b"").failed(1);
    assert!(failed.contains("claude is not installed") && failed.contains("npm install"), "{failed}");
    assert!(satchel(&["launch"]).failed(2).contains("claude"));
    assert!(satchel(&["launch", "vi", "-m", model]).stderr.contains("claude"));
}
