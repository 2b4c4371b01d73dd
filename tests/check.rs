//! Checking the weights against their packed hash: before the first answer with `--check`, after it without.

use std::path::{Path, PathBuf};

use satchel_container::Bundle;
use serde_json::json;

use crate::served::Served;
use crate::support::{Scratch, satchel, stories};

fn text(path: &Path) -> &str {
    path.to_str().expect("UTF-8")
}

/// A packed model, and the same with one bit of its weights flipped.
fn packed(scratch: &Scratch) -> [PathBuf; 2] {
    let (good, flipped) = (scratch.path("good"), scratch.path("flipped"));
    satchel(&["pack", "-q", text(&stories()), "-o", text(&good)]).ok();
    let mut bytes = std::fs::read(&good).expect("it was packed");
    let entry = Bundle::open(&bytes).expect("a bundle").expect("a bundle").model_entries()[0].clone();
    bytes[(entry.offset + entry.size - 1000) as usize] ^= 1;
    std::fs::write(&flipped, bytes).expect("scratch");
    [good, flipped]
}

const DAMAGED: &str = "model.gguf does not match its SHA-256, the weights are damaged: get the file again";

#[test]
fn with_check_the_weights_are_verified_before_the_answer() {
    let scratch = Scratch::new();
    let [good, flipped] = packed(&scratch);
    let run = |model: &Path| satchel(&["run", "-m", text(model), "--check", "--raw", "Once", "-n", "2"]);
    run(&good).ok();
    let line = run(&flipped).failed(1);
    assert!(line.contains(text(&flipped)) && line.ends_with(DAMAGED), "{line}");
    for command in ["serve", "chat"] {
        let line = satchel(&[command, "-m", text(&flipped), "--check"]).failed(1);
        assert!(line.ends_with(DAMAGED), "{line}");
    }
    let line = run(&stories()).failed(1);
    assert!(line.contains("a plain GGUF carries no hash"), "{line}");
}

#[test]
fn without_check_a_server_detects_damage_after_its_first_answer() {
    let scratch = Scratch::new();
    let [good, flipped] = packed(&scratch);
    let ask = json!({"prompt": "Once", "max_tokens": 2});
    let weights = |server: &Served| server.health()["weights"].as_str().map(str::to_owned);

    let server = Served::start(&good, &[]);
    assert_eq!(weights(&server).as_deref(), Some("unchecked"));
    assert_eq!(server.post("/v1/completions", &ask).status, 200);
    server.until("the weights are good", |health| health["weights"] == "good");
    assert_eq!(weights(&Served::start(&good, &["--check"])).as_deref(), Some("good"));
    assert_eq!(weights(&Served::start(&stories(), &[])).as_deref(), Some("unknown"));

    let server = Served::start(&flipped, &[]);
    assert_eq!(server.post("/v1/completions", &ask).status, 200);
    server.until("the damage is found", |health| health["weights"] == "damaged");
    // The page shows this message.
    let line = server.post("/v1/completions", &ask).error(503, None, Some("model_damaged"));
    assert!(line.ends_with(DAMAGED), "{line}");
}
