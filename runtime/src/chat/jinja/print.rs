//! Python's `str` and `repr`, and its number format.

use super::budget::{Result, failed, spend};
use super::operators::escape;
use super::units::{Out, Text, plain};
use super::value::{List, Value};

/// Python's `repr` of a float: the shortest digits that read back the same, with an exponent outside of 1e-4..1e16.
pub(super) fn float_repr(value: f64) -> String {
    if value.is_nan() {
        return "nan".into();
    }
    if value.is_infinite() {
        return if value > 0.0 { "inf" } else { "-inf" }.into();
    }
    // Rust's `{:?}` switches to an exponent at the same bounds, but writes it without a plus sign and padding.
    let text = format!("{value:?}");
    match text.split_once('e') {
        Some((digits, exponent)) if exponent.starts_with('-') => format!("{digits}e-{:0>2}", &exponent[1..]),
        Some((digits, exponent)) => format!("{digits}e+{exponent:0>2}"),
        None => text,
    }
}

/// Python's `str(value)`: text as it is, everything else as `repr` writes it. Undefined writes nothing.
pub(super) fn write_str(value: &Value, out: &mut Out) -> Result<()> {
    match value {
        Value::Text(text) => out.extend(text.units()),
        Value::Undefined(_) => Ok(()),
        other => write_repr(other, out),
    }
}

/// `str(value)` as a text.
pub(super) fn to_text(value: &Value) -> Result<Text> {
    if let Value::Text(text) = value {
        return Ok(text.clone());
    }
    let mut out = Out::default();
    write_str(value, &mut out)?;
    out.text()
}

/// `str(value)` escaped for HTML.
pub(super) fn write_escaped(value: &Value, out: &mut Out) -> Result<()> {
    escape(&to_text(value)?, out)
}

/// Python's `repr(value)`.
pub(super) fn write_repr(value: &Value, out: &mut Out) -> Result<()> {
    spend(1)?;
    match value {
        Value::Undefined(_) => out.str("Undefined"),
        Value::None => out.str("None"),
        Value::Bool(true) => out.str("True"),
        Value::Bool(false) => out.str("False"),
        Value::Int(value) => out.str(&value.to_string()),
        Value::Float(value) => out.str(&float_repr(*value)),
        Value::Text(text) if text.is_safe() => {
            out.str("Markup(")?;
            repr_text(text, out)?;
            out.str(")")
        }
        Value::Text(text) => repr_text(text, out),
        Value::List(list) => write_items(list, "[", "]", out),
        Value::Tuple(list) => write_items(list, "(", if list.len() == 1 { ",)" } else { ")" }, out),
        Value::View(name, list) => {
            out.str(name)?;
            write_items(list, "([", "])", out)
        }
        Value::Dict(dict) => {
            out.str("{")?;
            for (i, (key, value)) in dict.entries().iter().enumerate() {
                out.str(if i > 0 { ", " } else { "" })?;
                write_repr(key, out)?;
                out.str(": ")?;
                write_repr(value, out)?;
            }
            out.str("}")
        }
        Value::Range(start, stop, 1) => out.str(&format!("range({start}, {stop})")),
        Value::Range(start, stop, step) => out.str(&format!("range({start}, {stop}, {step})")),
        Value::Namespace(space) => {
            let names: Vec<(Text, Value)> = space.0.borrow().clone();
            out.str("<Namespace {")?;
            for (i, (name, value)) in names.iter().enumerate() {
                out.str(if i > 0 { ", " } else { "" })?;
                repr_text(name, out)?;
                out.str(": ")?;
                write_repr(value, out)?;
            }
            out.str("}>")
        }
        Value::Loop(this) => out.str(&format!("<LoopContext {}/{}>", this.index.get() + 1, this.items.len())),
        // Python prints a memory address here, which no template wants.
        other => Err(failed(format!("a {} cannot be printed", other.type_name()))),
    }
}

fn write_items(list: &List, open: &str, close: &str, out: &mut Out) -> Result<()> {
    out.str(open)?;
    for (i, item) in list.items().iter().enumerate() {
        out.str(if i > 0 { ", " } else { "" })?;
        write_repr(item, out)?;
    }
    out.str(close)
}

/// Python's `repr(str)`: single quotes, unless the text has single quotes and no double ones; unprintable characters escaped.
fn repr_text(text: &Text, out: &mut Out) -> Result<()> {
    let has = |quote: char| text.units().iter().any(|unit| plain(*unit) == quote);
    let quote = if has('\'') && !has('"') { '"' } else { '\'' };
    out.push(quote.into())?;
    for unit in text.units() {
        match plain(*unit) {
            '\\' => out.str_as("\\\\", *unit)?,
            '\n' => out.str_as("\\n", *unit)?,
            '\r' => out.str_as("\\r", *unit)?,
            '\t' => out.str_as("\\t", *unit)?,
            c if c == quote => out.str_as(&format!("\\{c}"), *unit)?,
            c if is_printable(c) => out.push(*unit)?,
            c if (c as u32) < 0x100 => out.str_as(&format!("\\x{:02x}", c as u32), *unit)?,
            c if (c as u32) < 0x10000 => out.str_as(&format!("\\u{:04x}", c as u32), *unit)?,
            c => out.str_as(&format!("\\U{:08x}", c as u32), *unit)?,
        }
    }
    out.push(quote.into())
}

/// Whether `repr` leaves a character unescaped: not control, format (Cf), private-use or separator (an approximation).
fn is_printable(c: char) -> bool {
    let format = matches!(c, '\u{ad}' | '\u{600}'..='\u{605}' | '\u{61c}' | '\u{6dd}' | '\u{70f}' | '\u{180e}'
        | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e000}'..='\u{f8ff}' | '\u{e0001}'..='\u{e007f}' | '\u{f0000}'..);
    c == ' ' || !(c.is_control() || c.is_whitespace() || format)
}
