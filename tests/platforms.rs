//! The runtimes for every platform, as built by `tools/release.sh`: each is valid, small, and, if this machine can run it,
//! generates the same text as the native build.
//!
//! The one for Windows runs under Wine, that for ARM under QEMU's user mode, the static one in an otherwise empty root folder.
//! Those for macOS are only checked for structure and signature. Unbuilt ones are reported as skipped.

use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use satchel_packer::Platform;
use satchel_packer::platform::{RUNTIME_MAX_BYTES, check};

use crate::support::{Printed, Scratch, output, root, satchel, skip, stories};

const ASK: [&str; 5] = ["run", "--raw", "--temp", "0", "Once upon a time"];

/// A built runtime, or a skip. Building all of them takes as long as everything else together, so `.ci/run` builds them only if
/// their sources have changed, and names those it built in `SATCHEL_BUILT_PLATFORMS`. If that is set, a missing one fails the
/// test, and others are skipped, since they may be stale; if unset, any that exist are tested.
pub(crate) fn runtime(platform: Platform) -> Option<PathBuf> {
    let folder = root().join("target/release-platforms").join(platform.name());
    let path = folder.join(format!("satchel{}", platform.exe_suffix()));
    let told = std::env::var("SATCHEL_BUILT_PLATFORMS").ok();
    let built = told.map(|list| list.split_whitespace().any(|name| name == platform.name()));
    match (built, path.is_file()) {
        (Some(true), false) => panic!("{platform}: tools/release.sh has not built its runtime"),
        (Some(true) | None, true) => Some(path),
        (Some(false) | None, _) => {
            say_skipped(platform);
            None
        }
    }
}

/// Reports a skipped platform once, directly on stderr, since the harness captures `eprintln!`.
fn say_skipped(platform: Platform) {
    use std::io::Write;
    static SAID: Mutex<Vec<Platform>> = Mutex::new(Vec::new());
    let mut said = SAID.lock().expect("nothing panics while it is held");
    if !said.contains(&platform) {
        said.push(platform);
        let line = format!("SKIPPED {platform}, every test of its runtime: not built; tools/release.sh does that\n");
        std::io::stderr().write_all(line.as_bytes()).expect("stderr can be written");
    }
}

/// The native build's text for the same prompt.
fn expected() -> String {
    let mut arguments: Vec<String> = ASK.iter().map(|word| (*word).to_owned()).collect();
    arguments.extend(["-m".to_owned(), stories().display().to_string()]);
    let text = satchel(&arguments).ok();
    assert!(text.len() > 200, "{text:?}");
    text
}

pub(crate) fn copy(from: &Path, to: &Path) {
    std::fs::copy(from, to).unwrap_or_else(|error| panic!("{} to {}: {error}", from.display(), to.display()));
}

/// Whether a program is installed.
fn found(program: &str) -> bool {
    Command::new(program).arg("--version").output().is_ok()
}

#[test]
fn each_runtime_fits_every_system_of_its_platform() {
    for platform in Platform::ALL {
        let Some(path) = runtime(platform) else { continue };
        let program = std::fs::read(&path).unwrap();
        let facts = check(platform, &program).unwrap_or_else(|faults| panic!("{platform}: {faults:?}"));
        println!("{platform}: {} bytes, {facts:?}", program.len());
        // Metal's classes are looked up by name, which finds them only if the libraries are loaded.
        if matches!(platform, Platform::MacosAarch64 | Platform::MacosX86_64) {
            for name in ["/Metal", "/Foundation"] {
                assert!(facts.libraries.iter().any(|library| library.ends_with(name)), "{name}: {facts:?}");
            }
        }
        for other in Platform::ALL.into_iter().filter(|other| *other != platform) {
            assert!(check(other, &program).is_err(), "{platform} passes for {other}");
        }
        // A changed byte of code invalidates its page hash.
        if facts.signature.is_some() {
            let mut changed = program;
            let middle = changed.len() / 2;
            changed[middle] ^= 1;
            let faults = check(platform, &changed).unwrap_err();
            assert!(faults.iter().any(|fault| fault.contains("page hashes are wrong")), "{faults:?}");
        }
    }
}

