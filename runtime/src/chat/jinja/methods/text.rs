//! Methods of `str`.

use crate::chat::jinja::budget::{Result, check_items, failed, spend};
use crate::chat::jinja::call::Arguments;
use crate::chat::jinja::format::braces;
use crate::chat::jinja::lookup;
use crate::chat::jinja::operators::escape;
use crate::chat::jinja::units::{
    self, Out, Text, ends_with, find, find_last, is_space, map_chars, places, plain, same, starts_with, strip,
};
use crate::chat::jinja::value::Value;

pub(super) fn call(text: &Text, name: &'static str, arguments: Arguments) -> Result<Value> {
    let value = method(text, name, arguments)?;
    if text.is_safe() { safe(value) } else { Ok(value) }
}

/// Methods of Markup return Markup, in lists as well.
fn safe(value: Value) -> Result<Value> {
    let all = |items: &[Value]| items.iter().cloned().map(safe).collect::<Result<Vec<Value>>>();
    match value {
        Value::Text(text) => text.into_safe(true).map(Value::Text),
        Value::List(items) => Value::list(all(items.items())?),
        Value::Tuple(items) => Value::tuple(all(items.items())?),
        other => Ok(other),
    }
}

fn method(text: &Text, name: &'static str, arguments: Arguments) -> Result<Value> {
    let all = text.units();
    spend(all.len())?;
    match name {
        "lower" | "casefold" | "upper" | "swapcase" | "capitalize" | "title" => {
            let [] = arguments.take(name, [])?;
            change_case(text, name).map(Value::Text)
        }
        "strip" | "lstrip" | "rstrip" => {
            let [chars] = arguments.take(name, ["chars"])?;
            let (left, right) = (name != "rstrip", name != "lstrip");
            let kept = match chars.filter(|chars| !chars.is_none()) {
                None => strip(all, left, right, is_space)?,
                Some(chars) => {
                    let chars = given(name, Some(chars))?;
                    check_items(chars.len())?;
                    strip(all, left, right, |unit| chars.units().iter().any(|other| same(unit, *other)))?
                }
            };
            Value::units(kept.to_vec())
        }
        "split" | "rsplit" => {
            let [separator, most] = arguments.take(name, ["sep", "maxsplit"])?;
            let most =
                most.map_or(Ok(-1), |most| most.as_int().ok_or_else(|| failed("maxsplit must be an integer")))?;
            let most = usize::try_from(most).unwrap_or(usize::MAX);
            let separator = separator.filter(|separator| !separator.is_none());
            let parts = match (separator, name) {
                (None, "split") => split_space(all, most)?,
                (None, _) => rsplit_space(all, most)?,
                (Some(separator), _) => split_at(all, &given(name, Some(separator))?, most, name == "rsplit")?,
            };
            list(parts)
        }
        "splitlines" => {
            let [keep] = arguments.take(name, ["keepends"])?;
            list(split_lines(all, keep.is_some_and(|keep| keep.is_true()))?)
        }
        "partition" | "rpartition" => {
            let [separator] = arguments.take(name, ["sep"])?;
            partition(all, &given(name, separator)?, name == "rpartition")
        }
        "startswith" | "endswith" => {
            let [parts, start, stop] = arguments.take(name, ["prefix", "start", "end"])?;
            let (start, stop) = bounds(all.len(), start.as_ref(), stop.as_ref())?;
            let Some(within) = all.get(start..stop) else { return Ok(Value::Bool(false)) };
            let parts = match parts {
                Some(Value::Tuple(parts)) => parts.items().to_vec(),
                Some(part) => vec![part],
                None => return Err(failed(format!("{name} needs an argument"))),
            };
            let mut found = false;
            for part in &parts {
                let part = given(name, Some(part.clone()))?;
                found |= if name == "startswith" {
                    starts_with(within, part.units())?
                } else {
                    ends_with(within, part.units())?
                };
            }
            Ok(Value::Bool(found))
        }
        "find" | "rfind" | "index" | "rindex" | "count" => search(all, name, arguments),
        "replace" => {
            let [old, new, most] = arguments.take(name, ["old", "new", "count"])?;
            let most = most.map_or(Ok(-1), |most| most.as_int().ok_or_else(|| failed("count must be an integer")))?;
            let new = given(name, new)?;
            let new = if text.is_safe() { escaped(&new)? } else { new };
            replace(all, given(name, old)?.units(), new.units(), most).map(Value::Text)
        }
        "removeprefix" | "removesuffix" => {
            let [part] = arguments.take(name, ["part"])?;
            let part = given(name, part)?;
            let rest = match name {
                "removeprefix" if starts_with(all, part.units())? => &all[part.len()..],
                "removesuffix" if ends_with(all, part.units())? => &all[..all.len() - part.len()],
                _ => all,
            };
            Value::units(rest.to_vec())
        }
        "join" => {
            let [items] = arguments.take(name, ["iterable"])?;
            let items = items.ok_or_else(|| failed("join needs an iterable"))?.items()?;
            let mut out = Out::default();
            for (i, item) in items.items().iter().enumerate() {
                let Value::Text(item) = item else {
                    let kind = item.type_name();
                    return Err(failed(format!("sequence item {i}: expected str instance, {kind} found")));
                };
                out.extend(if i > 0 { all } else { &[] })?;
                if text.is_safe() { escape(item, &mut out)? } else { out.extend(item.units())? }
            }
            out.text().map(Value::Text)
        }
        "format" => {
            let arguments = braces::Arguments {
                positional: &arguments.positional,
                named: &arguments.named,
                attribute: &|value, name| lookup::attribute(value, name),
                item: &|value, key| lookup::item(value, key),
            };
            braces::format(text, &arguments).map(Value::Text)
        }
        "format_map" => {
            let [mapping] = arguments.take(name, ["mapping"])?;
            let Some(Value::Dict(dict)) = mapping else { return Err(failed("format_map needs a mapping")) };
            let named: Vec<(String, Value)> = dict
                .entries()
                .iter()
                .filter_map(|(key, value)| Some((key.as_text()?.to_plain(), value.clone())))
                .collect();
            method(text, "format", Arguments { positional: Vec::new(), named })
        }
        "center" | "ljust" | "rjust" | "zfill" => pad(all, name, arguments),
        "expandtabs" => {
            let [size] = arguments.take(name, ["tabsize"])?;
            expand_tabs(all, size.map_or(Some(8), |size| size.as_int()))
        }
        _ => {
            let [] = arguments.take(name, [])?;
            Ok(Value::Bool(is(all, name)))
        }
    }
}

