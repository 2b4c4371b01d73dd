//! Files that commands write: an existing file is replaced only on request, and anything but a regular file is left intact.

#![cfg(unix)]

use std::fs;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::support::{Printed, SATCHEL, Scratch, output, satchel, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A command that writes a file: its name, how to run it, and whether it can write to a pipe.
type Writes = (&'static str, fn(&Scratch, &str, &[&str]) -> Printed, bool);

/// Every command with an output file.
const ALL: [Writes; 6] = [
    ("logits", logits, true),
    ("random-model", random_model, true),
    ("quantize", quantize, true),
    ("/save", save, true),
    ("pack", pack, false),
    ("upgrade", upgrade, false),
];

fn run(arguments: &[&str], more: &[&str], input: &[u8]) -> Printed {
    output(Command::new(SATCHEL).args(arguments).args(more), input)
}

fn logits(_: &Scratch, out: &str, more: &[&str]) -> Printed {
    run(&["logits", "-m", text(&stories()), "--tokens", "-", "-o", out], more, b"1 2 3")
}

fn random_model(_: &Scratch, out: &str, more: &[&str]) -> Printed {
    let shape = ["--width", "64", "--layers", "1", "--heads", "2", "--kv-heads", "1", "--feed-forward", "64"];
    run(&[&["random-model", "F32", "--vocabulary", text(&stories()), "-o", out], &shape[..]].concat(), more, b"")
}

fn quantize(_: &Scratch, out: &str, more: &[&str]) -> Printed {
    run(&["quantize", "-q", text(&stories()), out, "F16"], more, b"")
}

/// In a chat, `/save!` corresponds to `--force`, and a refusal is a notice instead of an exit status.
fn save(scratch: &Scratch, out: &str, more: &[&str]) -> Printed {
    let template = scratch.path("plain.jinja");
    fs::write(&template, "x").expect("scratch");
    let save = if more.is_empty() { "/save" } else { "/save!" };
    let model = stories();
    let chat = ["chat", "-m", text(&model), "--chat-template", text(&template)];
    let mut printed = run(&chat, &[], format!("/system Be kind.\n{save} {out}\n").as_bytes());
    printed.stderr = printed.stderr.replace("the system prompt is set\n", "");
    if !printed.stderr.starts_with("saved ") {
        printed.code = Some(1);
    }
    printed
}

fn pack(_: &Scratch, out: &str, more: &[&str]) -> Printed {
    run(&["pack", "-q", text(&stories()), "-o", out], more, b"")
}

fn upgrade(scratch: &Scratch, out: &str, more: &[&str]) -> Printed {
    let packed = scratch.path("packed-before");
    if !packed.exists() {
        pack(scratch, text(&packed), &[]).ok();
    }
    run(&["upgrade", "-q", text(&packed), "-o", out], more, b"")
}

#[test]
fn existing_files_are_replaced_only_with_force_and_links_are_kept() {
    let scratch = Scratch::new();
    for (name, write, _) in ALL {
        let (file, link) = (scratch.path("file"), scratch.path("link"));
        fs::write(&file, "mine").expect("scratch");
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).expect("it is ours");
        let _ = fs::remove_file(&link);
        symlink(&file, &link).expect("scratch");
        for there in [&file, &link] {
            let line = write(&scratch, text(there), &[]).failed(1);
            assert!(line.contains("exists"), "{name}: {line}");
            assert_eq!(fs::read_to_string(&file).expect("it stays"), "mine", "{name}");
        }
        write(&scratch, text(&link), &["--force"]).ok();
        assert!(link.is_symlink(), "{name}");
        let facts = file.metadata().expect("it is there");
        assert!(facts.len() > 4 && facts.mode() & 0o777 & !0o111 == 0o640, "{name}: {:o}", facts.mode());
        fs::remove_file(&file).expect("it is ours");
        let line = write(&scratch, text(&link), &["--force"]).failed(1);
        assert!(line.contains("broken link"), "{name}: {line}");
    }
    let left: Vec<_> =
        scratch.folder().read_dir().expect("it is there").map(|entry| entry.unwrap().file_name()).collect();
    assert!(left.iter().all(|name| !name.to_string_lossy().starts_with('.')), "{left:?}");
}

#[test]
fn pipes_receive_a_stream_and_devices_are_left_intact() {
    let scratch = Scratch::new();
    for (name, write, streams) in ALL {
        let plain = scratch.path("plain");
        let pipe = scratch.path("pipe");
        let _ = fs::remove_file(&plain);
        if !pipe.exists() {
            assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
        }
        if streams {
            write(&scratch, text(&plain), &[]).ok();
            let copy = scratch.path("copy");
            let file = fs::File::create(&copy).expect("scratch");
            let mut reader = Command::new("cat").arg(&pipe).stdout(file).spawn().expect("cat starts");
            write(&scratch, text(&pipe), &[]).ok();
            assert!(reader.wait().expect("cat ends").success());
            assert!(
                fs::read(&copy).expect("cat wrote it") == fs::read(&plain).expect("it was written"),
                "{name}: the pipe got other bytes"
            );
            write(&scratch, "/dev/null", &["--force"]).ok();
        } else {
            for there in [text(&pipe), "/dev/null"] {
                let line = write(&scratch, there, &["--force"]).failed(1);
                assert!(line.contains("not a regular file"), "{name}: {line}");
            }
        }
        assert!(pipe.metadata().expect("it is there").file_type().is_fifo(), "{name}");
        let null = Path::new("/dev/null").metadata().expect("it is there");
        assert!(null.file_type().is_char_device() && null.mode() & 0o777 == 0o666, "{name}: {:o}", null.mode());
    }
}

#[test]
fn unpacking_does_not_follow_links_or_write_to_pipes() {
    let scratch = Scratch::new();
    let (packed, folder, elsewhere) = (scratch.path("packed"), scratch.path("out"), scratch.path("elsewhere"));
    pack(&scratch, text(&packed), &[]).ok();
    fs::create_dir(&folder).expect("scratch");
    fs::write(&elsewhere, "mine").expect("scratch");
    let entry = folder.join("model.gguf");
    let unpack = || satchel(&["unpack", "-q", "--force", "-o", text(&folder), text(&packed)]).failed(1);
    symlink(&elsewhere, &entry).expect("scratch");
    assert!(unpack().contains("links are not followed"));
    assert_eq!(fs::read_to_string(&elsewhere).expect("it stays"), "mine");
    fs::remove_file(&entry).expect("it is ours");
    assert!(Command::new("mkfifo").arg(&entry).status().expect("mkfifo runs").success());
    assert!(unpack().contains("not a regular file"));
    assert!(entry.metadata().expect("it stays").file_type().is_fifo());
}

#[test]
fn a_pipe_in_place_of_an_input_file_is_refused_without_blocking() {
    let scratch = Scratch::new();
    let (pipe, out) = (scratch.path("pipe"), scratch.path("out"));
    assert!(Command::new("mkfifo").arg(&pipe).status().expect("mkfifo runs").success());
    let (pipe, out, model) = (text(&pipe), text(&out), stories());
    for arguments in [
        &["run", "--raw", "x", "-m", pipe][..],
        &["inspect", pipe],
        &["quantize", pipe, out, "F16"],
        &["pack", pipe, "-o", out],
        &["pack", text(&model), "-o", out, "--license", pipe],
        &["pack", text(&model), "-o", out, "--engine", pipe],
        &["verify", pipe],
        &["unpack", pipe],
        &["targets", pipe],
        &["assemble", pipe, "-o", text(scratch.folder())],
    ] {
        let line = satchel(arguments).failed(1);
        assert!(line.contains("not a regular file"), "{arguments:?}: {line}");
    }
}