#[test]
fn the_readme_lists_the_sizes() {
    let readme = std::fs::read_to_string(root().join("README.md")).unwrap();
    for platform in Platform::ALL {
        let row = readme
            .lines()
            .find_map(|line| line.strip_prefix(&format!("| `{platform}` | ")))
            .expect("a row in README.md");
        let told: f64 = row.split_once(" MB |").expect("megabytes").0.parse().unwrap();
        let Some(path) = runtime(platform) else { continue };
        let size = path.metadata().unwrap().len() as f64 / 1e6;
        println!("{platform}: {size:.2} MB");
        assert!(size < RUNTIME_MAX_BYTES as f64 / 1e6, "{platform}: {size:.2} MB");
        assert!((size - told).abs() < 0.15, "{platform}: {size:.2} MB, README says {told}");
    }
}

#[test]
fn linux_x86_64_gives_the_same_text() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let Some(runtime) = runtime(Platform::LinuxX86_64) else { return };
    assert_eq!(output(Command::new(runtime).args(ASK).arg("-m").arg(stories()), b"").ok(), expected());
}

#[test]
fn a_packed_linux_x86_64_runs_on_debian_11() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let Some(runtime) = runtime(Platform::LinuxX86_64) else { return };
    let debian = root().join(".cache/debian11");
    if !debian.join("etc/debian_version").is_file() {
        return skip("Debian 11", "tools/test.sh has not put it in .cache/debian11 (that needs root and debootstrap)");
    }
    let scratch = tempfile::tempdir_in(debian.join("tmp")).unwrap();
    let packed = scratch.path().join("chat");
    output(Command::new(runtime).arg("pack").arg(stories()).arg("-q").arg("-o").arg(&packed), b"").ok();
    let inside = Path::new("/tmp").join(scratch.path().file_name().unwrap()).join("chat");
    let said = output(Command::new("chroot").arg(&debian).arg(inside).args(ASK), b"");
    if said.code == Some(125) {
        return skip("Debian 11", "this user may not change the root folder");
    }
    assert_eq!(said.ok(), expected());
}

