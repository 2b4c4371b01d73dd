//! Models with one wrong value, in every place: each is refused in one line or runs, whatever it then answers.
//!
//! A model file comes from a stranger. Its numbers become sizes, counts, divisors and strides of a plan, and those decide what
//! kernels read. So every number, flag and list of every architecture's metadata is replaced by what is most likely to
//! break a program, every tensor is renamed, cut, turned and taken away, and what is taken for a model all the same is run.
//! `tests/bad_gguf.rs` does the same to the file format.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use satchel::engine::{Evaluator, Wanted};
use satchel::kernels;
use satchel::session::ModelSource;
use satchel::session::open::{Compute, load_model};
use satchel_gguf::{Array, Metadata, StringArray, Value};

use crate::support;

/// Positions of a sequence: as few as show a second step and a second page of nothing.
const CONTEXT: usize = 6;

/// Every model of the folder of tiny ones.
fn models() -> Vec<PathBuf> {
    let folder = std::fs::read_dir(support::data("architectures")).expect("the folder of tiny models");
    let mut models: Vec<PathBuf> = folder.map(|entry| entry.expect("an entry").path()).collect();
    models.retain(|path| path.extension().is_some_and(|extension| extension == "gguf"));
    models.sort();
    assert!(models.len() >= 20, "{} models", models.len());
    models
}

/// What a whole number is replaced by.
fn numbers(was: u64) -> Vec<Value> {
    let near = [0, 1, 2, 3, was.wrapping_add(1), was.wrapping_sub(1), was.wrapping_mul(2), was / 2];
    let far = [255, 65_535, 1 << 31, u64::from(u32::MAX), 1 << 32, 1 << 40, 1 << 62, u64::MAX];
    let whole = near.into_iter().chain(far).filter(|value| *value != was).map(Value::U64);
    whole.chain([Value::I32(-1), Value::I64(i64::MIN), Value::F32(f32::NAN), Value::String("many".into())]).collect()
}

/// What a real number is replaced by.
fn reals() -> Vec<Value> {
    let values = [0.0, -0.0, -1.0, 1e-45, 1e-30, 3e38, f32::INFINITY, f32::NEG_INFINITY, f32::NAN];
    values.into_iter().map(Value::F32).chain([Value::U32(0), Value::String("much".into())]).collect()
}

/// What a list of whole numbers is replaced by.
fn lists(was: &[u64]) -> Vec<Value> {
    let mut lists = vec![Vec::new(), was[1.min(was.len())..].to_vec(), [was, was].concat(), vec![0; was.len()]];
    for value in [1, 7, 1 << 31, u64::MAX] {
        lists.push(vec![value; was.len()]);
        let mut first = was.to_vec();
        first.iter_mut().take(1).for_each(|first| *first = value);
        lists.push(first);
    }
    let mut values: Vec<Value> = lists.into_iter().map(|list| Value::Array(Array::U64(list))).collect();
    values.push(Value::Array(Array::F32(vec![f32::NAN; was.len()])));
    values.push(Value::Array(Array::String(StringArray::default())));
    values.push(Value::U32(1));
    values
}

/// What any value is replaced by.
fn hostile(value: &Value) -> Vec<Value> {
    match value {
        Value::F32(_) | Value::F64(_) => reals(),
        Value::Bool(was) => vec![Value::Bool(!was), Value::U32(7)],
        Value::String(_) => {
            ["", "none", "yarn", "linear", "longrope", "\u{202e}\n"].map(|text| Value::String(text.into())).to_vec()
        }
        Value::Array(Array::F32(was)) => {
            let filled = |value: f32| Value::Array(Array::F32(vec![value; was.len()]));
            vec![filled(0.0), filled(f32::NAN), filled(3e38), Value::Array(Array::F32(Vec::new()))]
        }
        Value::Array(array) => {
            let numbers: Option<Vec<u64>> =
                (0..array.len()).map(|at| array.get(at)?.as_i128()?.try_into().ok()).collect();
            numbers.map(|numbers| lists(&numbers)).unwrap_or_default()
        }
        number => numbers(number.as_i128().and_then(|number| u64::try_from(number).ok()).unwrap_or(1)),
    }
}

