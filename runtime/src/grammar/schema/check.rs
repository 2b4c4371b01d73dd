//! Goes through a schema and refuses what would not be enforced.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::super::GrammarError;
use super::{member, place};

/// Deepest schema within schemas.
const MAX_DEPTH: usize = 32;

/// Names that say something about a value, but not which values are valid. So do those that begin with `x-`.
const ANNOTATIONS: [&str; 15] = [
    "title",
    "description",
    "default",
    "examples",
    "example",
    "deprecated",
    "readOnly",
    "writeOnly",
    "$comment",
    "$anchor",
    "contentMediaType",
    "contentEncoding",
    "contentSchema",
    "discriminator",
    "externalDocs",
];

/// Keywords of JSON Schema and OpenAPI that change which values are valid, and are not enforced.
const NOT_ENFORCED: [&str; 21] = [
    "not",
    "if",
    "then",
    "else",
    "uniqueItems",
    "contains",
    "minContains",
    "maxContains",
    "propertyNames",
    "dependencies",
    "dependentRequired",
    "dependentSchemas",
    "unevaluatedItems",
    "unevaluatedProperties",
    "additionalItems",
    "$dynamicRef",
    "$dynamicAnchor",
    "$recursiveRef",
    "$recursiveAnchor",
    "$vocabulary",
    "nullable",
];

const TYPES: [&str; 7] = ["null", "boolean", "integer", "number", "string", "array", "object"];

/// Formats that are enforced.
const FORMATS: [&str; 10] =
    ["date", "time", "date-time", "duration", "email", "hostname", "ipv4", "ipv6", "uri", "uuid"];

/// Drafts in which the keywords enforced here mean the same. `prefixItems` only exists in the first.
const DRAFTS: [&str; 4] = [
    "https://json-schema.org/draft/2020-12/schema",
    "https://json-schema.org/draft/2019-09/schema",
    "http://json-schema.org/draft-07/schema",
    "http://json-schema.org/draft-06/schema",
];

type Checked = Result<(), GrammarError>;

struct Walk {
    /// Pointers to all schemas, parents first.
    schemas: Vec<String>,
    /// The place of each `$ref`, and the pointer that it holds.
    references: Vec<(String, String)>,
    /// Whether the document says that it is of an earlier draft than 2020-12.
    is_old: bool,
}

/// Checks a document; returns pointers to all schemas in it, parents first.
pub(super) fn check(document: &Value) -> Result<Vec<String>, GrammarError> {
    let draft = document.get("$schema").and_then(Value::as_str);
    let is_old = draft.is_some_and(|draft| draft.trim_end_matches('#') != DRAFTS[0]);
    let mut walk = Walk { schemas: Vec::new(), references: Vec::new(), is_old };
    walk.schema(document, "", 0)?;
    if document == &Value::Bool(false) {
        return refuse("", "allows nothing");
    }
    let known: HashSet<&str> = walk.schemas.iter().map(String::as_str).collect();
    for (at, target) in &walk.references {
        if !known.contains(target.as_str()) {
            return refuse(at, &format!("leads to {}, where this document has no schema", place(target)));
        }
    }
    Ok(walk.schemas)
}

fn refuse<T>(pointer: &str, why: &str) -> Result<T, GrammarError> {
    let shown: String = place(pointer).chars().filter(|letter| !letter.is_control()).take(300).collect();
    let keyword = pointer.rsplit('/').next().unwrap_or_default();
    let keyword: String = keyword.chars().filter(|letter| !letter.is_control()).take(64).collect();
    Err(GrammarError(if keyword.is_empty() {
        format!("the schema {why}")
    } else {
        format!("`{keyword}` at {shown} {why}")
    }))
}

