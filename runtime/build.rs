//! Builds the chat page (`web-ui/`) into `OUT_DIR/page`, where `server/page.rs` embeds it, and says whether there are GPUs.
//!
//! Two steps, each only when needed: `npm ci` when `node_modules` does not match `package-lock.json`, then Vite.
//! Cargo runs this script again only when a source of the page changed. Builds of several profiles may run at once:
//! the installation is under a file lock, and each build writes to its own `OUT_DIR`. When something is missing the
//! build stops with one message that says what, and how to get it.
//!
//! `SATCHEL_PAGE`, a folder with a page that was built before, takes the place of both steps: `tools/release.sh` builds
//! the page once for all platforms, and a machine without Node can compile.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "Cargo reads the one and shows the other")]

use std::env;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// What the page is made of, relative to `web-ui/`. `node_modules` and tests of the page are not listed.
const SOURCES: [&str; 6] = ["index.html", "package-lock.json", "public", "src", "tsconfig.json", "vite.config.ts"];

/// The oldest Node that the page's tools support: Debian 12's is newer.
const OLDEST_NODE: (u32, u32) = (18, 19);

fn main() {
    let page = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by Cargo")).join("../web-ui");
    for source in SOURCES {
        println!("cargo::rerun-if-changed={}", page.join(source).display());
    }
    println!("cargo::rerun-if-changed=build.rs");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by Cargo")).join("page");

    println!("cargo::rerun-if-env-changed=SATCHEL_PAGE");
    let result = match env::var_os("SATCHEL_PAGE") {
        Some(built) => take(Path::new(&built), &out),
        None => check_node().and_then(|()| install(&page)).and_then(|()| bundle(&page, &out)),
    };
    if let Err(message) = result {
        eprintln!("cannot build the chat page (web-ui/): {message}");
        std::process::exit(1);
    }
    if env::var("CARGO_CFG_TARGET_OS").as_deref() == Ok("windows") {
        windows_resource();
    }
    // `with_gpu`: code that takes a GPU is compiled where its crate is (`Cargo.toml`), which is where drivers can be opened.
    println!("cargo::rustc-check-cfg=cfg(with_gpu)");
    if env::var_os("CARGO_FEATURE_GPU").is_some() && env::var("CARGO_CFG_TARGET_ENV").as_deref() != Ok("musl") {
        println!("cargo::rustc-cfg=with_gpu");
    }
}

/// LLVM's compiler of resources, by the names it has.
const WINDRES: [&str; 2] = ["llvm-windres-22", "llvm-windres"];

/// Links the icon and the version block into the executable. Without a compiler for them the program is the same but for
/// its looks; `check-runtime` does not let such a file into a release.
fn windows_resource() {
    let folder = PathBuf::from(env::var_os("CARGO_MANIFEST_DIR").expect("set by Cargo")).join("windows");
    let out = PathBuf::from(env::var_os("OUT_DIR").expect("set by Cargo"));
    println!("cargo::rerun-if-changed={}", folder.display());
    let version = env::var("CARGO_PKG_VERSION").expect("set by Cargo");
    let numbers = format!("{},0", version.replace('.', ","));
    let script = fs::read_to_string(folder.join("satchel.rc.in")).expect("it lies beside this file");
    let script = script.replace("@NUMBERS@", &numbers).replace("@VERSION@", &version);
    let (script_path, object) = (out.join("satchel.rc"), out.join("satchel-resource.o"));
    fs::write(&script_path, script).expect("OUT_DIR can be written");
    let compiled = WINDRES.iter().any(|compiler| {
        let mut command = Command::new(compiler);
        command
            .args(["--no-preprocess", "--target=x86_64-w64-mingw32", "-I"])
            .arg(&folder)
            .arg(&script_path)
            .arg("-O")
            .arg("coff");
        command.arg(&object).current_dir(&folder).status().is_ok_and(|status| status.success())
    });
    match compiled {
        true => println!("cargo::rustc-link-arg-bins={}", object.display()),
        false => println!("cargo::warning=no icon and version block: there is no {}", WINDRES.join(", ")),
    }
}

