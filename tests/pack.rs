//! Packing, unpacking and verifying, and how other zip tools see a packed file.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::process::Command;
use std::time::Instant;

use satchel_container::{Bundle, Digest};
use satchel_gguf::{Gguf, GgufWriter, TensorType, Value};

use crate::bad_bundle::{Refused, names};
use crate::support::{Printed, SATCHEL, Scratch, output, satchel, skip, stories};

/// SHA-256 of the model in tests/data, as in its README.
const STORIES_SHA256: &str = "3c4a7c3a8313e00ae6a6b64df717828f4ba18391ea31ffb01abe9a2c4f7bb9a9";

fn pack(model: &Path, output: &Path, more: &[&str]) -> String {
    let args = ["pack", model.to_str().unwrap(), "-o", output.to_str().unwrap()];
    satchel(&[&args, more].concat()).ok()
}

fn run<A: AsRef<OsStr>>(program: impl AsRef<OsStr>, arguments: &[A]) -> Printed {
    output(Command::new(program).args(arguments), b"")
}

fn opened(path: &Path) -> Bundle {
    Bundle::open_from(&mut File::open(path).unwrap()).unwrap().expect("a bundle")
}

/// Writes a `llama` of `layers` layers of 428 MB each as a sparse file: F16 zeros except for the last bytes.
pub(crate) fn sparse_model(path: &Path, layers: u32) -> u64 {
    let original = Gguf::parse(&fs::read(stories()).unwrap()).unwrap();
    let mut writer = GgufWriter::with_metadata(&original.metadata);
    for (key, value) in [
        ("block_count", layers),
        ("embedding_length", 4096),
        ("feed_forward_length", 14_336),
        ("attention.head_count", 32),
        ("attention.head_count_kv", 4),
        ("rope.dimension_count", 128),
    ] {
        writer.set(&format!("llama.{key}"), Value::U32(value));
    }
    writer.tensor("token_embd.weight", &[4096, 512], TensorType::F16).unwrap();
    writer.tensor("output_norm.weight", &[4096], TensorType::F32).unwrap();
    for layer in 0..layers {
        for (name, dimensions) in [
            ("attn_q", [4096, 4096]),
            ("attn_k", [4096, 512]),
            ("attn_v", [4096, 512]),
            ("attn_output", [4096, 4096]),
            ("ffn_gate", [4096, 14_336]),
            ("ffn_up", [4096, 14_336]),
            ("ffn_down", [14_336, 4096]),
        ] {
            writer.tensor(&format!("blk.{layer}.{name}.weight"), &dimensions, TensorType::F16).unwrap();
        }
        for name in ["attn_norm", "ffn_norm"] {
            writer.tensor(&format!("blk.{layer}.{name}.weight"), &[4096], TensorType::F32).unwrap();
        }
    }
    let layout = writer.layout().unwrap();
    let mut file = File::create(path).unwrap();
    file.write_all(&layout.head).unwrap();
    file.set_len(layout.file_bytes).unwrap();
    file.seek(SeekFrom::End(-8)).unwrap();
    file.write_all(b"the end.").unwrap();
    layout.file_bytes
}

/// The tensors `from..to` of the small model, with the metadata that `change` returns.
fn part_of_stories(from: usize, to: usize, change: impl FnOnce(&Gguf) -> GgufWriter) -> Vec<u8> {
    let bytes = fs::read(stories()).unwrap();
    let original = Gguf::parse(&bytes).unwrap();
    let mut writer = change(&original);
    let tensors = &original.tensors[from..to.min(original.tensors.len())];
    let mut data = Vec::new();
    for tensor in tensors {
        writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).unwrap();
        data.push(&bytes[tensor.offset as usize..tensor.end() as usize]);
    }
    writer.layout().unwrap().to_bytes(&data).unwrap()
}

