//! `value.name` and `value[key]`, in Jinja's order: an attribute first after a dot, an item first in brackets.

use super::budget::{Result, failed};
use super::methods;
use super::units::Text;
use super::value::{Loop, Value};

/// `value.name`
pub(super) fn attribute(value: &Value, name: &str) -> Result<Value> {
    if let Value::Undefined(what) = value {
        return Err(failed(format!("{what} is undefined, and has no attribute '{name}'")));
    }
    if let Some(found) = own_attribute(value, name)? {
        return Ok(found);
    }
    if let Value::Dict(dict) = value
        && let Some(found) = dict.get_name(name)?
    {
        return Ok(found.clone());
    }
    Ok(missing(value, name))
}

/// `value[key]`
pub(super) fn item(value: &Value, key: &Value) -> Result<Value> {
    let index = |len: usize| {
        let index = key.as_int()?;
        let index = if index < 0 { index + len as i128 } else { index };
        usize::try_from(index).ok().filter(|index| *index < len)
    };
    let found = match value {
        Value::Undefined(what) => return Err(failed(format!("{what} is undefined, and has no items"))),
        Value::Dict(dict) if !matches!(key, Value::List(_) | Value::Dict(_)) => dict.get(key)?.cloned(),
        Value::List(list) | Value::Tuple(list) => index(list.len()).map(|at| list.items()[at].clone()),
        Value::Text(text) => match index(text.len()) {
            Some(at) => Some(Value::Text(Text::new(vec![text.units()[at]])?.into_safe(text.is_safe())?)),
            None => None,
        },
        Value::Range(start, _, step) => {
            index(value.len().unwrap_or(0)).map(|at| Value::Int(i128::from(*start) + at as i128 * i128::from(*step)))
        }
        _ => None,
    };
    if let Some(found) = found {
        return Ok(found);
    }
    let name = match key {
        Value::Text(name) => name.to_plain(),
        other => return Ok(Value::undefined(format!("item {} of '{}'", shown(other), value.type_name()))),
    };
    Ok(own_attribute(value, &name)?.unwrap_or_else(|| missing(value, &name)))
}

fn shown(key: &Value) -> String {
    key.as_int().map_or_else(|| key.type_name().to_owned(), |index| index.to_string())
}

fn missing(value: &Value, name: &str) -> Value {
    let name: String = name.chars().take(64).collect();
    Value::undefined(format!("'{} object' has no attribute '{name}', so it", value.type_name()))
}

fn own_attribute(value: &Value, name: &str) -> Result<Option<Value>> {
    if let Some(method) = methods::by_name(value, name) {
        return Ok(Some(Value::Method(std::rc::Rc::new(value.clone()), method)));
    }
    match value {
        Value::Namespace(space) => space.get(&Text::of(name)?),
        Value::Loop(this) => Ok(loop_attribute(this, name)),
        // A result of `groupby`.
        Value::Tuple(pair) if pair.len() == 2 => Ok(match name {
            "grouper" => Some(pair.items()[0].clone()),
            "list" => Some(pair.items()[1].clone()),
            _ => None,
        }),
        Value::Cycler(cycler) if name == "current" => {
            Ok(Some(cycler.items.items()[cycler.at.get() % cycler.items.len()].clone()))
        }
        _ => Ok(None),
    }
}

fn loop_attribute(this: &Loop, name: &str) -> Option<Value> {
    let (index, len) = (this.index.get(), this.items.len());
    let int = |value: usize| Value::Int(value as i128);
    let neighbour = |at: Option<usize>, what: &str| {
        let item = at.and_then(|at| this.items.items().get(at)).cloned();
        item.unwrap_or_else(|| Value::undefined(what))
    };
    Some(match name {
        "index" => int(index + 1),
        "index0" => int(index),
        "revindex" => int(len - index),
        "revindex0" => int(len - index - 1),
        "first" => Value::Bool(index == 0),
        "last" => Value::Bool(index + 1 == len),
        "length" => int(len),
        "depth" => int(this.depth + 1),
        "depth0" => int(this.depth),
        "previtem" => neighbour(index.checked_sub(1), "there is no previous item"),
        "nextitem" => neighbour(Some(index + 1), "there is no next item"),
        _ => return None,
    })
}

/// Resolves a filter's `attribute` argument: a path such as `'a.b.0'`, or an index.
pub(super) fn path(value: &Value, path: &Value) -> Result<Value> {
    path_or(value, path, None)
}

/// As [`path`], with a default for each step that is undefined.
pub(super) fn path_or(value: &Value, path: &Value, default: Option<&Value>) -> Result<Value> {
    let mut value = value.clone();
    let mut step = |key: &Value| -> Result<()> {
        value = item(&value, key)?;
        if let (Value::Undefined(_), Some(default)) = (&value, default) {
            value = default.clone();
        }
        Ok(())
    };
    match path {
        Value::Text(text) => {
            for part in text.to_plain().split('.') {
                match part.parse::<i128>() {
                    Ok(index) if part.bytes().all(|byte| byte.is_ascii_digit()) => step(&Value::Int(index))?,
                    _ => step(&Value::text(part)?)?,
                }
            }
        }
        index => step(index)?,
    }
    Ok(value)
}
