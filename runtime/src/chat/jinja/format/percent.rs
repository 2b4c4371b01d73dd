//! Python's `'…' % values`.

use super::{check_digits, check_width, float_digits, pad};
use crate::chat::jinja::budget::{Result, failed};
use crate::chat::jinja::print::{to_text, write_repr};
use crate::chat::jinja::units::{Out, Text, plain, string, units};
use crate::chat::jinja::value::Value;

/// `format % arguments`: a tuple is several arguments, a dictionary named ones, anything else a single one.
pub(in crate::chat::jinja) fn format(format: &Text, arguments: &Value) -> Result<Text> {
    let given = match arguments {
        Value::Tuple(items) => items.items().to_vec(),
        other => vec![other.clone()],
    };
    let mut reader = Reader { units: format.units(), at: 0, given, next: 0, named: false };
    let mut out = Out::default();
    while let Some(unit) = reader.take() {
        if plain(unit) == '%' {
            reader.conversion(arguments, &mut out)?;
        } else {
            out.push(unit)?;
        }
    }
    let mapping = matches!(arguments, Value::Dict(_) | Value::List(_)) && reader.next == 0;
    if reader.next < reader.given.len() && !reader.named && !mapping {
        return Err(failed("not all arguments converted during string formatting"));
    }
    out.text()
}

struct Reader<'a> {
    units: &'a [u32],
    at: usize,
    given: Vec<Value>,
    next: usize,
    named: bool,
}

impl Reader<'_> {
    fn peek(&self) -> Option<char> {
        self.units.get(self.at).map(|unit| plain(*unit))
    }

    fn take(&mut self) -> Option<u32> {
        let unit = self.units.get(self.at).copied();
        self.at += usize::from(unit.is_some());
        unit
    }

    fn argument(&mut self) -> Result<Value> {
        let value = self.given.get(self.next).cloned();
        self.next += 1;
        value.ok_or_else(|| failed("not enough arguments for format string"))
    }

    /// A width or precision, from the arguments if it is `*`; a negative one sets `left`.
    fn number(&mut self, left: &mut bool) -> Result<Option<usize>> {
        if self.peek() == Some('*') {
            self.at += 1;
            let value = self.argument()?.as_int().ok_or_else(|| failed("* wants int"))?;
            *left |= value < 0;
            return Ok(Some(usize::try_from(value.unsigned_abs()).unwrap_or(usize::MAX)));
        }
        let mut number = None;
        while let Some(digit) = self.peek().and_then(|c| c.to_digit(10)) {
            number = Some(number.unwrap_or(0usize).saturating_mul(10).saturating_add(digit as usize));
            self.at += 1;
        }
        Ok(number)
    }

    fn conversion(&mut self, arguments: &Value, out: &mut Out) -> Result<()> {
        let mut value = None;
        if self.peek() == Some('(') {
            let rest = &self.units[self.at + 1..];
            let end =
                rest.iter().position(|unit| plain(*unit) == ')').ok_or_else(|| failed("incomplete format key"))?;
            let Value::Dict(dict) = arguments else { return Err(failed("format requires a mapping")) };
            let name = string(&rest[..end]);
            self.at += end + 2;
            self.named = true;
            value = Some(dict.get_name(&name)?.cloned().ok_or_else(|| failed(format!("KeyError: '{name}'")))?);
        }
        let mut flags = Flags::default();
        while let Some(flag) = self.peek().filter(|c| "#0- +".contains(*c)) {
            flags.set(flag);
            self.at += 1;
        }
        let width = check_width(self.number(&mut flags.left)?.unwrap_or(0))?;
        let mut precision = None;
        if self.peek() == Some('.') {
            self.at += 1;
            let mut negative = false;
            let digits = self.number(&mut negative)?.unwrap_or(0);
            precision = Some(if negative { 0 } else { digits });
        }
        while self.peek().is_some_and(|c| "hlL".contains(c)) {
            self.at += 1;
        }
        let kind = plain(self.take().ok_or_else(|| failed("incomplete format"))?);
        if kind == '%' {
            return out.str("%");
        }
        let value = value.map_or_else(|| self.argument(), Ok)?;
        convert(kind, &value, &flags, width, precision, out)
    }
}

#[derive(Default)]
struct Flags {
    alternate: bool,
    zero: bool,
    left: bool,
    space: bool,
    plus: bool,
}

impl Flags {
    fn set(&mut self, flag: char) {
        match flag {
            '#' => self.alternate = true,
            '0' => self.zero = true,
            '-' => self.left = true,
            ' ' => self.space = true,
            _ => self.plus = true,
        }
    }

    fn sign(&self, negative: bool) -> &'static str {
        match negative {
            true => "-",
            false if self.plus => "+",
            false if self.space => " ",
            false => "",
        }
    }
}

fn convert(
    kind: char,
    value: &Value,
    flags: &Flags,
    width: usize,
    precision: Option<usize>,
    out: &mut Out,
) -> Result<()> {
    let align = if flags.left { '<' } else { '>' };
    let number = |prefix: String, digits: String, out: &mut Out| {
        let zeros = if flags.zero && !flags.left { width.saturating_sub(prefix.len() + digits.len()) } else { 0 };
        pad(&units(&format!("{prefix}{}{digits}", "0".repeat(zeros))), width, ' '.into(), align, out)
    };
    match kind {
        's' | 'r' | 'a' => {
            let text = if kind == 's' {
                to_text(value)?
            } else {
                let mut text = Out::default();
                write_repr(value, &mut text)?;
                text.text()?
            };
            let shown = precision.unwrap_or(usize::MAX).min(text.len());
            pad(&text.units()[..shown], width, ' '.into(), align, out)
        }
        'c' => match value {
            Value::Text(text) if text.len() == 1 => pad(text.units(), width, ' '.into(), align, out),
            other => {
                let c = other.as_int().and_then(|n| u32::try_from(n).ok()).and_then(char::from_u32);
                let c = c.ok_or_else(|| failed("%c requires int or char"))?;
                pad(&[c.into()], width, ' '.into(), align, out)
            }
        },
        'd' | 'i' | 'u' | 'x' | 'X' | 'o' => {
            let float = match value {
                Value::Float(float) if matches!(kind, 'd' | 'i' | 'u') && float.is_finite() => Some(*float as i128),
                _ => None,
            };
            let wanted = if matches!(kind, 'x' | 'X' | 'o') { "an integer" } else { "a real number" };
            let n = value
                .as_int()
                .or(float)
                .ok_or_else(|| failed(format!("%{kind} format: {wanted} is required, not {}", value.type_name())))?;
            let size = n.unsigned_abs();
            let (prefix, digits) = match kind {
                'x' => ("0x", format!("{size:x}")),
                'X' => ("0X", format!("{size:X}")),
                'o' => ("0o", format!("{size:o}")),
                _ => ("", size.to_string()),
            };
            let least = check_digits(precision.unwrap_or(0))?;
            let prefix = if flags.alternate { prefix } else { "" };
            number(format!("{}{prefix}", flags.sign(n < 0)), format!("{digits:0>least$}"), out)
        }
        'e' | 'E' | 'f' | 'F' | 'g' | 'G' => {
            let float = value.as_float();
            let float = float.ok_or_else(|| failed(format!("must be real number, not {}", value.type_name())))?;
            let digits = float_digits(float, kind, check_digits(precision.unwrap_or(6))?, flags.alternate);
            number(flags.sign(float.is_sign_negative() && !float.is_nan()).into(), digits, out)
        }
        other => Err(failed(format!("unsupported format character {other:?}"))),
    }
}