/// Copies a page that was built before, in place of what lay in `out`.
fn take(built: &Path, out: &Path) -> Result<(), String> {
    if !built.join("index.html").is_file() {
        return Err(format!("SATCHEL_PAGE names {}, which has no index.html", built.display()));
    }
    println!("cargo::rerun-if-changed={}", built.display());
    let failed = |error| format!("cannot copy {} to {}: {error}", built.display(), out.display());
    if out.exists() {
        fs::remove_dir_all(out).map_err(failed)?;
    }
    copy_folder(built, out).map_err(failed)
}

fn copy_folder(from: &Path, to: &Path) -> std::io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy_folder(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target)?;
        }
    }
    Ok(())
}

/// Fails unless a recent enough `node` is there.
fn check_node() -> Result<(), String> {
    let (major, minor) = OLDEST_NODE;
    let advice = format!(
        "install Node {major}.{minor} or newer with npm (Debian, Ubuntu: `apt-get install nodejs npm`; macOS: `brew install node`; \
         Windows: `winget install OpenJS.NodeJS.LTS`), then run cargo again"
    );
    let output = Command::new("node")
        .arg("--version")
        .stderr(Stdio::inherit())
        .output()
        .map_err(|error| format!("the program `node` does not start ({error}); {advice}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    let mut numbers = text.trim().trim_start_matches('v').split('.').map_while(|part| part.parse::<u32>().ok());
    match (numbers.next(), numbers.next()) {
        (Some(found_major), Some(found_minor)) if (found_major, found_minor) >= OLDEST_NODE => Ok(()),
        _ => Err(format!("`node --version` says `{}`; {advice}", text.trim())),
    }
}

/// Brings `node_modules` to what `package-lock.json` says, once for all builds that run at the same time.
fn install(page: &Path) -> Result<(), String> {
    let lock_path = page.join(".install.lock");
    let lock = File::create(&lock_path).map_err(|error| format!("cannot create {}: {error}", lock_path.display()))?;
    lock.lock().map_err(|error| format!("cannot lock {}: {error}", lock_path.display()))?;

    let wanted_path = page.join("package-lock.json");
    let wanted = fs::read(&wanted_path).map_err(|error| format!("cannot read {}: {error}", wanted_path.display()))?;
    let stamp = page.join("node_modules/.installed-lock.json");
    if fs::read(&stamp).is_ok_and(|installed| installed == wanted) {
        return Ok(());
    }
    let npm = if cfg!(windows) { "npm.cmd" } else { "npm" };
    let mut command = Command::new(npm);
    command.args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"]).current_dir(page);
    run(
        &mut command,
        "install npm too (Debian, Ubuntu: `apt-get install npm`), and check that its package registry can be reached",
    )?;
    fs::write(&stamp, wanted).map_err(|error| format!("cannot write {}: {error}", stamp.display()))
}

/// Runs Vite, which replaces what lay in `out`.
fn bundle(page: &Path, out: &Path) -> Result<(), String> {
    let mut command = Command::new("node");
    command
        .args(["node_modules/vite/bin/vite.js", "build", "--logLevel=warn", "--emptyOutDir", "--outDir"])
        .arg(out)
        .current_dir(page);
    run(&mut command, "see Vite's message above")?;
    if !out.join("index.html").is_file() {
        return Err(format!("Vite ended without an error, but {} is not there", out.join("index.html").display()));
    }
    Ok(())
}

/// Runs a command to its end; its output goes to the build script's stderr, which Cargo shows when it fails.
fn run(command: &mut Command, advice: &str) -> Result<(), String> {
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("the program `{program}` does not start ({error}); {advice}"))?;
    if output.status.success() {
        return Ok(());
    }
    eprint!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    let arguments: Vec<_> = command.get_args().map(|argument| argument.to_string_lossy().into_owned()).collect();
    Err(format!("`{program} {}` failed with {}; {advice}", arguments.join(" "), output.status))
}