/// Whether a keyword's texts or names contain U+0000, schemas within it aside.
fn holds_nul(name: &str, value: &Value) -> bool {
    fn anywhere(value: &Value) -> bool {
        match value {
            Value::String(text) => text.contains('\0'),
            Value::Array(items) => items.iter().any(anywhere),
            Value::Object(map) => map.iter().any(|(name, value)| name.contains('\0') || anywhere(value)),
            _ => false,
        }
    }
    match name {
        "const" | "enum" | "pattern" | "required" => anywhere(value),
        "properties" | "patternProperties" => {
            value.as_object().is_some_and(|map| map.keys().any(|key| key.contains('\0')))
        }
        _ => false,
    }
}

impl Walk {
    fn schema(&mut self, schema: &Value, at: &str, depth: usize) -> Checked {
        if depth > MAX_DEPTH {
            return refuse(at, &format!("is nested more than {MAX_DEPTH} schemas deep"));
        }
        self.schemas.push(at.to_owned());
        match schema {
            Value::Bool(_) => Ok(()),
            Value::Object(map) => {
                // The matcher loses NUL characters, so that `a\0b` would allow `ab`.
                if let Some(name) = map.iter().find_map(|(name, value)| holds_nul(name, value).then_some(name)) {
                    return refuse(&member(at, name), "contains a NUL character, which is not enforced");
                }
                map.iter().try_for_each(|(name, value)| self.keyword(map, name, value, &member(at, name), depth))
            }
            _ => refuse(at, "is not a schema, which is an object, true or false"),
        }
    }

    fn keyword(&mut self, schema: &Map<String, Value>, name: &str, value: &Value, at: &str, depth: usize) -> Checked {
        match name {
            "$schema" | "$id" | "id" => self.identity(name, value, at, depth),
            "$ref" => self.reference(value, at),
            "type" => types(value, at),
            "enum" => match value.as_array().filter(|values| !values.is_empty()) {
                Some(values) => values.iter().try_for_each(|value| exact(value, at)),
                None => refuse(at, "must be an array with at least one value"),
            },
            "const" => exact(value, at),
            "allOf" | "anyOf" | "oneOf" => self.list(value, at, depth),
            "prefixItems" if self.is_old => refuse(at, "does not exist in the draft that `$schema` names"),
            "prefixItems" => self.list(value, at, depth),
            "items" if value.is_array() && schema.contains_key("prefixItems") => {
                refuse(at, "must be one schema beside `prefixItems`")
            }
            // As drafts before 2020-12 have it.
            "items" if value.is_array() => self.list(value, at, depth),
            "additionalItems" if schema.get("items").is_some_and(Value::is_array) => self.schema(value, at, depth + 1),
            "items" | "additionalProperties" => self.schema(value, at, depth + 1),
            "properties" | "patternProperties" | "$defs" | "definitions" => self.named(value, at, depth),
            "required" => match value.as_array() {
                Some(names) if names.iter().all(Value::is_string) => Ok(()),
                _ => refuse(at, "must be an array of strings"),
            },
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" if value.is_number() => exact(value, at),
            "multipleOf" if value.as_f64().is_some_and(|step| step > 0.0) => exact(value, at),
            "minimum" | "maximum" | "exclusiveMinimum" | "exclusiveMaximum" | "multipleOf" => {
                refuse(at, "must be a number (for multipleOf, above 0)")
            }
            "minProperties" => min_properties(schema, value, at),
            "minItems" | "maxItems" | "minLength" | "maxLength" | "maxProperties" => count(value, at).map(drop),
            "pattern" if value.is_string() => Ok(()),
            "pattern" => refuse(at, "must be a string"),
            "format" => format(value, at),
            "uniqueItems" if value == &Value::Bool(false) => Ok(()),
            "x-guidance" => refuse(at, "is not taken from schemas"),
            _ if name.starts_with("x-") || ANNOTATIONS.contains(&name) => Ok(()),
            _ if NOT_ENFORCED.contains(&name) => {
                refuse(at, "cannot be enforced; leave it out, and check the answer for it")
            }
            _ => {
                refuse(at, "is no keyword of JSON Schema; if it only says something about the value, begin it with x-")
            }
        }
    }

