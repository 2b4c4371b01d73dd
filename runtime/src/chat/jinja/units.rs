//! Text inside a template: a sequence of code points, each marked with its provenance.
//!
//! A unit is a code point whose highest bit is set if the character comes from outside the template: from a message, a
//! tool, a document. Every operation copies units, so the mark follows a character wherever a template moves it;
//! comparisons ignore it. The template's own text is unmarked, and only unmarked text may become a control token. The
//! fixed width also makes indices match Python's.

use std::cmp::Ordering;
use std::rc::Rc;

use super::budget::{Held, Result, check_length, spend};

/// Mark of a character from outside the template.
pub(super) const UNTRUSTED: u32 = 1 << 31;

/// A code point without its mark.
pub(super) fn plain(unit: u32) -> char {
    char::from_u32(unit & !UNTRUSTED).unwrap_or(char::REPLACEMENT_CHARACTER)
}

/// Units of a template's own text.
pub(super) fn units(text: &str) -> Vec<u32> {
    text.chars().map(u32::from).collect()
}

/// An immutable text.
#[derive(Clone, Debug)]
pub(super) struct Text(Rc<Inner>);

#[derive(Debug)]
struct Inner {
    units: Box<[u32]>,
    /// Jinja's Markup: HTML that needs no escaping.
    safe: bool,
    _held: Held,
}

impl Text {
    pub(super) fn new(units: Vec<u32>) -> Result<Text> {
        check_length(units.len())?;
        spend(units.len())?;
        let held = Held::take(units.len() * 4 + 48)?;
        Ok(Text(Rc::new(Inner { units: units.into_boxed_slice(), safe: false, _held: held })))
    }

    /// Text from the template or the renderer.
    pub(super) fn of(text: &str) -> Result<Text> {
        Text::new(units(text))
    }

    /// Text from outside the template.
    pub(super) fn untrusted(text: &str) -> Result<Text> {
        Text::new(text.chars().map(|c| u32::from(c) | UNTRUSTED).collect())
    }

    /// The same text, marked as Markup or not.
    pub(super) fn into_safe(self, safe: bool) -> Result<Text> {
        if self.0.safe == safe {
            return Ok(self);
        }
        let held = Held::take(self.len() * 4 + 48)?;
        spend(self.len())?;
        Ok(Text(Rc::new(Inner { units: self.0.units.clone(), safe, _held: held })))
    }

    pub(super) fn is_safe(&self) -> bool {
        self.0.safe
    }

    pub(super) fn units(&self) -> &[u32] {
        &self.0.units
    }

    pub(super) fn len(&self) -> usize {
        self.0.units.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.units.is_empty()
    }

    /// The text without its marks.
    pub(super) fn to_plain(&self) -> String {
        string(self.units())
    }

    pub(super) fn is(&self, text: &str) -> bool {
        self.len() <= text.len() && self.units().iter().map(|unit| plain(*unit)).eq(text.chars())
    }
}

/// Units as a string.
pub(super) fn string(units: &[u32]) -> String {
    units.iter().map(|unit| plain(*unit)).collect()
}

/// A text under construction; its memory counts from the first unit on.
#[derive(Debug, Default)]
pub(super) struct Out {
    units: Vec<u32>,
    held: Held,
}

impl Out {
    pub(super) fn len(&self) -> usize {
        self.units.len()
    }

    pub(super) fn push(&mut self, unit: u32) -> Result<()> {
        self.extend(&[unit])
    }

    pub(super) fn extend(&mut self, units: &[u32]) -> Result<()> {
        check_length(self.units.len() + units.len())?;
        spend(units.len())?;
        self.held.grow(units.len() * 4)?;
        self.units.extend_from_slice(units);
        Ok(())
    }

    /// Adds unmarked text from the renderer: digits, brackets, escapes.
    pub(super) fn str(&mut self, text: &str) -> Result<()> {
        self.str_as(text, 0)
    }

    /// Adds text with the mark of the unit it replaces.
    pub(super) fn str_as(&mut self, text: &str, unit: u32) -> Result<()> {
        text.chars().try_for_each(|c| self.push(u32::from(c) | (unit & UNTRUSTED)))
    }

    /// Adds `units` so many times.
    pub(super) fn repeat(&mut self, units: &[u32], times: usize) -> Result<()> {
        check_length(units.len().saturating_mul(times).saturating_add(self.units.len()))?;
        (0..times).try_for_each(|_| self.extend(units))
    }

