//! Python's methods, tests and spellings, where `minijinja` and its `pycompat` have none or others.

use minijinja::value::{Tuple, Value, ValueKind, from_args};
use minijinja::{Error, ErrorKind, State};

use super::limits::{BoundedText, MAX_VALUE_BYTES, bounded_string, too_large};

/// Python's `repr` of a float: the shortest digits that read back the same, with an exponent outside of 1e-4..1e16.
pub(super) fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    // Rust's `{:?}` changes to an exponent at the same bounds, but writes it without sign and padding.
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if exponent.starts_with('-') => format!("{digits}e-{:0>2}", &exponent[1..]),
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => text,
    }
}

/// Python's `str(value)`: text as it is, everything else as `repr` writes it. Undefined writes nothing.
pub(super) fn write_str(value: &Value, out: &mut BoundedText) -> Result<(), Error> {
    match value.as_str() {
        Some(text) => out.write(text),
        None if value.is_undefined() => Ok(()),
        None => write_repr(value, out),
    }
}

/// Python's `repr(value)`.
pub(super) fn write_repr(value: &Value, out: &mut BoundedText) -> Result<(), Error> {
    match value.kind() {
        ValueKind::Undefined => out.write("Undefined"),
        ValueKind::String => repr_string(value.as_str().unwrap_or_default(), out),
        ValueKind::Number if !value.is_integer() => match f64::try_from(value.clone()) {
            Ok(number) => out.write(float_repr(number)),
            Err(_) => out.write(value),
        },
        ValueKind::Seq | ValueKind::Iterable => {
            let (open, close) = if value.is_tuple() { ("(", ")") } else { ("[", "]") };
            out.write(open)?;
            let mut count = 0;
            for (i, item) in value.try_iter()?.enumerate() {
                out.write(if i > 0 { ", " } else { "" })?;
                write_repr(&item, out)?;
                count = i + 1;
            }
            out.write(if count == 1 && value.is_tuple() { "," } else { "" })?;
            out.write(close)
        }
        ValueKind::Map => {
            out.write("{")?;
            for (i, key) in value.try_iter()?.enumerate() {
                out.write(if i > 0 { ", " } else { "" })?;
                write_repr(&key, out)?;
                out.write(": ")?;
                write_repr(&value.get_item(&key)?, out)?;
            }
            out.write("}")
        }
        _ => out.write(value),
    }
}

/// Single quotes, unless there is one inside and no double one; what cannot be printed as an escape.
fn repr_string(text: &str, out: &mut BoundedText) -> Result<(), Error> {
    let quote = if text.contains('\'') && !text.contains('"') { '"' } else { '\'' };
    out.write(quote)?;
    for c in text.chars() {
        match c {
            '\\' => out.write("\\\\")?,
            '\n' => out.write("\\n")?,
            '\r' => out.write("\\r")?,
            '\t' => out.write("\\t")?,
            c if c == quote => out.write(format_args!("\\{c}"))?,
            c if c == ' ' || !(c.is_control() || c.is_whitespace() || is_format(c)) => out.write(c)?,
            c if (c as u32) < 0x100 => out.write(format_args!("\\x{:02x}", c as u32))?,
            c if (c as u32) < 0x10000 => out.write(format_args!("\\u{:04x}", c as u32))?,
            c => out.write(format_args!("\\U{:08x}", c as u32))?,
        }
    }
    out.write(quote)
}

/// The format characters (Unicode Cf) that occur in practice; Python's `repr` escapes them.
fn is_format(c: char) -> bool {
    matches!(c, '\u{ad}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}')
}

/// What Python calls the value's type.
pub(super) fn type_name(value: &Value) -> &'static str {
    match value.kind() {
        ValueKind::Undefined => "an undefined value",
        ValueKind::None => "None",
        ValueKind::Bool => "bool",
        ValueKind::Number if value.is_integer() => "int",
        ValueKind::Number => "float",
        ValueKind::String => "str",
        ValueKind::Seq | ValueKind::Iterable if value.is_tuple() => "tuple",
        ValueKind::Seq | ValueKind::Iterable => "list",
        ValueKind::Map => "dict",
        _ => "an object",
    }
}

