//! Forms of a packed file: targets, releases that carry other platforms' programs, `upgrade`, `extract`, `payload`, and
//! a payload in a file beside its Windows program. Other platforms' programs are bare headers here; `platforms` runs real
//! ones.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_container::Bundle;

use crate::bad_bundle::{Refused, names, run_mounted};
use crate::pack::sparse_model;
use crate::support::{SATCHEL, Scratch, output, satchel, skip, stories};

/// A minimal ELF program for a machine: header and one program header; with `segment` 3 (PT_INTERP) it is dynamic.
fn elf(machine: u16, segment: u8) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    bytes[..7].copy_from_slice(b"\x7fELF\x02\x01\x01");
    for (at, value) in [(16, 3), (18, machine), (20, 1), (52, 64), (54, 56), (56, 1)] {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes[24] = 1;
    bytes[32] = 64;
    bytes[64] = segment;
    bytes
}

fn aarch64() -> Vec<u8> {
    elf(183, 3)
}

/// A minimal Mach-O program.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn macho(processor: u32) -> Vec<u8> {
    let mut bytes = vec![0; 4096];
    for (at, value) in [(0, 0xfeed_facf), (4, processor), (12, 2)] {
        bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

/// A minimal PE program for x86-64, without sections.
fn windows() -> Vec<u8> {
    let mut bytes = vec![0; 1024];
    bytes[..2].copy_from_slice(b"MZ");
    bytes[60] = 64;
    bytes[64..68].copy_from_slice(b"PE\0\0");
    for (at, value) in [(68, 0x8664_u16), (84, 240), (86, 2), (88, 0x20b), (148, 512)] {
        bytes[at..at + 2].copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

fn written(scratch: &Scratch, name: &str, bytes: &[u8]) -> PathBuf {
    let path = scratch.path(name);
    fs::write(&path, bytes).unwrap();
    path
}

/// A satchel that carries a program for Windows and one for 64-bit ARM.
fn release(scratch: &Scratch) -> PathBuf {
    let others = [written(scratch, "arm", &aarch64()), written(scratch, "win", &windows())];
    let folder = scratch.path("release");
    let mut command = Command::new(SATCHEL);
    output(command.arg("assemble").arg(SATCHEL).args(&others).arg("-o").arg(&folder), b"").ok();
    for name in ["satchel-linux-aarch64", "satchel-windows-x86_64.exe"] {
        assert!(folder.join(name).is_file(), "{name}");
    }
    for other in others {
        fs::remove_file(other).unwrap();
    }
    folder.join(format!("satchel-{}", host()))
}

/// The name of the platform that the tests run on.
fn host() -> &'static str {
    satchel_packer::Platform::host().expect("the tests run on a platform of ours").name()
}

fn run(program: &Path, arguments: &[&str]) -> crate::support::Printed {
    output(Command::new(program).args(arguments), b"")
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

fn payload(path: &Path) -> String {
    satchel(&["payload".as_ref(), path.as_os_str()]).ok()
}

fn opened(path: &Path) -> Bundle {
    Bundle::open_from(&mut File::open(path).unwrap()).unwrap().expect("a bundle")
}

#[test]
fn a_development_build_says_what_it_cannot_pack_for() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let pack = |list: &str| satchel(&["pack", text(&stories()), "-o", text(&out), "--for", list]);
    for list in ["macos-aarch64", "universal", "all"] {
        pack(list).refused(1, &["carries no program for", "only for: ", host(), "--engine"]);
    }
    let unknown = pack("linux-x86_64,amiga");
    assert_eq!(unknown.code, Some(2));
    assert!(unknown.stderr.contains("unknown target `amiga`; known are linux-x86_64, "), "{}", unknown.stderr);
    assert_eq!(names(&scratch), Vec::<String>::new());
    let targets = satchel(&["targets"]).ok();
    assert!(
        targets.contains(&format!("{:20}  yes", host())) && targets.contains("universal             no"),
        "{targets}"
    );
    assert!(targets.contains("a development build has only its own"), "{targets}");
}

#[test]
fn a_release_packs_for_what_it_carries() {
    let scratch = Scratch::new();
    let release = release(&scratch);
    let targets = run(&release, &["targets"]).ok();
    assert!(targets.contains("linux-aarch64         yes") && targets.contains("macos-aarch64         no"), "{targets}");
    let out = scratch.path("tales");
    let list = format!("linux-aarch64,windows-x86_64,{}", host());
    let said = run(&release, &["pack", text(&stories()), "-o", text(&out), "--for", &list]).ok();
    let files = ["linux-aarch64", "windows-x86_64.exe", host()].map(|name| scratch.path(&format!("tales-{name}")));
    let hashes = files.each_ref().map(|path| payload(path));
    assert!(hashes.iter().all(|hash| *hash == hashes[0] && said.contains(hash.trim())), "{hashes:?} {said}");
    assert!(fs::read(&files[0]).unwrap().starts_with(&aarch64()));
    assert!(fs::read(&files[1]).unwrap().starts_with(&windows()));
    let native = fs::read(&files[2]).unwrap();
    assert!(native.starts_with(&fs::read(SATCHEL).unwrap()));
    assert!(opened(&files[2]).runtime_entries().next().is_none(), "a packed file does not carry the others");
    run(&files[2], &["verify", "-q"]).ok();
    // A single target gets the requested name, plus .exe for Windows.
    let one = scratch.path("one");
    run(&release, &["pack", text(&stories()), "-o", text(&one), "--for", "windows-x86_64"]).ok();
    assert!(!one.exists() && scratch.path("one.exe").is_file());
    // A release without a model says so, as a plain program does.
    let said = run(&release, &[]);
    assert_eq!(said.code, Some(2));
    assert!(said.stderr.contains("satchel pack"), "{}", said.stderr);
}

#[test]
fn a_damaged_runtime_is_refused() {
    let scratch = Scratch::new();
    let release = release(&scratch);
    let mut bytes = fs::read(&release).unwrap();
    let bundle = Bundle::open(&bytes).unwrap().unwrap();
    let entry = bundle.entry("runtimes/linux-aarch64").unwrap();
    bytes[entry.offset as usize + entry.stored_bytes as usize / 2] ^= 1;
    fs::write(&release, bytes).unwrap();
    let out = scratch.path("out");
    let pack = |list: &str| run(&release, &["pack", text(&stories()), "-o", text(&out), "--for", list]);
    pack("linux-aarch64").refused(1, &["entry runtimes/linux-aarch64"]);
    assert!(!out.exists());
    pack(host()).ok();
    assert_eq!(run(&release, &["verify", "-q"]).code, Some(1));
}

#[test]
fn a_disk_that_fills_keeps_the_finished_files() {
    let scratch = Scratch::new();
    let release = release(&scratch);
    let list = format!("linux-aarch64,windows-x86_64,{}", host());
    // A file size limit of 4 MB, which only the third file exceeds: its write fails midway.
    let script = "trap '' XFSZ; ulimit -f 8000; exec \"$1\" pack \"$2\" -o out --for \"$3\"";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", text(&release), text(&stories()), &list]).current_dir(scratch.folder());
    let said = output(&mut shell, b"");
    assert_eq!(said.code, Some(1), "{said:?}");
    let last = said.stderr.trim_end().lines().last().unwrap_or_default();
    assert!(last.contains(host()) && last.contains("File too large"), "{said:?}");
    assert_eq!(names(&scratch), ["out-linux-aarch64", "out-windows-x86_64.exe", "release"]);
    payload(&scratch.path("out-linux-aarch64"));
    // If one of them is known not to fit, none is started.
    let command = format!("cd here && ../release/satchel-{} pack \"$2\" -q -o out --for {list}", host());
    match run_mounted(&scratch, "mount -t tmpfs -o size=5m none here", &command) {
        Some(run) => run.refused(1, &["no space for out-", host()]),
        None => return skip("a disk without room for the third target", "this user may not mount a tmpfs"),
    }
    assert_eq!(fs::read_to_string(scratch.path("listing")).unwrap(), "");
}

#[test]
fn a_release_replaces_the_last_one() {
    let scratch = Scratch::new();
    let other = written(&scratch, "arm", &aarch64());
    let folder = scratch.path("release");
    let made = folder.join(format!("satchel-{}", host()));
    let assemble =
        || output(Command::new(SATCHEL).arg("assemble").args([SATCHEL, text(&other)]).arg("-o").arg(&folder), b"");
    assemble().ok();
    let first = fs::read(&made).unwrap();
    fs::write(&made, b"an older one").unwrap();
    assemble().ok();
    assert!(fs::read(&made).unwrap() == first, "the same bytes");
}

/// A universal file with this build for this machine and bare headers for the others; and the native form.
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn universal(scratch: &Scratch) -> (PathBuf, PathBuf) {
    let others = [("arm", aarch64()), ("static", elf(62, 1)), ("win", windows())];
    let others = others.into_iter().chain([("mac", macho(0x0100_000c)), ("old-mac", macho(0x0100_0007))]);
    let others: Vec<_> = others.map(|(name, bytes)| written(scratch, name, &bytes)).collect();
    let folder = scratch.path("release");
    output(Command::new(SATCHEL).arg("assemble").arg(SATCHEL).args(&others).arg("-o").arg(&folder), b"").ok();
    let (file, native) = (scratch.path("chat ü.exe"), scratch.path("native"));
    for (form, path) in [("universal", &file), (host(), &native)] {
        let pack = ["pack", text(&stories()), "--for", form, "-q", "-o", text(path)].map(str::to_owned);
        output(Command::new(folder.join("satchel-linux-x86_64")).args(pack), b"").ok();
    }
    (file, native)
}

/// The script half of a universal file, with this build as the program for Linux; `universal` has all shells and real
/// programs for the others.
#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn a_universal_file_is_a_program_to_windows_and_a_script_to_a_shell() {
    let scratch = Scratch::new();
    let (file, native) = universal(&scratch);
    assert_eq!(payload(&file), payload(&native));
    let head = fs::read(&file).unwrap();
    assert_eq!(satchel_packer::Platform::detect(&head), Some(satchel_packer::Platform::WindowsX86_64));

    let ask = ["run", "--raw", "--temp", "0", "--max-tokens", "30", "Once upon a time"];
    let expected = run(&native, &ask).ok();
    let cache = scratch.path("cache");
    let start = |shell: &str| output(Command::new(shell).arg(&file).args(ask).env("XDG_CACHE_HOME", &cache), b"");
    assert_eq!(start("sh").ok(), expected);
    let placed: Vec<_> = cache.join("satchel").read_dir().unwrap().map(|entry| entry.unwrap().path()).collect();
    let [program] = placed.as_slice() else { panic!("one program: {placed:?}") };
    assert!(fs::read(program).unwrap() == fs::read(SATCHEL).unwrap());
    // A modified program in the cache is replaced, not run.
    fs::write(program, "#!/bin/sh\necho changed\n").unwrap();
    assert_eq!(start("bash").ok(), expected);
    // The native form can be extracted from it.
    let again = scratch.path("again");
    satchel(&["extract", text(&file), "--for", host(), "-q", "-o", text(&again)]).ok();
    assert!(fs::read(&again).unwrap() == fs::read(&native).unwrap());
}

#[test]
#[cfg(all(target_os = "linux", target_arch = "x86_64", target_env = "gnu"))]
fn a_universal_file_avoids_a_noexec_home() {
    let scratch = Scratch::new();
    let (file, native) = universal(&scratch);
    fs::rename(&file, scratch.path("chat.exe")).unwrap();
    let expected = run(&native, &["run", "--raw", "--temp", "0", "--max-tokens", "30", "Once upon a time"]).ok();
    let prepare = "mkdir home tmp\nmount -t tmpfs -o noexec none home";
    let environment = "HOME=$PWD/home TMPDIR=$PWD/tmp XDG_CACHE_HOME=";
    let ask = format!("{environment} sh ./chat.exe run --raw --temp 0 --max-tokens 30 'Once upon a time'");
    match run_mounted(&scratch, prepare, &ask) {
        Some(run) => assert_eq!(run.ok(), expected),
        None => return skip("a universal file with a noexec home", "this user may not mount"),
    }
    // The program was placed in the temporary folder instead.
    assert_eq!(scratch.path("tmp").read_dir().unwrap().count(), 1);
}

#[test]
fn a_new_engine_keeps_every_byte_of_the_payload() {
    let scratch = Scratch::new();
    let (old, new) = (scratch.path("old"), scratch.path("new"));
    let more = ["--system-prompt", "Be brief.", "--name", "Tales"];
    satchel(&[&["pack", text(&stories()), "-o", text(&old)], &more[..]].concat()).ok();
    // Another engine: the same program with bytes appended, so that every offset changes.
    let mut engine = fs::read(SATCHEL).unwrap();
    engine.extend_from_slice(&[7; 70_000]);
    let engine = written(&scratch, "engine", &engine);
    let said = satchel(&["upgrade", text(&old), "-o", text(&new), "--engine", text(&engine)]).ok();
    assert_eq!(payload(&old), payload(&new));
    assert!(said.contains(payload(&old).trim()), "{said}");
    let (old_bytes, new_bytes) = (fs::read(&old).unwrap(), fs::read(&new).unwrap());
    let (old_bundle, new_bundle) =
        (Bundle::open(&old_bytes).unwrap().unwrap(), Bundle::open(&new_bytes).unwrap().unwrap());
    for (one, other) in old_bundle.entries().iter().zip(new_bundle.entries()) {
        assert_eq!(one.name, other.name);
        assert_ne!(one.offset, other.offset);
        assert!(one.stored_in(&old_bytes) == other.stored_in(&new_bytes), "{}", one.name);
    }
    satchel(&["verify", "-q", text(&new)]).ok();
    let story =
        |file: &Path| run(file, &["run", "--raw", "--temp", "0", "--max-tokens", "30", "Once upon a time"]).ok();
    assert_eq!(story(&old), story(&scratch.path("new")));
    // And back, with `extract --for`.
    let back = scratch.path("back");
    satchel(&["extract", text(&new), "--for", host(), "-o", text(&back), "--engine", SATCHEL]).ok();
    assert!(fs::read(&back).unwrap() == old_bytes, "must equal the first file");
    satchel(&["upgrade", text(&new), "-o", text(&new), "--force"]).refused(1, &["would replace its own input"]);
    satchel(&["upgrade", text(&stories()), "-o", text(&scratch.path("x"))]).refused(1, &["carries no model"]);
}

#[test]
fn a_damaged_payload_is_not_passed_on() {
    let scratch = Scratch::new();
    let old = scratch.path("old");
    satchel(&["pack", text(&stories()), "-o", text(&old), "-q"]).ok();
    let mut bytes = fs::read(&old).unwrap();
    let at = Bundle::open(&bytes).unwrap().unwrap().model_entries()[0].offset as usize + 500_000;
    bytes[at] ^= 1;
    fs::write(&old, bytes).unwrap();
    let new = scratch.path("new");
    satchel(&["upgrade", text(&old), "-o", text(&new), "-q"])
        .refused(1, &["model.gguf", "SHA-256", "get the file again"]);
    assert!(!new.exists());
}

#[test]
fn a_large_model_for_windows_lies_beside_its_program() {
    let scratch = Scratch::new();
    let model = scratch.path("large.gguf");
    sparse_model(&model, 12);
    let engine = written(&scratch, "satchel.exe", &windows());
    let exe = scratch.path("chat.exe");
    let pack = ["pack", text(&model), "-o", text(&exe), "--engine", text(&engine), "-q"];
    output(Command::new(SATCHEL).args(pack), b"").ok();
    let beside = scratch.path("chat.satchel");
    assert!(fs::metadata(&exe).unwrap().len() < 1 << 20 && fs::metadata(&beside).unwrap().len() > 4 << 30);
    // Naming the program is enough, and the payload's hash is the same as behind any program.
    let elsewhere = scratch.path("linux");
    satchel(&["pack", text(&model), "-o", text(&elsewhere), "-q"]).ok();
    assert_eq!(payload(&exe), payload(&elsewhere));
    assert_eq!(payload(&beside), payload(&elsewhere));
    let shown = satchel(&["inspect", "--no-hash", text(&exe)]).ok();
    assert!(shown.contains("llama"), "{shown}");
    // A missing or a mismatched payload is reported.
    fs::rename(&beside, scratch.path("away")).unwrap();
    for command in ["inspect", "verify", "payload"] {
        satchel(&[command, text(&exe)]).refused(1, &["its payload is missing", "chat.satchel"]);
    }
    satchel(&["pack", text(&stories()), "-o", text(&beside), "-q"]).ok();
    for command in ["inspect", "verify", "payload"] {
        satchel(&[command, text(&exe)]).refused(1, &["payload of another program", "keep the two files"]);
    }
    // A failed pack leaves neither file.
    let again = ["pack", text(&model), "-o", text(&exe), "--engine", text(&engine), "-q"];
    fs::remove_file(&exe).unwrap();
    output(Command::new(SATCHEL).args(again), b"").refused(1, &["chat.satchel", "--force"]);
    assert!(!exe.exists());
}