#[test]
fn linux_x86_64_static_runs_in_an_empty_root_folder() {
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return;
    }
    let Some(runtime) = runtime(Platform::LinuxX86_64Static) else { return };
    let scratch = Scratch::new();
    copy(&runtime, &scratch.path("satchel"));
    copy(&stories(), &scratch.path("model.gguf"));
    let inside = |arguments: &[&str]| -> Printed {
        output(Command::new("chroot").arg(scratch.folder()).arg("/satchel").args(arguments), b"")
    };
    let version = inside(&["--version"]);
    if version.code == Some(125) {
        return skip("a root folder with nothing else", "this user may not change the root folder");
    }
    assert_eq!(version.ok(), format!("satchel {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(inside(&[&ASK[..], &["-m", "/model.gguf"]].concat()).ok(), expected());
    // Pack there, without /proc, then run the packed file by itself.
    inside(&["pack", "/model.gguf", "-o", "/chat", "--quiet"]).ok();
    std::fs::remove_file(scratch.path("model.gguf")).unwrap();
    let packed = output(Command::new("chroot").arg(scratch.folder()).arg("/chat").args(ASK), b"");
    assert_eq!(packed.ok(), expected());
}

/// The oldest x86-64 processors have SSE2 and nothing newer.
#[test]
fn linux_x86_64_runs_on_a_processor_with_only_sse2() {
    let Some(runtime) = runtime(Platform::LinuxX86_64Static) else { return };
    if !found("qemu-x86_64-static") {
        return skip("a processor with SSE2 alone", "Debian's qemu-user-static is not installed");
    }
    let emulated = |arguments: &[&str]| -> Printed {
        let mut command = Command::new("timeout");
        command.args(["300", "qemu-x86_64-static", "-cpu", "qemu64,-sse3,-cx16,-svm,-abm,-sse4a"]);
        output(command.arg(&runtime).args(arguments), b"")
    };
    let model = stories().display().to_string();
    assert_eq!(emulated(&[&ASK[..], &["-m", &model]].concat()).ok(), expected());
    let line = emulated(&[&ASK[..], &["-m", &model, "--isa", "avx2"]].concat()).failed(1);
    assert!(line.contains("this processor cannot run `avx2` kernels"), "{line}");
}

/// Runs a program for Linux on 64-bit ARM; `None`, and a skip, without an emulator.
pub(crate) fn on_arm(program: &Path, arguments: &[&str]) -> Option<Printed> {
    const LIBRARIES: &str = "/usr/aarch64-linux-gnu";
    if !found("qemu-aarch64-static") || !Path::new(LIBRARIES).is_dir() {
        skip("linux-aarch64", "Debian's qemu-user-static or libc6-arm64-cross is not installed");
        return None;
    }
    let mut command = Command::new("timeout");
    // Without the variable, an installed glibc for ARM would be mixed with this one and the program would hang.
    command.args(["300", "qemu-aarch64-static", "-L", LIBRARIES, "-E"]);
    Some(output(command.arg(format!("LD_LIBRARY_PATH={LIBRARIES}/lib")).arg(program).args(arguments), b""))
}

#[test]
fn linux_aarch64_gives_the_same_text_under_qemu() {
    let Some(runtime) = runtime(Platform::LinuxAarch64) else { return };
    let Some(version) = on_arm(&runtime, &["--version"]) else { return };
    assert_eq!(version.ok(), format!("satchel {}\n", env!("CARGO_PKG_VERSION")));
    let model = stories().display().to_string();
    let said = on_arm(&runtime, &[&ASK[..], &["-m", &model]].concat()).expect("it ran before");
    assert_eq!(said.ok(), expected());
    // The emulated system has no driver for a GPU: the CPU computes, and says why.
    let automatic = on_arm(&runtime, &[&ASK[..], &["-m", &model, "--gpu", "auto"]].concat()).expect("it ran before");
    assert!(automatic.stderr.contains("GPU: none: there is no Vulkan loader"), "{}", automatic.stderr);
    assert_eq!(automatic.ok(), expected());
    let listed = on_arm(&runtime, &["doctor"]).expect("it ran before").ok();
    assert!(listed.contains("none: there is no Vulkan loader"), "{listed}");
}

/// Wine with its own prefix, and the one library that Wine 8 lacks.
pub(crate) struct Wine {
    program: &'static str,
    prefix: PathBuf,
    pub(crate) library: PathBuf,
}

impl Wine {
    pub(crate) fn find() -> Option<Self> {
        let program = ["wine64", "/usr/lib/wine/wine64"].into_iter().find(|program| found(program));
        let Some(program) = program else {
            skip("windows-x86_64", "Wine is not installed (Debian: wine64)");
            return None;
        };
        let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
        let library = folder.join("bcryptprimitives.dll");
        let mut compiler = Command::new(root().join(".cache/cross/bin/python"));
        compiler.args(["-m", "ziglang", "cc", "-target", "x86_64-windows-gnu", "-shared", "-nostdlib", "-o"]);
        compiler.arg(&library).arg(root().join("tests/wine/bcryptprimitives.c")).arg("-ladvapi32");
        output(&mut compiler, b"").ok();
        let wine = Self { program, prefix: folder.join("wine"), library };
        // The first start populates the prefix, with messages of its own.
        wine.start(Path::new("cmd.exe"), &["/c", "exit"]).ok();
        Some(wine)
    }

    pub(crate) fn start(&self, program: &Path, arguments: &[&str]) -> Printed {
        let mut command = Command::new("timeout");
        output(self.set(command.args(["120", self.program]).arg(program).args(arguments)), b"")
    }

    fn set<'a>(&self, command: &'a mut Command) -> &'a mut Command {
        command.env("WINEPREFIX", &self.prefix).env("WINEDEBUG", "-all").env("LC_ALL", "C.UTF-8")
    }
}

