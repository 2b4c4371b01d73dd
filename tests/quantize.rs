//! `satchel quantize` from file to text: every type, the same bytes on any number of threads, and invalid input.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use satchel_gguf::{Gguf, GgufWriter, TensorType};

use crate::bad_bundle::{Refused, names, run_mounted, signal};
use crate::pack::sparse_model;
use crate::support::{Printed, SATCHEL, Scratch, output, satchel, skip, smollm2, stories};

/// Each type, with a limit on how far a random model's logits may be from those in F32: NMSE, about twice the measured value.
const TYPES: [(&str, f64); 18] = [
    ("F32", 0.0),
    ("F16", 1e-5),
    ("BF16", 1e-4),
    ("Q8_0", 1e-3),
    ("Q4_0", 0.09),
    ("Q4_1", 0.09),
    ("Q5_0", 0.025),
    ("Q5_1", 0.025),
    ("Q2_K", 0.6),
    ("Q2_K_S", 0.9),
    ("Q3_K_S", 0.3),
    ("Q3_K_M", 0.16),
    ("Q3_K_L", 0.15),
    ("Q4_K_S", 0.065),
    ("Q4_K_M", 0.065),
    ("Q5_K_S", 0.02),
    ("Q5_K_M", 0.02),
    ("Q6_K", 0.007),
];

fn quantize(input: &Path, out: &Path, ty: &str, more: &[&str]) -> Printed {
    let files = ["quantize", "-q", input.to_str().expect("UTF-8"), out.to_str().expect("UTF-8"), ty];
    satchel(&[&files, more].concat())
}

fn logits(scratch: &Scratch, model: &Path) -> Vec<f64> {
    let (tokens, out) = (scratch.path("tokens"), scratch.path("logits"));
    let ids: Vec<String> = (0..40).map(|index| (index * 37 % 500 + 3).to_string()).collect();
    fs::write(&tokens, ids.join(" ")).expect("a scratch file");
    let [model, tokens, out] = [model, &tokens, &out].map(|path| path.to_str().expect("UTF-8"));
    satchel(&["logits", "-m", model, "--tokens", tokens, "--force", "-o", out]).ok();
    let bytes = fs::read(out).expect("the logits");
    bytes.as_chunks::<4>().0.iter().map(|bytes| f64::from(f32::from_le_bytes(*bytes))).collect()
}

/// A two-layer model in F32, whose row lengths are multiples of every block size.
fn random_model(scratch: &Scratch) -> PathBuf {
    let (path, vocabulary) = (scratch.path("random.gguf"), stories());
    let shape = ["--width", "256", "--layers", "2", "--heads", "4", "--kv-heads", "2", "--feed-forward", "512"];
    let files = ["--vocabulary", vocabulary.to_str().expect("UTF-8"), "-o", path.to_str().expect("UTF-8")];
    satchel(&[&["random-model", "F32"], &shape[..], &files[..]].concat()).ok();
    path
}

#[test]
fn every_types_logits_are_close_to_the_originals() {
    let scratch = Scratch::new();
    let original = random_model(&scratch);
    let expected = logits(&scratch, &original);
    let power: f64 = expected.iter().map(|value| value * value).sum();
    for (ty, most) in TYPES {
        let path = scratch.path(&format!("{ty}.gguf"));
        quantize(&original, &path, ty, &[]).ok();
        let found = logits(&scratch, &path);
        let error: f64 = found.iter().zip(&expected).map(|(a, b)| (a - b).powi(2)).sum();
        println!("{ty}: {:.2e}, {} bytes", error / power, fs::metadata(&path).expect("it is there").len());
        assert!(error / power <= most, "{ty}: {}", error / power);
    }
}

