//! Python's `'…'.format(…)`, with its field names and format specifications.

use super::{check_digits, check_width, float_digits, pad, shortest};
use crate::chat::jinja::budget::{Result, failed};
use crate::chat::jinja::print::{to_text, write_repr};
use crate::chat::jinja::units::{Out, Text, plain, string, units};
use crate::chat::jinja::value::Value;

/// Arguments of a format string, and how to look up attributes and items of a value.
pub(in crate::chat::jinja) struct Arguments<'a> {
    pub(in crate::chat::jinja) positional: &'a [Value],
    pub(in crate::chat::jinja) named: &'a [(String, Value)],
    pub(in crate::chat::jinja) attribute: &'a dyn Fn(&Value, &str) -> Result<Value>,
    pub(in crate::chat::jinja) item: &'a dyn Fn(&Value, &Value) -> Result<Value>,
}

/// `text.format(…)`
pub(in crate::chat::jinja) fn format(text: &Text, arguments: &Arguments<'_>) -> Result<Text> {
    let mut out = Out::default();
    let mut next = Some(0);
    write(text.units(), arguments, &mut next, 2, &mut out)?;
    out.text()
}

/// `next` is the index that `{}` takes; `None` once an index was given explicitly.
fn write(text: &[u32], arguments: &Arguments<'_>, next: &mut Option<usize>, depth: usize, out: &mut Out) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or_else(|| failed("Max string recursion exceeded"))?;
    let mut at = 0;
    while at < text.len() {
        let (unit, following) = (text[at], text.get(at + 1).map(|unit| plain(*unit)));
        match plain(unit) {
            '{' if following == Some('{') => at += 1,
            '}' if following == Some('}') => at += 1,
            '}' => return Err(failed("Single '}' encountered in format string")),
            '{' => {
                let end = field_end(&text[at + 1..])?;
                field(&text[at + 1..at + 1 + end], arguments, next, depth, out)?;
                at += end + 2;
                continue;
            }
            _ => {}
        }
        out.push(unit)?;
        at += 1;
    }
    Ok(())
}

/// Length of a field up to its closing brace, skipping nested braces.
fn field_end(text: &[u32]) -> Result<usize> {
    let mut open = 1;
    for (at, unit) in text.iter().enumerate() {
        match plain(*unit) {
            '{' => open += 1,
            '}' => open -= 1,
            _ => {}
        }
        if open == 0 {
            return Ok(at);
        }
    }
    Err(failed("expected '}' before end of string"))
}

fn field(
    field: &[u32],
    arguments: &Arguments<'_>,
    next: &mut Option<usize>,
    depth: usize,
    out: &mut Out,
) -> Result<()> {
    let split = field.iter().position(|unit| matches!(plain(*unit), '!' | ':')).unwrap_or(field.len());
    let (name, mut rest) = field.split_at(split);
    let mut value = look_up(&string(name), arguments, next)?;
    if rest.first().is_some_and(|unit| plain(*unit) == '!') {
        let conversion = rest.get(1).map(|unit| plain(*unit));
        let mut text = Out::default();
        match conversion {
            Some('s') => text.extend(to_text(&value)?.units())?,
            Some('r' | 'a') => write_repr(&value, &mut text)?,
            _ => return Err(failed("Unknown conversion specifier")),
        }
        value = Value::Text(text.text()?);
        rest = &rest[2..];
    }
    let mut spec = Out::default();
    if let Some((_, units)) = rest.split_first() {
        write(units, arguments, next, depth, &mut spec)?;
    }
    apply(&value, &spec.text()?, out)
}

/// Resolves a field name such as `0.name[key]`.
fn look_up(name: &str, arguments: &Arguments<'_>, next: &mut Option<usize>) -> Result<Value> {
    let end = name.find(['.', '[']).unwrap_or(name.len());
    let (first, mut path) = name.split_at(end);
    let mut value = if first.is_empty() {
        let at =
            next.ok_or_else(|| failed("cannot switch from manual field specification to automatic field numbering"))?;
        *next = Some(at + 1);
        positional(arguments, at)?
    } else if let Ok(at) = first.parse::<usize>() {
        if next.is_some_and(|at| at > 0) {
            return Err(failed("cannot switch from automatic field numbering to manual field specification"));
        }
        *next = None;
        positional(arguments, at)?
    } else {
        let named = arguments.named.iter().find(|(name, _)| name == first);
        named.map(|(_, value)| value.clone()).ok_or_else(|| failed(format!("KeyError: '{first}'")))?
    };
    while !path.is_empty() {
        if let Some(rest) = path.strip_prefix('.') {
            let end = rest.find(['.', '[']).unwrap_or(rest.len());
            value = (arguments.attribute)(&value, &rest[..end])?;
            path = &rest[end..];
        } else {
            let rest = &path[1..];
            let end = rest.find(']').ok_or_else(|| failed("Missing ']' in format string"))?;
            let key = match rest[..end].parse::<i128>() {
                Ok(index) => Value::Int(index),
                Err(_) => Value::text(&rest[..end])?,
            };
            value = (arguments.item)(&value, &key)?;
            path = &rest[end + 1..];
        }
    }
    Ok(value)
}

