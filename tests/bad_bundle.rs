//! Failures of packing, and of packed files: each is one line on stderr, and leaves no files behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use satchel_container::{Bundle, directory};
use satchel_gguf::{Gguf, GgufWriter, Value};

use crate::pack::sparse_model;
use crate::support::{Printed, SATCHEL, Scratch, output, satchel, skip, stories};

/// Assertions about a command that failed.
pub(crate) trait Refused {
    /// Asserts this exit status and a single line on stderr that contains all of `parts`.
    fn refused(self, code: i32, parts: &[&str]);
    /// As `refused(1, …)`, ignoring the progress lines of `verify`.
    fn refused_with(self, parts: &[&str]);
}

impl Refused for Printed {
    #[track_caller]
    fn refused(self, code: i32, parts: &[&str]) {
        let line = self.failed(code);
        assert!(line.starts_with("satchel: "), "{line}");
        for part in parts {
            assert!(line.contains(part), "{part:?} is not in: {line}");
        }
    }

    #[track_caller]
    fn refused_with(mut self, parts: &[&str]) {
        let lines: Vec<_> = self.stderr.lines().filter(|line| !line.starts_with("verifying:")).collect();
        self.stderr = lines.join("\n");
        self.refused(1, parts);
    }
}

/// The names in the scratch folder, sorted.
pub(crate) fn names(scratch: &Scratch) -> Vec<String> {
    let entries = scratch.folder().read_dir().unwrap();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

/// A shell in its own mount namespace; `None` if this user may not mount.
fn mount_shell() -> Option<Command> {
    for flags in [&["-m"][..], &["-rm"]] {
        let works = Command::new("unshare").args(flags).args(["sh", "-c", "mount -t tmpfs none /mnt"]).output();
        if works.is_ok_and(|output| output.status.success()) {
            let mut command = Command::new("unshare");
            command.args(flags).args(["sh", "-ec"]);
            return Some(command);
        }
    }
    None
}

fn pack(model: &Path, output: &Path, more: &[&str]) -> Printed {
    let args = ["pack", model.to_str().unwrap(), "-q", "-o", output.to_str().unwrap()];
    satchel(&[&args, more].concat())
}

fn packed(scratch: &Scratch) -> (std::path::PathBuf, Vec<u8>, Bundle) {
    let path = scratch.path("packed");
    pack(&stories(), &path, &[]).ok();
    let bytes = fs::read(&path).unwrap();
    let bundle = Bundle::open(&bytes).unwrap().unwrap();
    (path, bytes, bundle)
}

/// No hash covers the gap between the program and the model, so it must be zeros.
#[test]
fn a_nonzero_gap_is_damage() {
    let scratch = Scratch::new();
    let (path, mut bytes, bundle) = packed(&scratch);
    let header = bundle.model_entries()[0].offset - directory::local_header_bytes("model.gguf");
    assert!(header > bundle.program_bytes, "there is a gap");
    for at in [bundle.program_bytes, header - 1] {
        bytes[at as usize] = 1;
        fs::write(&path, &bytes).unwrap();
        bytes[at as usize] = 0;
        satchel(&["verify", path.to_str().unwrap()]).refused(1, &["the gap before entry model.gguf is not all zeros"]);
    }
}

#[test]
fn invalid_input_is_refused_before_anything_is_written() {
    let scratch = Scratch::new();
    let out = scratch.path("out");
    let model = fs::read(stories()).unwrap();
    fs::write(scratch.path("cut.gguf"), &model[..model.len() - 1]).unwrap();
    fs::write(scratch.path("text.gguf"), "hello").unwrap();
    fs::write(scratch.path("empty.gguf"), "").unwrap();
    fs::write(scratch.path("text.html"), "x").unwrap();
    fs::create_dir(scratch.path("empty")).unwrap();
    let parsed = Gguf::parse(&model).unwrap();
    let mut other = GgufWriter::with_metadata(&parsed.metadata);
    other.set("general.architecture", Value::String("unheard-of".into()));
    fs::write(scratch.path("other.gguf"), other.layout().unwrap().to_bytes(&[]).unwrap()).unwrap();
    let without = GgufWriter::with_metadata(&parsed.metadata);
    fs::write(scratch.path("without.gguf"), without.layout().unwrap().to_bytes(&[]).unwrap()).unwrap();
    let before = names(&scratch);
    for (model, part) in [
        ("cut.gguf", "cut off"),
        ("text.gguf", "not a GGUF"),
        ("empty.gguf", "GGUF"),
        ("missing.gguf", "No such file"),
        ("empty", "regular file"),
        ("other.gguf", "unheard-of"),
        ("without.gguf", "token_embd"),
    ] {
        pack(&scratch.path(model), &out, &[]).refused(1, &[model, part]);
    }
    let file = |name: &str| scratch.path(name).into_os_string().into_string().unwrap();
    for (more, code, part) in [
        (["--set", "heat=1"], 2, "unknown setting `heat`; known are temperature, top_k"),
        (["--set", "top_p=1.5"], 2, "between 0 and 1"),
        (["--set", "context=100000"], 1, "trained on 512"),
        (["--name", ""], 1, "the name"),
        (["--name", "a\nb"], 1, "control characters"),
        (["--ui", &file("empty")], 1, "no index.html"),
        (["--ui", &file("nowhere")], 1, "No such file"),
        (["--license", &file("nowhere")], 1, "No such file"),
        (["--license", &file("empty")], 1, "regular file"),
        (["--program", &file("text.html")], 1, "not an executable"),
        (["--program", &file("nowhere")], 1, "No such file"),
        (["--system-prompt", &"long ".repeat(20_000)], 0, ""),
    ] {
        let run = pack(&stories(), &out, &more);
        if code == 0 {
            run.ok();
            fs::remove_file(&out).unwrap();
        } else {
            run.refused(code, &[part]);
        }
    }
    pack(&stories(), &scratch.path("nowhere/out"), &[]).refused(1, &["nowhere", "does not exist"]);
    pack(&stories(), &scratch.path("empty"), &[]).refused(1, &["is a folder"]);
    assert_eq!(names(&scratch), before);
}

#[test]
fn an_output_that_exists_needs_force_and_an_input_is_never_replaced() {
    let scratch = Scratch::new();
    let (out, model) = (scratch.path("out"), scratch.path("model.gguf"));
    fs::write(&out, "mine").unwrap();
    fs::copy(stories(), &model).unwrap();
    pack(&model, &out, &[]).refused(1, &["exists", "--force"]);
    assert_eq!(fs::read_to_string(&out).unwrap(), "mine");
    pack(&model, &out, &["--force"]).ok();
    output(Command::new(&out).args(["verify", "-q"]), b"").ok();
    pack(&model, &model, &["--force"]).refused(1, &["its own input"]);
    fs::hard_link(&model, scratch.path("same.gguf")).unwrap();
    pack(&model, &scratch.path("same.gguf"), &["--force"]).refused(1, &["its own input"]);
    pack(&model, &out, &["--force", "--program", out.to_str().unwrap()]).refused(1, &["its own input"]);
    assert_eq!(fs::read(&model).unwrap(), fs::read(stories()).unwrap());
    assert_eq!(names(&scratch), ["model.gguf", "out", "same.gguf"]);
}

/// Packs the small model to `here/out` in a mount namespace, after running `prepare` there.
fn pack_mounted(scratch: &Scratch, prepare: &str) -> Option<Printed> {
    run_mounted(scratch, prepare, "\"$1\" pack \"$2\" -q -o here/out")
}

/// Runs a shell command in a mount namespace, after `prepare`; $1 is the program, $2 the small model. Afterwards, `listing`
/// has the contents of `here`. `None` if this user may not mount.
pub(crate) fn run_mounted(scratch: &Scratch, prepare: &str, command: &str) -> Option<Printed> {
    let mut shell = mount_shell()?;
    let script = format!("exec 3>listing\n{prepare}\n({command}) || code=$?\nls -A here >&3\nexit ${{code:-0}}");
    fs::create_dir_all(scratch.path("here")).unwrap();
    shell.arg(script).arg("sh").arg(SATCHEL).arg(stories()).current_dir(scratch.folder());
    Some(output(&mut shell, b""))
}

#[test]
fn a_full_file_system_is_detected_before_anything_is_written() {
    let scratch = Scratch::new();
    match pack_mounted(&scratch, "mount -t tmpfs -o size=2m none here") {
        Some(run) => run.refused(1, &["no space for here/out", "MB are free"]),
        None => return skip("packing to a full file system", "this user may not mount a tmpfs"),
    }
    assert_eq!(fs::read_to_string(scratch.path("listing")).unwrap(), "");
}

#[test]
fn a_read_only_folder_is_named() {
    let scratch = Scratch::new();
    match pack_mounted(&scratch, "mount --bind here here\nmount -o remount,ro,bind here") {
        Some(run) => run.refused(1, &["here", "cannot write in this folder", "Read-only"]),
        None => return skip("packing to a read-only folder", "this user may not mount"),
    }
    assert_eq!(fs::read_to_string(scratch.path("listing")).unwrap(), "");
}

#[test]
fn a_write_that_fails_halfway_leaves_nothing() {
    let scratch = Scratch::new();
    // A file size limit of 4 MB: less than the program, so a write fails midway.
    let script = "trap '' XFSZ; ulimit -f 8000; exec \"$1\" pack \"$2\" -q -o out";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", SATCHEL]).arg(stories()).current_dir(scratch.folder()).stdin(Stdio::null());
    output(&mut shell, b"").refused(1, &["out", "File too large"]);
    assert_eq!(names(&scratch), Vec::<String>::new());
}

pub(crate) fn signal(child: &Child, name: &str) {
    let status = Command::new("sh").args(["-c", &format!("kill -{name} {}", child.id())]).status().unwrap();
    assert!(status.success());
}

#[test]
fn an_interrupted_pack_leaves_nothing_behind() {
    let scratch = Scratch::new();
    let model = scratch.path("endless.gguf");
    // 64 GB of zeros, as a sparse file: packing it takes a minute.
    sparse_model(&model, 150);
    for (name, code) in [("INT", Some(130)), ("TERM", Some(130)), ("KILL", None)] {
        for force in [false, true] {
            let out = scratch.path("out");
            let mut command = Command::new(SATCHEL);
            command.arg("pack").arg(&model).arg("-o").arg(&out).stdin(Stdio::null()).stdout(Stdio::piped());
            if force {
                fs::write(&out, "before").unwrap();
                command.arg("--force");
            }
            let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
            let mut stderr = BufReader::new(child.stderr.take().unwrap());
            let mut said = String::new();
            stderr.read_line(&mut said).unwrap();
            assert!(said.starts_with("packing: 64"), "{said}");
            std::thread::sleep(Duration::from_millis(300));
            signal(&child, name);
            let sent = Instant::now();
            stderr.read_to_string(&mut said).unwrap();
            assert_eq!(child.wait().unwrap().code(), code, "{name}: {said}");
            assert!(sent.elapsed() < Duration::from_secs(10), "{name} must end it at once");
            assert!(code.is_none() || said.ends_with("satchel: interrupted: nothing was left behind\n"), "{said}");
            if force {
                assert_eq!(fs::read_to_string(&out).unwrap(), "before", "the old file must stay");
                fs::remove_file(&out).unwrap();
            }
            // Without O_TMPFILE, SIGKILL leaves a temporary file, which the next pack to this path removes.
            if names(&scratch) != ["endless.gguf"] {
                assert_eq!(name, "KILL");
                skip("nothing left behind by SIGKILL", "the temporary folder's file system has no O_TMPFILE");
                pack(&stories(), &out, &[]).ok();
                fs::remove_file(&out).unwrap();
            }
            assert_eq!(names(&scratch), ["endless.gguf"]);
        }
    }
}

#[test]
fn a_flipped_byte_anywhere_is_found() {
    let scratch = Scratch::new();
    let (_, bytes, bundle) = packed(&scratch);
    let model = &bundle.model_entries()[0];
    let manifest = &bundle.manifest_entry;
    let directory = (manifest.offset + manifest.size) as usize;
    let damaged = scratch.path("damaged");
    let flip = |at: usize| {
        let mut flipped = bytes.clone();
        flipped[at] ^= 0x20;
        fs::write(&damaged, flipped).unwrap();
        satchel(&["verify".as_ref(), damaged.as_os_str()])
    };
    for step in 0..10 {
        let within = |begin: usize, end: usize| begin + (end - 1 - begin) * step / 9;
        flip(within(directory, bytes.len())).refused_with(&["the bundle is damaged"]);
        flip(within(manifest.offset as usize, directory)).refused_with(&["the bundle is damaged", "manifest.json"]);
        flip(within(model.offset as usize, (model.offset + model.size) as usize))
            .refused_with(&["damaged: model.gguf; get the file again"]);
        flip(within(0, bundle.program_bytes as usize)).refused_with(&["damaged: program; get the file again"]);
    }
    flip(model.offset as usize - 40).refused_with(&["the local header of entry model.gguf"]);

    // A damaged model is not unpacked, and a damaged program is not used to pack another model.
    flip(model.offset as usize + 5000);
    let out = scratch.path("out");
    let unpack: [&OsStr; 5] = ["unpack".as_ref(), damaged.as_os_str(), "-q".as_ref(), "-o".as_ref(), out.as_os_str()];
    satchel(&unpack).refused(1, &["model.gguf does not match its SHA-256"]);
    assert!(out.read_dir().unwrap().next().is_none());
    flip(5000);
    pack(&stories(), &scratch.path("next"), &["--program", damaged.to_str().unwrap()])
        .refused(1, &["the program before its bundle is damaged"]);
    assert!(!scratch.path("next").exists());
}

#[test]
fn a_truncated_file_is_distinguished_from_one_without_a_model() {
    let scratch = Scratch::new();
    let (_, bytes, bundle) = packed(&scratch);
    let cut = scratch.path("cut");
    let model = bundle.model_entries()[0].clone();
    let end = bytes.len();
    for keep in [end - 1, end - 300, end - 2000, (model.offset + model.size) as usize, model.offset as usize + 1] {
        fs::write(&cut, &bytes[..keep]).unwrap();
        satchel(&["verify".as_ref(), cut.as_os_str()]).refused_with(&["the bundle is damaged", "truncated"]);
    }
    satchel(&["verify", SATCHEL]).refused_with(&["carries no model"]);
    satchel(&["verify".as_ref(), stories().as_os_str()]).refused_with(&["carries no model"]);
    satchel(&["verify".as_ref(), scratch.folder().as_os_str()]).refused_with(&["regular file"]);
    satchel(&["verify"]).refused_with(&["carries no model"]);
    let report = satchel(&["verify".as_ref(), cut.as_os_str(), "--json".as_ref()]);
    let json: serde_json::Value = serde_json::from_str(&report.stdout).unwrap();
    assert_eq!(json["good"], false);
    assert!(json["error"].as_str().unwrap().contains("truncated"));
    report.refused_with(&["truncated"]);
}
