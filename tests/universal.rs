//! Packing for every platform with one program: `--for all`, the universal file in every shell, the signable form. Uses the
//! runtimes built by `tools/release.sh`, assembled as in a release.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use satchel_container::Bundle;
use satchel_packer::Platform;
use satchel_packer::platform::Facts;

use crate::platforms::{Wine, copy, on_arm, runtime, windows_path};
use crate::support::{Printed, SATCHEL, Scratch, output, skip, stories};

const ASK: [&str; 7] = ["run", "--raw", "--temp", "0", "--max-tokens", "40", "Once upon a time"];

/// A release for this machine, made of the built runtimes; a skip if one is missing.
fn release(scratch: &Scratch) -> Option<PathBuf> {
    let mut command = Command::new(SATCHEL);
    command.arg("assemble");
    for platform in Platform::ALL {
        command.arg(runtime(platform)?);
    }
    let folder = scratch.path("release");
    output(command.arg("-o").arg(&folder), b"").ok();
    Some(folder.join(format!("satchel-{}", Platform::host()?)))
}

fn pack(release: &Path, forms: &str, out: &Path) -> String {
    let mut command = Command::new(release);
    output(command.arg("pack").arg(stories()).args(["--for", forms, "-o"]).arg(out), b"").ok()
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn payload(file: &Path) -> String {
    output(Command::new(SATCHEL).arg("payload").arg(file), b"").ok()
}

fn expected() -> String {
    output(Command::new(SATCHEL).args(ASK).arg("-m").arg(stories()), b"").ok()
}

#[test]
fn one_command_packs_for_all_platforms() {
    let scratch = Scratch::new();
    let Some(release) = release(&scratch) else { return };
    let targets = output(Command::new(&release).arg("targets"), b"").ok();
    assert!(!targets.contains("  no"), "{targets}");
    let said = pack(&release, "all,universal,linux-x86_64-static", &scratch.path("tales"));
    let names = ["universal.exe".to_owned()].into_iter();
    let names = names.chain(Platform::ALL.map(|platform| format!("{platform}{}", platform.exe_suffix())));
    let mut hashes = Vec::new();
    for name in names {
        let file = scratch.path(&format!("tales-{name}"));
        hashes.push(payload(&file));
        output(Command::new(SATCHEL).args(["verify", "-q"]).arg(&file), b"").ok();
    }
    assert!(hashes.iter().all(|hash| *hash == hashes[0] && said.contains(hash.trim())), "{hashes:?}");
    for platform in Platform::ALL {
        let file = fs::read(scratch.path(&format!("tales-{platform}{}", platform.exe_suffix()))).unwrap();
        assert!(file.starts_with(&fs::read(runtime(platform).unwrap()).unwrap()), "{platform}: the program is a copy");
    }
    let native = scratch.path(&format!("tales-{}", Platform::host().unwrap()));
    assert_eq!(output(Command::new(native).args(ASK), b"").ok(), expected());
}

/// A universal file in a folder whose name needs quoting, and the cache folder for its programs.
struct Universal {
    scratch: Scratch,
    file: PathBuf,
    cache: PathBuf,
}

impl Universal {
    fn new() -> Option<Self> {
        let scratch = Scratch::new();
        let release = release(&scratch)?;
        let folder = scratch.path("a folder, ü");
        fs::create_dir(&folder).unwrap();
        let file = folder.join("chat.exe");
        pack(&release, "universal", &file);
        let cache = scratch.path("cache");
        Some(Self { scratch, file, cache })
    }

    fn start(&self, command: &mut Command) -> Printed {
        output(command.env("XDG_CACHE_HOME", &self.cache).env("TMPDIR", self.scratch.path("tmp")), b"")
    }

    /// Programs in the cache.
    fn cached(&self) -> Vec<PathBuf> {
        let Ok(folder) = self.cache.join("satchel").read_dir() else { return Vec::new() };
        folder.map(|entry| entry.unwrap().path()).collect()
    }
}

#[test]
fn a_universal_file_starts_in_every_shell() {
    let Some(universal) = Universal::new() else { return };
    let expected = expected();
    // (shell, works by name, works as an argument of the shell)
    for (shell, by_name, as_script) in [
        (&["dash"][..], true, true),
        (&["bash"], true, true),
        (&["zsh"], true, true),
        (&["busybox", "sh"], true, true),
        (&["fish"], true, false),
        // These two refuse the file itself (zero bytes, `MZ`); use `sh FILE` in them.
        (&["mksh"], false, true),
        (&["ksh93"], false, false),
    ] {
        let command = || {
            let mut command = Command::new(shell[0]);
            command.args(&shell[1..]).current_dir(universal.file.parent().unwrap());
            command
        };
        if command().args(["-c", "exit 0"]).output().is_err() {
            skip(&format!("a universal file in {}", shell[0]), "this shell is not installed");
            continue;
        }
        let words = ASK.map(|word| format!("'{word}'")).join(" ");
        let name = universal.start(command().arg("-c").arg(format!("./chat.exe {words}")));
        let script = universal.start(command().arg("chat.exe").args(ASK));
        let sh = universal.start(command().arg("-c").arg(format!("sh ./chat.exe {words}")));
        assert_eq!(sh.ok(), expected, "{shell:?} with sh FILE");
        for (works, printed, how) in [(by_name, name, "by name"), (as_script, script, "as a script")] {
            match works {
                true => assert_eq!(printed.ok(), expected, "{shell:?} {how}"),
                false => assert_ne!(printed.code, Some(0), "{shell:?} {how}: this works now, say so in the README"),
            }
        }
    }
    assert_eq!(universal.cached().len(), 1, "one program for all of them");
}

#[test]
fn a_universal_file_starts_from_python() {
    let Some(universal) = Universal::new() else { return };
    let script = r#"
import subprocess, sys
file = sys.argv[1]
print(subprocess.run(f"'{file}' --version", shell=True, capture_output=True, text=True, check=True).stdout)
print(subprocess.run(["sh", file, "--version"], capture_output=True, text=True, check=True).stdout)
try:
    subprocess.run([file, "--version"], check=True)
except OSError as error:
    print("without a shell:", error.strerror)
"#;
    let said = universal.start(Command::new("python3").args(["-c", script]).arg(&universal.file)).ok();
    let version = format!("satchel {}\n", env!("CARGO_PKG_VERSION"));
    assert_eq!(said, format!("{version}\n{version}\nwithout a shell: Exec format error\n"));
}

#[test]
fn an_arm_machine_packs_for_others() {
    let scratch = Scratch::new();
    let Some(release) = release(&scratch) else { return };
    let arm = release.with_file_name("satchel-linux-aarch64");
    let (here, there) = (scratch.path("here"), scratch.path("there"));
    let (forms, model) = ("linux-x86_64,windows-x86_64,macos-aarch64-signable", stories());
    let Some(said) = on_arm(&arm, &["pack", text(&model), "--for", forms, "-q", "-o", text(&there)]) else { return };
    said.ok();
    pack(&release, forms, &here);
    for name in ["linux-x86_64", "windows-x86_64.exe", "macos-aarch64-signable"] {
        let file = |base: &Path| fs::read(format!("{}-{name}", text(base))).unwrap();
        assert!(file(&here) == file(&there), "{name}: the same file wherever it is packed");
    }
}

#[test]
fn windows_starts_a_universal_file_as_a_program() {
    let Some(universal) = Universal::new() else { return };
    let Some(wine) = Wine::find() else { return };
    copy(&wine.library, &universal.file.with_file_name("bcryptprimitives.dll"));
    assert_eq!(wine.start(&universal.file, &ASK).ok(), expected());
    wine.start(&universal.file, &["verify", "-q"]).ok();
    // It can pack for other systems, like the release that it carries.
    let other = universal.scratch.path("other");
    let (model, out) = (windows_path(&stories()), windows_path(&other));
    wine.start(&universal.file, &["pack", &model, "--for", "linux-x86_64,universal", "-q", "-o", &out]).ok();
    let native = universal.scratch.path("other-linux-x86_64");
    assert_eq!(payload(&native), payload(&universal.file));
    // A file written under Windows has no executable bit here.
    assert_eq!(output(Command::new("chmod").arg("+x").arg(&native), b"").code, Some(0));
    assert_eq!(output(Command::new(native).args(ASK), b"").ok(), expected());
    assert!(universal.cached().is_empty(), "Windows needs no copy of the program");
}

#[test]
fn its_program_is_cached_once_and_checked_at_every_start() {
    let Some(universal) = Universal::new() else { return };
    let expected = expected();
    // Several concurrent starts with an empty cache.
    let start = || {
        let mut command = Command::new("sh");
        command.arg(&universal.file).args(ASK).env("XDG_CACHE_HOME", &universal.cache);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
    };
    let running: Vec<_> = (0..6).map(|_| start()).collect();
    for child in running {
        let done = child.wait_with_output().unwrap();
        assert_eq!(String::from_utf8(done.stdout).unwrap(), expected, "{}", String::from_utf8_lossy(&done.stderr));
    }
    let placed = universal.cached();
    let [program] = placed.as_slice() else { panic!("one program, and nothing half-written: {placed:?}") };
    // A changed program is replaced before it runs.
    let whole = fs::read(program).unwrap();
    let mut changed = whole.clone();
    changed[4096] ^= 1;
    fs::write(program, &changed).unwrap();
    assert_eq!(universal.start(Command::new("sh").arg(&universal.file).args(ASK)).ok(), expected);
    assert!(fs::read(program).unwrap() == whole);
}

#[test]
fn without_a_cache_folder_it_uses_the_temporary_one_or_lists_what_it_tried() {
    let Some(universal) = Universal::new() else { return };
    let blocked = universal.scratch.path("blocked");
    fs::write(&blocked, "a file where a folder would have to be").unwrap();
    let temporary = universal.scratch.path("tmp");
    fs::create_dir(&temporary).unwrap();
    let start = |tmp: &Path| {
        let mut command = Command::new("sh");
        output(command.arg(&universal.file).arg("--version").env("XDG_CACHE_HOME", &blocked).env("TMPDIR", tmp), b"")
    };
    start(&temporary).ok();
    let inside: Vec<_> = temporary.read_dir().unwrap().map(|entry| entry.unwrap().file_name()).collect();
    assert!(inside.len() == 1 && inside[0].to_string_lossy().starts_with("satchel-"), "{inside:?}");
    let line = start(&blocked).failed(1);
    assert!(line.contains("cannot place") && line.contains(&format!("{}/satchel, ", text(&blocked))), "{line}");
    assert!(line.contains("XDG_CACHE_HOME"), "{line}");
}

#[test]
fn every_native_form_can_be_extracted_from_a_universal_file() {
    let Some(universal) = Universal::new() else { return };
    let release = universal.scratch.path(&format!("release/satchel-{}", Platform::host().unwrap()));
    let packed = universal.scratch.path("packed");
    let again = universal.scratch.path("again");
    pack(&release, "all", &packed);
    // A development build can extract, with the programs that the file carries.
    let mut command = Command::new(SATCHEL);
    output(command.arg("extract").arg(&universal.file).args(["--for", "all", "-o"]).arg(&again), b"").ok();
    for platform in Platform::ALL.into_iter().filter(|platform| *platform != Platform::LinuxX86_64Static) {
        let name = |base: &Path| format!("{}-{platform}{}", text(base), platform.exe_suffix());
        assert!(fs::read(name(&packed)).unwrap() == fs::read(name(&again)).unwrap(), "{platform}");
    }
    // Upgrading it gives a universal file again.
    let upgraded = universal.scratch.path("new.exe");
    output(Command::new(&release).arg("upgrade").arg(&universal.file).arg("-o").arg(&upgraded), b"").ok();
    assert!(fs::read(&upgraded).unwrap() == fs::read(&universal.file).unwrap(), "the same engine: the same file");
    // It can also pack.
    let other = universal.scratch.path("other");
    let model = stories();
    let arguments = ["pack", text(&model), "--for", "windows-x86_64,universal", "-o", text(&other), "-q"];
    universal.start(Command::new("sh").arg(&universal.file).args(arguments)).ok();
    assert_eq!(payload(&universal.scratch.path("other-windows-x86_64.exe")), payload(&universal.file));
}

#[test]
fn macos_files_keep_their_signature_and_the_signable_form_is_signed_whole() {
    let scratch = Scratch::new();
    let Some(release) = release(&scratch) else { return };
    pack(&release, "macos-aarch64,macos-x86_64,macos-aarch64-signable,macos-x86_64-signable", &scratch.path("m"));
    for platform in [Platform::MacosAarch64, Platform::MacosX86_64] {
        let plain = fs::read(scratch.path(&format!("m-{platform}"))).unwrap();
        let facts = Facts::read(platform, &plain).unwrap();
        let signature = facts.signature.expect("the runtime's");
        assert!(signature.ad_hoc && signature.wrong_pages.is_empty() && signature.pages > 0, "{signature:?}");

        let path = scratch.path(&format!("m-{platform}-signable"));
        let signable = fs::read(&path).unwrap();
        let facts = Facts::read(platform, &signable).unwrap();
        let signature = facts.signature.expect("a new one");
        assert!(signature.ad_hoc && signature.wrong_pages.is_empty(), "{:?}", signature.wrong_pages);
        assert_eq!((signature.covered_bytes, signature.end), (signature.offset, signable.len() as u64));
        let bundle = Bundle::open(&signable).unwrap().expect("a bundle in a segment");
        assert!(bundle.in_segment);
        let [model] = bundle.model_entries() else { panic!("one model") };
        assert!(model.stored_in(&signable).unwrap() == fs::read(stories()).unwrap());
        assert_eq!(payload(&path), payload(&scratch.path(&format!("m-{platform}"))));
        output(Command::new(SATCHEL).args(["verify", "-q"]).arg(&path), b"").ok();
        // The signature covers the weights.
        let mut changed = signable;
        changed[model.offset as usize + 1000] ^= 1;
        let signature = Facts::read(platform, &changed).unwrap().signature.unwrap();
        assert_eq!(signature.wrong_pages.len(), 1);
    }
}
