//! The operators of Python that make values (`+`, `*`, `~`, slices) and Jinja's `namespace`, within the limits.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use minijinja::value::{Kwargs, Object, ObjectRepr, Rest, Tuple, Value, ValueKind};
use minijinja::{Error, ErrorKind};

use super::limits::{MAX_VALUE_BYTES, bounded, bounded_string, charge, too_large};
use super::python::{type_name, write_str};

/// Python's `left + right`. Text marked `safe` escapes what is added to it, as markupsafe does.
pub(super) fn add(left: Value, right: Value) -> Result<Value, Error> {
    if left.is_safe() || right.is_safe() {
        return add_safe(&left, &right);
    }
    if let (Some(a), Some(b)) = (left.as_str(), right.as_str()) {
        charge(a.len() + b.len())?;
        return Ok(Value::from([a, b].concat()));
    }
    if is_list(&left) && is_list(&right) && left.is_tuple() == right.is_tuple() {
        let items: Vec<Value> = left.try_iter()?.chain(right.try_iter()?).collect();
        return bounded(if left.is_tuple() { Value::from(Tuple::from(items)) } else { Value::from(items) });
    }
    arithmetic("+", &left, &right, i128::checked_add, |a, b| a + b)
}

/// Python's `left * right`.
pub(super) fn multiply(left: Value, right: Value) -> Result<Value, Error> {
    let (thing, times) = if left.is_number() { (&right, &left) } else { (&left, &right) };
    let Some(times) = times.as_i64().filter(|_| thing.as_str().is_some() || is_list(thing)) else {
        return arithmetic("*", &left, &right, i128::checked_mul, |a, b| a * b);
    };
    let times = usize::try_from(times).unwrap_or(0);
    if let Some(text) = thing.as_str() {
        let bytes = text.len().checked_mul(times).filter(|n| *n <= MAX_VALUE_BYTES).ok_or_else(too_large)?;
        charge(bytes)?;
        return Ok(Value::from(text.repeat(times)));
    }
    let items: Vec<Value> = thing.try_iter()?.collect();
    items.len().checked_mul(times).filter(|n| *n <= MAX_VALUE_BYTES / 16).ok_or_else(too_large)?;
    let repeated: Vec<Value> = items.iter().cycle().take(items.len() * times).cloned().collect();
    bounded(if thing.is_tuple() { Value::from(Tuple::from(repeated)) } else { Value::from(repeated) })
}

/// Jinja's `left ~ right`: both as text.
pub(super) fn concatenate(left: Value, right: Value) -> Result<Value, Error> {
    let text = bounded_string(|out| write_str(&left, out).and_then(|()| write_str(&right, out)))?;
    charge(text.len())?;
    Ok(Value::from(text))
}

/// Adds to text marked `safe`: what is not marked is escaped, and the sum is marked.
fn add_safe(left: &Value, right: &Value) -> Result<Value, Error> {
    let text = bounded_string(|out| {
        for value in [left, right] {
            let text = value.as_str().ok_or_else(|| cannot("+", left, right))?;
            if value.is_safe() { out.write(text)? } else { out.write(escape(text))? }
        }
        Ok(())
    })?;
    charge(text.len())?;
    Ok(Value::from_safe_string(text))
}

/// Escapes for HTML in markupsafe's spelling.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&#34;"),
            '\'' => out.push_str("&#39;"),
            c => out.push(c),
        }
    }
    out
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

/// Numbers, with True and False as 1 and 0. Integers beyond 128 bits are an error.
fn arithmetic(
    operator: &str,
    left: &Value,
    right: &Value,
    integers: fn(i128, i128) -> Option<i128>,
    floats: fn(f64, f64) -> f64,
) -> Result<Value, Error> {
    let integer = |v: &Value| if is_integer(v) { i128::try_from(v.clone()).ok() } else { None };
    if let (Some(a), Some(b)) = (integer(left), integer(right)) {
        let result = integers(a, b).ok_or_else(|| failed(format!("{a} {operator} {b} is too large")))?;
        return Ok(i64::try_from(result).map_or_else(|_| Value::from(result), Value::from));
    }
    let number = |v: &Value| -> Option<f64> {
        if is_integer(v) { i128::try_from(v.clone()).ok().map(|n| n as f64) } else { f64::try_from(v.clone()).ok() }
    };
    if let (Some(a), Some(b)) = (number(left), number(right)) {
        return Ok(Value::from(floats(a, b)));
    }
    Err(cannot(operator, left, right))
}

fn cannot(operator: &str, left: &Value, right: &Value) -> Error {
    if left.is_undefined() || right.is_undefined() {
        let message = format!("a value on one side of {operator} is undefined (a variable or key that is not there)");
        return Error::new(ErrorKind::UndefinedError, message);
    }
    failed(format!("{} {operator} {} cannot be done", type_name(left), type_name(right)))
}

