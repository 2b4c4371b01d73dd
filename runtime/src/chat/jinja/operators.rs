//! Python's operators.

use std::cmp::Ordering;

use super::budget::{Result, check_items, check_length, failed, spend};
use super::format::percent;
use super::print::write_str;
use super::units::{self, Out, Text};
use super::value::{List, Value};

/// `left == right`, which never fails in Python.
pub(super) fn equal(left: &Value, right: &Value) -> Result<bool> {
    spend(1)?;
    Ok(match (left, right) {
        (Value::Text(a), Value::Text(b)) => units::equal(a.units(), b.units())?,
        (Value::None, Value::None) | (Value::Undefined(_), Value::Undefined(_)) => true,
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => equal_items(a, b)?,
        (Value::Dict(a), Value::Dict(b)) => {
            if a.len() != b.len() {
                return Ok(false);
            }
            for (key, value) in a.entries() {
                match b.get(key)? {
                    Some(other) if equal(value, other)? => {}
                    _ => return Ok(false),
                }
            }
            true
        }
        (Value::Range(..), Value::Range(..)) => equal_items(&left.items()?, &right.items()?)?,
        (Value::View(a, keys), Value::View(b, others)) if a == b && *a != "dict_values" => {
            let mut all = keys.len() == others.len();
            for key in keys.items() {
                all = all && position(others.items(), key)?.is_some();
            }
            all
        }
        (Value::Macro(a), Value::Macro(b)) => a == b,
        (Value::Function(a), Value::Function(b)) => a == b,
        (Value::Namespace(a), Value::Namespace(b)) => std::rc::Rc::ptr_eq(a, b),
        (Value::Stream(a), Value::Stream(b)) => std::rc::Rc::ptr_eq(a, b),
        (Value::Loop(a), Value::Loop(b)) => std::rc::Rc::ptr_eq(a, b),
        _ => match (left.as_int(), right.as_int()) {
            (Some(a), Some(b)) => a == b,
            _ => matches!((left.as_float(), right.as_float()), (Some(a), Some(b)) if a == b),
        },
    })
}

fn equal_items(a: &List, b: &List) -> Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    if a.is_same(b) {
        return Ok(true);
    }
    for (a, b) in a.items().iter().zip(b.items()) {
        if !equal(a, b)? {
            return Ok(false);
        }
    }
    Ok(true)
}

/// Index of `item` in `items`.
pub(super) fn position(items: &[Value], item: &Value) -> Result<Option<usize>> {
    for (at, other) in items.iter().enumerate() {
        if equal(other, item)? {
            return Ok(Some(at));
        }
    }
    Ok(None)
}

/// Orders two values; an error if they are not comparable, `None` if one is NaN.
pub(super) fn order(sign: &str, left: &Value, right: &Value) -> Result<Option<Ordering>> {
    spend(1)?;
    match (left, right) {
        (Value::Text(a), Value::Text(b)) => units::compare(a.units(), b.units()).map(Some),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => {
            for (a, b) in a.items().iter().zip(b.items()) {
                if !equal(a, b)? {
                    return order(sign, a, b);
                }
            }
            Ok(Some(a.len().cmp(&b.len())))
        }
        _ => match (left.as_int(), right.as_int(), left.as_float(), right.as_float()) {
            (Some(a), Some(b), ..) => Ok(Some(a.cmp(&b))),
            (_, _, Some(a), Some(b)) => Ok(a.partial_cmp(&b)),
            _ => Err(unsupported(sign, left, right)),
        },
    }
}

fn unsupported(sign: &str, left: &Value, right: &Value) -> crate::chat::TemplateError {
    for value in [left, right] {
        if let Value::Undefined(what) = value {
            return failed(format!("{what} is undefined, and {sign} needs a value"));
        }
    }
    failed(format!("unsupported operand types for {sign}: '{}' and '{}'", left.type_name(), right.type_name()))
}

/// `item in container`.
pub(super) fn contains(container: &Value, item: &Value) -> Result<bool> {
    match container {
        Value::Text(text) => match item {
            Value::Text(part) => Ok(units::find(text.units(), part.units(), 0)?.is_some()),
            other => Err(failed(format!("'in <string>' requires string as left operand, not {}", other.type_name()))),
        },
        Value::Dict(dict) => Ok(dict.get(item)?.is_some()),
        other => Ok(position(other.items()?.items(), item)?.is_some()),
    }
}

