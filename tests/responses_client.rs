//! Real clients pass tests of the Responses API and of decisions: `responses_client.py`, `decisions_client.py`.

use std::process::Command;

use crate::openai_client::python_with;
use crate::served::Served;
use crate::support::{output, root, smollm2};

/// Runs a script against a server with SmolLM2, if there is a Python that can import `client`.
fn run(client: &str, script: &str, path: &str) {
    let (Some(python), Some(model)) = (python_with(client), smollm2()) else { return };
    let server = Served::start(&model, &[]);
    let base = format!("http://127.0.0.1:{}{path}", server.port);
    let printed = output(Command::new(python).arg(root().join("tests").join(script)).arg(base), b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    println!("{}", printed.stdout);
}

#[test]
fn the_openai_client_gets_responses() {
    run("openai", "responses_client.py", "/v1");
}

#[test]
fn the_openai_and_typesafe_clients_get_decisions() {
    run("typesafe_sdk", "decisions_client.py", "");
}
