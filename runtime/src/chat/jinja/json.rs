//! Python's `json.dumps`, with its spacing, escapes and float format.

use super::budget::{Result, failed, spend};
use super::call::Arguments;
use super::print::{float_repr, to_text};
use super::units::{Out, Text, plain};
use super::value::{Dict, Value};

/// Largest indent per level.
const MAX_INDENT: i128 = 64;

/// The arguments of `json.dumps` that `tojson` passes on.
struct Format {
    ensure_ascii: bool,
    /// Indent per level; `None` writes everything on one line.
    indent: Option<Vec<u32>>,
    item_separator: Text,
    key_separator: Text,
    sort_keys: bool,
}

/// Hugging Face's `tojson(value, ensure_ascii=False, indent=None, separators=None, sort_keys=False)`.
pub(super) fn tojson(value: &Value, arguments: Arguments) -> Result<Value> {
    let [ensure_ascii, indent, separators, sort_keys] =
        arguments.take("tojson", ["ensure_ascii", "indent", "separators", "sort_keys"])?;
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let indent = indent_units(indent)?;
    let (item_separator, key_separator) = match separators.filter(|value| !value.is_none()) {
        None => (Text::of(if indent.is_some() { "," } else { ", " })?, Text::of(": ")?),
        Some(pair) => match pair.items()?.items() {
            [Value::Text(item), Value::Text(key)] => (item.clone(), key.clone()),
            _ => return Err(failed("tojson: separators must be two texts")),
        },
    };
    let format = Format {
        ensure_ascii: is_true(ensure_ascii),
        indent,
        item_separator,
        key_separator,
        sort_keys: is_true(sort_keys),
    };
    let mut out = Out::default();
    write(value, &format, 0, &mut out)?;
    out.text().map(Value::Text)
}

/// `indent` may be None, a number of spaces, or the text itself.
fn indent_units(indent: Option<Value>) -> Result<Option<Vec<u32>>> {
    match indent {
        None | Some(Value::None) => Ok(None),
        Some(Value::Text(text)) if text.len() as i128 <= MAX_INDENT => Ok(Some(text.units().to_vec())),
        Some(other) => match other.as_int() {
            Some(n) if n <= MAX_INDENT => Ok(Some(vec![' '.into(); n.max(0) as usize])),
            _ => Err(failed(format!("tojson: indent must be a number up to {MAX_INDENT}"))),
        },
    }
}

fn write(value: &Value, format: &Format, depth: usize, out: &mut Out) -> Result<()> {
    spend(1)?;
    match value {
        Value::None => out.str("null"),
        Value::Bool(true) => out.str("true"),
        Value::Bool(false) => out.str("false"),
        Value::Int(value) => out.str(&value.to_string()),
        Value::Float(value) => out.str(&number(*value)),
        Value::Text(text) => write_text(text, format.ensure_ascii, out),
        Value::List(list) | Value::Tuple(list) => {
            out.str("[")?;
            for (i, item) in list.items().iter().enumerate() {
                begin(i, format, depth + 1, out)?;
                write(item, format, depth + 1, out)?;
            }
            end(list.len(), format, depth, out)?;
            out.str("]")
        }
        Value::Dict(dict) => {
            out.str("{")?;
            for (i, (name, value)) in members(dict, format)?.iter().enumerate() {
                begin(i, format, depth + 1, out)?;
                write_text(name, format.ensure_ascii, out)?;
                out.extend(format.key_separator.units())?;
                write(value, format, depth + 1, out)?;
            }
            end(dict.len(), format, depth, out)?;
            out.str("}")
        }
        other => Err(failed(format!("Object of type {} is not JSON serializable", other.type_name()))),
    }
}

fn number(value: f64) -> String {
    match value {
        v if v.is_nan() => "NaN".into(),
        v if v.is_infinite() => if v > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        v => float_repr(v),
    }
}

fn members(dict: &Dict, format: &Format) -> Result<Vec<(Text, Value)>> {
    let mut members: Vec<(Value, Value)> = dict.entries().to_vec();
    if format.sort_keys {
        members = super::filters::lists::sorted(members, |a, b| {
            Ok(super::operators::order("<", &a.0, &b.0)? == Some(std::cmp::Ordering::Less))
        })?;
    }
    let name = |key: &Value| match key {
        Value::Text(text) => Ok(text.clone()),
        Value::Bool(value) => Text::of(if *value { "true" } else { "false" }),
        Value::None => Text::of("null"),
        Value::Float(value) => Text::of(&number(*value)),
        Value::Int(_) => to_text(key),
        other => Err(failed(format!("keys must be str, int, float, bool or None, not {}", other.type_name()))),
    };
    members.into_iter().map(|(key, value)| Ok((name(&key)?, value))).collect()
}

/// Writes the separator and line break before an item.
fn begin(i: usize, format: &Format, depth: usize, out: &mut Out) -> Result<()> {
    if i > 0 {
        out.extend(format.item_separator.units())?;
    }
    new_line(format, depth, out)
}

fn end(items: usize, format: &Format, depth: usize, out: &mut Out) -> Result<()> {
    if items > 0 { new_line(format, depth, out) } else { Ok(()) }
}

fn new_line(format: &Format, depth: usize, out: &mut Out) -> Result<()> {
    let Some(indent) = &format.indent else { return Ok(()) };
    out.str("\n")?;
    (0..depth).try_for_each(|_| out.extend(indent))
}

fn write_text(text: &Text, ensure_ascii: bool, out: &mut Out) -> Result<()> {
    out.str("\"")?;
    for unit in text.units() {
        match plain(*unit) {
            '"' => out.str_as("\\\"", *unit)?,
            '\\' => out.str_as("\\\\", *unit)?,
            '\n' => out.str_as("\\n", *unit)?,
            '\r' => out.str_as("\\r", *unit)?,
            '\t' => out.str_as("\\t", *unit)?,
            '\u{8}' => out.str_as("\\b", *unit)?,
            '\u{c}' => out.str_as("\\f", *unit)?,
            c if c < ' ' || (ensure_ascii && c > '~') => {
                for half in c.encode_utf16(&mut [0; 2]) {
                    out.str_as(&format!("\\u{half:04x}"), *unit)?;
                }
            }
            _ => out.push(*unit)?,
        }
    }
    out.str("\"")
}

/// Converts JSON from a request; `untrusted` marks its text.
pub(super) fn from_json(value: &serde_json::Value, untrusted: bool) -> Result<Value> {
    spend(1)?;
    let text = |text: &str| if untrusted { Text::untrusted(text) } else { Text::of(text) };
    match value {
        serde_json::Value::Null => Ok(Value::None),
        serde_json::Value::Bool(value) => Ok(Value::Bool(*value)),
        serde_json::Value::Number(number) => match (number.as_i64(), number.as_u64(), number.as_f64()) {
            (Some(value), ..) => Ok(Value::Int(value.into())),
            (_, Some(value), _) => Ok(Value::Int(value.into())),
            (.., Some(value)) => Ok(Value::Float(value)),
            _ => Err(failed("a number out of range")),
        },
        serde_json::Value::String(value) => text(value).map(Value::Text),
        serde_json::Value::Array(items) => {
            Value::list(items.iter().map(|item| from_json(item, untrusted)).collect::<Result<_>>()?)
        }
        serde_json::Value::Object(map) => {
            let pairs = map.iter().map(|(key, value)| Ok((Value::Text(text(key)?), from_json(value, untrusted)?)));
            Dict::new(pairs.collect::<Result<_>>()?).map(Value::Dict)
        }
    }
}
