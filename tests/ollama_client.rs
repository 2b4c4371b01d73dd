//! The real `ollama` Python client passes a test of the whole API: `ollama_client.py`.

use std::path::PathBuf;
use std::process::Command;

use crate::embeddings::gguf;
use crate::ollama::plain_template;
use crate::openai_client::python_with;
use crate::served::Served;
use crate::support::{Scratch, output, root, stories};

/// Runs the checks of one group against a server.
fn run(python: &PathBuf, server: &Served, group: &str) {
    let script = root().join("tests/ollama_client.py");
    let base = format!("http://127.0.0.1:{}", server.port);
    let printed = output(Command::new(python).arg(script).arg(base).arg(group), b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    println!("{}", printed.stdout);
}

#[test]
fn the_ollama_client_works() {
    let Some(python) = python_with("ollama") else { return };
    let scratch = Scratch::new();
    let template = plain_template(&scratch);
    let server = Served::start(&stories(), &["--chat-template", template.to_str().expect("UTF-8")]);
    run(&python, &server, "generating");
}

#[test]
fn the_ollama_client_embeds() {
    let Some(python) = python_with("ollama") else { return };
    let scratch = Scratch::new();
    let Some(model) = gguf(&scratch) else { return };
    run(&python, &Served::start(&model, &[]), "embedding");
}
