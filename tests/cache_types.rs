//! `--cache-type-k` and `--cache-type-v`: refused if unsupported, kept in a packed file, predicted and reported.

use std::ffi::OsString;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

use crate::bad_bundle::{Refused, names};
use crate::served::Served;
use crate::support::{Scratch, satchel, stories};

/// Two layers of two heads of 64, random weights.
fn model(scratch: &Scratch) -> PathBuf {
    let path = scratch.path("heads-of-64.gguf");
    let shape = ["--width", "128", "--layers", "2", "--heads", "2", "--kv-heads", "2", "--feed-forward", "256"];
    let mut arguments: Vec<OsString> = ["random-model", "F16", "-o"].map(OsString::from).into();
    arguments.extend([path.clone().into(), "--vocabulary".into(), stories().into()]);
    arguments.extend(shape.map(OsString::from));
    satchel(&arguments).ok();
    path
}

/// Bytes of a block of 64 positions with keys in Q8_0 and values in Q4_0: 34 and 18 per 32 elements.
const BLOCK_BYTES: u64 = 64 * 2 * 2 * (2 * 34 + 2 * 18);

#[test]
fn unsupported_types_are_refused() {
    let scratch = Scratch::new();
    let small = stories().into_os_string().into_string().expect("UTF-8");
    // Heads of 8 elements, but blocks of 32.
    satchel(&["run", "-m", &small, "--raw", "--cache-type-k", "q8_0", "x"])
        .refused(1, &["stories260K", "--cache-type-k q8_0", "8 elements", "use f16"]);
    satchel(&["bench", &small, "--cache-type-v", "q4_0"]).refused(1, &["--cache-type-v q4_0", "8 elements"]);
    let printed = satchel(&["run", "-m", &small, "--raw", "--cache-type-v", "q5_0", "x"]);
    let told = printed.stderr.contains("'q5_0' for '--cache-type-v <TYPE>': it must be f16, q8_0 or q4_0");
    assert!(printed.code == Some(2) && told, "{printed:?}");
    let out = scratch.path("packed").into_os_string().into_string().expect("UTF-8");
    satchel(&["pack", &small, "-o", &out, "--set", "cache_type_k=q4_0"]).refused(1, &["--cache-type-k q4_0"]);
    satchel(&["pack", &small, "-o", &out, "--set", "cache_type_v=q5_0"]).refused(2, &["f16, q8_0, q4_0"]);
    assert_eq!(names(&scratch), [""; 0]);
}

#[test]
fn a_packed_files_types_apply_unless_a_flag_overrides_them() {
    let scratch = Scratch::new();
    let (model, packed) = (model(&scratch), scratch.path("packed"));
    let mut arguments: Vec<OsString> = vec!["pack".into(), model.into(), "-o".into(), packed.clone().into()];
    arguments.extend(["--set", "cache_type_k=Q8_0", "--set", "cache_type_v=q4_0"].map(OsString::from));
    satchel(&arguments).ok();
    let types = |server: &Served| {
        let facts = server.get("/api/facts").json();
        ["cache_type_k", "cache_type_v"].map(|key| facts[key].as_str().expect(key).to_owned())
    };
    let server = Served::run(Command::new(&packed).arg("--no-browser"));
    assert_eq!(types(&server), ["Q8_0", "Q4_0"]);
    assert!(server.block.contains("kept in K Q8_0, V Q4_0"), "{}", server.block);
    // Twice: the second reuses the first's cached state.
    let prompt: Vec<usize> = (0..100).map(|at| 20 + at * 3 % 400).collect();
    let ask = || {
        let body = serde_json::json!({ "prompt": &prompt, "max_tokens": 40, "temperature": 0, "ignore_eos": true });
        server.post("/v1/completions", &body).json()
    };
    let (first, second) = (ask(), ask());
    assert_eq!(first["usage"]["completion_tokens"], 40, "{first}");
    assert_eq!(first["choices"][0]["text"], second["choices"][0]["text"]);
    drop(server);
    let plain = Served::run(Command::new(&packed).args(["--no-browser", "--cache-type-k", "f16"]));
    assert_eq!(types(&plain), ["F16", "Q4_0"], "the flag overrides");
}

#[test]
fn memory_is_predicted_and_reported_with_the_types() {
    let scratch = Scratch::new();
    let model = model(&scratch).into_os_string().into_string().expect("UTF-8");
    let types = ["--cache-type-k", "q8_0", "--cache-type-v", "q4_0"];
    let json = |arguments: &[&str]| -> Value {
        serde_json::from_str(&satchel(&[arguments, &types].concat()).ok()).expect("JSON")
    };
    let inspected = &json(&["inspect", "--json", "--no-hash", "-c", "65", &model])["memory"];
    assert_eq!(inspected["kv_type"], "K Q8_0, V Q4_0");
    assert_eq!(inspected["kv_bytes_per_token"], BLOCK_BYTES / 64);
    assert_eq!(inspected["contexts"][0]["kv_bytes"], 2 * BLOCK_BYTES);
    let measured = &json(&["bench", "-p", "200", "-n", "4", "-r", "1", "--json", &model])[0]["memory"];
    let bytes = |key: &str| measured[key].as_u64().expect(key);
    assert_eq!((&measured["kv_type"], bytes("kv_bytes")), (&"K Q8_0, V Q4_0".into(), 4 * BLOCK_BYTES));
    assert!((bytes("predicted_bytes") as f64 / bytes("total_bytes") as f64 - 1.0).abs() < 0.05, "{measured}");
    let table = satchel(&[&["bench", "-p", "8", "-n", "0", "-r", "1", &model][..], &types].concat()).ok();
    assert!(table.contains("\nKV cache: K Q8_0, V Q4_0\n"), "{table}");
    let text = satchel(&[&["inspect", "--no-hash", &model][..], &types].concat()).ok();
    assert!(text.contains("KV cache (K Q8_0, V Q4_0)"), "{text}");
}
