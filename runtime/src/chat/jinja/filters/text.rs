//! Filters from text to text. Their input is converted to text first, as by Python's `str`.

use crate::chat::jinja::budget::{Result, failed, spend};
use crate::chat::jinja::call::Arguments;
use crate::chat::jinja::format::percent;
use crate::chat::jinja::lookup;
use crate::chat::jinja::methods;
use crate::chat::jinja::operators::escape;
use crate::chat::jinja::print::{to_text, write_str};
use crate::chat::jinja::units::{self, Out, Text, UNTRUSTED, find, is_space, plain};
use crate::chat::jinja::value::{Dict, List, Value};

/// The filter's result; `None` if the name is not one of these filters.
pub(super) fn apply(name: &str, value: &Value, arguments: Arguments) -> Result<Option<Value>> {
    Ok(Some(match name {
        "lower" | "upper" | "capitalize" => {
            let [] = arguments.take(name, [])?;
            call_method(
                value,
                if name == "lower" {
                    "lower"
                } else if name == "upper" {
                    "upper"
                } else {
                    "capitalize"
                },
                Vec::new(),
            )?
        }
        "title" => {
            let [] = arguments.take(name, [])?;
            title(&to_text(value)?)?
        }
        "trim" => {
            let [chars] = arguments.take(name, ["chars"])?;
            call_method(value, "strip", chars.into_iter().collect())?
        }
        "center" => {
            let [width] = arguments.take(name, ["width"])?;
            call_method(value, "center", vec![width.unwrap_or(Value::Int(80))])?
        }
        "replace" => {
            let [old, new, most] = arguments.take(name, ["old", "new", "count"])?;
            let (Some(old), Some(new)) = (old, new) else {
                return Err(failed("replace needs two arguments"));
            };
            let most = most
                .filter(|most| !most.is_none())
                .map_or(Ok(-1), |most| most.as_int().ok_or_else(|| failed("replace: count must be an integer")))?;
            let (text, old, new) = (to_text(value)?, to_text(&old)?, to_text(&new)?);
            Value::Text(methods::replace(text.units(), old.units(), new.units(), most)?)
        }
        "join" => join(value, arguments)?,
        "indent" => indent(value, arguments)?,
        "format" => {
            let text = to_text(value)?;
            let Arguments { positional, named } = arguments;
            let given = match (positional.is_empty(), named.is_empty()) {
                (false, false) => return Err(failed("can't handle positional and keyword arguments at the same time")),
                (true, false) => {
                    let pairs = named.into_iter().map(|(name, value)| Ok((Value::text(&name)?, value)));
                    Value::Dict(Dict::new(pairs.collect::<Result<_>>()?)?)
                }
                _ => Value::Tuple(List::new(positional)?),
            };
            Value::Text(percent::format(&text, &given)?)
        }
        "e" | "escape" | "forceescape" => {
            let [] = arguments.take(name, [])?;
            let text = to_text(value)?;
            let text = if name == "forceescape" { text.into_safe(false)? } else { text };
            let mut out = Out::default();
            escape(&text, &mut out)?;
            Value::Text(out.text()?.into_safe(true)?)
        }
        "safe" => {
            let [] = arguments.take(name, [])?;
            Value::Text(to_text(value)?.into_safe(true)?)
        }
        "striptags" => {
            let [] = arguments.take(name, [])?;
            Value::Text(strip_tags(to_text(value)?.units())?)
        }
        "wordcount" => {
            let [] = arguments.take(name, [])?;
            let text = to_text(value)?;
            spend(text.len())?;
            let is_word = |unit: &u32| plain(*unit).is_alphanumeric() || plain(*unit) == '_';
            let words = text.units().chunk_by(|a, b| is_word(a) == is_word(b)).filter(|chunk| is_word(&chunk[0]));
            Value::Int(words.count() as i128)
        }
        "truncate" => truncate(value, arguments)?,
        "urlencode" => {
            let [] = arguments.take(name, [])?;
            Value::Text(url_encode(value)?)
        }
        _ => return Ok(None),
    }))
}

