//! Weights are used in place from the mapping: a server holds no second copy of them. Its peak memory matches the prediction.

use std::fs;
use std::path::Path;

use crate::served::Served;
use crate::support::{Scratch, satchel, skip, smollm2};

/// A value in KiB from a file in `/proc/PID`; `None` on systems without it.
fn process_kib(server: &Served, file: &str, name: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{}/{file}", server.pid())).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel reports it");
    Some(line.trim().trim_end_matches("kB").trim().parse().expect("a number"))
}

#[test]
fn a_server_holds_no_copy_of_the_weights() {
    let Some(model) = smollm2() else { return };
    let model_kib = fs::metadata(&model).expect("it is there").len() >> 10;
    let server = Served::start(&model, &[]);
    let prompt = "Once upon a time there was a dragon. ".repeat(40);
    let body = serde_json::json!({ "prompt": prompt, "max_tokens": 16, "ignore_eos": true });
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let kib = |name| process_kib(&server, "smaps_rollup", name);
    let (Some(resident), Some(own)) = (kib("Rss:"), kib("Anonymous:")) else {
        return skip("resident memory", "this system does not report it (/proc/PID/smaps_rollup)");
    };
    println!("model {model_kib} KiB; resident {resident} KiB, of these {own} KiB anonymous");
    assert!(resident > model_kib / 2, "the weights are mapped");
    // Vocabulary, activations of a batch, some blocks of the KV cache.
    assert!(own < model_kib / 3, "{own} KiB anonymous memory for a model of {model_kib} KiB");
}

/// The sizes in the `memory` line of a server's block, in KiB: total, mapped, context, working memory. Excludes the memory for
/// requests: those here are small.
fn predicted_kib(block: &str) -> [f64; 4] {
    let line = block.lines().find_map(|line| line.trim().strip_prefix("memory ")).expect("a line about memory");
    let words: Vec<&str> = line.split_whitespace().collect();
    let sizes = words.windows(2).filter_map(|pair| {
        let unit = match pair[1] {
            "KiB" => 1.0,
            "MiB" => 1024.0,
            "GiB" => 1048576.0,
            _ => return None,
        };
        Some(pair[0].parse::<f64>().expect("a number before its unit") * unit)
    });
    sizes.take(4).collect::<Vec<_>>().try_into().expect("four sizes")
}

/// Fills `parallel` contexts of 1024 tokens, one after the other, and compares the server's memory with the prediction.
fn compare(model: &Path, parallel: usize) {
    let server = Served::start(model, &["-c", "1024", "--parallel", &parallel.to_string()]);
    for sequence in 0..parallel {
        // Any token ids below 400; no two prompts share a prefix, so nothing is reused.
        let prompt: Vec<usize> = (0..1000).map(|at| 20 + (at * 7 + sequence * 31) % 380).collect();
        let answer = server.post("/v1/completions", &serde_json::json!({ "prompt": prompt, "ignore_eos": true }));
        assert_eq!(answer.status, 200, "{answer:?}");
        assert_eq!(answer.json()["usage"]["total_tokens"], 1024, "{answer:?}");
    }
    let [total, mapped, context, working] = predicted_kib(&server.block);
    let report = satchel(&["inspect", "--json", "--no-hash", "-m", model.to_str().expect("UTF-8")]).ok();
    let report: serde_json::Value = serde_json::from_str(&report).expect("JSON");
    let program = report["memory"]["contexts"][0]["program_bytes"].as_f64().expect("a size") / 1024.0;
    let peak = process_kib(&server, "status", "VmHWM:");
    let (Some(peak), Some(own)) = (peak, process_kib(&server, "smaps_rollup", "Anonymous:")) else {
        return skip("peak memory", "this system does not report it (/proc/PID/status)");
    };
    let predicted_own = context + working - program;
    println!(
        "predicted {total} KiB ({mapped} mapped, {predicted_own} anonymous), peak {peak} KiB, anonymous {own} KiB"
    );
    // A slow or busy machine prefills in smaller batches than the prediction assumes, so it may use less: down to nine tenths
    // of the total, three fifths of anonymous memory. Exceeding the prediction by more than a twentieth is an error.
    let matches = |predicted: f64, found: u64, slack: f64| {
        let ratio = found as f64 / predicted;
        ratio < 1.05 && ratio > 1.0 - slack
    };
    assert!(matches(total, peak, 0.1), "predicted {total} KiB, peak {peak} KiB");
    // The mapped file could hide an error in the rest, so anonymous memory is checked by itself.
    assert!(matches(predicted_own, own, 0.4), "predicted {predicted_own} KiB anonymous memory, found {own} KiB");
}

#[test]
fn peak_memory_stays_within_the_prediction() {
    let Some(model) = smollm2() else { return };
    compare(&model, 1);
}

#[test]
fn peak_memory_of_another_shape_is_predicted_too() {
    let Some(vocabulary) = smollm2() else { return };
    let scratch = Scratch::new();
    let [model, vocabulary] =
        [scratch.path("wide.gguf"), vocabulary].map(|path| path.to_str().expect("UTF-8").to_owned());
    let shape = ["--width", "512", "--layers", "8", "--heads", "8", "--kv-heads", "8", "--feed-forward", "2048"];
    let file = ["random-model", "F16", "-o", &model, "--vocabulary", &vocabulary];
    satchel(&[&file[..], &shape].concat()).ok();
    compare(Path::new(&model), 2);
}
