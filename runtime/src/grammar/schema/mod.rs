//! Which JSON schemas are enforced, and what is said about the others.
//!
//! A keyword that would change which answers are valid is enforced or refused, with its place; `llguidance` would pass over
//! some of them. What it refuses itself it does not place: `locate` finds that by compiling parts.

mod check;
mod formats;
mod locate;

use llguidance::Matcher;
use serde_json::{Map, Value, json};

use super::GrammarError;

/// White space that an answer may have between two parts: without a bound, small models write nothing else.
const WHITE_SPACE: &str = r" |\r?\n{1,2}[ \t]{0,20}";

/// Escapes that strings may contain. Not `\u`: a name spelled with it would not be seen to be one of `properties`.
const ESCAPES: &str = "nrbtf\\\"";

/// A schema as it can stand in a grammar.
///
/// # Errors
/// The keyword that is not enforced, and where it is.
pub(crate) fn prepared(document: &Value) -> Result<Value, GrammarError> {
    check::check(document)?;
    Ok(with_options(formats::replaced(document)))
}

/// Compiles a schema.
///
/// # Errors
/// The keyword that cannot be enforced, and where it is.
pub(super) fn compile(
    document: &Value,
    matcher_of: &dyn Fn(Value) -> Result<Matcher, GrammarError>,
) -> Result<Matcher, GrammarError> {
    let schemas = check::check(document)?;
    let document = &formats::replaced(document);
    let compiled = |schema: Value| matcher_of(with_options(schema));
    compiled(document.clone())
        .map_err(|error| locate::locate(document, &schemas, &error, &|schema| compiled(schema).err()))
}

/// The schema as `llguidance` takes it: it reads how answers are written from the schema itself.
fn with_options(schema: Value) -> Value {
    let mut schema = match schema {
        Value::Object(map) => map,
        _ => Map::new(),
    };
    // Checked, and said here to mean the same in every draft that is accepted.
    schema.remove("$schema");
    let options = json!({"whitespace_pattern": WHITE_SPACE, "json_allowed_escapes": ESCAPES});
    schema.insert("x-guidance".to_owned(), options);
    schema.into()
}

/// A place in a schema, as a JSON pointer in a URI's fragment.
fn place(pointer: &str) -> String {
    format!("#{pointer}")
}

/// The pointer to a member of what `pointer` leads to.
fn member(pointer: &str, name: &str) -> String {
    format!("{pointer}/{}", name.replace('~', "~0").replace('/', "~1"))
}