pub(super) fn add(left: &Value, right: &Value) -> Result<Value> {
    match (left, right) {
        (Value::Text(a), Value::Text(b)) if a.is_safe() || b.is_safe() => {
            let mut out = Out::default();
            for text in [a, b] {
                escape(text, &mut out)?;
            }
            Ok(Value::Text(out.text()?.into_safe(true)?))
        }
        (Value::Text(a), Value::Text(b)) => {
            check_length(a.len() + b.len())?;
            Value::units([a.units(), b.units()].concat())
        }
        (Value::List(a), Value::List(b)) => Value::list(concat(a, b)?),
        (Value::Tuple(a), Value::Tuple(b)) => Value::tuple(concat(a, b)?),
        _ => arithmetic("+", left, right, i128::checked_add, |a, b| a + b),
    }
}

fn concat(a: &List, b: &List) -> Result<Vec<Value>> {
    check_items(a.len() + b.len())?;
    Ok(a.items().iter().chain(b.items()).cloned().collect())
}

pub(super) fn subtract(left: &Value, right: &Value) -> Result<Value> {
    arithmetic("-", left, right, i128::checked_sub, |a, b| a - b)
}

pub(super) fn multiply(left: &Value, right: &Value) -> Result<Value> {
    let (thing, times) = match (left, right) {
        (Value::Text(_) | Value::List(_) | Value::Tuple(_), _) => (left, right.as_int()),
        _ => (right, left.as_int()),
    };
    let Some(times) = times.map(|times| usize::try_from(times.max(0)).unwrap_or(usize::MAX)) else {
        return arithmetic("*", left, right, i128::checked_mul, |a, b| a * b);
    };
    let repeat = |list: &List| -> Result<Vec<Value>> {
        let count = list.len().saturating_mul(times);
        check_items(count)?;
        Ok(list.items().iter().cycle().take(count).cloned().collect())
    };
    match thing {
        Value::Text(text) => {
            let mut out = Out::default();
            if !text.is_empty() {
                out.repeat(text.units(), times)?;
            }
            Ok(Value::Text(out.text()?.into_safe(text.is_safe())?))
        }
        Value::List(list) => Value::list(repeat(list)?),
        Value::Tuple(list) => Value::tuple(repeat(list)?),
        _ => arithmetic("*", left, right, i128::checked_mul, |a, b| a * b),
    }
}

pub(super) fn divide(left: &Value, right: &Value) -> Result<Value> {
    match (left.as_float(), right.as_float()) {
        (Some(_), Some(0.0)) => Err(failed("division by zero")),
        (Some(a), Some(b)) => Ok(Value::Float(a / b)),
        _ => Err(unsupported("/", left, right)),
    }
}

pub(super) fn floor_divide(left: &Value, right: &Value) -> Result<Value> {
    match right.as_float() {
        Some(0.0) => Err(failed("integer division or modulo by zero")),
        _ => arithmetic(
            "//",
            left,
            right,
            |a, b| Some(a.checked_div_euclid(b)? - floor_step(a, b)),
            |a, b| (a / b).floor(),
        ),
    }
}

/// Difference between the Euclidean quotient and the floor: 1 for a negative divisor with a remainder, else 0.
fn floor_step(a: i128, b: i128) -> i128 {
    i128::from(b < 0 && a.rem_euclid(b) != 0)
}

pub(super) fn remainder(left: &Value, right: &Value) -> Result<Value> {
    if let Value::Text(format) = left {
        return percent::format(format, right).map(Value::Text);
    }
    match right.as_float() {
        Some(0.0) => Err(failed("integer division or modulo by zero")),
        _ => arithmetic(
            "%",
            left,
            right,
            |a, b| {
                let rest = a.checked_rem(b)?;
                Some(if rest != 0 && (rest < 0) != (b < 0) { rest + b } else { rest })
            },
            |a, b| {
                let rest = a % b;
                if rest != 0.0 && (rest < 0.0) != (b < 0.0) { rest + b } else { rest }
            },
        ),
    }
}

pub(super) fn power(left: &Value, right: &Value) -> Result<Value> {
    if let (Some(base), Some(exponent)) = (left.as_int(), right.as_int())
        && exponent >= 0
    {
        let power = u32::try_from(exponent).ok().and_then(|exponent| base.checked_pow(exponent));
        return power.map(Value::Int).ok_or_else(|| failed(format!("{base} ** {exponent} is too large")));
    }
    match (left.as_float(), right.as_float()) {
        (Some(0.0), Some(b)) if b < 0.0 => Err(failed("0.0 cannot be raised to a negative power")),
        (Some(a), Some(b)) => Ok(Value::Float(a.powf(b))),
        _ => Err(unsupported("**", left, right)),
    }
}