#[test]
fn a_packed_file_is_a_zip_file_that_contains_the_model() {
    let scratch = Scratch::new();
    let packed = scratch.path("stories");
    let said = pack(&stories(), &packed, &[]);
    assert!(said.contains(STORIES_SHA256) && said.contains("--help"), "{said}");
    assert_eq!(fs::metadata(&packed).unwrap().permissions().mode() & 0o700, 0o700);
    let bytes = fs::read(&packed).unwrap();
    let bundle = Bundle::open(&bytes).unwrap().unwrap();
    let [model] = bundle.model_entries() else { panic!("one model entry") };
    assert_eq!((model.name.as_str(), model.offset % 65536), ("model.gguf", 0));
    assert_eq!(model.stored_in(&bytes).unwrap(), fs::read(stories()).unwrap());
    assert_eq!(model.sha256.to_string(), STORIES_SHA256);
    assert!(bytes.starts_with(&fs::read(SATCHEL).unwrap()), "the program is a copy");

    if Command::new("unzip").arg("-v").output().is_err() {
        return skip("unzip on a packed file", "unzip is not installed");
    }
    let tested = run("unzip", &["-t".as_ref(), packed.as_os_str()]);
    assert!(!tested.stdout.to_lowercase().contains("warning") && tested.stderr.is_empty(), "{tested:?}");
    assert!(tested.ok().contains("No errors detected"));
    let taken = Command::new("unzip").arg("-p").arg(&packed).arg("model.gguf").output().unwrap();
    assert_eq!(Digest::of(&taken.stdout).to_string(), STORIES_SHA256);
}

#[test]
fn the_manifest_has_the_requested_settings() {
    let scratch = Scratch::new();
    let packed = scratch.path("p");
    let more = ["--name", "Tales", "--system-prompt", "Be kind.", "--set", "temperature=0.5", "--set", "port=9000"];
    pack(&stories(), &packed, &more);
    let manifest = opened(&packed).manifest;
    assert_eq!(manifest.name, "Tales");
    assert_eq!(manifest.defaults.system_prompt.as_deref(), Some("Be kind."));
    assert_eq!((manifest.defaults.settings.temperature, manifest.defaults.settings.port), (Some(0.5), Some(9000)));
    let model = manifest.model.unwrap();
    assert_eq!((model.architecture.as_str(), model.parameters, model.context_length), ("llama", 292_800, Some(512)));
    assert_eq!(model.block_types.get("F32"), Some(&48));
}

#[test]
fn packing_is_deterministic_and_the_payload_independent_of_the_program() {
    let scratch = Scratch::new();
    let (one, two, other) = (scratch.path("one"), scratch.path("two"), scratch.path("other"));
    pack(&stories(), &one, &[]);
    pack(&stories(), &two, &[]);
    assert!(fs::read(&one).unwrap() == fs::read(&two).unwrap());
    pack(&stories(), &other, &["--program", "/bin/sh"]);
    let (one, other) = (opened(&one), opened(&other));
    assert_eq!(one.payload_sha256, other.payload_sha256);
    assert_eq!(one.manifest, other.manifest);
    assert_ne!(one.program_sha256, other.program_sha256);
}

/// Suspicious models are reported while packing.
#[test]
fn a_trial_reports_suspicious_templates() {
    let scratch = Scratch::new();
    let pack_with = |template: &str| {
        let (model, packed) = (scratch.path("model.gguf"), scratch.path("packed"));
        let bytes = part_of_stories(0, usize::MAX, |original| {
            let mut writer = GgufWriter::with_metadata(&original.metadata);
            writer.set("tokenizer.chat_template", Value::String(template.into()));
            writer
        });
        fs::write(&model, bytes).unwrap();
        pack(&model, &packed, &["--force"])
    };
    let conversation = |end: &str| format!("{{% for m in messages %}}{{{{ m.content + '{end}' }}}}{{% endfor %}}");
    let talks_on = pack_with(&conversation("<end>"));
    assert!(talks_on.contains("Note: the chat template ends an answer with \"<end>\""), "{talks_on}");
    let ends = pack_with(&conversation("</s>"));
    assert!(!ends.contains("ends an answer with"), "{ends}");
    let refuses = pack_with("{{ raise_exception('No \\x1b[2Jmore.') }}");
    assert!(
        refuses.contains("Note: a short conversation cannot be rendered") && !refuses.contains('\x1b'),
        "{refuses}"
    );
}

