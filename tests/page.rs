//! The chat page, end to end: the demo model is packed, the file is moved to an empty folder and run in a network
//! namespace without a route, where a headless Chromium acts as the user. The steps are in `tests/page/`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::support::{SATCHEL, Scratch, output, root, skip, smollm2};

/// Chromium-based browsers, by their names in distributions.
const BROWSERS: [&str; 4] = ["chromium", "chromium-browser", "google-chrome", "google-chrome-stable"];

/// Runs a program with only a loopback interface.
const WITHOUT_ROUTE: &str = r#"ip link set lo up && test -z "$(ip route)" && exec "$@""#;

#[test]
fn page_works_in_a_browser_without_network() {
    let Some(model) = smollm2() else { return };
    let Some(browser) = browser() else {
        return skip("the page in a browser", "Chromium is not here; tools/test.sh installs it");
    };
    let script = root().join("tests/page/main.mjs");
    if !root().join("tests/page/node_modules/playwright-core").is_dir() {
        return skip("the page in a browser", "its driver is not here; `npm --prefix tests/page ci` installs it");
    }
    if !output(&mut isolated("true"), b"").stderr.is_empty() {
        return skip("the page in a browser", "this machine allows no network namespaces (unshare --net)");
    }

    let scratch = Scratch::new();
    let packed = scratch.path("packed");
    output(Command::new(SATCHEL).arg("pack").arg(&model).arg("-o").arg(&packed), b"").ok();
    let folder = scratch.path("empty");
    fs::create_dir(&folder).expect("a new folder");
    let program = folder.join("chat");
    fs::rename(&packed, &program).expect("the packed file can be moved");

    let printed = output(isolated("node").arg(&script).arg(&program).arg(&browser).current_dir(&folder), b"");
    println!("{}", printed.stdout);
    assert_eq!(printed.code, Some(0), "{}\n{}", printed.stdout, printed.stderr);
    let left: Vec<_> =
        fs::read_dir(&folder).expect("the folder is there").flatten().map(|entry| entry.path()).collect();
    assert_eq!(left, [program], "running it must leave no other files");
}

fn isolated(program: &str) -> Command {
    let mut command = Command::new("unshare");
    command.args(["--net", "--map-root-user", "sh", "-c", WITHOUT_ROUTE, "sh", program]);
    command
}

fn browser() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    BROWSERS
        .iter()
        .flat_map(|name| std::env::split_paths(&folders).map(move |folder| folder.join(name)).collect::<Vec<_>>())
        .find(|path| path.is_file())
}
