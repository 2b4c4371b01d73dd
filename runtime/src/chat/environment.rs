//! The Jinja environment that Hugging Face's `apply_chat_template` sets up, in `minijinja`.

use minijinja::machinery::{eval, make_string_output};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Rest, Serde, Value};
use minijinja::{AutoEscape, Environment, Error, ErrorKind, Output, State, UndefinedBehavior};

use super::{TemplateError, json, limits, operators, python, rewrite};

/// Steps that a rendering may take. A long conversation takes some 100,000.
const MAX_STEPS: u64 = if cfg!(fuzzing) { 100_000 } else { 10_000_000 };
/// Nested loops, and macro calls, which count four each.
const MAX_DEPTH: usize = 200;
/// What errors would call the template; there is only one, so nobody sees it.
const NAME: &str = "chat_template";

/// Compiles the source and forgets the result.
pub(super) fn check(source: &str) -> Result<(), Error> {
    limits::run(|| rewrite::compile(NAME, source, syntax()).map(|_| ()))
}

/// Renders the source with the given variables.
pub(super) fn render(
    source: &str,
    variables: serde_json::Map<String, serde_json::Value>,
    now: Option<jiff::civil::DateTime>,
) -> Result<String, Error> {
    limits::run(|| {
        let env = environment(now);
        let (instructions, blocks) = rewrite::compile(NAME, source, syntax())?;
        let mut text = String::new();
        let mut output = make_string_output(&mut text);
        eval(&env, &instructions, Value::from(Serde(variables)), &blocks, &mut output, AutoEscape::None)?;
        if text.len() > limits::MAX_VALUE_BYTES {
            return Err(limits::too_large());
        }
        Ok(text)
    })
}

/// `trim_blocks` and `lstrip_blocks` on, as Hugging Face has them.
fn syntax() -> SyntaxConfig {
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    syntax.expect("the default delimiters with other whitespace rules")
}

fn environment(now: Option<jiff::civil::DateTime>) -> Environment<'static> {
    let mut env = Environment::new();
    env.set_undefined_behavior(UndefinedBehavior::Lenient);
    env.set_fuel(Some(MAX_STEPS));
    env.set_recursion_limit(MAX_DEPTH);
    env.set_syntax(syntax());
    env.set_formatter(write_value);
    env.set_unknown_method_callback(python::method);
    env.add_test("iterable", python::is_iterable);
    env.add_test("sequence", python::is_sequence);
    env.add_filter("tojson", tojson);
    env.add_filter("string", string);
    env.add_filter("replace", replace);
    env.add_filter("join", join);
    env.add_filter("indent", indent);
    env.add_filter("format", format);
    env.add_function("raise_exception", raise_exception);
    env.add_function("strftime_now", move |format: &str| strftime_now(format, now));
    env.add_function("namespace", operators::namespace);
    env.add_function(rewrite::ADD, operators::add);
    env.add_function(rewrite::MULTIPLY, operators::multiply);
    env.add_function(rewrite::CONCATENATE, operators::concatenate);
    env.add_function(rewrite::SLICE, operators::slice);
    env.add_function(rewrite::SET_ATTRIBUTE, operators::set_attribute);
    env.add_function(rewrite::BOUNDED, limits::bounded);
    env
}

/// Writes text and values, and counts them.
fn write_value(out: &mut Output<'_>, _: &mut State<'_, '_>, value: &Value) -> Result<(), Error> {
    if let Some(text) = value.as_str() {
        limits::charge(text.len())?;
        return out.write_str(text).map_err(Error::from);
    }
    let text = limits::bounded_string(|out| python::write_str(value, out))?;
    limits::charge(text.len())?;
    out.write_str(&text).map_err(Error::from)
}

fn raise_exception(message: Value) -> Result<Value, Error> {
    let text = message.to_string().split_whitespace().collect::<Vec<_>>().join(" ");
    Err(failed("raised").with_source(TemplateError::Raised(text)))
}

/// Python's `datetime.now().strftime(format)`.
fn strftime_now(format: &str, now: Option<jiff::civil::DateTime>) -> Result<String, Error> {
    let now = now.unwrap_or_else(|| jiff::Zoned::now().datetime());
    python::check_widths(format)?;
    jiff::fmt::strtime::format(format, now).map_err(|error| failed(format!("strftime_now({format:?}): {error}")))
}

/// Hugging Face's `tojson`: `json.dumps`, with `ensure_ascii` off unless asked for, and no escaping for HTML.
fn tojson(value: &Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let format = json::Format::from_arguments(&positional, &named)?;
    named.assert_all_used()?;
    json::dumps(value, &format)
}

fn string(value: Value) -> Result<Value, Error> {
    match value.kind() {
        minijinja::value::ValueKind::String => Ok(value),
        _ => limits::bounded_string(|out| python::write_str(&value, out)).map(Value::from),
    }
}

fn replace(text: Value, old: &str, new: &str, most: Option<i64>) -> Result<String, Error> {
    let text = limits::bounded_string(|out| python::write_str(&text, out))?;
    python::replace(&text, old, new, most.unwrap_or(-1))
}

/// Jinja's `join(d='', attribute=None)`.
fn join(items: Value, separator: Option<&str>, attribute: Option<Value>, named: Kwargs) -> Result<String, Error> {
    let separator = separator.map_or_else(|| named.get::<Option<&str>>("d"), |s| Ok(Some(s)))?.unwrap_or_default();
    let attribute = attribute.map_or_else(|| named.get::<Option<Value>>("attribute"), |a| Ok(Some(a)))?;
    named.assert_all_used()?;
    match attribute {
        None => python::join(&items, separator),
        Some(attribute) => {
            let parts: Result<Vec<Value>, Error> = items.try_iter()?.map(|item| item.get_item(&attribute)).collect();
            python::join(&Value::from(parts?), separator)
        }
    }
}

/// Jinja's `indent(width=4, first=False, blank=False)`; the width may be text.
fn indent(text: Value, positional: Rest<Value>, named: Kwargs) -> Result<String, Error> {
    let argument = |i: usize, name: &str| -> Result<Value, Error> {
        match positional.get(i) {
            Some(value) => Ok(value.clone()),
            None => Ok(named.get::<Option<Value>>(name)?.unwrap_or(Value::UNDEFINED)),
        }
    };
    let (width, first, blank) = (argument(0, "width")?, argument(1, "first")?, argument(2, "blank")?);
    named.assert_all_used()?;
    let margin = match (width.as_str(), width.as_i64()) {
        (Some(text), _) => text.to_string(),
        (None, Some(n)) if n <= 1000 => " ".repeat(usize::try_from(n).unwrap_or(0)),
        (None, None) if width.is_undefined() => " ".repeat(4),
        _ => return Err(failed("indent: the width must be a number up to 1000, or text")),
    };
    let text = limits::bounded_string(|out| python::write_str(&text, out))?;
    limits::bounded_string(|out| {
        for (i, line) in text.split('\n').enumerate() {
            out.write(if i > 0 { "\n" } else { "" })?;
            let indented = if i == 0 { first.is_true() } else { blank.is_true() || !line.is_empty() };
            out.write(if indented { margin.as_str() } else { "" })?;
            out.write(line)?;
        }
        Ok(())
    })
}

fn format(text: &str, arguments: Rest<Value>) -> Result<String, Error> {
    python::check_widths(text)?;
    minijinja::formatting::format(minijinja::formatting::FormatStyle::Printf, text, &arguments)
}

fn failed(message: impl Into<String>) -> Error {
    Error::new(ErrorKind::InvalidOperation, message.into())
}
