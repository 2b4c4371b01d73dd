//! Jinja's filters.
//!
//! Left out, since no chat template needs them: `filesizeformat`, `pprint`, `random` (renderings would not be
//! reproducible), `urlize`, `wordwrap`, `xmlattr`.

pub(super) mod lists;
mod text;

use super::budget::{Result, failed};
use super::call::Arguments;
use super::print::to_text;
use super::value::Value;
use super::{json, lookup};

const NAMES: [&str; 49] = [
    "abs",
    "attr",
    "batch",
    "capitalize",
    "center",
    "count",
    "d",
    "default",
    "dictsort",
    "e",
    "escape",
    "first",
    "float",
    "forceescape",
    "format",
    "groupby",
    "indent",
    "int",
    "items",
    "join",
    "last",
    "length",
    "list",
    "lower",
    "map",
    "max",
    "min",
    "reject",
    "rejectattr",
    "replace",
    "reverse",
    "round",
    "safe",
    "select",
    "selectattr",
    "slice",
    "sort",
    "string",
    "striptags",
    "sum",
    "title",
    "tojson",
    "trim",
    "truncate",
    "unique",
    "upper",
    "urlencode",
    "wordcount",
    "xmlattr",
];

pub(super) fn is_known(name: &str) -> bool {
    NAMES.contains(&name)
}

/// `value|name(arguments)`
pub(super) fn apply(name: &str, value: &Value, arguments: Arguments) -> Result<Value> {
    match name {
        "default" | "d" => {
            let [default, boolean] = arguments.take("default", ["default_value", "boolean"])?;
            let missing = value.is_undefined() || boolean.is_some_and(|boolean| boolean.is_true()) && !value.is_true();
            let default = default.map_or_else(|| Value::text(""), Ok);
            if missing { default } else { Ok(value.clone()) }
        }
        "length" | "count" => {
            let [] = arguments.take(name, [])?;
            let len =
                value.len().ok_or_else(|| failed(format!("object of type '{}' has no len()", value.type_name())))?;
            Ok(Value::Int(len as i128))
        }
        "tojson" => json::tojson(value, arguments),
        "string" => {
            let [] = arguments.take(name, [])?;
            to_text(value).map(Value::Text)
        }
        "items" => items(value, arguments),
        "abs" => {
            let [] = arguments.take(name, [])?;
            match value {
                Value::Float(float) => Ok(Value::Float(float.abs())),
                other => {
                    let size = other.as_int().and_then(i128::checked_abs);
                    size.map(Value::Int)
                        .ok_or_else(|| failed(format!("bad operand type for abs(): '{}'", other.type_name())))
                }
            }
        }
        "int" => int(value, arguments),
        "float" => {
            let [default] = arguments.take(name, ["default"])?;
            let number = match value {
                Value::Text(text) => parse_float(&text.to_plain()),
                Value::Undefined(what) => return Err(failed(format!("{what} is undefined"))),
                other => other.as_float(),
            };
            Ok(number.map(Value::Float).or(default).unwrap_or(Value::Float(0.0)))
        }
        "round" => round(value, arguments),
        "attr" => {
            let [attribute] = arguments.take(name, ["name"])?;
            let attribute = attribute.ok_or_else(|| failed("attr needs a name"))?;
            // Attributes only: a dictionary's entries do not count.
            match value {
                Value::Dict(_) => lookup::attribute(
                    &Value::Dict(super::value::Dict::new(Vec::new())?),
                    &to_text(&attribute)?.to_plain(),
                ),
                other => lookup::attribute(other, &to_text(&attribute)?.to_plain()),
            }
        }
        _ => match text::apply(name, value, arguments.clone())? {
            Some(done) => Ok(done),
            None => lists::apply(name, value, arguments)?.ok_or_else(|| failed(format!("filter {name} is unknown"))),
        },
    }
}

fn items(value: &Value, arguments: Arguments) -> Result<Value> {
    let [] = arguments.take("items", [])?;
    match value {
        Value::Undefined(_) => Value::stream(Vec::new()),
        Value::Dict(dict) => {
            let pairs = dict.entries().iter().map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()]));
            Value::stream(pairs.collect::<Result<_>>()?)
        }
        _ => Err(failed("Can only get item pairs from a mapping.")),
    }
}

/// Python's `int(value)` for text and numbers; the default if it fails.
fn int(value: &Value, arguments: Arguments) -> Result<Value> {
    let [default, base] = arguments.take("int", ["default", "base"])?;
    let base = base.map_or(Some(10), |base| base.as_int()).and_then(|base| u32::try_from(base).ok());
    let base = base.filter(|base| (2..=36).contains(base)).ok_or_else(|| failed("int: base must be 2 to 36"))?;
    let number = match value {
        Value::Text(text) => {
            let text = text.to_plain();
            let digits = text.trim().replace('_', "");
            let prefix = match base {
                2 => "0b",
                8 => "0o",
                16 => "0x",
                _ => "",
            };
            let (sign, size) = digits.strip_prefix('-').map_or((1, digits.as_str()), |rest| (-1, rest));
            let size = size.strip_prefix(prefix).unwrap_or(size);
            let whole = i128::from_str_radix(size, base).ok().map(|size| size * sign);
            whole.or_else(|| parse_float(&text).filter(|float| float.abs() < 1e38).map(|float| float as i128))
        }
        Value::Undefined(what) => return Err(failed(format!("{what} is undefined"))),
        Value::Float(float) if float.is_infinite() => return Err(failed("cannot convert float infinity to integer")),
        Value::Float(float) if float.abs() < 1e38 => Some(*float as i128),
        other => other.as_int(),
    };
    Ok(number.map(Value::Int).or(default).unwrap_or(Value::Int(0)))
}

fn parse_float(text: &str) -> Option<f64> {
    text.trim().replace('_', "").parse().ok()
}

fn round(value: &Value, arguments: Arguments) -> Result<Value> {
    let [precision, method] = arguments.take("round", ["precision", "method"])?;
    let precision =
        precision.map_or(Some(0), |precision| precision.as_int()).filter(|precision| (-300..=300).contains(precision));
    let precision = precision.ok_or_else(|| failed("round: the precision must be a number up to 300"))? as i32;
    let number =
        value.as_float().ok_or_else(|| failed(format!("type {} doesn't define __round__", value.type_name())))?;
    let method =
        method.map_or_else(|| Ok("common".to_owned()), |method| to_text(&method).map(|text| text.to_plain()))?;
    let scale = 10f64.powi(precision);
    match (method.as_str(), value) {
        ("common", Value::Int(_) | Value::Bool(_)) if precision >= 0 => Ok(Value::Int(value.as_int().unwrap_or(0))),
        ("common", _) if precision >= 0 => {
            let digits = format!("{number:.*}", precision as usize);
            Ok(Value::Float(digits.parse().unwrap_or(number)))
        }
        ("common", _) => {
            let rounded = (number * scale).round_ties_even() / scale;
            Ok(if value.as_int().is_some() { Value::Int(rounded as i128) } else { Value::Float(rounded) })
        }
        ("ceil", _) => Ok(Value::Float((number * scale).ceil() / scale)),
        ("floor", _) => Ok(Value::Float((number * scale).floor() / scale)),
        _ => Err(failed("method must be common, ceil or floor")),
    }
}