fn list(parts: Vec<&[u32]>) -> Result<Value> {
    check_items(parts.len())?;
    Value::list(parts.into_iter().map(|part| Value::units(part.to_vec())).collect::<Result<_>>()?)
}

/// An argument that must be text.
fn given(method: &str, value: Option<Value>) -> Result<Text> {
    match value {
        Some(Value::Text(text)) => Ok(text),
        Some(other) => Err(failed(format!("{method}: the argument must be str, not {}", other.type_name()))),
        None => Err(failed(format!("{method} needs an argument"))),
    }
}

fn escaped(text: &Text) -> Result<Text> {
    let mut out = Out::default();
    escape(text, &mut out)?;
    out.text()
}

/// `start` and `stop` by Python's rules for slices.
pub(super) fn bounds(len: usize, start: Option<&Value>, stop: Option<&Value>) -> Result<(usize, usize)> {
    let place = |value: Option<&Value>, default: usize| -> Result<usize> {
        let Some(value) = value.filter(|value| !value.is_none()) else { return Ok(default) };
        let index = value.as_int().ok_or_else(|| failed("slice indices must be integers or None"))?;
        let index = if index < 0 { (index + len as i128).max(0) } else { index };
        Ok(usize::try_from(index).unwrap_or(usize::MAX))
    };
    Ok((place(start, 0)?, place(stop, len)?.min(len)))
}

fn change_case(text: &Text, name: &str) -> Result<Text> {
    let all = text.units();
    match name {
        "lower" | "casefold" => units::lower(all),
        "upper" => units::upper(all),
        "swapcase" => {
            let swap =
                |c: char| if c.is_uppercase() { c.to_lowercase().to_string() } else { c.to_uppercase().to_string() };
            map_chars(all, |c| swap(c).chars().collect::<Vec<_>>().into_iter())
        }
        "capitalize" => {
            let (first, rest) = all.split_at(all.len().min(1));
            Text::new([units::upper(first)?.units(), units::lower(rest)?.units()].concat())
        }
        _ => {
            let mut out = Out::default();
            let mut inside = false;
            for unit in all {
                let letter = if inside { units::lower(&[*unit])? } else { units::upper(&[*unit])? };
                out.extend(letter.units())?;
                let c = plain(*unit);
                inside = c.is_lowercase() || c.is_uppercase();
            }
            out.text()
        }
    }
}

