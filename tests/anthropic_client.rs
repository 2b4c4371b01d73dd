//! The real `anthropic` Python client passes a test of the whole API: `anthropic_client.py`.

use std::process::Command;

use crate::openai_client::python_with;
use crate::served::Served;
use crate::support::{Scratch, output, root, smollm2};

#[test]
fn the_anthropic_client_works() {
    let (Some(python), Some(model)) = (python_with("anthropic"), smollm2()) else { return };
    let scratch = Scratch::new();
    let keys = scratch.path("keys");
    std::fs::write(&keys, "first\nsecond\n").expect("a file of keys");
    let server = Served::start(&model, &["--api-key-file", keys.to_str().expect("UTF-8")]);
    let script = root().join("tests/anthropic_client.py");
    let base = format!("http://127.0.0.1:{}", server.port);
    let printed = output(Command::new(python).arg(script).arg(base).arg("second"), b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    println!("{}", printed.stdout);
}
