//! What `llguidance` takes otherwise than it is defined. Formats become patterns: it allows 29 February in every year, and a leap
//! second in every minute. Lists in `items`, as earlier drafts have them, become what 2020-12 has.

use serde_json::{Map, Value, json};

const TIME: &str =
    r"(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])";

const DATE: &str = concat!(
    "(?:",
    "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)",
    "|02-(?:0[1-9]|1[0-9]|2[0-8]))",
    // In leap years.
    "|(?:[0-9]{2}(?:0[48]|[2468][048]|[13579][26])|(?:[02468][048]|[13579][26])00)-02-29",
    ")"
);

/// Says a list in `items` as 2020-12 does: the list is `prefixItems`, and what further items are is `items`.
fn listed(schema: &mut Map<String, Value>) {
    let Some(first) = schema.get("items").filter(|items| items.is_array()).cloned() else { return };
    schema.insert("prefixItems".to_owned(), first);
    match schema.shift_remove("additionalItems") {
        Some(others) => schema.insert("items".to_owned(), others),
        None => schema.shift_remove("items"),
    };
}

/// What stands for a format.
fn exact(format: &str) -> Option<Value> {
    Some(match format {
        "date" => json!({"pattern": format!("^{DATE}$")}),
        "time" => json!({"pattern": format!("^{TIME}$")}),
        "date-time" => json!({"pattern": format!("^{DATE}T{TIME}$")}),
        "hostname" => json!({"format": "hostname", "maxLength": 253}),
        _ => return None,
    })
}

/// The schema with these formats and lists replaced.
pub(super) fn replaced(schema: &Value) -> Value {
    match schema {
        Value::Array(items) => items.iter().map(replaced).collect(),
        Value::Object(map) => {
            let mut own = map.clone();
            for (name, value) in &mut own {
                if !matches!(name.as_str(), "const" | "enum" | "default" | "examples" | "example") {
                    *value = replaced(value);
                }
            }
            // A property may be named `format`, too, but what it has is a schema.
            if let Some(exact) = map.get("format").and_then(Value::as_str).and_then(exact) {
                own.shift_remove("format");
                if let Value::Array(all) = own.entry("allOf").or_insert_with(|| json!([])) {
                    all.push(exact);
                }
            }
            listed(&mut own);
            own.into()
        }
        other => other.clone(),
    }
}
