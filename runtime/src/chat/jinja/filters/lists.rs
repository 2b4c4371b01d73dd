//! Filters that select, sort and group items. Those that are generators in Jinja return a stream.

use std::cmp::Ordering;

use crate::chat::jinja::budget::{Result, check_items, failed, spend};
use crate::chat::jinja::call::Arguments;
use crate::chat::jinja::lookup;
use crate::chat::jinja::operators::{add, equal, order};
use crate::chat::jinja::predicates;
use crate::chat::jinja::print::to_text;
use crate::chat::jinja::units;
use crate::chat::jinja::value::{Dict, List, Value};

/// The filter's result; `None` if the name is not one of these filters.
pub(super) fn apply(name: &str, value: &Value, arguments: Arguments) -> Result<Option<Value>> {
    Ok(Some(match name {
        "first" => {
            let [] = arguments.take(name, [])?;
            match value {
                Value::Text(text) if !text.is_empty() => lookup::item(value, &Value::Int(0))?,
                other => {
                    other.items()?.items().first().cloned().unwrap_or_else(|| Value::undefined("the first of no items"))
                }
            }
        }
        "last" => {
            let [] = arguments.take(name, [])?;
            match value {
                Value::Stream(_) => return Err(failed("'generator' object is not reversible")),
                Value::Text(text) if !text.is_empty() => lookup::item(value, &Value::Int(-1))?,
                other => {
                    other.items()?.items().last().cloned().unwrap_or_else(|| Value::undefined("the last of no items"))
                }
            }
        }
        "list" => {
            let [] = arguments.take(name, [])?;
            Value::List(value.items()?)
        }
        "reverse" => {
            let [] = arguments.take(name, [])?;
            match value {
                Value::Text(text) => {
                    spend(text.len())?;
                    Value::units(text.units().iter().rev().copied().collect())?
                }
                Value::Stream(_) => Value::list(value.items()?.items().iter().rev().cloned().collect())?,
                other => Value::stream(other.items()?.items().iter().rev().cloned().collect())?,
            }
        }
        "map" => map(value, arguments)?,
        "select" | "reject" => {
            let items = items_if_any(value)?;
            choose(&items, arguments, name == "select", |item| Ok(item.clone()))?
        }
        "selectattr" | "rejectattr" => {
            let items = items_if_any(value)?;
            let mut arguments = arguments;
            if arguments.positional.is_empty() {
                return Err(failed("Missing parameter for attribute name"));
            }
            let path = arguments.positional.remove(0);
            choose(&items, arguments, name == "selectattr", |item| lookup::path(item, &path))?
        }
        "sort" => sort(value, arguments)?,
        "unique" => unique(value, arguments)?,
        "dictsort" => dict_sort(value, arguments)?,
        "groupby" => group_by(value, arguments)?,
        "min" | "max" => extreme(name, value, arguments)?,
        "sum" => {
            let [attribute, start] = arguments.take(name, ["attribute", "start"])?;
            let mut total = start.unwrap_or(Value::Int(0));
            if let Value::Text(_) = total {
                return Err(failed("sum() can't sum strings [use ''.join(seq) instead]"));
            }
            for item in value.items()?.items() {
                let item = attribute.as_ref().map_or_else(|| Ok(item.clone()), |path| lookup::path(item, path))?;
                total = add(&total, &item)?;
            }
            total
        }
        "batch" => batch(value, arguments)?,
        "slice" => slices(value, arguments)?,
        _ => return Ok(None),
    }))
}

/// A stable merge sort; `less` may fail, and need not be a consistent order.
pub(in crate::chat::jinja) fn sorted<T: Clone>(
    items: Vec<T>,
    less: impl Fn(&T, &T) -> Result<bool> + Copy,
) -> Result<Vec<T>> {
    if items.len() < 2 {
        return Ok(items);
    }
    spend(items.len())?;
    let (left, right) = items.split_at(items.len() / 2);
    let (left, right) = (sorted(left.to_vec(), less)?, sorted(right.to_vec(), less)?);
    let (mut i, mut j) = (0, 0);
    let mut merged = Vec::with_capacity(items.len());
    while i < left.len() && j < right.len() {
        if less(&right[j], &left[i])? {
            merged.push(right[j].clone());
            j += 1;
        } else {
            merged.push(left[i].clone());
            i += 1;
        }
    }
    merged.extend_from_slice(&left[i..]);
    merged.extend_from_slice(&right[j..]);
    Ok(merged)
}

fn is_less(a: &Value, b: &Value) -> Result<bool> {
    Ok(order("<", a, b)? == Some(Ordering::Less))
}

/// Sorts by key; stable in both directions.
fn sorted_by_key(items: Vec<(Value, Value)>, reverse: bool) -> Result<Vec<(Value, Value)>> {
    sorted(items, |a, b| if reverse { is_less(&b.0, &a.0) } else { is_less(&a.0, &b.0) })
}

