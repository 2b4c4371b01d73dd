//! The real JavaScript clients of npm, `openai` and `ollama`, pass a test of what they use: `npm/clients.mjs`.

use std::process::Command;

use crate::served::Served;
use crate::support::{output, root, skip, smollm2};

#[test]
fn the_clients_of_npm_work() {
    let Some(model) = smollm2() else { return };
    let folder = root().join("tests/npm");
    if !folder.join("node_modules/openai").is_dir() {
        return skip("the clients of npm", "they are not here; `npm --prefix tests/npm ci` installs them");
    }
    let server = Served::start(&model, &[]);
    let base = format!("http://127.0.0.1:{}", server.port);
    let printed = output(Command::new("node").arg(folder.join("clients.mjs")).arg(base), b"");
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    println!("{}", printed.stdout);
}