fn split_space(text: &[u32], most: usize) -> Result<Vec<&[u32]>> {
    let mut parts = Vec::new();
    let mut rest = strip(text, true, false, is_space)?;
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let end = rest.iter().position(|unit| is_space(*unit)).unwrap_or(rest.len());
        parts.push(&rest[..end]);
        let next = rest[end..].iter().position(|unit| !is_space(*unit)).unwrap_or(rest.len() - end);
        rest = &rest[end + next..];
    }
    Ok(parts)
}

fn rsplit_space(text: &[u32], most: usize) -> Result<Vec<&[u32]>> {
    let mut parts = Vec::new();
    let mut rest = strip(text, false, true, is_space)?;
    while !rest.is_empty() {
        if parts.len() == most {
            parts.push(rest);
            break;
        }
        let start = rest.iter().rposition(|unit| is_space(*unit)).map_or(0, |at| at + 1);
        parts.push(&rest[start..]);
        let end = rest[..start].iter().rposition(|unit| !is_space(*unit)).map_or(0, |at| at + 1);
        rest = &rest[..end];
    }
    parts.reverse();
    Ok(parts)
}

fn split_at<'t>(text: &'t [u32], separator: &Text, most: usize, from_right: bool) -> Result<Vec<&'t [u32]>> {
    if separator.is_empty() {
        return Err(failed("empty separator"));
    }
    let mut parts = Vec::new();
    if !from_right {
        let mut at = 0;
        for place in places(text, separator.units(), most)? {
            parts.push(&text[at..place]);
            at = place + separator.len();
        }
        parts.push(&text[at..]);
        return Ok(parts);
    }
    let mut rest = text;
    while parts.len() < most
        && let Some(place) = find_last(rest, separator.units())?
    {
        check_items(parts.len())?;
        parts.push(&rest[place + separator.len()..]);
        rest = &rest[..place];
    }
    parts.push(rest);
    parts.reverse();
    Ok(parts)
}

/// Python ends lines at more characters than `\n`.
pub(in crate::chat::jinja) fn split_lines(text: &[u32], keep_ends: bool) -> Result<Vec<&[u32]>> {
    const ENDS: [char; 10] =
        ['\n', '\r', '\u{b}', '\u{c}', '\u{1c}', '\u{1d}', '\u{1e}', '\u{85}', '\u{2028}', '\u{2029}'];
    let (mut lines, mut rest) = (Vec::new(), text);
    while !rest.is_empty() {
        let line = rest.iter().position(|unit| ENDS.contains(&plain(*unit))).unwrap_or(rest.len());
        let two = rest.get(line).is_some_and(|unit| plain(*unit) == '\r')
            && rest.get(line + 1).is_some_and(|unit| plain(*unit) == '\n');
        let end = (line + 1 + usize::from(two)).min(rest.len());
        lines.push(&rest[..if keep_ends { end } else { line }]);
        rest = &rest[end..];
    }
    Ok(lines)
}

fn partition(text: &[u32], separator: &Text, from_right: bool) -> Result<Value> {
    if separator.is_empty() {
        return Err(failed("empty separator"));
    }
    let found = if from_right { find_last(text, separator.units())? } else { find(text, separator.units(), 0)? };
    let parts: [&[u32]; 3] = match found {
        Some(at) => [&text[..at], &text[at..at + separator.len()], &text[at + separator.len()..]],
        None if from_right => [&[], &[], text],
        None => [text, &[], &[]],
    };
    Value::tuple(parts.into_iter().map(|part| Value::units(part.to_vec())).collect::<Result<_>>()?)
}

fn search(text: &[u32], name: &str, arguments: Arguments) -> Result<Value> {
    let [part, start, stop] = arguments.take("find", ["sub", "start", "end"])?;
    let part = given(name, part)?;
    let (start, stop) = bounds(text.len(), start.as_ref(), stop.as_ref())?;
    let within = text.get(start..stop);
    if name == "count" {
        let count = match within {
            Some(within) if part.is_empty() => within.len() + 1,
            Some(within) => places(within, part.units(), usize::MAX)?.len(),
            None => 0,
        };
        return Ok(Value::Int(count as i128));
    }
    let found = match within {
        Some(within) if name.starts_with('r') => find_last(within, part.units())?,
        Some(within) => find(within, part.units(), 0)?,
        None => None,
    };
    match found {
        Some(at) => Ok(Value::Int((start + at) as i128)),
        None if name.ends_with("index") => Err(failed("substring not found")),
        None => Ok(Value::Int(-1)),
    }
}

