//! Methods of Python's types. Mutating methods of lists and dicts are left out: Hugging Face's sandbox forbids them (`growing` has
//! the exception).

mod text;

pub(super) use text::{replace, split_lines};

use super::budget::{Result, failed};
use super::call::Arguments;
use super::operators::{equal, position};
use super::value::{Dict, List, Loop, Value};

const TEXT: [&str; 43] = [
    "capitalize",
    "casefold",
    "center",
    "count",
    "endswith",
    "expandtabs",
    "find",
    "format",
    "format_map",
    "index",
    "isalnum",
    "isalpha",
    "isascii",
    "isdecimal",
    "isdigit",
    "isidentifier",
    "islower",
    "isnumeric",
    "isprintable",
    "isspace",
    "istitle",
    "isupper",
    "join",
    "ljust",
    "lower",
    "lstrip",
    "partition",
    "removeprefix",
    "removesuffix",
    "replace",
    "rfind",
    "rindex",
    "rjust",
    "rpartition",
    "rsplit",
    "rstrip",
    "split",
    "splitlines",
    "startswith",
    "strip",
    "swapcase",
    "title",
    "upper",
];

/// The method with that name, if the value has one.
pub(super) fn by_name(value: &Value, name: &str) -> Option<&'static str> {
    let names: &[&'static str] = match value {
        Value::Text(_) if name == "zfill" => &["zfill"],
        Value::Text(_) => &TEXT,
        Value::Dict(_) => &["get", "items", "keys", "values", "copy"],
        Value::List(_) => &["index", "count", "copy"],
        Value::Tuple(_) | Value::Range(..) => &["index", "count"],
        Value::Loop(_) => &["cycle", "changed"],
        Value::Cycler(_) => &["next", "reset"],
        Value::Int(_) | Value::Bool(_) => &["bit_length"],
        Value::Float(_) => &["is_integer"],
        _ => &[],
    };
    names.iter().find(|known| **known == name).copied()
}

pub(super) fn call(value: &Value, name: &'static str, arguments: Arguments) -> Result<Value> {
    match value {
        Value::Text(text) => text::call(text, name, arguments),
        Value::Dict(dict) => dict_method(dict, name, arguments),
        Value::List(list) | Value::Tuple(list) => list_method(value, list, name, arguments),
        Value::Range(..) => list_method(value, &value.items()?, name, arguments),
        Value::Loop(this) => loop_method(this, name, arguments),
        Value::Cycler(cycler) => {
            let [] = arguments.take(name, [])?;
            if name == "reset" {
                cycler.at.set(0);
                return Ok(Value::None);
            }
            let at = cycler.at.get() % cycler.items.len();
            cycler.at.set(at + 1);
            Ok(cycler.items.items()[at].clone())
        }
        Value::Int(_) | Value::Bool(_) => {
            let size = value.as_int().unwrap_or(0).unsigned_abs();
            Ok(Value::Int((u128::BITS - size.leading_zeros()).into()))
        }
        Value::Float(x) => Ok(Value::Bool(x.fract() == 0.0)),
        other => Err(failed(format!("'{}' object has no method {name}", other.type_name()))),
    }
}

fn dict_method(dict: &Dict, name: &'static str, arguments: Arguments) -> Result<Value> {
    if name == "get" {
        if !arguments.named.is_empty() {
            return Err(failed("dict.get() takes no keyword arguments"));
        }
        let [key, default] = arguments.take(name, ["key", "default"])?;
        let key = key.ok_or_else(|| failed("get expected at least 1 argument, got 0"))?;
        return Ok(dict.get(&key)?.cloned().or(default).unwrap_or(Value::None));
    }
    let [] = arguments.take(name, [])?;
    let entries = dict.entries().iter();
    Ok(match name {
        "keys" => Value::View("dict_keys", List::new(entries.map(|(key, _)| key.clone()).collect())?),
        "values" => Value::View("dict_values", List::new(entries.map(|(_, value)| value.clone()).collect())?),
        "items" => {
            let pairs = entries.map(|(key, value)| Value::tuple(vec![key.clone(), value.clone()]));
            Value::View("dict_items", List::new(pairs.collect::<Result<_>>()?)?)
        }
        _ => Value::Dict(dict.clone()),
    })
}

fn list_method(value: &Value, list: &List, name: &'static str, arguments: Arguments) -> Result<Value> {
    if name == "copy" {
        let [] = arguments.take(name, [])?;
        return Ok(value.clone());
    }
    let [item, start, stop] = arguments.take(name, ["value", "start", "stop"])?;
    let item = item.ok_or_else(|| failed(format!("{name} needs an item")))?;
    if name == "count" {
        let mut count = 0;
        for other in list.items() {
            count += i128::from(equal(other, &item)?);
        }
        return Ok(Value::Int(count));
    }
    let (start, stop) = text::bounds(list.len(), start.as_ref(), stop.as_ref())?;
    match position(&list.items()[start..stop.max(start)], &item)? {
        Some(at) => Ok(Value::Int((start + at) as i128)),
        None => Err(failed("the value is not in the list")),
    }
}

fn loop_method(this: &Loop, name: &'static str, arguments: Arguments) -> Result<Value> {
    if name == "changed" {
        let now = List::new(arguments.positional)?;
        let before = this.seen.replace(Some(now.clone()));
        let same = match before {
            Some(before) => equal(&Value::List(before), &Value::List(now))?,
            None => false,
        };
        return Ok(Value::Bool(!same));
    }
    let items = arguments.positional;
    match items.len() {
        0 => Err(failed("no items for cycling given")),
        count => Ok(items[this.index.get() % count].clone()),
    }
}