fn positional(arguments: &Arguments<'_>, at: usize) -> Result<Value> {
    let value = arguments.positional.get(at).cloned();
    value.ok_or_else(|| failed(format!("Replacement index {at} out of range for positional args tuple")))
}

/// `[[fill]align][sign][#][0][width][,][.precision][type]`
struct Spec {
    fill: u32,
    align: Option<char>,
    sign: char,
    alternate: bool,
    width: usize,
    grouping: Option<char>,
    precision: Option<usize>,
    kind: Option<char>,
}

impl Spec {
    fn parse(text: &Text) -> Result<Spec> {
        let invalid = || failed(format!("Invalid format specifier '{}'", text.to_plain()));
        let mut spec = Spec {
            fill: ' '.into(),
            align: None,
            sign: '-',
            alternate: false,
            width: 0,
            grouping: None,
            precision: None,
            kind: None,
        };
        let units = text.units();
        let is_align = |at: usize| units.get(at).map(|unit| plain(*unit)).filter(|c| "<>=^".contains(*c));
        let mut at = 0;
        if let Some(align) = is_align(1) {
            (spec.fill, spec.align, at) = (units[0], Some(align), 2);
        } else if let Some(align) = is_align(0) {
            (spec.align, at) = (Some(align), 1);
        }
        let peek = |at: usize| units.get(at).map(|unit| plain(*unit));
        if let Some(sign) = peek(at).filter(|c| "+- ".contains(*c)) {
            (spec.sign, at) = (sign, at + 1);
        }
        if peek(at) == Some('#') {
            (spec.alternate, at) = (true, at + 1);
        }
        if peek(at) == Some('0') {
            at += 1;
            if spec.align.is_none() {
                (spec.fill, spec.align) = ('0'.into(), Some('='));
            }
        }
        let number = |at: &mut usize| {
            let mut number = None;
            while let Some(digit) = peek(*at).and_then(|c| c.to_digit(10)) {
                number = Some(number.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize));
                *at += 1;
            }
            number
        };
        spec.width = check_width(number(&mut at).unwrap_or(0))?;
        if let Some(grouping) = peek(at).filter(|c| matches!(c, ',' | '_')) {
            (spec.grouping, at) = (Some(grouping), at + 1);
        }
        if peek(at) == Some('.') {
            at += 1;
            spec.precision = Some(number(&mut at).ok_or_else(|| failed("Format specifier missing precision"))?);
        }
        if let Some(kind) = peek(at) {
            (spec.kind, at) = (Some(kind), at + 1);
        }
        if at == units.len() { Ok(spec) } else { Err(invalid()) }
    }

    /// Writes sign, prefix and digits, padded to the field's width.
    fn number(&self, negative: bool, prefix: &str, digits: &str, out: &mut Out) -> Result<()> {
        let sign = match (negative, self.sign) {
            (true, _) => "-",
            (false, '-') => "",
            (false, '+') => "+",
            _ => " ",
        };
        let digits = self.grouping.map_or_else(|| digits.to_owned(), |mark| grouped(digits, mark));
        let align = self.align.unwrap_or('>');
        if align != '=' {
            return pad(&units(&format!("{sign}{prefix}{digits}")), self.width, self.fill, align, out);
        }
        out.str(sign)?;
        out.str(prefix)?;
        let used = sign.len() + prefix.len();
        if self.grouping.is_some() && plain(self.fill) == '0' {
            return out.str(&zeros_grouped(&digits, self.width.saturating_sub(used)));
        }
        pad(&units(&digits), self.width.saturating_sub(used), self.fill, '>', out)
    }
}

