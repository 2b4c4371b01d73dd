//! Calls as a name and a JSON object, `get_weather[ARGS]{"city": "Paris"}`, with marks of the family's own around and between
//! them, and in some of them an id.

use super::super::families::{Id, Named};
use super::super::tree::{self, Stop, Tree};
use super::{Call, LONGEST_HEADER, Place, Read, closed, is_name, objects};

pub(super) fn read(format: &Named, text: &str, place: Place<'_>) -> Read {
    let at = format.open.len();
    let body = &text[at..];
    if format.or_list && body.trim_start().starts_with('[') {
        return objects::list(text, at, "", false, place);
    }
    let Some(brace) = body.find('{') else {
        let ended = !format.close.is_empty() && body.contains(&*format.close);
        return if ended || body.len() > LONGEST_HEADER { Read::Not } else { Read::More };
    };
    let Some((name, id)) = header(format, &body[..brace]) else { return Read::Not };
    match tree::read(&body[brace..], format.notation) {
        Ok((object @ Tree::Object(_), length)) => {
            let call = Call { id, name, arguments: object.json() };
            closed(vec![call], text, at + brace + length, &format.close, place.at_end)
        }
        Err(Stop::More) => Read::More,
        _ => Read::Not,
    }
}

/// The name and the id before the arguments.
fn header(format: &Named, header: &str) -> Option<(String, Option<String>)> {
    let mut pieces = vec![header];
    for mark in &format.between {
        pieces = pieces.into_iter().flat_map(|piece| piece.split(&**mark)).collect();
    }
    let pieces: Vec<&str> =
        pieces.into_iter().map(str::trim).filter(|piece| !matches!(*piece, "" | "function")).collect();
    let (name, id) = match (format.id, pieces.as_slice()) {
        (Id::Before, [id, name]) => (*name, Some((*id).to_owned())),
        (Id::Kimi, [id]) => (kimi_name(id), Some((*id).to_owned())),
        (_, [name]) => (*name, None),
        (Id::After, [name, id]) => (*name, Some((*id).to_owned())),
        _ => return None,
    };
    is_name(name).then(|| (name.to_owned(), id))
}

/// The function in `functions.get_weather:0`.
fn kimi_name(id: &str) -> &str {
    let name = id.strip_prefix("functions.").unwrap_or(id);
    match name.rsplit_once(':') {
        Some((name, index)) if index.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => name,
    }
}