fn is_true(value: Option<Value>) -> bool {
    value.is_some_and(|value| value.is_true())
}

/// The sort key of a value: text in lower case, unless the comparison is case-sensitive.
fn folded(value: Value, case_sensitive: bool) -> Result<Value> {
    match value {
        Value::Text(text) if !case_sensitive => units::lower(text.units()).map(Value::Text),
        other => Ok(other),
    }
}

fn attribute_of(item: &Value, path: Option<&Value>) -> Result<Value> {
    path.filter(|path| !path.is_none()).map_or_else(|| Ok(item.clone()), |path| lookup::path(item, path))
}

/// The items; like Jinja, treats every falsy value as empty.
fn items_if_any(value: &Value) -> Result<List> {
    if value.is_true() { value.items() } else { List::new(Vec::new()) }
}

fn map(value: &Value, arguments: Arguments) -> Result<Value> {
    let items = items_if_any(value)?;
    let Arguments { mut positional, named } = arguments;
    let mapped: Vec<Value> = if positional.is_empty() {
        let [attribute, default] = Arguments { positional, named }.take("map", ["attribute", "default"])?;
        let path = attribute.ok_or_else(|| failed("map requires a filter argument"))?;
        let get = |item: &Value| lookup::path_or(item, &path, default.as_ref());
        items.items().iter().map(get).collect::<Result<_>>()?
    } else {
        let filter = to_text(&positional.remove(0))?.to_plain();
        let arguments = Arguments { positional, named };
        items.items().iter().map(|item| super::apply(&filter, item, arguments.clone())).collect::<Result<_>>()?
    };
    Value::stream(mapped)
}

/// Items for which the test (by default, truthiness) equals `wanted`.
fn choose(items: &List, arguments: Arguments, wanted: bool, get: impl Fn(&Value) -> Result<Value>) -> Result<Value> {
    let Arguments { mut positional, named } = arguments;
    let test = match positional.is_empty() {
        true => None,
        false => Some(to_text(&positional.remove(0))?.to_plain()),
    };
    let arguments = Arguments { positional, named };
    let mut chosen = Vec::new();
    for item in items.items() {
        spend(1)?;
        let value = get(item)?;
        let holds = match &test {
            Some(test) => predicates::apply(test, &value, &arguments)?,
            None => value.is_true(),
        };
        if holds == wanted {
            chosen.push(item.clone());
        }
    }
    Value::stream(chosen)
}

fn sort(value: &Value, arguments: Arguments) -> Result<Value> {
    let [reverse, case_sensitive, attribute] = arguments.take("sort", ["reverse", "case_sensitive", "attribute"])?;
    let case_sensitive = is_true(case_sensitive);
    // Several attributes, separated by commas, form a compound key.
    let paths = match attribute.filter(|attribute| !attribute.is_none()) {
        Some(Value::Text(text)) => {
            text.to_plain().split(',').map(|path| Value::text(path).map(Some)).collect::<Result<_>>()?
        }
        other => vec![other],
    };
    let mut keyed = Vec::new();
    for item in value.items()?.items() {
        let part = |path: &Option<Value>| folded(attribute_of(item, path.as_ref())?, case_sensitive);
        keyed.push((Value::list(paths.iter().map(part).collect::<Result<_>>()?)?, item.clone()));
    }
    Value::list(sorted_by_key(keyed, is_true(reverse))?.into_iter().map(|(_, item)| item).collect())
}

fn unique(value: &Value, arguments: Arguments) -> Result<Value> {
    let [case_sensitive, attribute] = arguments.take("unique", ["case_sensitive", "attribute"])?;
    let case_sensitive = is_true(case_sensitive);
    let items = value.items()?;
    let mut keyed = Vec::with_capacity(items.len());
    for (at, item) in items.items().iter().enumerate() {
        keyed.push((folded(attribute_of(item, attribute.as_ref())?, case_sensitive)?, Value::Int(at as i128)));
    }
    // A dictionary keeps a key's last value: built in reverse, that is the index of the first occurrence.
    let first = Dict::new(keyed.iter().rev().cloned().collect())?;
    let mut kept = Vec::with_capacity(first.len());
    for (at, (key, _)) in keyed.iter().enumerate() {
        if first.get(key)?.and_then(Value::as_int) == Some(at as i128) {
            kept.push(items.items()[at].clone());
        }
    }
    Value::stream(kept)
}