/// Jinja's `is iterable`: Python's `iter()` works. None is none, which `minijinja` takes for an empty one.
pub(super) fn is_iterable(value: &Value) -> bool {
    !value.is_none() && value.try_iter().is_ok()
}

/// Jinja's `is sequence`: it has a length and items, so text and mappings are sequences too.
pub(super) fn is_sequence(value: &Value) -> bool {
    let kinds = [ValueKind::Undefined, ValueKind::String, ValueKind::Seq, ValueKind::Iterable, ValueKind::Map];
    kinds.contains(&value.kind())
}

/// Methods of str, list and dict. What changes a list or a dict stays unknown: Hugging Face's sandbox forbids it.
pub(super) fn method(state: &mut State<'_, '_>, value: &Value, name: &str, args: &[Value]) -> Result<Value, Error> {
    let known = match value.kind() {
        ValueKind::String => string_method(value.as_str().unwrap_or_default(), name, args)?,
        ValueKind::Map if name == "copy" => Some(value.clone()),
        ValueKind::Seq | ValueKind::Iterable => list_method(value, name, args)?,
        _ => None,
    };
    match known {
        Some(value) => Ok(value),
        None => minijinja_contrib::pycompat::unknown_method_callback(state, value, name, args),
    }
}

fn list_method(list: &Value, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    match name {
        "copy" => Ok(Some(list.clone())),
        "index" => {
            let (item,): (&Value,) = from_args(args)?;
            match list.try_iter()?.position(|other| other == *item) {
                Some(index) => Ok(Some(Value::from(index))),
                None => Err(failed(format!("{item} is not in the list"))),
            }
        }
        _ => Ok(None),
    }
}

fn string_method(text: &str, name: &str, args: &[Value]) -> Result<Option<Value>, Error> {
    let value = match name {
        "removeprefix" | "removesuffix" => {
            let (part,): (&str,) = from_args(args)?;
            let rest = if name == "removeprefix" { text.strip_prefix(part) } else { text.strip_suffix(part) };
            Value::from(rest.unwrap_or(text))
        }
        "partition" | "rpartition" => {
            let (separator,): (&str,) = from_args(args)?;
            partition(text, separator, name == "rpartition")?
        }
        "rsplit" => {
            let (separator, most): (Option<&str>, Option<i64>) = from_args(args)?;
            rsplit(text, separator, most.unwrap_or(-1))?
        }
        "splitlines" => {
            let (keep_ends,): (Option<bool>,) = from_args(args)?;
            Value::from(split_lines(text, keep_ends.unwrap_or(false)))
        }
        "ljust" | "rjust" | "center" | "zfill" => pad(text, name, args)?,
        "index" | "rindex" => {
            let (part,): (&str,) = from_args(args)?;
            let found = if name == "index" { text.find(part) } else { text.rfind(part) };
            let offset_bytes = found.ok_or_else(|| failed(format!("{name}: substring {part:?} not found")))?;
            Value::from(text[..offset_bytes].chars().count())
        }
        "casefold" => Value::from(text.to_lowercase()),
        "swapcase" => {
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            Value::from(text.chars().map(swap).collect::<String>())
        }
        "isdecimal" => Value::from(!text.is_empty() && text.chars().all(|c| c.is_numeric())),
        "replace" => {
            let (old, new, most): (&str, &str, Option<i64>) = from_args(args)?;
            Value::from(replace(text, old, new, most.unwrap_or(-1))?)
        }
        "join" => {
            let (items,): (&Value,) = from_args(args)?;
            Value::from(join(items, text)?)
        }
        "format" => {
            check_widths(text)?;
            return Ok(None);
        }
        _ => return Ok(None),
    };
    Ok(Some(value))
}

/// `str.replace`, refused before it is done where the result would be too large.
pub(super) fn replace(text: &str, old: &str, new: &str, most: i64) -> Result<String, Error> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let times = text.matches(old).count().min(most);
    if times.saturating_mul(new.len()).saturating_add(text.len()) > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    Ok(text.replacen(old, new, times))
}