#[test]
fn a_packed_file_packs_another_model_and_verifies_itself() {
    let scratch = Scratch::new();
    let (first, small, second, third) =
        (scratch.path("first"), scratch.path("small.gguf"), scratch.path("second"), scratch.path("third"));
    pack(&stories(), &first, &[]);
    let renamed = part_of_stories(0, usize::MAX, |original| {
        let mut writer = GgufWriter::with_metadata(&original.metadata);
        writer.set("general.name", Value::String("Another".into()));
        writer
    });
    fs::write(&small, renamed).unwrap();
    run(&first, &["pack".as_ref(), small.as_os_str(), "-o".as_ref(), second.as_os_str()]).ok();
    pack(&small, &third, &["--program", first.to_str().unwrap()]);
    assert!(fs::read(&second).unwrap() == fs::read(&third).unwrap());
    assert_eq!(opened(&second).model_entries()[0].size, fs::metadata(&small).unwrap().len());
    assert_eq!(opened(&second).manifest.name, "Another");
    assert_eq!(opened(&second).program_sha256, opened(&first).program_sha256);
    let verdict = run(&second, &["verify"]).ok();
    assert!(verdict.contains("good  model.gguf") && verdict.contains(": whole"), "{verdict}");
}

#[test]
fn a_split_model_is_packed_whole_whichever_part_is_given() {
    let scratch = Scratch::new();
    let name = |part: u16| scratch.path(&format!("tales-{part:05}-of-00003.gguf"));
    let mut parts = Vec::new();
    for part in 0..3_u16 {
        let bytes = part_of_stories(usize::from(part) * 20, usize::from(part) * 20 + 20, |original| {
            let mut writer = match part {
                0 => GgufWriter::with_metadata(&original.metadata),
                _ => GgufWriter::new(),
            };
            writer.set("split.no", Value::U16(part)).set("split.count", Value::U16(3));
            writer.set("split.tensors.count", Value::I32(original.tensors.len() as i32));
            writer
        });
        fs::write(name(part + 1), &bytes).unwrap();
        parts.push(bytes);
    }
    let packed = scratch.path("packed");
    for given in 1..=3 {
        pack(&name(given), &packed, &["--force"]);
        let bytes = fs::read(&packed).unwrap();
        let bundle = Bundle::open(&bytes).unwrap().unwrap();
        assert_eq!(bundle.manifest.name, "tinyllamas-stories-260k");
        assert_eq!(bundle.model_entries().len(), 3);
        for (number, (entry, part)) in (1..).zip(bundle.model_entries().iter().zip(&parts)) {
            assert_eq!(entry.name, format!("model-{number:05}-of-00003.gguf"));
            assert_eq!((entry.offset % 65536, entry.stored_in(&bytes)), (0, Some(part.as_slice())));
        }
    }
    fs::remove_file(name(2)).unwrap();
    satchel(&["pack".as_ref(), name(1).as_os_str()]).refused(1, &["tales-00002-of-00003.gguf", "missing"]);
    fs::rename(name(1), scratch.path("renamed.gguf")).unwrap();
    satchel(&["pack".as_ref(), scratch.path("renamed.gguf").as_os_str()])
        .refused(1, &["part 1 of 3", "00001-of-00003"]);
}

/// A file that counts the bytes read from it.
struct Counted {
    file: File,
    read_bytes: usize,
}

impl Read for Counted {
    fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
        let read = self.file.read(buffer)?;
        self.read_bytes += read;
        Ok(read)
    }
}