fn dict_sort(value: &Value, arguments: Arguments) -> Result<Value> {
    let [case_sensitive, by, reverse] = arguments.take("dictsort", ["case_sensitive", "by", "reverse"])?;
    let Value::Dict(dict) = value else {
        return Err(failed(format!("'{}' object has no attribute 'items'", value.type_name())));
    };
    let by_value = match by.map(|by| to_text(&by)).transpose()? {
        None => false,
        Some(by) if by.is("key") => false,
        Some(by) if by.is("value") => true,
        Some(_) => return Err(failed("You can only sort by either \"key\" or \"value\"")),
    };
    let case_sensitive = is_true(case_sensitive);
    let mut keyed = Vec::with_capacity(dict.len());
    for (key, value) in dict.entries() {
        let sort_key = folded(if by_value { value.clone() } else { key.clone() }, case_sensitive)?;
        keyed.push((sort_key, Value::tuple(vec![key.clone(), value.clone()])?));
    }
    Value::list(sorted_by_key(keyed, is_true(reverse))?.into_iter().map(|(_, pair)| pair).collect())
}

fn group_by(value: &Value, arguments: Arguments) -> Result<Value> {
    let [attribute, default, case_sensitive] = arguments.take("groupby", ["attribute", "default", "case_sensitive"])?;
    let path = attribute.ok_or_else(|| failed("groupby needs an attribute"))?;
    let case_sensitive = is_true(case_sensitive);
    let get = |item: &Value| lookup::path_or(item, &path, default.as_ref());
    let mut keyed = Vec::new();
    for item in value.items()?.items() {
        keyed.push((folded(get(item)?, case_sensitive)?, item.clone()));
    }
    let keyed = sorted_by_key(keyed, false)?;
    let mut groups: Vec<(Value, Vec<Value>)> = Vec::new();
    for (key, item) in keyed {
        match groups.last_mut() {
            Some((known, items)) if equal(known, &key)? => items.push(item),
            _ => groups.push((key, vec![item])),
        }
    }
    let pair = |(_, items): (Value, Vec<Value>)| Value::tuple(vec![get(&items[0])?, Value::list(items)?]);
    Value::list(groups.into_iter().map(pair).collect::<Result<_>>()?)
}

fn extreme(name: &str, value: &Value, arguments: Arguments) -> Result<Value> {
    let [case_sensitive, attribute] = arguments.take(name, ["case_sensitive", "attribute"])?;
    let case_sensitive = is_true(case_sensitive);
    let mut best: Option<(Value, Value)> = None;
    for item in value.items()?.items() {
        let key = folded(attribute_of(item, attribute.as_ref())?, case_sensitive)?;
        let better = match &best {
            None => true,
            Some((known, _)) if name == "min" => is_less(&key, known)?,
            Some((known, _)) => order(">", &key, known)? == Some(Ordering::Greater),
        };
        if better {
            best = Some((key, item.clone()));
        }
    }
    Ok(best.map_or_else(|| Value::undefined("the extreme of no items"), |(_, item)| item))
}

fn count_of(name: &str, value: Option<Value>) -> Result<i128> {
    let count = value.and_then(|value| value.as_int());
    count.ok_or_else(|| failed(format!("{name} needs a number")))
}

/// `batch(linecount, fill_with=None)`
fn batch(value: &Value, arguments: Arguments) -> Result<Value> {
    let [count, fill] = arguments.take("batch", ["linecount", "fill_with"])?;
    let count = count_of("batch", count)?;
    let fill = fill.filter(|fill| !fill.is_none());
    let items = value.items()?;
    let size = usize::try_from(count.max(1)).unwrap_or(usize::MAX);
    let mut rows = Vec::new();
    for row in items.items().chunks(size.min(items.len().max(1))) {
        let mut row = row.to_vec();
        if let Some(fill) = &fill
            && row.len() < size
        {
            check_items(size)?;
            row.resize(size, fill.clone());
        }
        rows.push(Value::list(row)?);
    }
    Value::stream(rows)
}

/// `slice(slices, fill_with=None)`
fn slices(value: &Value, arguments: Arguments) -> Result<Value> {
    let [count, fill] = arguments.take("slice", ["slices", "fill_with"])?;
    let count = count_of("slice", count)?;
    if count == 0 {
        return Err(failed("integer division or modulo by zero"));
    }
    let fill = fill.filter(|fill| !fill.is_none());
    let count = usize::try_from(count.max(0)).unwrap_or(usize::MAX);
    check_items(count)?;
    let items = value.items()?;
    if count == 0 {
        return Value::stream(Vec::new());
    }
    let (each, extra) = (items.len() / count, items.len() % count);
    let (mut columns, mut at) = (Vec::new(), 0);
    for column in 0..count {
        let end = at + each + usize::from(column < extra);
        let mut items = items.items()[at..end].to_vec();
        if column >= extra {
            items.extend(fill.clone());
        }
        columns.push(Value::list(items)?);
        at = end;
    }
    Value::stream(columns)
}
