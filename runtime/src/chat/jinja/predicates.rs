//! Jinja's tests, used as `value is name`.

use std::rc::Rc;

use super::budget::{Result, failed, spend};
use super::call::Arguments;
use super::expressions::compare;
use super::operators;
use super::print::to_text;
use super::units::plain;
use super::value::Value;
use super::{filters, operators::contains};
use minijinja::machinery::ast::CompareOpKind;

const NAMES: [&str; 38] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "eq",
    "equalto",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "ge",
    "greaterthan",
    "gt",
    "in",
    "integer",
    "iterable",
    "le",
    "lessthan",
    "lower",
    "lt",
    "mapping",
    "ne",
    "none",
    "number",
    "odd",
    "sameas",
    "sequence",
    "string",
    "test",
    "true",
    "upper",
];

/// `value is name(arguments)`
pub(super) fn apply(name: &str, value: &Value, arguments: &Arguments) -> Result<bool> {
    if let Some(op) = comparison(name) {
        let [other] = arguments.clone().take(name, ["other"])?;
        let other = other.ok_or_else(|| failed(format!("the test {name} needs a value")))?;
        return compare(op, value, &other);
    }
    match name {
        "divisibleby" | "sameas" | "in" => {
            let [other] = arguments.clone().take(name, ["other"])?;
            let other = other.ok_or_else(|| failed(format!("the test {name} needs a value")))?;
            return match name {
                "divisibleby" => operators::equal(&operators::remainder(value, &other)?, &Value::Int(0)),
                "in" => contains(&other, value),
                _ => Ok(is_same(value, &other)),
            };
        }
        _ => {
            let [] = arguments.clone().take(name, [])?;
        }
    }
    Ok(match name {
        "defined" => !value.is_undefined(),
        "undefined" => value.is_undefined(),
        "none" => value.is_none(),
        "boolean" => matches!(value, Value::Bool(_)),
        "true" => matches!(value, Value::Bool(true)),
        "false" => matches!(value, Value::Bool(false)),
        "integer" => matches!(value, Value::Int(_)),
        "float" => matches!(value, Value::Float(_)),
        "number" => value.as_float().is_some(),
        "string" => matches!(value, Value::Text(_)),
        "mapping" => matches!(value, Value::Dict(_)),
        "iterable" => value.is_iterable(),
        "sequence" => {
            let views = matches!(value, Value::View(..) | Value::Loop(_));
            value.len().is_some() && !views
        }
        "callable" => matches!(
            value,
            Value::Function(_) | Value::Macro(_) | Value::Method(..) | Value::Joiner(_) | Value::Loop(_)
        ),
        "odd" | "even" => {
            let rest = operators::remainder(value, &Value::Int(2))?;
            operators::equal(&rest, &Value::Int(i128::from(name == "odd")))?
        }
        "lower" | "upper" => {
            let text = to_text(value)?;
            spend(text.len())?;
            let has = |test: fn(char) -> bool| text.units().iter().any(|unit| test(plain(*unit)));
            let (lower, upper) = (has(char::is_lowercase), has(char::is_uppercase));
            if name == "lower" { lower && !upper } else { upper && !lower }
        }
        "escaped" => value.as_text().is_some_and(|text| text.is_safe()),
        "filter" | "test" if matches!(value, Value::List(_) | Value::Dict(_)) => {
            return Err(failed(format!("unhashable type: '{}'", value.type_name())));
        }
        "filter" => value.as_text().is_some_and(|name| filters::is_known(&name.to_plain())),
        "test" => value.as_text().is_some_and(|name| name.is("undefined") || NAMES.contains(&name.to_plain().as_str())),
        _ => return Err(failed(format!("test {name} is unknown"))),
    })
}

fn comparison(name: &str) -> Option<CompareOpKind> {
    Some(match name {
        "eq" | "equalto" | "==" => CompareOpKind::Eq,
        "ne" | "!=" => CompareOpKind::Ne,
        "lt" | "lessthan" | "<" => CompareOpKind::Lt,
        "le" | "<=" => CompareOpKind::Lte,
        "gt" | "greaterthan" | ">" => CompareOpKind::Gt,
        "ge" | ">=" => CompareOpKind::Gte,
        _ => return None,
    })
}

/// Approximates Python's `is`: equal scalars and texts count as identical.
fn is_same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::None, Value::None) => true,
        (Value::Bool(a), Value::Bool(b)) => a == b,
        (Value::Int(a), Value::Int(b)) => a == b,
        (Value::Text(a), Value::Text(b)) => std::ptr::eq(a.units(), b.units()) || a.to_plain() == b.to_plain(),
        (Value::List(a), Value::List(b)) | (Value::Tuple(a), Value::Tuple(b)) => a.is_same(b),
        (Value::Dict(a), Value::Dict(b)) => std::ptr::eq(a.entries(), b.entries()),
        (Value::Namespace(a), Value::Namespace(b)) => Rc::ptr_eq(a, b),
        _ => false,
    }
}
