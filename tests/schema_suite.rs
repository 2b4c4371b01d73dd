//! The JSON Schema project's own tests: what they call invalid is never allowed by a schema that is taken.

use std::path::PathBuf;
use std::sync::Arc;

use satchel::TokenId;
use satchel::grammar::{Format, Grammars};
use satchel::session::ModelSource;
use satchel::tokenizer::Tokenizer;
use serde_json::Value;

use crate::support::{root, skip, stories};

/// The suite, from the sources of PyPI's `jsonschema`.
fn suite() -> Option<PathBuf> {
    let folder = root().join(".cache/schema-suite/draft2020-12");
    if folder.is_dir() {
        return Some(folder);
    }
    skip("JSON Schema's tests", "they are not here; tools/test.sh fetches them");
    None
}

/// Whether an answer may be exactly this; each step takes the longest token that the text goes on with.
fn allows(grammars: &Grammars, tokenizer: &Tokenizer, schema: &Value, answer: &str) -> Option<bool> {
    let grammar = grammars.compile(&Format::Schema(schema.clone())).ok()?;
    let ends = tokenizer.end_tokens();
    let mut constraint = grammar.constraint(Arc::clone(&ends));
    let mut rest = answer.as_bytes();
    while !rest.is_empty() {
        let mask = constraint.allowed().expect("a mask");
        let tokens = (0..tokenizer.vocab_size() as TokenId).filter(|&id| mask.allows(id));
        let fits = tokens.filter_map(|id| {
            let bytes = tokenizer.token_bytes(id, false);
            (!bytes.is_empty() && rest.starts_with(&bytes)).then_some((id, bytes.len()))
        });
        let Some((token, length)) = fits.max_by_key(|(_, length)| *length) else { return Some(false) };
        if constraint.accept(token).is_err() {
            return Some(false);
        }
        rest = &rest[length..];
    }
    let may_end = constraint.is_complete() || {
        let mask = constraint.allowed().expect("a mask");
        constraint.is_complete() || ends.iter().any(|&end| mask.allows(end))
    };
    Some(may_end)
}

#[test]
fn invalid_instances_are_never_allowed() {
    let Some(folder) = suite() else { return };
    let source = ModelSource::open(Some(stories().as_path())).expect("the model opens");
    let tokenizer = Arc::new(Tokenizer::from_gguf(&source.gguf.metadata).expect("its vocabulary"));
    let grammars = Grammars::new(Arc::clone(&tokenizer));
    let (mut taken, mut refused, mut invalid, mut valid, mut allowed) = (0, 0, 0, 0, 0);
    let mut wrong = Vec::new();
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder).expect("a folder").map(|file| file.expect("a file").path()).collect();
    files.retain(|path| path.is_file());
    files.sort();
    for path in files {
        let groups: Value = serde_json::from_slice(&std::fs::read(&path).expect("read")).expect("JSON");
        for group in groups.as_array().expect("groups") {
            let schema = &group["schema"];
            // A schema that allows nothing is refused: there would be no answer.
            match grammars.compile(&Format::Schema(schema.clone())) {
                Ok(_) => taken += 1,
                Err(error) => {
                    let line = error.to_string();
                    assert!(!line.is_empty() && line.lines().count() == 1, "{line}");
                    refused += 1;
                    continue;
                }
            }
            for test in group["tests"].as_array().expect("tests") {
                let allows = allows(&grammars, &tokenizer, schema, &test["data"].to_string()).expect("it compiled");
                match test["valid"].as_bool().expect("a verdict") {
                    true => (valid, allowed) = (valid + 1, allowed + usize::from(allows)),
                    false => invalid += 1,
                }
                if allows && test["valid"] == false {
                    wrong.push(format!(
                        "{}: {}: {} allowed by {schema}",
                        path.display(),
                        group["description"],
                        test["data"]
                    ));
                }
            }
        }
    }
    println!(
        "{taken} schemas taken, {refused} refused; {invalid} invalid instances, {allowed} of {valid} valid ones allowed"
    );
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(taken > 100 && invalid > 200 && allowed > 200, "{taken} {invalid} {allowed}: most of the suite is used");
}
