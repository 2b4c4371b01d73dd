//! `satchel inspect` on plain, split and packed models, as text and as JSON.

use std::io::Read;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use satchel_gguf::{Array, GgufWriter, TensorType, Value as Entry};
use serde_json::Value;

use crate::support::{self, SATCHEL, Scratch, satchel};

fn inspect(path: &Path, flags: &[&str]) -> String {
    let mut arguments = vec!["inspect".as_ref(), path.as_os_str()];
    arguments.extend(flags.iter().map(std::ffi::OsStr::new));
    satchel(&arguments).ok()
}

fn inspect_json(path: &Path, flags: &[&str]) -> Value {
    let printed = inspect(path, &[&["--json"], flags].concat());
    serde_json::from_str(&printed).expect("--json prints JSON")
}

/// SHA-256 computed by another program.
fn sha256(path: &Path) -> String {
    let printed = support::output(Command::new("sha256sum").arg(path), b"").ok();
    printed.split_whitespace().next().expect("a hash").to_owned()
}

#[test]
fn a_model_is_shown_as_text() {
    let path = support::stories();
    let text = inspect(&path, &["--context", "128,4096"]);
    let line = |start: &str| {
        let found = text.lines().find(|line| line.trim_start().starts_with(start));
        found
            .unwrap_or_else(|| panic!("no line {start:?} in:\n{text}"))
            .split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
    };
    assert_eq!(line("architecture"), "architecture llama");
    assert_eq!(line("bits per weight"), "bits per weight 32.00");
    assert!(line("tokenizer.ggml.tokens").contains("string[512] [\"<unk>\","), "{}", line("tokenizer.ggml.tokens"));
    assert!(line("tokenizer.ggml.tokens").ends_with("…]"));
    assert_eq!(line("token_embd.weight"), "token_embd.weight [64, 512] F32 131.1 kB");
    // 5 layers, 4 KV heads of 8, keys and values in F16: 640 bytes per position.
    assert!(line("128 ").contains("81.9 kB"), "{}", line("128 "));
    assert!(line("4,096 ").contains("2.6 MB"), "{}", line("4,096 "));
    assert!(text.contains(&sha256(&path)));
    assert!(!inspect(&path, &["--no-hash"]).contains("SHA-256"));
}

#[test]
fn json_is_complete() {
    let path = support::stories();
    let report = inspect_json(&path, &["-c", "256"]);
    assert_eq!(report["architecture"], "llama");
    assert_eq!(report["gguf_version"], 3);
    assert_eq!(report["packed"], Value::Null);
    assert_eq!(report["files"][0]["sha256"], sha256(&path).as_str());
    let file_bytes = std::fs::metadata(&path).expect("the test model").len();
    assert_eq!(report["files"][0]["bytes"], file_bytes);
    let tokens = &report["metadata"]["tokenizer.ggml.tokens"];
    assert_eq!((&tokens["element_type"], &tokens["length"]), (&"string".into(), &512.into()));
    assert_eq!(tokens["value"].as_array().map(Vec::len), Some(512));
    assert_eq!(report["metadata"]["llama.block_count"], serde_json::json!({ "type": "u32", "value": 5 }));
    let tensors = report["tensors"].as_array().expect("tensors");
    let sum = |field: &str| tensors.iter().filter_map(|tensor| tensor[field].as_u64()).sum::<u64>();
    assert_eq!(report["parameters"], sum("elements"));
    assert_eq!(report["tensor_bytes"], sum("bytes"));
    assert_eq!(report["memory"]["kv_bytes_per_token"], 640);
    let memory = &report["memory"]["contexts"][0];
    assert_eq!(memory["kv_bytes"], 640 * 256);
    let parts = ["kv_bytes", "activation_bytes", "scratch_bytes", "vocabulary_bytes", "program_bytes"];
    let together: u64 = parts.iter().map(|part| memory[part].as_u64().expect(part)).sum();
    assert_eq!(memory["total_bytes"], file_bytes + together);
    assert_eq!(inspect_json(&path, &["--no-hash"])["files"][0]["sha256"], Value::Null);
}

#[test]
fn unknown_architectures_are_reported_as_unknown() {
    let scratch = Scratch::new();
    let mut writer = GgufWriter::new();
    writer.set("general.architecture", Entry::String("abacus".into())).set("abacus.beads", Entry::U32(16));
    writer.set("hostile", Entry::String("\u{1b}[2J\nsecond line".into()));
    writer.set("nan", Entry::Array(Array::F32(vec![f32::NAN, 1.0])));
    writer.tensor("one", &[], TensorType::F32).expect("a single number");
    let path = write(&scratch, "abacus.gguf", &writer);
    let text = inspect(&path, &[]);
    assert!(text.contains("KV cache  unknown: architecture `abacus` is not supported"), "{text}");
    assert!(!text.contains('\u{1b}') && text.contains("\\u{1b}[2J\\nsecond line"), "{text}");
    let report = inspect_json(&path, &[]);
    assert_eq!(report["memory"]["kv_bytes_per_token"], Value::Null);
    assert!(report["memory"]["kv_unknown_because"].as_str().is_some_and(|why| why.contains("`abacus`")));
    assert_eq!(report["metadata"]["nan"]["value"], serde_json::json!([null, 1.0]));
}

