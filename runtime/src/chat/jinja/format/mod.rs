//! Python's two ways to format: `'%s' % x` (`percent`) and `'{}'.format(x)` (`braces`), and the number formatting they
//! share. Widths and precisions are bounded before anything is padded.

pub(super) mod braces;
pub(super) mod percent;

use super::budget::{Result, failed};
use super::print::float_repr;
use super::units::Out;

/// Largest width and precision; more is refused.
const MAX_WIDTH: usize = 100_000;
const MAX_DIGITS: usize = 1000;

fn check_width(width: usize) -> Result<usize> {
    if width > MAX_WIDTH { Err(failed(format!("format: a width above {MAX_WIDTH}"))) } else { Ok(width) }
}

fn check_digits(digits: usize) -> Result<usize> {
    if digits > MAX_DIGITS { Err(failed(format!("format: a precision above {MAX_DIGITS}"))) } else { Ok(digits) }
}

/// Writes `body` padded to `width` with `fill`, aligned by `<`, `>` or `^`.
fn pad(body: &[u32], width: usize, fill: u32, align: char, out: &mut Out) -> Result<()> {
    let missing = width.saturating_sub(body.len());
    let left = match align {
        '<' => 0,
        '^' => missing / 2,
        _ => missing,
    };
    out.repeat(&[fill], left)?;
    out.extend(body)?;
    out.repeat(&[fill], missing - left)
}

/// Formats a float's magnitude; `type_` is e, E, f, F, g or G. `alternate` keeps the decimal point and trailing zeros.
fn float_digits(value: f64, type_: char, precision: usize, alternate: bool) -> String {
    let value = value.abs();
    if value.is_nan() || value.is_infinite() {
        let word = if value.is_nan() { "nan" } else { "inf" };
        return if type_.is_ascii_uppercase() { word.to_uppercase() } else { word.into() };
    }
    let text = match type_.to_ascii_lowercase() {
        'f' => point(format!("{value:.precision$}"), alternate),
        'e' => scientific(value, precision, alternate),
        _ => general(value, precision.max(1), alternate),
    };
    if type_.is_ascii_uppercase() { text.to_uppercase() } else { text }
}

fn point(digits: String, alternate: bool) -> String {
    if alternate && !digits.contains('.') { digits + "." } else { digits }
}

/// `1.5e+03`; Rust writes `1.5e3`.
fn scientific(value: f64, precision: usize, alternate: bool) -> String {
    let text = format!("{value:.precision$e}");
    let (digits, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let (sign, exponent) = exponent.strip_prefix('-').map_or(('+', exponent), |rest| ('-', rest));
    format!("{}e{sign}{exponent:0>2}", point(digits.into(), alternate))
}

fn general(value: f64, precision: usize, alternate: bool) -> String {
    let text = scientific(value, precision - 1, false);
    let exponent: i32 = text.split_once('e').and_then(|(_, exponent)| exponent.parse().ok()).unwrap_or(0);
    let trim = |digits: &str| match digits.contains('.') && !alternate {
        true => digits.trim_end_matches('0').trim_end_matches('.').to_owned(),
        false => digits.to_owned(),
    };
    if exponent < -4 || exponent >= precision as i32 {
        let (digits, exponent) = text.split_once('e').unwrap_or((&text, "+00"));
        return format!("{}e{exponent}", trim(digits));
    }
    let decimals = (precision as i32 - 1 - exponent).max(0) as usize;
    trim(&point(format!("{value:.decimals$}"), alternate))
}

/// A float's shortest digits, as `{}` without a precision writes it.
fn shortest(value: f64) -> String {
    float_repr(value.abs())
}