/// `separator.join(items)`, with a limit.
pub(super) fn join(items: &Value, separator: &str) -> Result<String, Error> {
    bounded_string(|out| {
        for (i, item) in items.try_iter()?.enumerate() {
            if i > 0 {
                out.write(separator)?;
            }
            write_str(&item, out)?;
        }
        Ok(())
    })
}

/// A format string may ask for padding and digits; the largest of them decides how much is made.
pub(super) fn check_widths(format: &str) -> Result<(), Error> {
    match format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.trim_start_matches('0').len() > 4) {
        true => Err(failed("format: a width above 9999")),
        false => Ok(()),
    }
}

fn partition(text: &str, separator: &str, from_right: bool) -> Result<Value, Error> {
    if separator.is_empty() {
        return Err(failed("partition: the separator is empty"));
    }
    let found = if from_right { text.rsplit_once(separator) } else { text.split_once(separator) };
    let parts = match (found, from_right) {
        (Some((head, tail)), _) => [head, separator, tail],
        (None, false) => [text, "", ""],
        (None, true) => ["", "", text],
    };
    Ok(Value::from(Tuple::from(parts.map(Value::from))))
}

/// Python's `str.rsplit`: `most` splits, counted from the right; negative splits everywhere.
fn rsplit(text: &str, separator: Option<&str>, most: i64) -> Result<Value, Error> {
    let pieces = usize::try_from(most).map_or(usize::MAX, |n| n.saturating_add(1));
    let mut parts: Vec<&str> = match separator {
        Some("") => return Err(failed("rsplit: the separator is empty")),
        Some(separator) => text.rsplitn(pieces, separator).collect(),
        None => {
            let mut parts = Vec::new();
            let mut rest = text.trim_end();
            while !rest.trim_start().is_empty() {
                if parts.len() + 1 == pieces {
                    parts.push(rest);
                    break;
                }
                let start = rest
                    .rfind(char::is_whitespace)
                    .map_or(0, |i| i + rest[i..].chars().next().map_or(1, char::len_utf8));
                parts.push(&rest[start..]);
                rest = rest[..start].trim_end();
            }
            parts
        }
    };
    parts.reverse();
    Ok(parts.into_iter().map(Value::from).collect())
}

/// Python ends lines at more characters than `\n`.
fn split_lines(text: &str, keep_ends: bool) -> Vec<Value> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let mut lines = Vec::new();
    let mut rest = text;
    while !rest.is_empty() {
        let line = rest.find(ENDS).unwrap_or(rest.len());
        let end = match rest[line..].chars().next() {
            Some('\r') if rest[line..].starts_with("\r\n") => line + 2,
            Some(c) => line + c.len_utf8(),
            None => line,
        };
        lines.push(Value::from(&rest[..if keep_ends { end } else { line }]));
        rest = &rest[end..];
    }
    lines
}

fn pad(text: &str, name: &str, args: &[Value]) -> Result<Value, Error> {
    let (width, fill): (i64, Option<&str>) = from_args(args)?;
    let fill = fill.unwrap_or(if name == "zfill" { "0" } else { " " });
    let missing = usize::try_from(width).unwrap_or(0).saturating_sub(text.chars().count());
    if missing.saturating_mul(fill.len()) > MAX_VALUE_BYTES {
        return Err(too_large());
    }
    let left = match name {
        "ljust" => 0,
        // CPython puts the odd one to the left when the width is odd too.
        "center" => missing / 2 + (missing & width.unsigned_abs() as usize & 1),
        _ => missing,
    };
    let right = missing - left;
    let (sign, digits) = match text.strip_prefix(['+', '-']) {
        Some(rest) if name == "zfill" => text.split_at(text.len() - rest.len()),
        _ => ("", text),
    };
    Ok(Value::from(format!("{sign}{}{digits}{}", fill.repeat(left), fill.repeat(right))))
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
