//! `satchel bench`: one row per model, the same figures as JSON, and the same perplexity as `satchel perplexity`.

use serde_json::Value;

use crate::bad_bundle::Refused;
use crate::support::{Scratch, satchel, stories};

const SHORT: [&str; 7] = ["bench", "-p", "16", "-n", "4", "-r", "1"];

/// The small model, the same in Q8_0, and a text of a few windows of 64 tokens.
fn files(scratch: &Scratch) -> [String; 3] {
    let text =
        "Once upon a time, there was a little girl named Lily. She loved to play outside in the park.\n".repeat(8);
    std::fs::write(scratch.path("text"), text).expect("a scratch file");
    let [model, small, text] = [stories(), scratch.path("small.gguf"), scratch.path("text")]
        .map(|path| path.into_os_string().into_string().expect("UTF-8"));
    satchel(&["quantize", "-q", &model, &small, "Q8_0"]).ok();
    [model, small, text]
}

#[test]
fn a_table_has_a_row_for_each_model() {
    let scratch = Scratch::new();
    let [model, small, text] = files(&scratch);
    let more = [model.as_str(), &small, "-f", &text, "--context", "64", "-t", "2", "--isa", "scalar"];
    let printed = satchel(&[&SHORT[..], &more].concat()).ok();
    let lines: Vec<Vec<&str>> = printed
        .lines()
        .take_while(|line| line.starts_with('|'))
        .map(|line| line.trim_matches('|').split('|').map(str::trim).collect())
        .collect();
    assert_eq!(lines.len(), 4, "{printed}");
    let heads = [
        "model",
        "type",
        "size",
        "parameters",
        "memory",
        "predicted",
        "threads",
        "kernels",
        "pp16",
        "tg4",
        "perplexity",
    ];
    assert_eq!(lines[0], heads);
    assert!(lines[1].iter().all(|cell| cell.trim_matches('-').len() <= 1), "{printed}");
    assert_eq!(lines[2][..2], ["stories260K-f32.v3.gguf", "F32"]);
    assert_eq!(lines[3][..2], ["small.gguf", "Q8_0"]);
    assert!(lines[2..].iter().all(|row| row[3..8] == ["292.8 K", row[4], row[5], "2", "scalar"]), "{printed}");
    assert!(lines[2..].iter().all(|row| row.len() == heads.len() && row[8].contains(" ± ")), "{printed}");
}

#[test]
fn json_has_the_same_figures_and_they_add_up() {
    let scratch = Scratch::new();
    let [model, small, text] = files(&scratch);
    let windows = ["-f", &text, "--context", "64", "--bytes", "600"];
    let printed = satchel(&[&SHORT[..], &["--json", &model, &small], &windows].concat()).ok();
    let reports: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
    assert_eq!(reports.len(), 2);
    for (report, path) in reports.iter().zip([&model, &small]) {
        assert_eq!(report["model"], path.as_str());
        assert_eq!(report["model_bytes"], std::fs::metadata(path).expect("it is there").len());
        let memory = &report["memory"];
        let bytes = |key: &str| memory[key].as_u64().expect(key);
        assert_eq!(bytes("total_bytes"), bytes("weights_bytes") + bytes("kv_bytes") + bytes("scratch_bytes"));
        let (predicted, total) = (bytes("predicted_bytes") as f64, bytes("total_bytes") as f64);
        assert!((predicted / total - 1.0).abs() < 0.05, "{memory}");
        // 5 layers of 4 heads of 8: keys and values in F16, in blocks of 64 positions.
        assert_eq!(bytes("kv_bytes"), 64 * 5 * 4 * 8 * 2 * 2);
        for test in ["pp16", "tg4"] {
            assert!(report["tests"][test]["avg_ts"].as_f64().expect(test) > 0.0);
            assert_eq!(report["tests"][test]["samples_ts"].as_array().expect(test).len(), 1);
        }
        let alone = satchel(&[&["perplexity", "--json", "-m", path], &windows[..]].concat()).ok();
        assert_eq!(report["perplexity"], serde_json::from_str::<Value>(&alone).expect("JSON"));
    }
}

#[test]
fn memory_is_the_peak_over_all_tests() {
    let model = stories().into_os_string().into_string().expect("UTF-8");
    let printed = satchel(&["bench", "-p", "200", "-n", "4", "-r", "1", "--json", &model]).ok();
    let reports: Vec<Value> = serde_json::from_str(&printed).expect("JSON");
    let bytes = |key: &str| reports[0]["memory"][key].as_u64().expect(key);
    assert_eq!(bytes("kv_bytes"), 4 * 64 * 5 * 4 * 8 * 2 * 2, "four blocks for the prompt, one for the answer");
    assert!((bytes("predicted_bytes") as f64 / bytes("total_bytes") as f64 - 1.0).abs() < 0.05, "{printed}");
}

#[test]
fn jsonl_has_a_line_per_test_with_its_settings() {
    let model = stories().into_os_string().into_string().expect("UTF-8");
    let printed = satchel(&[&SHORT[..], &["-m", &model, "-d", "32", "-o", "jsonl", "-t", "1"]].concat()).ok();
    let lines: Vec<Value> = printed.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let tests: Vec<&str> = lines.iter().map(|line| line["test"].as_str().expect("a name")).collect();
    assert_eq!(tests, ["pp16@d32", "tg4@d32"]);
    assert!(lines.iter().all(|line| line["model"] == model.as_str() && line["threads"] == 1));
}

#[test]
fn a_missing_model_is_reported_before_any_is_measured() {
    let model = stories().into_os_string().into_string().expect("UTF-8");
    let printed = satchel(&[&SHORT[..], &[&model, "missing.gguf"]].concat());
    assert_eq!(printed.stdout, "");
    printed.refused(1, &["missing.gguf", "No such file"]);
    satchel(&["bench", "-p", "0", "-n", "0", &model]).refused(2, &["nothing to measure"]);
}