    fn identity(&self, name: &str, value: &Value, at: &str, depth: usize) -> Checked {
        match value.as_str() {
            _ if depth > 0 => refuse(at, "is only possible at the top of the document"),
            Some(draft) if name == "$schema" && !DRAFTS.contains(&draft.trim_end_matches('#')) => {
                refuse(at, "names a draft that is not supported; 2020-12, 2019-09, 07 and 06 are")
            }
            Some(_) => Ok(()),
            None => refuse(at, "must be a string"),
        }
    }

    fn reference(&mut self, value: &Value, at: &str) -> Checked {
        match value.as_str().and_then(|target| target.strip_prefix('#')) {
            Some(target) if (target.is_empty() || target.starts_with('/')) && !target.contains(['~', '%']) => {
                self.references.push((at.to_owned(), target.to_owned()));
                Ok(())
            }
            _ => refuse(at, "must lead to a schema of the same document, such as #/$defs/name, without ~ and %"),
        }
    }

    fn list(&mut self, value: &Value, at: &str, depth: usize) -> Checked {
        let Some(schemas) = value.as_array().filter(|schemas| !schemas.is_empty()) else {
            return refuse(at, "must be an array with at least one schema");
        };
        (0..)
            .zip(schemas)
            .try_for_each(|(index, schema): (usize, _)| self.schema(schema, &format!("{at}/{index}"), depth + 1))
    }

    fn named(&mut self, value: &Value, at: &str, depth: usize) -> Checked {
        let Some(schemas) = value.as_object() else { return refuse(at, "must be an object of schemas") };
        schemas.iter().try_for_each(|(name, schema)| self.schema(schema, &member(at, name), depth + 1))
    }
}

fn types(value: &Value, at: &str) -> Checked {
    let known = |value: &Value| value.as_str().is_some_and(|name| TYPES.contains(&name));
    match value {
        Value::Array(names) if !names.is_empty() && names.iter().all(known) => Ok(()),
        _ if known(value) => Ok(()),
        _ => refuse(at, &format!("must be one of {}, or an array of these", TYPES.join(", "))),
    }
}

/// Refuses numbers that a double does not hold: they would be compared with another one.
fn exact(value: &Value, at: &str) -> Checked {
    const LARGEST: f64 = 9_007_199_254_740_992.0;
    match value {
        Value::Number(number) if number.as_f64().is_none_or(|number| number.abs() >= LARGEST) => {
            refuse(at, "has a number of 2^53 or more, which cannot be enforced to the letter")
        }
        Value::Array(items) => items.iter().try_for_each(|item| exact(item, at)),
        Value::Object(map) => map.values().try_for_each(|item| exact(item, at)),
        _ => Ok(()),
    }
}

fn count(value: &Value, at: &str) -> Result<u64, GrammarError> {
    let whole = value.as_f64().filter(|count| count.fract() == 0.0 && (0.0..=1e6).contains(count));
    whole.map_or_else(|| refuse(at, "must be a whole number from 0 to 1000000"), |count| Ok(count as u64))
}

/// Names beyond the required ones may repeat in an answer, so that no more than one of them counts.
fn min_properties(schema: &Map<String, Value>, value: &Value, at: &str) -> Checked {
    let required = schema.get("required").and_then(Value::as_array).map_or(0, Vec::len) as u64;
    if count(value, at)? > required + 1 {
        return refuse(at, "cannot be enforced: it is more than one above the number of `required` names");
    }
    Ok(())
}

fn format(value: &Value, at: &str) -> Checked {
    match value.as_str() {
        Some(name) if FORMATS.contains(&name) => Ok(()),
        _ => refuse(at, &format!("is not one that is enforced: {}; write a `pattern`", FORMATS.join(", "))),
    }
}