/// Loads what `change` makes of a model, and runs it where it is taken for one. `None`: as it should be.
fn fault(source: &ModelSource) -> Option<String> {
    let compute = Compute { kernels: kernels::best(), threads: 1, cache: Default::default() };
    let outcome = catch_unwind(AssertUnwindSafe(|| match load_model(source, compute, Some(CONTEXT)) {
        Err(error) => {
            let line = error.to_string();
            // The path is part of the line, and long where the project lies deep.
            let about = line.replace(&source.path.display().to_string(), "");
            (about.contains('\n') || about.len() > 600).then(|| format!("not one line: {about:?}"))
        }
        Ok(loaded) => {
            let mut evaluator = Evaluator::new(loaded, CONTEXT);
            let vocabulary = evaluator.plan().vocabulary as u32;
            let last = vocabulary.checked_sub(1)?;
            // A device that cannot go on says so, and that is an answer.
            if evaluator.append(&[0, last, 1.min(last)], Wanted::All).is_ok() {
                let _ = evaluator.append(&[last], Wanted::Last);
            }
            None
        }
    }));
    outcome.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().cloned();
        let text = text.or_else(|| panic.downcast_ref::<&str>().map(|text| (*text).to_owned()));
        Some(format!("a panic: {}", text.unwrap_or_default()))
    })
}

/// Adds what `fault` finds in a changed model.
fn check(faults: &mut Vec<String>, path: &std::path::Path, what: String, change: impl FnOnce(&mut ModelSource)) {
    let mut source = ModelSource::open(Some(path)).expect("a sound model");
    change(&mut source);
    if let Some(fault) = fault(&source) {
        let model = path.file_stem().unwrap_or_default().display();
        faults.push(format!("{model}, {what}: {fault}"));
    }
}

fn assert_none(faults: &[String], tried: usize) {
    println!("{tried} changed models");
    assert!(
        faults.is_empty(),
        "{} of {tried} changed models:\n{}",
        faults.len(),
        faults[..faults.len().min(60)].join("\n")
    );
}

#[test]
fn every_number_of_a_model_may_be_any_other() {
    let mut faults = Vec::new();
    let mut tried = 0;
    for path in models() {
        let sound = ModelSource::open(Some(&path)).expect("a sound model").gguf.metadata;
        let entries: Vec<(String, Value)> = sound.iter().map(|(key, value)| (key.to_owned(), value.clone())).collect();
        for (at, (key, value)) in entries.iter().enumerate() {
            // Vocabularies are tests/tokenize.rs's; the name of the architecture decides what the rest is.
            if key.starts_with("tokenizer.") || key == "general.architecture" {
                continue;
            }
            let mut changes: Vec<Option<Value>> = hostile(value).into_iter().map(Some).collect();
            changes.push(None);
            for change in changes {
                tried += 1;
                let what = format!("{key} = {change:?}");
                let mut entries = entries.clone();
                match change {
                    Some(value) => entries[at].1 = value,
                    None => drop(entries.remove(at)),
                }
                let metadata = Metadata::new(entries).expect("no key comes twice");
                check(&mut faults, &path, what, |source| source.gguf.metadata = metadata);
            }
        }
    }
    assert_none(&faults, tried);
}

#[test]
fn every_tensor_of_a_model_may_have_another_shape() {
    let mut faults = Vec::new();
    let mut tried = 0;
    for path in models() {
        let sound = ModelSource::open(Some(&path)).expect("a sound model").gguf;
        for (at, tensor) in sound.tensors.iter().enumerate() {
            // Every shape keeps the number of elements: others are the file format's to refuse.
            let elements = tensor.elements();
            let turned: Vec<u64> = tensor.dimensions.iter().rev().copied().collect();
            let split = vec![tensor.columns(), tensor.rows(), 1, 1];
            let mut shapes = vec![turned, split, vec![elements], vec![1, elements]];
            if elements.is_multiple_of(2) {
                shapes.extend([vec![elements / 2, 2], vec![2, elements / 2]]);
            }
            shapes.retain(|shape| *shape != tensor.dimensions && !shape.is_empty());
            for shape in shapes {
                tried += 1;
                let what = format!("{} as {shape:?} instead of {:?}", tensor.name, tensor.dimensions);
                check(&mut faults, &path, what, |source| source.gguf.tensors[at].dimensions = shape);
            }
            tried += 2;
            check(&mut faults, &path, format!("without {}", tensor.name), |source| {
                drop(source.gguf.tensors.remove(at))
            });
            let next = (at + 1) % sound.tensors.len();
            let what = format!("{} and {} swapped", tensor.name, sound.tensors[next].name);
            check(&mut faults, &path, what, |source| {
                let name = source.gguf.tensors[next].name.clone();
                let other = std::mem::replace(&mut source.gguf.tensors[at].name, name);
                source.gguf.tensors[next].name = other;
            });
        }
    }
    assert_none(&faults, tried);
}
