//! Python's `json.dumps`, as templates see it: its spacing, its escapes, its spelling of floats.
//!
//! `serde_json` writes other separators and other floats, and a model sees every byte of it.

use minijinja::value::{Kwargs, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::limits::{MAX_VALUE_BYTES, too_large};
use super::python::float_repr;

/// Values nested deeper than this are an error, as a cyclic one is in Python.
const MAX_DEPTH: usize = 200;

/// The arguments of `json.dumps` that `tojson` passes on.
pub(super) struct Format {
    ensure_ascii: bool,
    /// What one level is indented by; `None` writes everything in one line.
    indent: Option<String>,
    item_separator: String,
    key_separator: String,
    sort_keys: bool,
}

impl Format {
    /// From `tojson`'s arguments: (ensure_ascii=False, indent=None, separators=None, sort_keys=False), by position or name.
    pub(super) fn from_arguments(positional: &[Value], named: &Kwargs) -> Result<Format, Error> {
        let mut argument = [Value::UNDEFINED, Value::UNDEFINED, Value::UNDEFINED, Value::UNDEFINED];
        if positional.len() > argument.len() {
            return Err(Error::new(ErrorKind::TooManyArguments, "tojson takes four arguments at most"));
        }
        for (slot, name) in argument.iter_mut().zip(["ensure_ascii", "indent", "separators", "sort_keys"]) {
            *slot = named.get::<Option<Value>>(name)?.unwrap_or(Value::UNDEFINED);
        }
        for (slot, value) in argument.iter_mut().zip(positional) {
            *slot = value.clone();
        }
        let [ensure_ascii, indent, separators, sort_keys] = argument;
        let indent = indent_text(&indent)?;
        let (item_separator, key_separator) = if separators.is_undefined() || separators.is_none() {
            (if indent.is_some() { "," } else { ", " }.to_string(), ": ".to_string())
        } else {
            let part = |i: usize| separators.get_item_by_index(i).map(|v| v.to_string());
            (part(0)?, part(1)?)
        };
        Ok(Format {
            ensure_ascii: ensure_ascii.is_true(),
            indent,
            item_separator,
            key_separator,
            sort_keys: sort_keys.is_true(),
        })
    }
}

/// `indent` may be None, a number of spaces, or the text itself.
fn indent_text(indent: &Value) -> Result<Option<String>, Error> {
    if indent.is_undefined() || indent.is_none() {
        return Ok(None);
    }
    if let Some(text) = indent.as_str() {
        return Ok(Some(text.chars().take(64).collect()));
    }
    match indent.as_i64() {
        Some(n) if n <= 64 => Ok(Some(" ".repeat(n.max(0) as usize))),
        _ => Err(Error::new(ErrorKind::InvalidOperation, "tojson: indent must be a number up to 64")),
    }
}

/// The value as JSON text.
pub(super) fn dumps(value: &Value, format: &Format) -> Result<String, Error> {
    let mut out = String::new();
    write(value, format, 0, &mut out)?;
    Ok(out)
}

fn write(value: &Value, format: &Format, depth: usize, out: &mut String) -> Result<(), Error> {
    if depth > MAX_DEPTH {
        return Err(Error::new(ErrorKind::BadSerialization, format!("tojson: nested deeper than {MAX_DEPTH}")));
    }
    if out.len() > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    match value.kind() {
        ValueKind::None => out.push_str("null"),
        ValueKind::Bool => out.push_str(if value.is_true() { "true" } else { "false" }),
        ValueKind::Number => out.push_str(&number(value)),
        ValueKind::String => write_string(value.as_str().unwrap_or_default(), format.ensure_ascii, out),
        ValueKind::Seq | ValueKind::Iterable => {
            let items = value.try_iter()?.map(|item| (None, item)).collect();
            write_items(items, ['[', ']'], format, depth, out)?;
        }
        ValueKind::Map => write_items(map_items(value, format)?, ['{', '}'], format, depth, out)?,
        kind => {
            let message = format!("tojson: a value of type {kind} cannot be written as JSON");
            return Err(Error::new(ErrorKind::BadSerialization, message));
        }
    }
    Ok(())
}

fn number(value: &Value) -> String {
    if value.is_integer() {
        return value.to_string();
    }
    match f64::try_from(value.clone()) {
        Ok(v) if v.is_nan() => "NaN".into(),
        Ok(v) if v.is_infinite() => if v > 0.0 { "Infinity" } else { "-Infinity" }.into(),
        Ok(v) => float_repr(v),
        Err(_) => value.to_string(),
    }
}

fn map_items(map: &Value, format: &Format) -> Result<Vec<(Option<String>, Value)>, Error> {
    let mut items = Vec::new();
    for key in map.try_iter()? {
        let value = map.get_item(&key)?;
        let name = match key.kind() {
            ValueKind::String => key.to_string(),
            ValueKind::Bool => if key.is_true() { "true" } else { "false" }.into(),
            ValueKind::None => "null".into(),
            ValueKind::Number => number(&key),
            kind => {
                let message = format!("tojson: a key of type {kind} cannot be written as JSON");
                return Err(Error::new(ErrorKind::BadSerialization, message));
            }
        };
        items.push((Some(name), value));
    }
    if format.sort_keys {
        items.sort_by(|a, b| a.0.cmp(&b.0));
    }
    Ok(items)
}

/// Writes a list (items without a name) or an object.
fn write_items(
    items: Vec<(Option<String>, Value)>,
    brackets: [char; 2],
    format: &Format,
    depth: usize,
    out: &mut String,
) -> Result<(), Error> {
    out.push(brackets[0]);
    let empty = items.is_empty();
    for (i, (name, value)) in items.into_iter().enumerate() {
        if i > 0 {
            out.push_str(&format.item_separator);
        }
        new_line(format, depth + 1, out);
        if let Some(name) = name {
            write_string(&name, format.ensure_ascii, out);
            out.push_str(&format.key_separator);
        }
        write(&value, format, depth + 1, out)?;
    }
    if !empty {
        new_line(format, depth, out);
    }
    out.push(brackets[1]);
    Ok(())
}

fn new_line(format: &Format, depth: usize, out: &mut String) {
    if let Some(indent) = &format.indent {
        out.push('\n');
        (0..depth).for_each(|_| out.push_str(indent));
    }
}

fn write_string(text: &str, ensure_ascii: bool, out: &mut String) {
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            c if c < ' ' || (ensure_ascii && c > '~') => {
                c.encode_utf16(&mut [0; 2]).iter().for_each(|unit| out.push_str(&format!("\\u{unit:04x}")));
            }
            c => out.push(c),
        }
    }
    out.push('"');
}
