//! The real `openai` Python client passes a test of the whole API: `openai_client.py`.

use std::path::PathBuf;
use std::process::Command;

use crate::served::Served;
use crate::support::{output, root, skip, smollm2};

/// The Python with `requirements.txt` installed, as the README's test command sets it up, if it has this client.
pub(crate) fn python_with(client: &str) -> Option<PathBuf> {
    let path = std::env::var_os("SATCHEL_TEST_PYTHON").map(PathBuf::from);
    let path = path.unwrap_or_else(|| root().join(".cache/venv/bin/python"));
    let mut import = Command::new(&path);
    if import.arg("-c").arg(format!("import {client}")).output().is_ok_and(|output| output.status.success()) {
        return Some(path);
    }
    skip(
        &format!("the {client} client"),
        "no Python with tests/requirements.txt; the README's test command installs it",
    );
    None
}

#[test]
fn the_openai_client_works() {
    let (Some(python), Some(model)) = (python_with("openai"), smollm2()) else { return };
    let server = Served::start(&model, &[]);
    let script = root().join("tests/openai_client.py");
    let base = format!("http://127.0.0.1:{}/v1", server.port);
    let printed = output(Command::new(python).arg(script).arg(base), b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    println!("{}", printed.stdout);
}