#[test]
fn the_output_has_the_new_types_and_the_old_metadata() {
    let scratch = Scratch::new();
    let out = scratch.path("out.gguf");
    quantize(&random_model(&scratch), &out, "q4_k", &[]).ok();
    let bytes = fs::read(&out).expect("it is there");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    assert_eq!(gguf.metadata.get_u32("general.file_type"), Ok(Some(15)), "Q4_K is Q4_K_M");
    assert_eq!(gguf.metadata.get_u32("general.quantization_version"), Ok(Some(2)));
    assert_eq!(gguf.metadata.require_str_array("tokenizer.ggml.tokens").expect("the vocabulary").len(), 512);
    let ty = |name: &str| gguf.tensors.iter().find(|tensor| tensor.name == name).expect(name).ty;
    assert_eq!(ty("token_embd.weight"), TensorType::Q6_K, "the embedding doubles as the output matrix");
    assert_eq!(ty("blk.0.attn_q.weight"), TensorType::Q4_K);
    assert_eq!(ty("blk.0.attn_norm.weight"), TensorType::F32);
    quantize(&scratch.path("random.gguf"), &out, "Q4_K_M", &["--pure", "--force"]).ok();
    let bytes = fs::read(&out).expect("it is there");
    let pure = Gguf::parse(&bytes).expect("it is valid");
    assert!(pure.tensors.iter().all(|tensor| tensor.ty == TensorType::Q4_K || tensor.rows() == 1));
}

#[test]
fn the_output_is_the_same_for_any_number_of_threads_and_from_a_packed_file() {
    let scratch = Scratch::new();
    let [one, three, packed, from_packed] = ["one", "three", "packed", "from-packed"].map(|name| scratch.path(name));
    quantize(&stories(), &one, "Q5_K_M", &["-t", "1"]).ok();
    quantize(&stories(), &three, "Q5_K_M", &["--threads", "3"]).ok();
    assert_eq!(fs::read(&one).expect("one"), fs::read(&three).expect("three"));
    satchel(&["pack", "-q", stories().to_str().expect("UTF-8"), "-o", packed.to_str().expect("UTF-8")]).ok();
    quantize(&packed, &from_packed, "Q5_K_M", &[]).ok();
    assert_eq!(fs::read(&one).expect("one"), fs::read(&from_packed).expect("packed"));
}

#[test]
fn a_split_model_becomes_one_file() {
    let scratch = Scratch::new();
    let original = fs::read(stories()).expect("the small model");
    let gguf = Gguf::parse(&original).expect("it is valid");
    for part in 0..2u16 {
        let mut writer = GgufWriter::with_metadata(&gguf.metadata);
        writer.set("split.no", satchel_gguf::Value::U16(part)).set("split.count", satchel_gguf::Value::U16(2));
        writer.set("split.tensors.count", satchel_gguf::Value::I32(gguf.tensors.len() as i32));
        let mut data = Vec::new();
        for tensor in gguf.tensors.iter().skip(20 * usize::from(part)).take(if part == 0 { 20 } else { usize::MAX }) {
            writer.tensor(&tensor.name, &tensor.dimensions, tensor.ty).expect("a tensor it had");
            data.push(&original[tensor.offset as usize..tensor.end() as usize]);
        }
        let bytes = writer.layout().expect("it fits").to_bytes(&data).expect("as laid out");
        fs::write(scratch.path(&format!("s-0000{}-of-00002.gguf", part + 1)), bytes).expect("scratch");
    }
    let (whole, joined) = (scratch.path("whole"), scratch.path("joined"));
    quantize(&stories(), &whole, "Q8_0", &[]).ok();
    quantize(&scratch.path("s-00002-of-00002.gguf"), &joined, "Q8_0", &[]).ok();
    assert_eq!(fs::read(whole).expect("whole"), fs::read(joined).expect("joined"));
}

#[test]
fn eight_bits_generate_the_same_story() {
    let scratch = Scratch::new();
    let out = scratch.path("q8.gguf");
    let said = satchel(&["quantize", stories().to_str().expect("UTF-8"), out.to_str().expect("UTF-8"), "Q8_0"]).ok();
    assert!(said.contains("Q8_0") && said.contains("bits a weight") && said.contains("F16"), "{said}");
    let run =
        ["run", "--raw", "--temperature", "0", "-n", "20", "-m", out.to_str().expect("UTF-8"), "Once upon a time"];
    assert!(satchel(&run).ok().starts_with(", there was a little girl named Lily."));
}