fn is_integer(value: &Value) -> bool {
    value.kind() == ValueKind::Bool || value.is_integer()
}

/// Python's `value[start:stop:step]` for text, lists and tuples.
pub(super) fn slice(value: Value, start: Value, stop: Value, step: Value) -> Result<Value, Error> {
    let step = slice_index(&step)?.unwrap_or(1);
    if step == 0 {
        return Err(failed("the step of a slice is 0"));
    }
    if let Some(text) = value.as_str() {
        let chars: Vec<char> = text.chars().collect();
        let picked: String =
            picks(chars.len(), slice_index(&start)?, slice_index(&stop)?, step).map(|i| chars[i]).collect();
        charge(picked.len())?;
        return Ok(Value::from(picked));
    }
    if !is_list(&value) {
        return Err(failed(format!("{} cannot be sliced", type_name(&value))));
    }
    let items: Vec<Value> = value.try_iter()?.collect();
    let picked = picks(items.len(), slice_index(&start)?, slice_index(&stop)?, step).map(|i| items[i].clone());
    let picked: Vec<Value> = picked.collect();
    charge(picked.len() * 24)?;
    Ok(if value.is_tuple() { Value::from(Tuple::from(picked)) } else { Value::from(picked) })
}

fn slice_index(value: &Value) -> Result<Option<i64>, Error> {
    if value.is_none() {
        return Ok(None);
    }
    let index = value.as_i64().or_else(|| (value.kind() == ValueKind::Bool).then(|| i64::from(value.is_true())));
    index.map(Some).ok_or_else(|| failed(format!("a slice needs integers, and {} is none", type_name(value))))
}

/// Indices of a slice over `len` items, by Python's rules (`slice.indices`).
fn picks(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let len = len as i64;
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |index: i64| if index < 0 { (index.saturating_add(len)).max(lowest) } else { index.min(highest) };
    let (first, end) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    let end = stop.map_or(end, clamp);
    let mut next = Some(start.map_or(first, clamp));
    std::iter::from_fn(move || {
        let index = next.filter(|i| if step > 0 { *i < end } else { *i > end })?;
        next = index.checked_add(step);
        Some(index as usize)
    })
}

/// Jinja's `namespace`: the one thing a template can change. It prints as a word and has no items, and it holds no other
/// namespace, so that nothing can contain itself.
#[derive(Debug, Default)]
pub(super) struct Namespace(Mutex<BTreeMap<String, Value>>);

impl Object for Namespace {
    fn repr(self: &Arc<Self>) -> ObjectRepr {
        ObjectRepr::Plain
    }

    fn get_value(self: &Arc<Self>, key: &Value) -> Option<Value> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).get(key.as_str()?).cloned()
    }

    fn render(self: &Arc<Self>, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("<Namespace>")
    }
}

impl Namespace {
    fn set(&self, name: &str, value: Value) -> Result<(), Error> {
        if holds_namespace(&value)? {
            return Err(failed("a namespace cannot hold a namespace"));
        }
        self.0.lock().unwrap_or_else(PoisonError::into_inner).insert(name.to_string(), value);
        Ok(())
    }
}

fn holds_namespace(value: &Value) -> Result<bool, Error> {
    if value.downcast_object_ref::<Namespace>().is_some() {
        return Ok(true);
    }
    match value.kind() {
        ValueKind::Seq | ValueKind::Iterable => {
            for item in value.try_iter()? {
                if holds_namespace(&item)? {
                    return Ok(true);
                }
            }
        }
        ValueKind::Map => {
            for key in value.try_iter()? {
                if holds_namespace(&value.get_item(&key)?)? {
                    return Ok(true);
                }
            }
        }
        _ => {}
    }
    Ok(false)
}

/// `namespace(a=1)`, `namespace({'a': 1})`.
pub(super) fn namespace(positional: Rest<Value>, named: Kwargs) -> Result<Value, Error> {
    let space = Namespace::default();
    if let Some(map) = positional.first() {
        for key in map.try_iter()? {
            space.set(&key.to_string(), map.get_item(&key)?)?;
        }
    }
    for name in named.args() {
        space.set(name, named.get::<Value>(name)?)?;
    }
    Ok(Value::from_object(space))
}

/// `{% set target.name = value %}`.
pub(super) fn set_attribute(target: Value, name: &str, value: Value) -> Result<(), Error> {
    match target.downcast_object_ref::<Namespace>() {
        Some(space) => space.set(name, value),
        None => Err(failed(format!("cannot assign attribute {name:?}: it is {}, no namespace", type_name(&target)))),
    }
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