fn call_method(value: &Value, method: &'static str, arguments: Vec<Value>) -> Result<Value> {
    methods::call(&Value::Text(to_text(value)?), method, Arguments::of(arguments))
}

/// Jinja's own `title`: words begin after white space, hyphens and opening brackets.
fn title(text: &Text) -> Result<Value> {
    let begins = |unit: u32| is_space(unit) || matches!(plain(unit), '-' | '(' | '{' | '[' | '<');
    let mut out = Out::default();
    let mut inside = false;
    for unit in text.units() {
        let letter = if inside { units::lower(&[*unit])? } else { units::upper(&[*unit])? };
        out.extend(letter.units())?;
        inside = !begins(*unit);
    }
    out.text().map(Value::Text)
}

/// `join(d='', attribute=None)`
fn join(value: &Value, arguments: Arguments) -> Result<Value> {
    let [separator, attribute] = arguments.take("join", ["d", "attribute"])?;
    let separator = separator.map_or_else(|| Text::of(""), |separator| to_text(&separator))?;
    let attribute = attribute.filter(|attribute| !attribute.is_none());
    let mut out = Out::default();
    for (i, item) in value.items()?.items().iter().enumerate() {
        out.extend(if i > 0 { separator.units() } else { &[] })?;
        match &attribute {
            Some(path) => write_str(&lookup::path(item, path)?, &mut out)?,
            None => write_str(item, &mut out)?,
        }
    }
    out.text().map(Value::Text)
}

/// `indent(width=4, first=False, blank=False)`; the width may be text.
fn indent(value: &Value, arguments: Arguments) -> Result<Value> {
    let [width, first, blank] = arguments.take("indent", ["width", "first", "blank"])?;
    let margin = match &width {
        Some(Value::Text(text)) => text.units().to_vec(),
        None => vec![' '.into(); 4],
        Some(other) => match other.as_int() {
            Some(n) if n <= 1000 => vec![' '.into(); n.max(0) as usize],
            _ => return Err(failed("indent: the width must be a number up to 1000, or text")),
        },
    };
    let is_true = |value: Option<Value>| value.is_some_and(|value| value.is_true());
    let (first, blank) = (is_true(first), is_true(blank));
    let Value::Text(text) = value else {
        return Err(failed(format!("indent needs text, not {}", value.type_name())));
    };
    let mut out = Out::default();
    let mut rest = text.units().to_vec();
    rest.push('\n'.into());
    let lines = methods::split_lines(&rest, false)?;
    for (i, line) in lines.iter().enumerate() {
        out.str(if i > 0 { "\n" } else { "" })?;
        let indented = if i == 0 { first } else { blank || !line.is_empty() };
        out.extend(if indented { &margin } else { &[] })?;
        out.extend(line)?;
    }
    out.text().map(Value::Text)
}

/// Markupsafe's `striptags`: removes comments and tags, collapses white space, decodes entities.
fn strip_tags(text: &[u32]) -> Result<Text> {
    let without_comments = cut(text, "<!--", "-->")?;
    let without_tags = cut(&without_comments, "<", ">")?;
    let mut words = Out::default();
    for chunk in without_tags.chunk_by(|a, b| is_space(*a) == is_space(*b)).filter(|chunk| !is_space(chunk[0])) {
        words.str(if words.len() > 0 { " " } else { "" })?;
        words.extend(chunk)?;
    }
    unescape(words.text()?.units())
}

/// Removes every part from `open` to `close`.
fn cut(text: &[u32], open: &str, close: &str) -> Result<Vec<u32>> {
    let (open, close) = (units::units(open), units::units(close));
    let (mut kept, mut at) = (Out::default(), 0);
    while let Some(start) = find(text, &open, at)?
        && let Some(end) = find(text, &close, start)?
    {
        kept.extend(&text[at..start])?;
        at = end + close.len();
    }
    kept.extend(&text[at..])?;
    Ok(kept.into_units())
}