/// The small model with one weight changed.
fn with_weight(scratch: &Scratch, value: f32) -> PathBuf {
    let mut bytes = fs::read(stories()).expect("the small model");
    let gguf = Gguf::parse(&bytes).expect("it is valid");
    let tensor = gguf.tensors.iter().find(|tensor| tensor.name == "blk.3.ffn_up.weight").expect("it has one");
    // Row 2, column 5, with 64 columns per row.
    let at = tensor.offset as usize + 4 * (2 * 64 + 5);
    bytes[at..at + 4].copy_from_slice(&value.to_le_bytes());
    let path = scratch.path("changed.gguf");
    fs::write(&path, bytes).expect("scratch");
    path
}

#[test]
fn invalid_input_is_refused_and_leaves_no_files() {
    let scratch = Scratch::new();
    let out = scratch.path("out.gguf");
    let original = fs::read(stories()).expect("the small model");
    fs::write(scratch.path("cut.gguf"), &original[..original.len() - 1]).expect("scratch");
    fs::write(scratch.path("text.gguf"), "hello").expect("scratch");
    quantize(&stories(), &scratch.path("q4.gguf"), "Q4_0", &[]).ok();
    let changed = with_weight(&scratch, f32::NAN);
    let before = names(&scratch);
    for (input, part) in [("cut.gguf", "cut off"), ("text.gguf", "not a GGUF"), ("missing.gguf", "No such file")] {
        quantize(&scratch.path(input), &out, "Q8_0", &[]).refused(1, &[input, part]);
    }
    quantize(&scratch.path("q4.gguf"), &out, "Q8_0", &[]).refused(1, &["q4.gguf", "Q4_0", "--allow-requantize"]);
    for (value, ty, part) in
        [(f32::NAN, "Q4_K_M", "NaN is not a weight"), (f32::NEG_INFINITY, "F16", "-inf is not a weight")]
    {
        with_weight(&scratch, value);
        quantize(&changed, &out, ty, &[]).refused(1, &["changed.gguf", "blk.3.ffn_up.weight, row 2", part]);
    }
    with_weight(&scratch, 7e4);
    quantize(&changed, &out, "Q8_0", &[]).refused(1, &["row 2", "70000 is beyond what Q8_0 can hold", "BF16"]);
    quantize(&stories(), &scratch.path("no/such/folder"), "Q8_0", &[]).refused(1, &["does not exist"]);
    quantize(&stories(), &scratch.path("q4.gguf"), "Q8_0", &[]).refused(1, &["q4.gguf", "--force"]);
    quantize(&changed, &changed, "BF16", &["--force"]).refused(1, &["its own input"]);
    quantize(&stories(), &out, "Q8_0", &["-t", "0"]).refused(1, &["--threads"]);
    let unknown = quantize(&stories(), &out, "Q9_K", &[]);
    assert!(unknown.code == Some(2) && unknown.stderr.contains("Q9_K") && unknown.stderr.contains("Q4_K_M"));
    assert_eq!(names(&scratch), before);
    quantize(&changed, &out, "BF16", &[]).ok();
    quantize(&scratch.path("q4.gguf"), &out, "Q8_0", &["--allow-requantize", "--force"]).ok();
}

#[test]
fn a_full_disk_is_reported_and_leaves_no_files() {
    let scratch = Scratch::new();
    match run_mounted(&scratch, "mount -t tmpfs -o size=300k none here", "\"$1\" quantize \"$2\" here/out F16 -q") {
        Some(run) => run.refused(1, &["no space for here/out", "kB are free"]),
        None => return skip("quantising to a full file system", "this user may not mount a tmpfs"),
    }
    assert_eq!(fs::read_to_string(scratch.path("listing")).expect("the listing"), "");
    let script = "trap '' XFSZ; ulimit -f 400; exec \"$1\" quantize \"$2\" out F16 -q";
    let mut shell = Command::new("sh");
    shell.args(["-c", script, "sh", SATCHEL]).arg(stories()).current_dir(scratch.folder()).stdin(Stdio::null());
    output(&mut shell, b"").refused(1, &["out", "File too large"]);
    assert!(!scratch.path("out").exists());
}