/// `str.replace`; a negative `most` replaces everywhere.
pub(in crate::chat::jinja) fn replace(text: &[u32], old: &[u32], new: &[u32], most: i128) -> Result<Text> {
    let most = usize::try_from(most).unwrap_or(usize::MAX);
    let mut out = Out::default();
    if old.is_empty() {
        for (i, unit) in text.iter().enumerate() {
            out.extend(if i < most { new } else { &[] })?;
            out.push(*unit)?;
        }
        out.extend(if text.len() < most { new } else { &[] })?;
        return out.text();
    }
    let (mut at, mut times) = (0, 0);
    while times < most
        && let Some(place) = find(text, old, at)?
    {
        out.extend(&text[at..place])?;
        out.extend(new)?;
        at = place + old.len();
        times += 1;
    }
    out.extend(&text[at..])?;
    out.text()
}

fn pad(text: &[u32], name: &'static str, arguments: Arguments) -> Result<Value> {
    let [width, fill] = arguments.take(name, ["width", "fillchar"])?;
    let width = width.and_then(|width| width.as_int()).ok_or_else(|| failed(format!("{name} needs a width")))?;
    let fill = match (name, fill) {
        ("zfill", _) => '0'.into(),
        (_, None) => ' '.into(),
        (_, Some(Value::Text(fill))) if fill.len() == 1 => fill.units()[0],
        _ => return Err(failed("The fill character must be exactly one character long")),
    };
    let width = usize::try_from(width.max(0)).unwrap_or(usize::MAX);
    let missing = width.saturating_sub(text.len());
    let left = match name {
        "ljust" => 0,
        // CPython puts the odd space on the left if the width is odd, too.
        "center" => missing / 2 + (missing & width & 1),
        _ => missing,
    };
    let signed = name == "zfill" && text.first().is_some_and(|unit| matches!(plain(*unit), '+' | '-'));
    let (sign, digits) = text.split_at(usize::from(signed));
    let mut out = Out::default();
    out.extend(sign)?;
    out.repeat(&[fill], left)?;
    out.extend(digits)?;
    out.repeat(&[fill], missing - left)?;
    out.text().map(Value::Text)
}

fn expand_tabs(text: &[u32], size: Option<i128>) -> Result<Value> {
    let size = size.and_then(|size| usize::try_from(size.max(0)).ok()).filter(|size| *size <= 1000);
    let size = size.ok_or_else(|| failed("expandtabs: the size must be a number up to 1000"))?;
    let (mut out, mut column) = (Out::default(), 0);
    for unit in text {
        match plain(*unit) {
            '\t' => {
                let spaces = if size > 0 { size - column % size } else { 0 };
                out.repeat(&[' '.into()], spaces)?;
                column += spaces;
            }
            c => {
                out.push(*unit)?;
                column = if matches!(c, '\n' | '\r') { 0 } else { column + 1 };
            }
        }
    }
    out.text().map(Value::Text)
}

/// The `is…` methods.
fn is(text: &[u32], name: &str) -> bool {
    let chars = || text.iter().map(|unit| plain(*unit));
    let all = |test: fn(char) -> bool| !text.is_empty() && chars().all(test);
    let cased = |c: char| c.is_lowercase() || c.is_uppercase();
    match name {
        "isalnum" => all(char::is_alphanumeric),
        "isalpha" => all(char::is_alphabetic),
        "isascii" => chars().all(|c| c.is_ascii()),
        "isdecimal" | "isdigit" | "isnumeric" => all(char::is_numeric),
        "isspace" => !text.is_empty() && text.iter().all(|unit| is_space(*unit)),
        "islower" => chars().any(cased) && !chars().any(char::is_uppercase),
        "isupper" => chars().any(cased) && !chars().any(char::is_lowercase),
        "isidentifier" => {
            let first = chars().next().is_some_and(|c| c.is_alphabetic() || c == '_');
            first && chars().all(|c| c.is_alphanumeric() || c == '_')
        }
        "isprintable" => chars().all(|c| c == ' ' || !(c.is_control() || c.is_whitespace())),
        _ => {
            // istitle: upper case begins words, lower case continues them.
            let (mut inside, mut any) = (false, false);
            for c in chars() {
                if c.is_uppercase() && inside || c.is_lowercase() && !inside {
                    return false;
                }
                inside = cased(c);
                any |= inside;
            }
            any
        }
    }
}