/// Writes a file whose tensors are zeros.
fn write(scratch: &Scratch, name: &str, writer: &GgufWriter) -> PathBuf {
    let layout = writer.layout().expect("a sound file");
    let data: Vec<Vec<u8>> = layout.tensors.iter().map(|tensor| vec![0; tensor.bytes as usize]).collect();
    let data: Vec<&[u8]> = data.iter().map(Vec::as_slice).collect();
    let path = scratch.path(name);
    std::fs::write(&path, layout.to_bytes(&data).expect("memory can be written")).expect("a scratch file");
    path
}

/// Part `number` (from 0) of two.
fn write_part(scratch: &Scratch, number: u16, tensor: &str) -> PathBuf {
    let mut writer = GgufWriter::new();
    if number == 0 {
        writer.set("general.architecture", Entry::String("llama".into()));
    }
    writer.set("split.no", Entry::U16(number)).set("split.count", Entry::U16(2));
    writer.set("split.tensors.count", Entry::I32(2));
    writer.tensor(tensor, &[64], TensorType::F16).expect("whole blocks");
    write(scratch, &format!("m-{:05}-of-00002.gguf", number + 1), &writer)
}

#[test]
fn a_split_model_is_one() {
    let scratch = Scratch::new();
    let parts = [write_part(&scratch, 0, "first.weight"), write_part(&scratch, 1, "second.weight")];
    for named in &parts {
        let report = inspect_json(named, &[]);
        assert_eq!(report["parameters"], 128);
        assert_eq!(report["files"].as_array().map(Vec::len), Some(2));
        assert_eq!(report["tensors"][1]["name"], "second.weight");
        assert_eq!(report["tensors"][1]["file"], 1);
        for (at, part) in parts.iter().enumerate() {
            assert_eq!(report["files"][at]["sha256"], sha256(part).as_str());
        }
    }
    std::fs::remove_file(&parts[1]).expect("the second part");
    let line = satchel(&["inspect".as_ref(), parts[0].as_os_str()]).failed(1);
    assert!(line.contains("m-00002-of-00002.gguf"), "{line}");
}

#[test]
fn a_packed_model_is_shown_as_its_file_and_by_itself() {
    let scratch = Scratch::new();
    let (model, packed) = (support::stories(), scratch.path("packed"));
    let pack = ["pack", "--quiet", "--name", "Stories", "-o"].map(std::ffi::OsStr::new);
    satchel(&[pack.as_slice(), &[packed.as_os_str(), model.as_os_str()]].concat()).ok();
    let plain = inspect_json(&model, &[]);
    let named = inspect_json(&packed, &[]);
    let own = support::output(Command::new(&packed).args(["inspect", "--json"]), b"").ok();
    let own: Value = serde_json::from_str(&own).expect("--json prints JSON");
    for report in [named, own] {
        assert_eq!(report["name"], "Stories");
        assert_eq!(report["files"][0]["sha256"], plain["files"][0]["sha256"]);
        assert_eq!(report["files"][0]["name"], "model.gguf");
        assert_eq!(report["packed"]["entries"][0]["sha256"], plain["files"][0]["sha256"]);
        assert_eq!(report["tensors"], plain["tensors"]);
        assert_eq!(report["metadata"], plain["metadata"]);
    }
    assert!(inspect(&packed, &[]).contains("  as packed"));

    // A byte changed in a tensor: the listing still works, and says so.
    let mut bytes = std::fs::read(&packed).expect("the packed file");
    let report = inspect_json(&packed, &["--no-hash"]);
    let offset = report["files"][0]["offset"].as_u64().expect("an offset") + 500_000;
    bytes[offset as usize] ^= 1;
    let damaged = scratch.path("damaged");
    std::fs::write(&damaged, bytes).expect("a scratch file");
    assert!(inspect(&damaged, &[]).contains("DAMAGED"));
}

#[test]
fn a_broken_pipe_is_not_an_error() {
    for flags in [["--no-hash"].as_slice(), &["--json", "--no-hash"]] {
        let mut child = Command::new(SATCHEL)
            .arg("inspect")
            .arg(support::stories())
            .args(flags)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the executable starts");
        // Close the pipe at once, so that the first write fails.
        drop(child.stdout.take());
        let mut stderr = String::new();
        child.stderr.take().expect("stderr is piped").read_to_string(&mut stderr).expect("text");
        assert_eq!(child.wait().expect("it ends").code(), Some(0), "{stderr}");
        assert_eq!(stderr, "");
    }
}

#[test]
fn invalid_command_lines_are_refused() {
    let path = support::stories();
    for flags in [["--context", "0"], ["--context", "many"], ["-m", "other.gguf"]] {
        let mut arguments = vec!["inspect".as_ref(), path.as_os_str()];
        arguments.extend(flags.iter().map(std::ffi::OsStr::new));
        assert_eq!(satchel(&arguments).code, Some(2), "{flags:?}");
    }
    assert!(satchel(&["inspect", "nowhere.gguf"]).failed(1).contains("nowhere.gguf: "));
}