/// A screen that nobody sees, until it is dropped.
struct Screen {
    server: Child,
    name: String,
}

impl Screen {
    fn start() -> Option<Self> {
        if !found("Xvfb") {
            skip("windows-x86_64 on a GPU", "Xvfb is not installed (Debian: xvfb)");
            return None;
        }
        let mut command = Command::new("Xvfb");
        command.args(["-displayfd", "1", "-screen", "0", "640x480x24"]).stdout(Stdio::piped()).stderr(Stdio::null());
        let mut server = command.spawn().expect("Xvfb starts");
        let mut number = String::new();
        BufReader::new(server.stdout.take().expect("a pipe")).read_line(&mut number).expect("its number");
        Some(Self { server, name: format!(":{}", number.trim()) })
    }

    fn show(&self, wine: &Wine, program: &Path, arguments: &[&str]) -> Printed {
        let mut command = Command::new("timeout");
        command.args(["120", wine.program]).arg(program).args(arguments).env("DISPLAY", &self.name);
        // Wine's processes without a screen, which may still run, serve a prefix of their own.
        let prefix = Path::new(env!("CARGO_TARGET_TMPDIR")).join("wine-with-a-screen");
        output(wine.set(&mut command).env("WINEPREFIX", prefix), b"")
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

#[test]
fn windows_x86_64_packs_serves_and_gives_the_same_text_under_wine() {
    let Some(runtime) = runtime(Platform::WindowsX86_64) else { return };
    let Some(wine) = Wine::find() else { return };
    let scratch = Scratch::new();
    // Windows reads names as UTF-16: spaces and non-ASCII letters must work.
    let folder = scratch.path("Мои модели, 日本 é");
    std::fs::create_dir(&folder).unwrap();
    let (program, model, packed) = (folder.join("satchel.exe"), folder.join("модель ü.gguf"), folder.join("чат 1.exe"));
    copy(&runtime, &program);
    copy(&wine.library, &folder.join("bcryptprimitives.dll"));
    copy(&stories(), &model);

    assert_eq!(wine.start(&program, &["--version"]).ok(), format!("satchel {}\n", env!("CARGO_PKG_VERSION")));
    let (model, output_name) = (windows_path(&model), windows_path(&packed));
    let text = expected();
    assert_eq!(wine.start(&program, &[&ASK[..], &["-m", &model]].concat()).ok(), text);
    // There is no GPU: the CPU computes, and says why; one that was asked for is an error.
    let automatic = wine.start(&program, &[&ASK[..], &["-m", &model, "--gpu", "auto"]].concat());
    assert!(automatic.stderr.contains("GPU: none: "), "{}", automatic.stderr);
    assert_eq!(automatic.ok(), text);
    let asked = wine.start(&program, &[&ASK[..], &["-m", &model, "--gpu", "geforce"]].concat()).failed(1);
    assert!(asked.contains("--gpu geforce: "), "{asked}");
    assert!(wine.start(&program, &["doctor"]).ok().contains("\nGPU "));
    // With a screen Wine has Vulkan, and with it this system's software adapter.
    if let Some(screen) = Screen::start() {
        let on_gpu = screen.show(&wine, &program, &[&ASK[..], &["-m", &model, "--gpu", "llvmpipe"]].concat());
        assert!(on_gpu.stderr.contains("GPU: llvmpipe"), "{}", on_gpu.stderr);
        assert_eq!(on_gpu.ok(), text);
    }

    wine.start(&program, &["pack", &model, "-o", &output_name, "--quiet"]).ok();
    let refused = wine.start(&program, &["pack", &model, "-o", &output_name, "--quiet"]).failed(1);
    assert!(refused.contains("чат 1.exe exists"), "{refused}");
    wine.start(&program, &["pack", &model, "-o", &output_name, "--quiet", "--force"]).ok();
    let mut names: Vec<_> = folder.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    names.sort();
    assert_eq!(names.len(), 4, "something was left behind: {names:?}");

    assert_eq!(wine.start(&packed, &ASK).ok(), text);
    wine.start(&packed, &["verify"]).ok();
    assert!(satchel(&[Path::new("verify"), &packed]).code == Some(0), "Linux reads what Windows packed");
    let missing = wine.start(&program, &["run", "-m", "Z:\\nowhere\\модель.gguf", "x"]).failed(1);
    assert!(missing.contains("модель.gguf"), "{missing}");
    assert_serves(&wine, &packed, &text);
}

/// A path of this system as seen under Wine.
pub(crate) fn windows_path(path: &Path) -> String {
    format!("Z:{}", path.display()).replace('/', "\\")
}

/// The packed file's server answers over a socket.
fn assert_serves(wine: &Wine, packed: &Path, text: &str) {
    use std::io::{Read, Write};
    let mut command = Command::new(wine.program);
    command.arg(packed).args(["serve", "--no-browser", "--port", "0"]).stdout(Stdio::piped());
    let mut server = wine.set(&mut command).spawn().unwrap();
    let lines = BufReader::new(server.stdout.take().unwrap()).lines();
    let line =
        lines.map_while(Result::ok).find(|line| line.contains("http://127.0.0.1:")).expect("it says where it is");
    let address = line.split("http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap().to_owned();
    let body = r#"{"prompt":"Once upon a time","temperature":0,"max_tokens":32}"#;
    let mut stream = std::net::TcpStream::connect(&address).unwrap();
    stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
    let head = "POST /v1/completions HTTP/1.1\r\nConnection: close\r\nContent-Type: application/json\r\n";
    write!(stream, "{head}Host: {address}\r\nContent-Length: {}\r\n\r\n{body}", body.len()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    server.kill().unwrap();
    server.wait().unwrap();
    let json: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    let completion = json["choices"][0]["text"].as_str().unwrap();
    assert!(completion.len() > 20 && text.starts_with(completion), "{completion:?} does not begin {text:?}");
}

#[test]
fn windows_keeps_a_console_of_its_own_open_until_enter() {
    use std::io::{BufRead, BufReader, Write};
    let Some(runtime) = runtime(Platform::WindowsX86_64) else { return };
    let Some(wine) = Wine::find() else { return };
    if !found("script") {
        return skip("a console of Windows", "there is no `script` program (Debian: bsdutils)");
    }
    let scratch = Scratch::new();
    let program = scratch.path("satchel.exe");
    copy(&runtime, &program);
    copy(&wine.library, &scratch.path("bcryptprimitives.dll"));
    // Like a double click: no arguments, and this program alone in its console.
    let line = format!("timeout --foreground 100 {} '{}'", wine.program, program.display());
    let mut command = Command::new("script");
    command.env("SHELL", "/bin/sh").args(["-q", "-e", "-c", &line, "/dev/null"]);
    wine.set(&mut command).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut console = command.spawn().unwrap();
    let mut said = Vec::new();
    let mut output = BufReader::new(console.stdout.take().unwrap());
    let asks = |said: &[u8]| String::from_utf8_lossy(said).contains("to close this window");
    while !asks(&said) {
        let more = output.fill_buf().unwrap();
        assert!(!more.is_empty(), "it ended: {}", String::from_utf8_lossy(&said));
        said.extend_from_slice(more);
        let length = more.len();
        output.consume(length);
    }
    assert!(String::from_utf8_lossy(&said).contains("there is no model in this program"));
    assert!(console.try_wait().unwrap().is_none(), "it waits");
    // Wine loses an Enter pressed before the program reads, so press it repeatedly.
    let mut keys = console.stdin.take().unwrap();
    let drain = std::thread::spawn(move || std::io::copy(&mut output, &mut std::io::sink()));
    while console.try_wait().unwrap().is_none() && keys.write_all(b"\r").is_ok() {
        std::thread::sleep(Duration::from_millis(500));
    }
    drop(keys);
    let _ = drain.join();
    assert_eq!(console.wait().unwrap().code(), Some(2));
}