#[test]
fn an_interrupted_run_leaves_no_files_and_used_little_memory() {
    let scratch = Scratch::new();
    let (model, out) = (scratch.path("zeros.gguf"), scratch.path("out"));
    // 4 GB of zeros, as a sparse file: seconds of work.
    sparse_model(&model, 10);
    fs::write(&out, "before").expect("scratch");
    let mut command = Command::new(SATCHEL);
    command.arg("quantize").args([&model, &out]).args(["Q2_K", "--force"]).stdin(Stdio::null());
    let mut child = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().expect("it starts");
    let mut stderr = BufReader::new(child.stderr.take().expect("stderr is piped"));
    let mut said = String::new();
    stderr.read_line(&mut said).expect("a line");
    assert!(said.starts_with("quantising: 4"), "{said}");
    std::thread::sleep(Duration::from_millis(500));
    let status = fs::read_to_string(format!("/proc/{}/status", child.id()));
    signal(&child, "INT");
    stderr.read_to_string(&mut said).expect("the rest");
    assert_eq!(child.wait().expect("it ends").code(), Some(130), "{said}");
    assert!(said.ends_with("satchel: interrupted: nothing was left behind\n"), "{said}");
    assert_eq!(fs::read_to_string(&out).expect("it is there"), "before");
    assert_eq!(names(&scratch), ["out", "zeros.gguf"]);
    let Ok(status) = status else {
        return skip("memory of quantising", "this system does not report it (/proc/PID/status)");
    };
    let most = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("the kernel reports it");
    let kib: u64 = most.trim().trim_end_matches("kB").trim().parse().expect("a number");
    println!("peak memory: {kib} KiB");
    assert!(kib < 200 << 10, "{kib} KiB");
}

/// Against llama.cpp's perplexity on its own conversions of the same weights (SmolLM2's in Q4_1), on the same text; and against
/// itself with keys of the KV cache in Q4_0, which may cost 2 %.
#[test]
fn smollm2s_perplexity_matches_llama_cpps_files() {
    let Some(model) = smollm2() else { return };
    let text = Path::new("/usr/share/common-licenses/GPL-3");
    if !text.is_file() {
        return skip("perplexity", "the text, Debian's copy of the GNU GPL 3, is not on this machine");
    }
    let scratch = Scratch::new();
    for (ty, theirs) in [("F16", 18.2666), ("Q8_0", 18.2943), ("Q4_K_M", 19.0401), ("Q2_K", 24.9576)] {
        let path = scratch.path(&format!("{ty}.gguf"));
        quantize(&model, &path, ty, &["--allow-requantize"]).ok();
        let [path, text] = [&path, text].map(|path| path.to_str().expect("UTF-8"));
        let perplexity = |keys: &str| {
            let arguments =
                ["perplexity", "-m", path, "-f", text, "--bytes", "24000", "--json", "--cache-type-k", keys];
            let printed: serde_json::Value = serde_json::from_str(&satchel(&arguments).ok()).expect("JSON");
            printed["perplexity"].as_f64().expect("a number")
        };
        let found = perplexity("f16");
        if ty == "F16" {
            let cost = perplexity("q4_0") / found - 1.0;
            println!("{ty}: keys in Q4_0 cost {:.2} %", 100.0 * cost);
            assert!(cost < 0.02, "keys in Q4_0 cost {cost}");
        }
        let ratio = found / theirs;
        println!("{ty}: perplexity {:.4}, llama.cpp {theirs}, {:+.2} %", ratio * theirs, 100.0 * (ratio - 1.0));
        // Lower is better: at few bits, our products gain a little by quantising activations in groups of 32.
        assert!((0.99..1.005).contains(&ratio), "{ty}: {found:?}");
    }
}
