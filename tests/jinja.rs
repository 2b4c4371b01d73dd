//! Random small templates render as in Python's Jinja2; `jinja_reference.py` generates both.

use std::path::PathBuf;
use std::process::Command;

use satchel::chat::{ChatTemplate, RenderRequest};
use serde_json::Value;

use crate::support::{output, root, skip};

/// Seed and number of templates of a run. `KNOWN` lists the differences found in 20,000.
const SEED: &str = "1";
const COUNT: &str = "1500";

/// Intended differences: a part of Python's or our message, and the reason.
const KNOWN: [(&str, &str); 5] = [
    ("block tags in macros are not allowed", "the parser's rule; no chat template has blocks"),
    ("is too large", "integers are limited to 128 bits"),
    ("object is not subscriptable", "Jinja folds a slice of a constant number into an undefined value"),
    ("slice step cannot be zero", "likewise: Jinja folds it if the value is constant"),
    ("cannot hold a namespace", "a namespace that could contain itself would never be freed"),
];

fn python() -> Option<PathBuf> {
    let path = std::env::var_os("SATCHEL_TEST_PYTHON").map(PathBuf::from);
    let path = path.unwrap_or_else(|| root().join(".cache/venv/bin/python"));
    let installed =
        Command::new(&path).args(["-c", "import jinja2"]).output().is_ok_and(|output| output.status.success());
    if installed {
        return Some(path);
    }
    skip("the comparison with Jinja2", "no Python with tests/requirements.txt; the README's test command installs it");
    None
}

#[test]
fn random_templates_render_as_in_python() {
    let Some(python) = python() else { return };
    let script = root().join("tests/jinja_reference.py");
    let printed = output(Command::new(python).arg(script).args([SEED, COUNT]), b"");
    assert_eq!(printed.code, Some(0), "{}", printed.stderr);
    let mut lines = printed.stdout.lines().map(|line| serde_json::from_str::<Value>(line).expect("a JSON object"));
    let extra = lines.next().and_then(|variables| variables.as_object().cloned()).expect("the variables");
    let request = RenderRequest { extra, ..RenderRequest::default() };
    let (mut same, mut failed, mut known, mut different) = (0, 0, 0, Vec::new());
    for case in lines {
        let source = case["source"].as_str().expect("a template");
        let ours = ChatTemplate::new(source, "<s>", "</s>").and_then(|template| template.render(&request));
        match (&ours, case["ok"].as_str()) {
            (Ok(ours), Some(theirs)) if ours == theirs => same += 1,
            (Err(_), None) => failed += 1,
            _ => {
                let said = format!("{ours:?} {}", case["error"].as_str().unwrap_or_default());
                match KNOWN.iter().any(|(part, _)| said.contains(part)) {
                    true => known += 1,
                    false => different.push(format!("{source:?}\n  Python: {case}\n  ours: {ours:?}")),
                }
            }
        }
    }
    println!("{same} alike, {failed} fail in both, {known} differ as listed");
    assert!(different.is_empty(), "{}", different.join("\n"));
    assert!(same > 600 && known < 60, "{same}, {known}");
}
