//! Finds the place of what the compiler refuses: the deepest schema that does not compile, then the keyword without which it
//! does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::super::GrammarError;
use super::{member, place};

/// The search ends after this time; the error is then without a place.
const LONGEST_SEARCH: Duration = Duration::from_millis(500);

/// The compiler's error with its place. `schemas` are pointers to all schemas, parents first.
pub(super) fn locate(
    document: &Value,
    schemas: &[String],
    error: &GrammarError,
    refuses: &dyn Fn(Value) -> Option<GrammarError>,
) -> GrammarError {
    let until = Instant::now() + LONGEST_SEARCH;
    let whole = moved(document);
    // What allows nothing is fine in a place where nothing is wanted, unless it is why the whole allows nothing.
    let same_kind = |other: &GrammarError| allows_nothing(other) == allows_nothing(error);
    for at in schemas.iter().rev() {
        let Some(schema) = whole.pointer(at).filter(|schema| schema.is_object()) else { continue };
        if Instant::now() > until {
            break;
        }
        let Some(own) = refuses(alone(schema, &whole)).filter(same_kind) else { continue };
        let keyword = keywords(schema).find(|name| {
            let mut without = schema.clone();
            if let Value::Object(map) = &mut without {
                map.shift_remove(*name);
            }
            Instant::now() < until && refuses(alone(&without, &whole)).is_none()
        });
        let GrammarError(line) = own;
        return GrammarError(match keyword {
            Some(keyword) => format!("`{keyword}` at {} cannot be enforced: {line}", place(&member(at, keyword))),
            None => format!("the schema at {} cannot be enforced: {line}", place(at)),
        });
    }
    GrammarError(format!("the schema cannot be enforced: {}", error.0))
}

/// A schema's keywords, the type last: without it hardly anything is refused.
fn keywords(schema: &Value) -> impl Iterator<Item = &String> {
    let names = || schema.as_object().into_iter().flatten().map(|(name, _)| name);
    names().filter(|name| *name != "type").chain(names().filter(|name| *name == "type"))
}

fn allows_nothing(error: &GrammarError) -> bool {
    error.0.contains("nsatisfiable")
}

/// A schema as a document of its own, within which `whole` is found where [`moved`] leads.
fn alone(schema: &Value, whole: &Value) -> Value {
    let mut document = schema.clone();
    document["$defs"] = json!({"document": whole});
    document
}

/// A document whose references lead below `#/$defs/document`.
fn moved(schema: &Value) -> Value {
    match schema {
        Value::Object(map) => map
            .iter()
            .map(|(name, value)| match (name.as_str(), value.as_str().and_then(|text| text.strip_prefix('#'))) {
                ("$ref", Some(target)) => (name.clone(), format!("#/$defs/document{target}").into()),
                ("const" | "enum" | "default" | "examples", _) => (name.clone(), value.clone()),
                _ => (name.clone(), moved(value)),
            })
            .collect(),
        Value::Array(items) => items.iter().map(moved).collect(),
        other => other.clone(),
    }
}