/// Decodes numeric entities and the common named ones; Python's `html.unescape` knows 2,231.
fn unescape(text: &[u32]) -> Result<Text> {
    let (mut out, mut at) = (Out::default(), 0);
    while at < text.len() {
        let rest = &text[at..(at + 12).min(text.len())];
        let end = rest.iter().position(|unit| plain(*unit) == ';').filter(|_| plain(text[at]) == '&');
        let name: String = rest[..end.unwrap_or(0)].iter().skip(1).map(|unit| plain(*unit)).collect();
        let number = |digits: &str, radix| u32::from_str_radix(digits, radix).ok().and_then(char::from_u32);
        let c = match name.as_str() {
            "amp" => Some('&'),
            "lt" => Some('<'),
            "gt" => Some('>'),
            "quot" => Some('"'),
            "apos" => Some('\''),
            "nbsp" => Some('\u{a0}'),
            other => match other.strip_prefix('#') {
                Some(digits) if digits.starts_with(['x', 'X']) => number(&digits[1..], 16),
                Some(digits) => number(digits, 10),
                None => None,
            },
        };
        match (c, end) {
            (Some(c), Some(end)) => {
                out.push(u32::from(c) | (text[at] & UNTRUSTED))?;
                at += end + 1;
            }
            _ => {
                out.push(text[at])?;
                at += 1;
            }
        }
    }
    out.text()
}

/// `truncate(length=255, killwords=False, end='...', leeway=5)`
fn truncate(value: &Value, arguments: Arguments) -> Result<Value> {
    let [length, whole, end, leeway] = arguments.take("truncate", ["length", "killwords", "end", "leeway"])?;
    let number = |value: Option<Value>, default: usize| match value {
        None | Some(Value::None) => Ok(default),
        Some(value) => {
            let number = value.as_int().and_then(|number| usize::try_from(number).ok());
            number.ok_or_else(|| failed("truncate: a length must be a number"))
        }
    };
    let (length, leeway) = (number(length, 255)?, number(leeway, 5)?);
    let end = end.map_or_else(|| Text::of("..."), |end| to_text(&end))?;
    if length < end.len() {
        return Err(failed(format!("expected length >= {}, got {length}", end.len())));
    }
    let len = value.len().ok_or_else(|| failed(format!("object of type '{}' has no len()", value.type_name())))?;
    if len <= length.saturating_add(leeway) {
        return Ok(value.clone());
    }
    let Value::Text(text) = value else {
        return Err(failed(format!("truncate needs text, not {}", value.type_name())));
    };
    let mut kept = &text.units()[..length - end.len()];
    if !whole.is_some_and(|whole| whole.is_true()) {
        kept = kept.iter().rposition(|unit| plain(*unit) == ' ').map_or(kept, |at| &kept[..at]);
    }
    Value::units([kept, end.units()].concat())
}

fn url_encode(value: &Value) -> Result<Text> {
    let mut out = Out::default();
    let pairs = match value {
        Value::Text(text) => {
            quote(text, true, &mut out)?;
            return out.text();
        }
        Value::Dict(dict) => dict.entries().to_vec(),
        other if other.is_iterable() => {
            let pair = |pair: &Value| match pair.items()?.items() {
                [key, value] => Ok((key.clone(), value.clone())),
                _ => Err(failed("urlencode needs pairs")),
            };
            other.items()?.items().iter().map(pair).collect::<Result<_>>()?
        }
        other => {
            quote(&to_text(other)?, true, &mut out)?;
            return out.text();
        }
    };
    for (i, (key, value)) in pairs.iter().enumerate() {
        out.str(if i > 0 { "&" } else { "" })?;
        quote(&to_text(key)?, false, &mut out)?;
        out.str("=")?;
        quote(&to_text(value)?, false, &mut out)?;
    }
    out.text()
}

fn quote(text: &Text, path: bool, out: &mut Out) -> Result<()> {
    for unit in text.units() {
        match plain(*unit) {
            c if c.is_ascii_alphanumeric() || "_.-~".contains(c) || (path && c == '/') => out.push(*unit)?,
            ' ' if !path => out.str_as("+", *unit)?,
            c => {
                for byte in c.encode_utf8(&mut [0; 4]).bytes() {
                    out.str_as(&format!("%{byte:02X}"), *unit)?;
                }
            }
        }
    }
    Ok(())
}
