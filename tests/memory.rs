//! Weights are used where they are mapped: a server that has answered holds no second copy of them.

use std::fs;

use crate::served::Served;
use crate::support::{skip, smollm2};

#[test]
fn a_server_that_answered_holds_no_copy_of_the_weights() {
    let Some(model) = smollm2() else { return };
    let model_kib = fs::metadata(&model).expect("it is there").len() >> 10;
    let server = Served::start(&model, &[]);
    let prompt = "Once upon a time there was a dragon. ".repeat(40);
    let body = serde_json::json!({ "prompt": prompt, "max_tokens": 16, "ignore_eos": true });
    let answer = server.post("/v1/completions", &body);
    assert_eq!(answer.status, 200, "{answer:?}");
    let Ok(maps) = fs::read_to_string(format!("/proc/{}/smaps_rollup", server.pid())) else {
        return skip("resident memory", "this system does not tell it (/proc/PID/smaps_rollup)");
    };
    let kib = |name: &str| -> u64 {
        let line = maps.lines().find_map(|line| line.strip_prefix(name)).expect("the kernel tells it");
        line.trim().trim_end_matches("kB").trim().parse().expect("a number")
    };
    let (resident, own) = (kib("Rss:"), kib("Anonymous:"));
    println!("model {model_kib} KiB; resident {resident} KiB, of these {own} KiB memory of its own");
    assert!(resident > model_kib / 2, "the weights are mapped: {maps}");
    // Vocabulary, activations of a batch, some blocks of the KV cache.
    assert!(own < model_kib / 3, "{own} KiB of its own beside a model of {model_kib} KiB: {maps}");
}