impl Seek for Counted {
    fn seek(&mut self, to: SeekFrom) -> std::io::Result<u64> {
        self.file.seek(to)
    }
}

#[test]
fn a_model_beyond_four_gigabytes_keeps_its_size_its_holes_and_its_end() {
    let scratch = Scratch::new();
    let (model, packed) = (scratch.path("big.gguf"), scratch.path("big"));
    let model_bytes = sparse_model(&model, 11);
    assert!(model_bytes > 4 << 30);
    pack(&model, &packed, &["-q"]);
    let mut counted = Counted { file: File::open(&packed).unwrap(), read_bytes: 0 };
    let begun = Instant::now();
    let bundle = Bundle::open_from(&mut counted).unwrap().unwrap();
    println!("opened a bundle of {model_bytes} bytes in {:?}", begun.elapsed());
    // Opening reads the gap before the model, up to 64 KiB, to check that it is zeros.
    assert!(counted.read_bytes < 80 << 10, "opening reads {} bytes", counted.read_bytes);
    let entry = bundle.model_entries()[0].clone();
    assert_eq!((entry.size, entry.offset % 65536), (model_bytes, 0));
    let mut file = File::open(&packed).unwrap();
    file.seek(SeekFrom::Start(entry.offset + entry.size - 8)).unwrap();
    let mut end = [0; 8];
    file.read_exact(&mut end).unwrap();
    assert_eq!(&end, b"the end.");
    let (model_blocks, packed_blocks) = (fs::metadata(&model).unwrap().blocks(), file.metadata().unwrap().blocks());
    if model_blocks * 512 < model_bytes / 2 {
        assert!(packed_blocks * 512 < model_bytes / 2, "holes stay holes: {model_blocks}, {packed_blocks}");
    }
    if Command::new("unzip").arg("-v").output().is_err() {
        return skip("unzip beyond 4 GiB", "unzip is not installed");
    }
    let listed = run("unzip", &["-l".as_ref(), packed.as_os_str()]);
    assert!(listed.stdout.contains(&model_bytes.to_string()), "{listed:?}");
    // Its header and data lie beyond 4 GiB; the model itself would take unzip half a minute.
    let tested = run("unzip", &["-t".as_ref(), packed.as_os_str(), "manifest.json".as_ref()]);
    assert!(!tested.stdout.to_lowercase().contains("warning") && tested.stderr.is_empty(), "{tested:?}");
    tested.ok();
}

#[test]
fn licences_and_a_page_are_packed_and_unpacked() {
    let scratch = Scratch::new();
    let page = scratch.path("page");
    fs::create_dir_all(page.join("assets")).unwrap();
    fs::write(page.join("index.html"), "<title>mine</title>".repeat(500)).unwrap();
    fs::write(page.join("assets/a.js"), "1").unwrap();
    fs::write(scratch.path("MODEL-LICENSE"), "do as you like").unwrap();
    let packed = scratch.path("p");
    let license = scratch.path("MODEL-LICENSE");
    pack(&stories(), &packed, &["--ui", page.to_str().unwrap(), "--license", license.to_str().unwrap()]);
    let names: Vec<_> = opened(&packed).entries().iter().map(|entry| entry.name.clone()).collect();
    let expected =
        ["model.gguf", "ui/assets/a.js", "ui/index.html", "licenses/Satchel-LICENSE.txt", "licenses/MODEL-LICENSE"];
    assert_eq!(names, expected);

    let out = scratch.path("out");
    run(&packed, &["unpack".as_ref(), "-o".as_ref(), out.as_os_str()]).ok();
    for (taken, original) in [
        ("model.gguf", stories()),
        ("ui/index.html", page.join("index.html")),
        ("ui/assets/a.js", page.join("assets/a.js")),
        ("licenses/MODEL-LICENSE", license),
    ] {
        assert!(fs::read(out.join(taken)).unwrap() == fs::read(original).unwrap(), "{taken}");
    }
    let manifest = satchel(&[
        "unpack".as_ref(),
        packed.as_os_str(),
        "-e".as_ref(),
        "manifest.json".as_ref(),
        "-o".as_ref(),
        "-".as_ref(),
    ]);
    assert_eq!(manifest.ok(), fs::read_to_string(out.join("manifest.json")).unwrap());
    run("unzip", &["-tq".as_ref(), packed.as_os_str()]).ok();
}

