//! Global functions: Jinja's, and the two that Hugging Face adds.

use std::cell::{Cell, RefCell};
use std::rc::Rc;

use super::budget::{Result, failed};
use super::call::Arguments;
use super::print::to_text;
use super::units::Text;
use super::value::{Cycler, Dict, Namespace, Value, range_len};
use crate::chat::TemplateError;

/// Longest `range` in Jinja's sandbox.
const MAX_RANGE: usize = 100_000;

const NAMES: [&str; 7] = ["range", "dict", "namespace", "cycler", "joiner", "raise_exception", "strftime_now"];

pub(super) fn by_name(name: &str) -> Option<&'static str> {
    NAMES.into_iter().find(|known| *known == name)
}

pub(super) fn call(name: &str, arguments: Arguments, now: Option<jiff::civil::DateTime>) -> Result<Value> {
    match name {
        "range" => range(arguments),
        "dict" => dict(arguments).map(Value::Dict),
        "namespace" => {
            let space = Namespace(RefCell::default());
            for (key, value) in dict(arguments)?.entries() {
                space.set(to_text(key)?, value.clone())?;
            }
            Ok(Value::Namespace(Rc::new(space)))
        }
        "cycler" => {
            if !arguments.named.is_empty() || arguments.positional.is_empty() {
                return Err(failed("at least one item has to be provided"));
            }
            let items = super::value::List::new(arguments.positional)?;
            Ok(Value::Cycler(Rc::new(Cycler { items, at: Cell::new(0) })))
        }
        "joiner" => {
            let [separator] = arguments.take("joiner", ["sep"])?;
            let separator = separator.map_or_else(|| Text::of(", "), |separator| to_text(&separator))?;
            Ok(Value::Joiner(Rc::new((separator, Cell::new(false)))))
        }
        "raise_exception" => {
            let [message] = arguments.take("raise_exception", ["message"])?;
            let message = message.ok_or_else(|| failed("raise_exception needs a message"))?;
            Err(TemplateError::Raised(to_text(&message)?.to_plain()))
        }
        _ => {
            let [format] = arguments.take("strftime_now", ["format"])?;
            match format {
                Some(Value::Text(format)) => strftime(&format.to_plain(), now),
                _ => Err(failed("strftime_now needs a format")),
            }
        }
    }
}

fn range(arguments: Arguments) -> Result<Value> {
    let given = arguments.take("range", ["start", "stop", "step"])?;
    let mut numbers = Vec::new();
    for value in given.into_iter().flatten() {
        let number = value.as_int().and_then(|number| i64::try_from(number).ok());
        numbers
            .push(number.ok_or_else(|| {
                failed(format!("'{}' object cannot be interpreted as an integer", value.type_name()))
            })?);
    }
    let (start, stop, step) = match numbers[..] {
        [stop] => (0, stop, 1),
        [start, stop] => (start, stop, 1),
        [start, stop, step] => (start, stop, step),
        _ => return Err(failed("range expected at least 1 argument, got 0")),
    };
    if step == 0 {
        return Err(failed("range() arg 3 must not be zero"));
    }
    let count = range_len(start, stop, step);
    if count > MAX_RANGE {
        return Err(failed(format!("Range too big. The sandbox blocks ranges larger than MAX_RANGE ({MAX_RANGE}).")));
    }
    Ok(Value::Range(start, stop, step))
}

/// `dict(pairs, a=1)`
fn dict(arguments: Arguments) -> Result<Dict> {
    let mut pairs = Vec::new();
    match arguments.positional.as_slice() {
        [] => {}
        [Value::Dict(dict)] => pairs.extend_from_slice(dict.entries()),
        [Value::Namespace(space)] => {
            pairs.extend(space.0.borrow().iter().map(|(name, value)| (Value::Text(name.clone()), value.clone())));
        }
        [items] => {
            for pair in items.items()?.items() {
                match pair.items()?.items() {
                    [key, value] => pairs.push((key.clone(), value.clone())),
                    _ => return Err(failed("dictionary update sequence element has not length 2")),
                }
            }
        }
        more => return Err(failed(format!("dict expected at most 1 argument, got {}", more.len()))),
    }
    for (name, value) in arguments.named {
        pairs.push((Value::text(&name)?, value));
    }
    Dict::new(pairs)
}

/// Python's `datetime.now().strftime(format)`.
fn strftime(format: &str, now: Option<jiff::civil::DateTime>) -> Result<Value> {
    // A padding width in the format could make the result arbitrarily long.
    if format.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.trim_start_matches('0').len() > 3) {
        return Err(failed("strftime_now: a width above 999"));
    }
    let now = now.unwrap_or_else(|| jiff::Zoned::now().datetime());
    let text = jiff::fmt::strtime::format(format, now);
    Value::text(&text.map_err(|error| failed(format!("strftime_now({format:?}): {error}")))?)
}