pub(super) fn negate(value: &Value) -> Result<Value> {
    match value {
        Value::Float(value) => Ok(Value::Float(-value)),
        other => match other.as_int().and_then(i128::checked_neg) {
            Some(value) => Ok(Value::Int(value)),
            None => Err(unsupported("-", other, other)),
        },
    }
}

/// Integer overflow beyond 128 bits is an error; Python's integers are unbounded.
fn arithmetic(
    sign: &str,
    left: &Value,
    right: &Value,
    integers: impl Fn(i128, i128) -> Option<i128>,
    floats: impl Fn(f64, f64) -> f64,
) -> Result<Value> {
    if let (Some(a), Some(b)) = (left.as_int(), right.as_int()) {
        return integers(a, b).map(Value::Int).ok_or_else(|| failed(format!("{a} {sign} {b} is too large")));
    }
    match (left.as_float(), right.as_float()) {
        (Some(a), Some(b)) => Ok(Value::Float(floats(a, b))),
        _ => Err(unsupported(sign, left, right)),
    }
}

/// Jinja's `left ~ right`: both as text.
pub(super) fn concatenate(left: &Value, right: &Value) -> Result<Value> {
    let mut out = Out::default();
    write_str(left, &mut out)?;
    write_str(right, &mut out)?;
    out.text().map(Value::Text)
}

/// Escapes text for HTML as markupsafe does; Markup is not escaped again.
pub(super) fn escape(text: &Text, out: &mut Out) -> Result<()> {
    if text.is_safe() {
        return out.extend(text.units());
    }
    for unit in text.units() {
        match units::plain(*unit) {
            '&' => out.str_as("&amp;", *unit)?,
            '<' => out.str_as("&lt;", *unit)?,
            '>' => out.str_as("&gt;", *unit)?,
            '"' => out.str_as("&#34;", *unit)?,
            '\'' => out.str_as("&#39;", *unit)?,
            _ => out.push(*unit)?,
        }
    }
    Ok(())
}

/// `value[start:stop:step]`
pub(super) fn slice(value: &Value, start: &Value, stop: &Value, step: &Value) -> Result<Value> {
    let step = slice_index(step)?.unwrap_or(1);
    if step == 0 {
        return Err(failed("slice step cannot be zero"));
    }
    let (start, stop) = (slice_index(start)?, slice_index(stop)?);
    match value {
        Value::Text(text) => {
            spend(text.len())?;
            let units = text.units();
            let picked = Text::new(picks(units.len(), start, stop, step).map(|i| units[i]).collect())?;
            Ok(Value::Text(picked.into_safe(text.is_safe())?))
        }
        Value::List(list) => Value::list(pick(list, start, stop, step)),
        Value::Tuple(list) => Value::tuple(pick(list, start, stop, step)),
        Value::Range(first, _, by) => {
            let (from, to) = indices(value.len().unwrap_or(0), start, stop, step);
            Ok(Value::Range(first + from * by, first + to * by, by.saturating_mul(step)))
        }
        Value::Undefined(what) => Err(failed(format!("{what} is undefined, and has no items"))),
        other => Err(failed(format!("'{}' object is not subscriptable", other.type_name()))),
    }
}

fn pick(list: &List, start: Option<i64>, stop: Option<i64>, step: i64) -> Vec<Value> {
    picks(list.len(), start, stop, step).map(|i| list.items()[i].clone()).collect()
}

fn slice_index(value: &Value) -> Result<Option<i64>> {
    if value.is_none() {
        return Ok(None);
    }
    let index = value.as_int().map(|index| index.clamp(i64::MIN.into(), i64::MAX.into()) as i64);
    index.map(Some).ok_or_else(|| failed("slice indices must be integers or None"))
}

/// Start and end of a slice over `len` items, by Python's rules (`slice.indices`).
fn indices(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> (i64, i64) {
    let len = len as i64;
    let (lowest, highest) = if step > 0 { (0, len) } else { (-1, len - 1) };
    let clamp = |index: i64| if index < 0 { index.saturating_add(len).max(lowest) } else { index.min(highest) };
    let (first, end) = if step > 0 { (lowest, highest) } else { (highest, lowest) };
    (start.map_or(first, clamp), stop.map_or(end, clamp))
}

/// Indices selected by a slice over `len` items.
fn picks(len: usize, start: Option<i64>, stop: Option<i64>, step: i64) -> impl Iterator<Item = usize> {
    let (start, end) = indices(len, start, stop, step);
    let mut next = Some(start);
    std::iter::from_fn(move || {
        let index = next.filter(|i| if step > 0 { *i < end } else { *i > end })?;
        next = index.checked_add(step);
        Some(index as usize)
    })
}