    pub(super) fn text(self) -> Result<Text> {
        let Out { units, held } = self;
        drop(held);
        Text::new(units)
    }

    pub(super) fn into_units(self) -> Vec<u32> {
        self.units
    }
}

pub(super) fn same(a: u32, b: u32) -> bool {
    (a ^ b) & !UNTRUSTED == 0
}

pub(super) fn equal(a: &[u32], b: &[u32]) -> Result<bool> {
    if a.len() != b.len() {
        return Ok(false);
    }
    spend(a.len())?;
    Ok(a.iter().zip(b).all(|(a, b)| same(*a, *b)))
}

pub(super) fn compare(a: &[u32], b: &[u32]) -> Result<Ordering> {
    spend(a.len().min(b.len()))?;
    Ok(a.iter().map(|unit| unit & !UNTRUSTED).cmp(b.iter().map(|unit| unit & !UNTRUSTED)))
}

pub(super) fn starts_with(text: &[u32], part: &[u32]) -> Result<bool> {
    Ok(text.len() >= part.len() && equal(&text[..part.len()], part)?)
}

pub(super) fn ends_with(text: &[u32], part: &[u32]) -> Result<bool> {
    Ok(text.len() >= part.len() && equal(&text[text.len() - part.len()..], part)?)
}

/// Index of the first `part` in `text` at or after `from`.
pub(super) fn find(text: &[u32], part: &[u32], from: usize) -> Result<Option<usize>> {
    let Some(last) = text.len().checked_sub(part.len()) else { return Ok(None) };
    let mut walked = 0;
    for at in from..=last {
        let alike = text[at..].iter().zip(part).take_while(|(a, b)| same(**a, **b)).count();
        if alike == part.len() {
            spend(walked + alike)?;
            return Ok(Some(at));
        }
        walked += alike + 1;
        if walked > 4096 {
            spend(std::mem::take(&mut walked))?;
        }
    }
    spend(walked)?;
    Ok(None)
}

/// Index of the last `part` in `text`.
pub(super) fn find_last(text: &[u32], part: &[u32]) -> Result<Option<usize>> {
    let Some(last) = text.len().checked_sub(part.len()) else { return Ok(None) };
    let mut walked = 0;
    for at in (0..=last).rev() {
        let alike = text[at..].iter().zip(part).take_while(|(a, b)| same(**a, **b)).count();
        if alike == part.len() {
            return Ok(Some(at));
        }
        walked += alike + 1;
        if walked > 4096 {
            spend(std::mem::take(&mut walked))?;
        }
    }
    Ok(None)
}

/// Indices of up to `most` non-overlapping occurrences of `part`.
pub(super) fn places(text: &[u32], part: &[u32], most: usize) -> Result<Vec<usize>> {
    let (mut places, mut at) = (Vec::new(), 0);
    while places.len() < most
        && let Some(place) = find(text, part, at)?
    {
        super::budget::check_items(places.len())?;
        places.push(place);
        at = place + part.len().max(1);
    }
    Ok(places)
}

/// Python's `str.isspace`.
pub(super) fn is_space(unit: u32) -> bool {
    let c = plain(unit);
    c.is_whitespace() || ('\u{1c}'..='\u{1f}').contains(&c)
}

/// Strips units that match `drop` from the given sides.
pub(super) fn strip(text: &[u32], left: bool, right: bool, drop: impl Fn(u32) -> bool) -> Result<&[u32]> {
    spend(text.len())?;
    let start = if left { text.iter().position(|unit| !drop(*unit)).unwrap_or(text.len()) } else { 0 };
    let end = if right { text.iter().rposition(|unit| !drop(*unit)).map_or(0, |at| at + 1) } else { text.len() };
    Ok(&text[start.min(end)..end])
}

/// Maps each character to any number of characters, which keep its mark.
pub(super) fn map_chars<I: Iterator<Item = char>>(text: &[u32], change: impl Fn(char) -> I) -> Result<Text> {
    let mut out = Vec::with_capacity(text.len());
    for unit in text {
        out.extend(change(plain(*unit)).map(|c| u32::from(c) | (unit & UNTRUSTED)));
    }
    Text::new(out)
}

pub(super) fn lower(text: &[u32]) -> Result<Text> {
    map_chars(text, char::to_lowercase)
}

pub(super) fn upper(text: &[u32]) -> Result<Text> {
    map_chars(text, char::to_uppercase)
}