#[test]
fn unpack_overwrites_only_with_force_and_never_follows_links() {
    let scratch = Scratch::new();
    let (packed, out, outside) = (scratch.path("p"), scratch.path("out"), scratch.path("outside"));
    pack(&stories(), &packed, &[]);
    let unpack = |more: &[&str]| {
        let args = ["unpack", packed.to_str().unwrap(), "-q", "-o", out.to_str().unwrap()];
        satchel(&[&args, more].concat())
    };
    fs::create_dir_all(&out).unwrap();
    fs::write(out.join("manifest.json"), "mine").unwrap();
    unpack(&[]).refused(1, &["manifest.json exists", "--force"]);
    assert_eq!(fs::read_to_string(out.join("manifest.json")).unwrap(), "mine");
    assert!(!out.join("model.gguf").exists(), "nothing is written when something is in the way");
    unpack(&["-e", "nothing"]).refused(1, &["no entry nothing", "model.gguf"]);

    fs::create_dir_all(&outside).unwrap();
    std::os::unix::fs::symlink(&outside, out.join("licenses")).unwrap();
    unpack(&["--force"]).refused(1, &["licenses", "links are not followed"]);
    assert!(outside.read_dir().unwrap().next().is_none());
    // A link in place of an output file is refused, and its target left intact.
    fs::remove_file(out.join("licenses")).unwrap();
    fs::write(outside.join("target"), "keep").unwrap();
    fs::remove_file(out.join("manifest.json")).unwrap();
    std::os::unix::fs::symlink(outside.join("target"), out.join("manifest.json")).unwrap();
    unpack(&["--force"]).refused(1, &["manifest.json", "links are not followed"]);
    assert_eq!(fs::read_to_string(outside.join("target")).unwrap(), "keep");
    fs::remove_file(out.join("manifest.json")).unwrap();
    unpack(&["--force"]).ok();
    assert!(fs::symlink_metadata(out.join("manifest.json")).unwrap().is_file());
}

#[test]
fn without_an_output_the_file_is_named_after_the_model() {
    let scratch = Scratch::new();
    let mut command = Command::new(SATCHEL);
    command.arg("pack").arg("-m").arg(stories()).args(["--name", "Short Tales", "-q"]).current_dir(scratch.folder());
    assert_eq!(output(&mut command, b"").ok(), "");
    assert_eq!(names(&scratch), ["Short-Tales"]);
}

#[test]
fn verify_reports_in_json() {
    let scratch = Scratch::new();
    let packed = scratch.path("p");
    pack(&stories(), &packed, &[]);
    let report = satchel(&["verify".as_ref(), packed.as_os_str(), "--json".as_ref()]).ok();
    let report: serde_json::Value = serde_json::from_str(&report).unwrap();
    assert_eq!(report["good"], true);
    let names: Vec<_> =
        report["entries"].as_array().unwrap().iter().map(|entry| entry["name"].as_str().unwrap()).collect();
    let (page, others): (Vec<_>, Vec<_>) = names.into_iter().partition(|name| name.starts_with("ui/"));
    assert!(page.contains(&"ui/index.html"), "the page comes along: {page:?}");
    assert_eq!(others, ["program", "model.gguf", "licenses/Satchel-LICENSE.txt", "manifest.json"]);
    assert_eq!(report["entries"][1]["found_sha256"], STORIES_SHA256);
}