/// `1234567.8` -> `1,234,567.8`
fn grouped(digits: &str, mark: char) -> String {
    let whole = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    let mut text = String::new();
    for (at, digit) in digits[..whole].chars().enumerate() {
        if at > 0 && (whole - at).is_multiple_of(3) {
            text.push(mark);
        }
        text.push(digit);
    }
    text + &digits[whole..]
}

/// Pads with leading zeros, grouped as well.
fn zeros_grouped(digits: &str, width: usize) -> String {
    let mark = if digits.contains('_') { '_' } else { ',' };
    let bare: String = digits.chars().filter(|c| *c != mark).collect();
    let mut zeros = 0;
    loop {
        let text = grouped(&format!("{}{bare}", "0".repeat(zeros)), mark);
        if text.len() >= width {
            return text;
        }
        zeros += (width - text.len()).div_ceil(2);
        if grouped(&format!("{}{bare}", "0".repeat(zeros)), mark).len() > width + 1 {
            zeros = zeros.saturating_sub(1);
        }
    }
}

fn apply(value: &Value, text: &Text, out: &mut Out) -> Result<()> {
    let spec = Spec::parse(text)?;
    let unknown =
        |kind: char| failed(format!("Unknown format code '{kind}' for object of type '{}'", value.type_name()));
    match value {
        Value::Bool(_) if text.is_empty() => out.extend(to_text(value)?.units()),
        Value::Int(_) | Value::Bool(_) if !matches!(spec.kind, Some('e' | 'E' | 'f' | 'F' | 'g' | 'G' | '%')) => {
            let n = value.as_int().unwrap_or(0);
            let size = n.unsigned_abs();
            let (prefix, digits) = match spec.kind {
                None | Some('d' | 'n') => ("", size.to_string()),
                Some('x') => ("0x", format!("{size:x}")),
                Some('X') => ("0X", format!("{size:X}")),
                Some('o') => ("0o", format!("{size:o}")),
                Some('b') => ("0b", format!("{size:b}")),
                Some('c') => {
                    let c =
                        u32::try_from(n).ok().and_then(char::from_u32).ok_or_else(|| failed("%c arg not in range"))?;
                    return pad(&[c.into()], spec.width, spec.fill, spec.align.unwrap_or('<'), out);
                }
                Some(kind) => return Err(unknown(kind)),
            };
            spec.number(n < 0, if spec.alternate { prefix } else { "" }, &digits, out)
        }
        Value::Int(_) | Value::Bool(_) | Value::Float(_) => float(value.as_float().unwrap_or(0.0), &spec, unknown, out),
        Value::Text(_) => {
            let content = to_text(value)?;
            if let Some(kind) = spec.kind.filter(|kind| *kind != 's') {
                return Err(unknown(kind));
            }
            if spec.align == Some('=') && plain(spec.fill) != '0' {
                return Err(failed("'=' alignment not allowed in string format specifier"));
            }
            let align = spec.align.filter(|align| *align != '=').unwrap_or('<');
            let shown = spec.precision.unwrap_or(usize::MAX).min(content.len());
            pad(&content.units()[..shown], spec.width, spec.fill, align, out)
        }
        _ if text.is_empty() => out.extend(to_text(value)?.units()),
        other => Err(failed(format!("unsupported format string passed to {}.__format__", other.type_name()))),
    }
}

fn float(value: f64, spec: &Spec, unknown: impl Fn(char) -> crate::chat::TemplateError, out: &mut Out) -> Result<()> {
    let precision = spec.precision.map(check_digits).transpose()?;
    let digits = match spec.kind {
        None if precision.is_none() => shortest(value),
        None => {
            let text = float_digits(value, 'g', precision.unwrap_or(6), spec.alternate);
            if text.contains(['.', 'e', 'n']) { text } else { text + ".0" }
        }
        Some('%') => float_digits(value * 100.0, 'f', precision.unwrap_or(6), spec.alternate) + "%",
        Some(kind @ ('e' | 'E' | 'f' | 'F' | 'g' | 'G')) => {
            float_digits(value, kind, precision.unwrap_or(6), spec.alternate)
        }
        Some('n') => float_digits(value, 'g', precision.unwrap_or(6), spec.alternate),
        Some(kind) => return Err(unknown(kind)),
    };
    spec.number(value.is_sign_negative() && !value.is_nan(), "", &digits, out)
}
