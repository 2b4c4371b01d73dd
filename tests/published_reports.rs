//! What was reported against other programs that read model files or serve models, as files and requests that this one must
//! bear.
//!
//! "Published reports and their tests" in `ARCHITECTURE.md` says what each report was and which of these tests stands for it.
//! Every file is built here. A refusal is status 1 and one line that names what is wrong; whatever is not refused runs to its
//! end, both within a minute of processor time and little address space, so that a loop or a huge allocation fails the test and
//! no more.

mod bundles;
mod file_format;
mod models;
mod requests;
mod templates;
mod vocabularies;
mod weights;

use std::path::{Path, PathBuf};
use std::process::Command;

use satchel_gguf::{Array, Gguf, GgufWriter, Metadata, TensorType, Value};

use crate::support::{Printed, SATCHEL, Scratch, output, satchel};

/// Address space of a run: some gigabytes less than what the files here claim.
const ADDRESS_SPACE_KIB: u64 = 1 << 20;

/// Processor time of a run.
const SECONDS: u64 = 60;

/// Runs the program within the limits.
fn bounded(arguments: &[&str]) -> Printed {
    if !cfg!(target_os = "linux") {
        return satchel(arguments);
    }
    let script = format!("ulimit -v {ADDRESS_SPACE_KIB} && ulimit -t {SECONDS} && exec \"$0\" \"$@\"");
    output(Command::new("sh").args(["-c", &script, SATCHEL]).args(arguments), b"")
}

/// A command on a model, `MODEL` and `OUT` in their places, and its failure in a line.
#[track_caller]
fn refused_by(scratch: &Scratch, model: &Path, command: &[&str], words: &str) {
    let (model, out) = (text(model), scratch.path("out"));
    let arguments: Vec<&str> = command
        .iter()
        .map(|&word| match word {
            "MODEL" => model,
            "OUT" => text(&out),
            word => word,
        })
        .collect();
    let line = bounded(&arguments).failed(1);
    assert!(line.starts_with("satchel: ") && line.len() < 800, "{command:?}: {line}");
    assert!(line.contains(words), "{command:?}: {line:?} should contain {words:?}");
    assert!(!out.exists(), "{command:?} left its output behind");
}

/// Every command that loads, runs or packs the model prints the line.
#[track_caller]
fn refused(scratch: &Scratch, model: &Path, words: &str) {
    std::fs::write(scratch.path("tokens"), "1 2").expect("scratch");
    let tokens = scratch.path("tokens");
    for command in [
        &["run", "-m", "MODEL", "--raw", "a", "-n", "2", "-t", "1"][..],
        &["logits", "-m", "MODEL", "--tokens", text(&tokens), "-t", "1", "-o", "OUT"],
        &["pack", "MODEL", "-q", "-o", "OUT"],
    ] {
        refused_by(scratch, model, command, words);
    }
}

/// The model gives some tokens, or it says in a line why not; which of both does not matter where a report is about a crash.
#[track_caller]
fn harmless(model: &Path) -> Printed {
    let printed = bounded(&["run", "-m", text(model), "--raw", "a", "-n", "4", "-t", "1", "--temperature", "0"]);
    let lines = printed.stderr.lines().filter(|line| line.starts_with("satchel: ")).count();
    let ended = if printed.code == Some(0) { lines == 0 } else { printed.code == Some(1) && lines == 1 };
    assert!(ended && !printed.stderr.contains("panicked"), "{printed:?}");
    printed
}

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

fn string(text: &str) -> Value {
    Value::String(text.to_owned())
}

fn strings<S: AsRef<str>>(texts: &[S]) -> Value {
    Value::Array(Array::String(texts.iter().collect()))
}

/// A tensor of a model that is changed here.
#[derive(Clone)]
struct Tensor {
    name: String,
    dimensions: Vec<u64>,
    ty: TensorType,
    bytes: Vec<u8>,
}

/// A sound model, to be made hostile.
#[derive(Clone)]
struct Model {
    metadata: Vec<(String, Value)>,
    tensors: Vec<Tensor>,
}

impl Model {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).expect("the model");
        let gguf = Gguf::parse(&bytes).expect("it is sound");
        let tensor = |info: &satchel_gguf::TensorInfo| Tensor {
            name: info.name.clone(),
            dimensions: info.dimensions.clone(),
            ty: info.ty,
            bytes: bytes[info.offset as usize..info.end() as usize].to_vec(),
        };
        let metadata = gguf.metadata.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        Self { metadata, tensors: gguf.tensors.iter().map(tensor).collect() }
    }

    fn set(mut self, key: &str, value: Value) -> Self {
        self.metadata.retain(|(other, _)| other != key);
        self.metadata.push((key.to_owned(), value));
        self
    }

    fn without(mut self, key: &str) -> Self {
        let before = self.metadata.len();
        self.metadata.retain(|(other, _)| other != key);
        assert!(self.metadata.len() < before, "{key} is there");
        self
    }

    fn tensor(&mut self, name: &str) -> &mut Tensor {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap_or_else(|| panic!("{name} is there"))
    }

    fn write(&self, scratch: &Scratch) -> PathBuf {
        let path = scratch.path("model.gguf");
        let metadata = Metadata::new(self.metadata.clone()).expect("no key comes twice");
        let mut writer = GgufWriter::with_metadata(&metadata);
        for tensor in &self.tensors {
            writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).expect("whole blocks");
        }
        let data: Vec<&[u8]> = self.tensors.iter().map(|tensor| tensor.bytes.as_slice()).collect();
        let bytes = writer.layout().expect("it fits").to_bytes(&data).expect("as laid out");
        std::fs::write(&path, bytes).expect("scratch");
        path
    }
}
