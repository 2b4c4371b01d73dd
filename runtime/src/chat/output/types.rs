//! Parameters that are written as bare text get the type that the tool's schema gives them.

use serde_json::{Map, Value};

use super::tree::{self, Tree};

/// Deepest reference or combination that is followed.
const MAX_DEPTH: usize = 8;

/// Names of JSON's types, a bit each.
const NAMES: [&str; 7] = ["string", "integer", "number", "boolean", "null", "array", "object"];

/// A parameter's value: what the text says where the schema allows it, else the text.
pub(super) fn typed(text: &str, schema: &Value, parameter: &str) -> Tree {
    let as_text = || Tree::Text(text.to_owned());
    let allowed = match parameter_schema(schema, parameter) {
        Some(own) => types(own, schema, 0),
        None => None,
    };
    let Some(value) = tree::whole(text) else { return as_text() };
    match (&allowed, &value) {
        (None, Tree::Text(_)) => as_text(),
        (None, _) => value,
        // A quoted string that may be nothing but a string is meant with its quotes.
        (Some(allowed), Tree::Text(_)) if allowed.contains(&"string") => as_text(),
        (Some(allowed), _) if allowed.iter().any(|name| is(&value, name)) => value,
        (Some(allowed), _) if allowed.contains(&"string") => as_text(),
        _ => value,
    }
}

fn parameter_schema<'a>(schema: &'a Value, parameter: &str) -> Option<&'a Value> {
    let own = schema.get("properties").and_then(|properties| properties.get(parameter));
    own.or_else(|| schema.get("additionalProperties").filter(|schema| schema.is_object()))
}

/// The types that a schema allows; `None` if it does not say.
fn types(schema: &Value, document: &Value, depth: usize) -> Option<Vec<&'static str>> {
    let schema = schema.as_object().filter(|_| depth < MAX_DEPTH)?;
    if let Some(target) = schema.get("$ref").and_then(Value::as_str).and_then(|target| target.strip_prefix('#')) {
        return types(document.pointer(target)?, document, depth + 1);
    }
    named(schema).or_else(|| of_values(schema)).or_else(|| combined(schema, document, depth))
}

fn named(schema: &Map<String, Value>) -> Option<Vec<&'static str>> {
    let known = |value: &Value| NAMES.into_iter().find(|name| value.as_str() == Some(name));
    match schema.get("type")? {
        Value::Array(names) => Some(names.iter().filter_map(known).collect()),
        name => known(name).map(|name| vec![name]),
    }
}

fn of_values(schema: &Map<String, Value>) -> Option<Vec<&'static str>> {
    let one = schema.get("const").map(std::slice::from_ref);
    let values = one.or_else(|| schema.get("enum").and_then(Value::as_array).map(Vec::as_slice))?;
    Some(values.iter().map(kind).collect())
}

fn kind(value: &Value) -> &'static str {
    match value {
        Value::String(_) => "string",
        Value::Number(_) => "number",
        Value::Bool(_) => "boolean",
        Value::Null => "null",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}

fn combined(schema: &Map<String, Value>, document: &Value, depth: usize) -> Option<Vec<&'static str>> {
    if let Some(all) = schema.get("allOf").and_then(Value::as_array) {
        return all.iter().find_map(|part| types(part, document, depth + 1));
    }
    let any = schema.get("anyOf").or_else(|| schema.get("oneOf")).and_then(Value::as_array)?;
    let each: Option<Vec<_>> = any.iter().map(|part| types(part, document, depth + 1)).collect();
    Some(each?.concat())
}

fn is(value: &Tree, name: &str) -> bool {
    match (value, name) {
        (Tree::Text(_), "string") | (Tree::List(_), "array") | (Tree::Object(_), "object") => true,
        (Tree::Plain(plain), "null") => plain == "null",
        (Tree::Plain(plain), "boolean") => matches!(plain.as_str(), "true" | "false"),
        (Tree::Plain(plain), "number") => plain.parse::<f64>().is_ok(),
        (Tree::Plain(plain), "integer") => plain.parse::<f64>().is_ok_and(|number| number.fract() == 0.0),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn a_value_gets_the_schemas_type() {
        let schema = json!({"$defs": {"n": {"type": "integer"}}, "properties": {
            "text": {"type": "string"}, "count": {"$ref": "#/$defs/n"}, "maybe": {"type": ["string", "null"]},
            "either": {"anyOf": [{"type": "integer"}, {"type": "null"}]}, "list": {"type": "array"},
            "pick": {"enum": ["1", "2"]}, "any": {}, "flag": {"allOf": [{"type": "boolean"}]},
        }});
        for (name, text, value) in [
            ("text", "3", r#""3""#),
            ("text", "{\"a\": 1}", r#""{\"a\": 1}""#),
            ("text", "\"x\"", r#""\"x\"""#),
            ("count", "3", "3"),
            ("count", "three", r#""three""#),
            ("maybe", "null", "null"),
            ("maybe", "nothing", r#""nothing""#),
            ("either", " 5\n", "5"),
            ("list", "[1, 'x']", r#"[1, "x"]"#),
            ("pick", "1", r#""1""#),
            ("any", "1", "1"),
            ("any", "a b", r#""a b""#),
            ("flag", "True", "true"),
            ("unknown", "{\"a\": 0042}", r#""{\"a\": 0042}""#),
        ] {
            assert_eq!(typed(text, &schema, name).json(), value, "{name} {text}");
        }
    }
}
