//! `samplers`: the stages of sampling that take part, by llama.cpp's names or letters.
//!
//! Their order is fixed here, so a list in another one is refused. A stage that is not here is passed over if it is off unless a
//! parameter of its own, which is refused, switches it on.

use serde_json::Value;

use super::error::{ApiError, shown};
use super::fields::{Fields, wrong_type};
use crate::sampling::Stage;

const NAME: &str = "samplers";

/// Names and letters of stages that change nothing, for what would switch them on is not supported.
const ALWAYS_OFF: [(&str, char); 4] = [("dry", 'd'), ("top_n_sigma", 's'), ("xtc", 'x'), ("adaptive_p", 'a')];

/// Further names of llama.cpp's.
const ALIASES: [(&str, Stage); 8] = [
    ("temp", Stage::Temperature),
    ("top-k", Stage::TopK),
    ("top-p", Stage::TopP),
    ("nucleus", Stage::TopP),
    ("typ-p", Stage::Typical),
    ("typical", Stage::Typical),
    ("typical_p", Stage::Typical),
    ("min-p", Stage::MinP),
];

/// The stages that take part, in their order. Without a list, or with an empty one, all but `Stage::Infill`.
///
/// # Errors
/// 400 for a stage that is unknown, comes twice or comes too early.
pub(super) fn take_stages(fields: &mut Fields) -> Result<Vec<Stage>, ApiError> {
    let given = match fields.take(NAME) {
        None => return Ok(usual()),
        Some(Value::String(letters)) => letters.chars().map(by_letter).collect::<Result<Vec<_>, _>>()?,
        Some(Value::Array(items)) => items.iter().enumerate().map(by_name).collect::<Result<Vec<_>, _>>()?,
        Some(other) => return Err(wrong_type(NAME, "an array of names, or a string of letters", &other)),
    };
    if given.is_empty() {
        return Ok(usual());
    }
    let stages: Vec<Stage> = given.into_iter().flatten().collect();
    if let Some(pair) = stages.windows(2).find(|pair| pair[0] >= pair[1]) {
        let (before, after) = (pair[0].name(), pair[1].name());
        let twice = format!("`{before}` is there twice");
        let what = if before == after { twice } else { format!("`{after}` cannot come after `{before}`") };
        return Err(ApiError::parameter(NAME, format!("`{NAME}`: {what}; {}", possible())));
    }
    Ok(stages)
}

fn usual() -> Vec<Stage> {
    Stage::ALL.into_iter().filter(|stage| *stage != Stage::Infill).collect()
}

/// A stage; the inner `None` is one that is always off.
fn by_name((index, item): (usize, &Value)) -> Result<Option<Stage>, ApiError> {
    let at = format!("{NAME}[{index}]");
    let Some(name) = item.as_str() else { return Err(wrong_type(&at, "a string", item)) };
    let own = Stage::ALL.into_iter().find(|stage| stage.name() == name);
    let alias = || ALIASES.iter().find(|(alias, _)| *alias == name).map(|(_, stage)| *stage);
    match own.or_else(alias) {
        None if !ALWAYS_OFF.iter().any(|(off, _)| *off == name) => Err(unknown(at, name)),
        found => Ok(found),
    }
}

fn by_letter(letter: char) -> Result<Option<Stage>, ApiError> {
    match Stage::ALL.into_iter().find(|stage| stage.letter() == letter) {
        None if !ALWAYS_OFF.iter().any(|(_, off)| *off == letter) => {
            Err(unknown(NAME.to_owned(), letter.encode_utf8(&mut [0; 4])))
        }
        found => Ok(found),
    }
}

fn unknown(at: String, name: &str) -> ApiError {
    let message = format!("`{at}`: there is no sampler `{}`; {}", shown(name), possible());
    ApiError::parameter(at, message)
}

fn possible() -> String {
    let names: Vec<String> = Stage::ALL.iter().map(|stage| format!("{} ({})", stage.name(), stage.letter())).collect();
    format!("possible are, in this order: {}", names.join(", "))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn take(value: &Value) -> Result<Vec<Stage>, ApiError> {
        take_stages(&mut Fields::parse(json!({"samplers": value}).to_string().as_bytes()).expect("an object"))
    }

    #[test]
    fn stages_come_by_names_and_letters() {
        let fill = vec![Stage::TopK, Stage::TopP, Stage::Infill];
        assert_eq!(take(&json!(["top_k", "top_p", "infill"])), Ok(fill.clone()));
        assert_eq!(take(&json!("kpi")), Ok(fill));
        let all = ["penalties", "dry", "top_n_sigma", "top_k", "typ_p", "top_p", "min_p", "xtc", "temperature"];
        for usual in [json!(all), json!("edskypmxt"), json!([]), json!(""), json!(null)] {
            assert_eq!(take(&usual), Ok(super::usual()), "{usual}");
        }
        assert_eq!(take(&json!(["min-p", "temp"])), Ok(vec![Stage::MinP, Stage::Temperature]));
        assert_eq!(take(&json!(["xtc"])), Ok(Vec::new()), "all others are off");
    }

    #[test]
    fn what_cannot_be_done_is_named() {
        for (value, at, part) in [
            (json!(["mirostat"]), "samplers[0]", "no sampler `mirostat`"),
            (json!(["top_k", 3]), "samplers[1]", "must be a string"),
            (json!("kz"), "samplers", "no sampler `z`"),
            (json!(["temperature", "top_k"]), "samplers", "`top_k` cannot come after `temperature`"),
            (json!("kk"), "samplers", "`top_k` is there twice"),
            (json!(7), "samplers", "a string of letters"),
        ] {
            let error = take(&value).expect_err("refused");
            assert_eq!((error.status, error.param.as_deref()), (400, Some(at)), "{value}");
            assert!(error.message.contains(part), "{}", error.message);
            assert!(error.message.contains("infill (i), temperature (t)") || part.starts_with("must") || value == 7);
        }
    }
}
