//! Every architecture against llama.cpp: logits of tiny models with random weights, on every kernel table and in several
//! chunk sizes.
//!
//! Calls the library in this process: starting the executable for each combination would take minutes.

use std::path::{Path, PathBuf};

use satchel::TokenId;
use satchel::engine::{Evaluator, Wanted};
use satchel::kernels::{Kernels, tables_under_test};
use satchel::session::ModelSource;
use satchel::session::open::{Compute, OpenError, load_model};
use serde::Deserialize;

use crate::support;

/// A model, and llama.cpp's logits for it.
#[derive(Deserialize)]
struct Reference {
    model: String,
    logits: String,
    tokens: Vec<TokenId>,
    nmse_max: f64,
}

fn folder() -> PathBuf {
    support::data("architectures")
}

fn references() -> Vec<Reference> {
    let manifest = std::fs::read(folder().join("manifest.json")).expect("the manifest");
    serde_json::from_slice(&manifest).expect("the manifest is JSON")
}

/// Logits of all tokens, prefilled `chunk` at a time.
fn logits(path: &Path, kernels: &'static Kernels, tokens: &[TokenId], chunk: usize) -> Result<Vec<f32>, OpenError> {
    let source = ModelSource::open(Some(path))?;
    let loaded = load_model(&source, Compute { kernels, threads: 2, cache: Default::default() }, None)?;
    let mut evaluator = Evaluator::new(loaded, tokens.len());
    let mut all = Vec::new();
    for chunk in tokens.chunks(chunk) {
        all.extend_from_slice(evaluator.append(chunk, Wanted::All).expect("the context has room"));
    }
    Ok(all)
}

/// `sum((a - b)²) / sum(b²)`
fn nmse(found: &[f32], expected: &[f32]) -> f64 {
    assert_eq!(found.len(), expected.len());
    let pairs = found.iter().zip(expected).map(|(a, b)| (f64::from(*a), f64::from(*b)));
    pairs.clone().map(|(a, b)| (a - b).powi(2)).sum::<f64>() / pairs.map(|(_, b)| b * b).sum::<f64>()
}

/// Checks one model on one table; the error says what is wrong.
fn fault(reference: &Reference, kernels: &'static Kernels) -> Result<(), String> {
    let path = folder().join(&reference.model);
    let expected = std::fs::read(folder().join(&reference.logits)).expect("the logits");
    let expected: Vec<f32> = expected.as_chunks::<4>().0.iter().map(|bytes| f32::from_le_bytes(*bytes)).collect();
    let mut whole: Option<Vec<f32>> = None;
    for chunk in [reference.tokens.len(), 7, 1] {
        let found = logits(&path, kernels, &reference.tokens, chunk).map_err(|error| error.to_string())?;
        let Some(whole) = &whole else {
            let error = nmse(&found, &expected);
            println!("{} on {}: nmse {error:.2e} of {:.2e}", reference.model, kernels.name, reference.nmse_max);
            if error.is_nan() || error > reference.nmse_max {
                return Err(format!("nmse {error:.2e}, at most {:.2e}", reference.nmse_max));
            }
            whole = Some(found);
            continue;
        };
        if found.iter().zip(whole).any(|(a, b)| a.to_bits() != b.to_bits()) {
            return Err(format!("chunks of {chunk} change the logits"));
        }
    }
    Ok(())
}

#[test]
fn every_architecture_gives_llama_cpps_logits() {
    let references = references();
    let mut faults = Vec::new();
    for kernels in tables_under_test("architectures") {
        for reference in &references {
            if let Err(fault) = fault(reference, kernels) {
                faults.push(format!("{} on {}: {fault}", reference.model, kernels.name));
            }
        }
    }
    assert!(faults.is_empty(), "{} faults:\n{}", faults.len(), faults.join("\n"));
}
