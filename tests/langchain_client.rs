//! LangChain's real clients pass a test of what they use: `langchain_client.py`.

use std::process::Command;

use crate::openai_client::python_with;
use crate::served::Served;
use crate::support::{output, root, smollm2};

#[test]
fn langchains_clients_work() {
    let (Some(python), Some(model)) = (python_with("langchain_openai, langchain_ollama"), smollm2()) else { return };
    let server = Served::start(&model, &[]);
    let script = root().join("tests/langchain_client.py");
    let printed = output(Command::new(python).arg(script).arg(format!("http://127.0.0.1:{}", server.port)), b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    println!("{}", printed.stdout);
}
