//! Numbers in groups of three digits counted from the end, like thousands.

use super::classes::{is_digit, is_number, is_word};

/// How a pattern groups digits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Groups {
    /// AFMoE: all of `\p{N}+`; the first group may be shorter.
    Numbers,
    /// Tiny Aya: `\d{1,3}(?=(?:\d{3})*\b)`. Digits followed by a letter are not cut.
    Words,
    /// SuperBPE: `(?=(\d{3})+(?!\d))`, which matches positions, not digits.
    Places,
}

/// Calls `piece` with the pieces of `text`. Reads to the end of a number once, where a look-ahead would do so for each digit.
pub(super) fn cut<'a>(groups: Groups, text: &'a str, piece: &mut impl FnMut(&'a str)) {
    let counts = if groups == Groups::Numbers { is_number } else { is_digit };
    let mut emit = |start: usize, end: usize| {
        if start < end {
            piece(&text[start..end]);
        }
    };
    let (mut start, mut at) = (0, 0);
    while let Some(found) = text[at..].find(counts) {
        let begin = at + found;
        let end = text[begin..].find(|c| !counts(c)).map_or(text.len(), |bytes| begin + bytes);
        at = end;
        if groups == Groups::Words && text[end..].starts_with(is_word) {
            continue;
        }
        let digits = text[begin..end].chars().count();
        let places =
            text[begin..end].char_indices().enumerate().filter(|(index, _)| (digits - index).is_multiple_of(3));
        let places = places.map(|(_, (offset, _))| begin + offset);
        if groups != Groups::Places {
            emit(start, begin);
            start = begin;
        }
        for place in places {
            emit(start, place);
            start = place;
        }
        if groups != Groups::Places {
            emit(start, end);
            start = end;
        }
    }
    emit(start, text.len());
}
