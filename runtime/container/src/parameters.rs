//! The table of sampling parameters: name, kind, range, default, help.
//!
//! Command line, HTTP API, packed settings and chat page all read it, so that they accept the same values and refuse the
//! rest with the same message. It lives here because all of them depend on this crate. The sampler defines what a
//! parameter does to the logits; this file only defines which values are valid.

use std::fmt;

/// One parameter.
#[derive(Debug)]
pub struct Parameter {
    /// As the API and packed settings write it.
    pub name: &'static str,
    /// As the command line writes it: dashes for the underscores.
    pub flag: &'static str,
    /// Type and range.
    pub kind: Kind,
    /// Used when none is given; `None`: no limit, or a random seed.
    pub default: Option<f64>,
    /// One sentence, for `--help` and the page.
    pub help: &'static str,
    /// The default in words, where `default` is `None`.
    pub unset: &'static str,
    /// Another name of the flag.
    pub alias: Option<&'static str>,
    /// One-letter flag.
    pub short: Option<char>,
}

/// Type and range of a parameter, both ends included.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Kind {
    Real { least: f64, most: f64 },
    Whole { least: i128, most: i128 },
}

/// A value of a parameter.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Value {
    Real(f64),
    Whole(i128),
}

/// Upper end of whole numbers that have no limit.
const UNLIMITED: i128 = i64::MAX as i128;

const fn real(
    name: &'static str,
    flag: &'static str,
    least: f64,
    most: f64,
    default: f64,
    help: &'static str,
) -> Parameter {
    let kind = Kind::Real { least, most };
    Parameter { name, flag, kind, default: Some(default), help, unset: "", alias: None, short: None }
}

const fn whole(
    name: &'static str,
    flag: &'static str,
    least: i128,
    most: i128,
    default: Option<f64>,
    help: &'static str,
) -> Parameter {
    Parameter { name, flag, kind: Kind::Whole { least, most }, default, help, unset: "", alias: None, short: None }
}

/// Every sampling parameter, in the order in which they are shown.
pub static PARAMETERS: [Parameter; 11] = [
    Parameter {
        alias: Some("temp"),
        ..real("temperature", "temperature", 0.0, 100.0, 0.8, "0: always the most likely token; higher: more varied")
    },
    whole("top_k", "top-k", -1, UNLIMITED, Some(40.0), "Choose among this many most likely tokens; 0 or -1: all"),
    real(
        "top_p",
        "top-p",
        0.0,
        1.0,
        0.95,
        "Choose among the most likely tokens whose probabilities sum to this; 1: all",
    ),
    real(
        "min_p",
        "min-p",
        0.0,
        1.0,
        0.05,
        "Leave out tokens less likely than this share of the most likely one; 0: none",
    ),
    Parameter {
        alias: Some("typical"),
        ..real("typical_p", "typical-p", 0.0, 1.0, 1.0, "Choose among locally typical tokens of this mass; 1: off")
    },
    real(
        "repeat_penalty",
        "repeat-penalty",
        0.01,
        100.0,
        1.0,
        "Make tokens that occurred less likely by this factor; 1: off",
    ),
    whole(
        "repeat_last_n",
        "repeat-last-n",
        -1,
        UNLIMITED,
        Some(64.0),
        "How many of the last tokens the penalties look at; -1: all",
    ),
    real(
        "presence_penalty",
        "presence-penalty",
        -2.0,
        2.0,
        0.0,
        "Take this from the logit of every token that occurred",
    ),
    real(
        "frequency_penalty",
        "frequency-penalty",
        -2.0,
        2.0,
        0.0,
        "Take this from a token's logit for each time it occurred",
    ),
    Parameter {
        unset: "another one each time",
        ..whole(
            "seed",
            "seed",
            i64::MIN as i128,
            u64::MAX as i128,
            None,
            "The same seed gives the same answer; -1: another one each time",
        )
    },
    Parameter {
        unset: "what the context holds",
        short: Some('n'),
        ..whole("max_tokens", "max-tokens", 1, UNLIMITED, None, "Longest answer in tokens")
    },
];

impl Parameter {
    /// The parameter of that name.
    pub fn named(name: &str) -> Option<&'static Self> {
        PARAMETERS.iter().find(|parameter| parameter.name == name)
    }

    /// Checks a value's type and range.
    ///
    /// # Errors
    /// What it must be and what it is; the caller prepends the name.
    pub fn check(&self, value: Value) -> Result<(), String> {
        let inside = match (self.kind, value) {
            // NaN is in no range.
            (Kind::Real { least, most }, Value::Real(value)) => (least..=most).contains(&value),
            (Kind::Real { least, most }, Value::Whole(value)) => (least..=most).contains(&(value as f64)),
            (Kind::Whole { least, most }, Value::Whole(value)) => (least..=most).contains(&value),
            (Kind::Whole { .. }, Value::Real(_)) => false,
        };
        if inside { Ok(()) } else { Err(format!("must be {} (it is {value})", self.kind)) }
    }

    /// Parses a value and checks its range.
    ///
    /// # Errors
    /// As [`Parameter::check`].
    pub fn parse(&self, text: &str) -> Result<Value, String> {
        let text = text.trim();
        let value = match self.kind {
            Kind::Real { .. } => text.parse().ok().map(Value::Real),
            Kind::Whole { .. } => text.parse().ok().map(Value::Whole),
        };
        let value = value.ok_or_else(|| format!("must be {} (it is `{text}`)", self.kind))?;
        self.check(value).map(|()| value)
    }
}

impl Value {
    /// As the sampler computes with it.
    pub fn as_f32(self) -> f32 {
        match self {
            Self::Real(value) => value as f32,
            Self::Whole(value) => value as f32,
        }
    }

    /// As an unsigned count; -1, which stands for "all", is the largest.
    pub fn as_count(self) -> usize {
        match self {
            Self::Real(value) => value as usize,
            Self::Whole(value) => usize::try_from(value).unwrap_or(usize::MAX),
        }
    }

    /// As a seed. Negative seeds are valid, except for -1: clients of llama.cpp and vLLM use it to ask for a random seed.
    pub fn as_seed(self) -> Option<u64> {
        match self {
            Self::Real(value) => Some(value as u64),
            Self::Whole(-1) => None,
            Self::Whole(value) => Some(value as u64),
        }
    }
}

impl From<f32> for Value {
    /// Through text, so that 0.7 stays 0.7 and does not become 0.699999988.
    fn from(value: f32) -> Self {
        Self::Real(value.to_string().parse().unwrap_or(f64::NAN))
    }
}

impl fmt::Display for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real(value) => value.fmt(f),
            Self::Whole(value) => value.fmt(f),
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Real { least, most } => write!(f, "a number between {least} and {most}"),
            Self::Whole { least, most } if *most == UNLIMITED => write!(f, "a whole number, {least} or more"),
            Self::Whole { least, most } => write!(f, "a whole number between {least} and {most}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_lie_in_their_ranges_and_names_are_unique() {
        for (index, parameter) in PARAMETERS.iter().enumerate() {
            if let Some(default) = parameter.default {
                let value = match parameter.kind {
                    Kind::Real { .. } => Value::Real(default),
                    Kind::Whole { .. } => Value::Whole(default as i128),
                };
                assert_eq!(parameter.check(value), Ok(()), "{}", parameter.name);
            }
            assert_eq!(parameter.default.is_none(), !parameter.unset.is_empty(), "{}", parameter.name);
            assert!(PARAMETERS[index + 1..].iter().all(|other| other.name != parameter.name));
            assert!(!parameter.help.ends_with('.'), "{}", parameter.name);
            assert_eq!(parameter.flag, parameter.name.replace('_', "-"));
        }
    }

    #[test]
    fn values_are_parsed_by_type_and_range() {
        let parse = |name: &str, text: &str| Parameter::named(name).expect(name).parse(text);
        assert_eq!(parse("temperature", " 3 "), Ok(Value::Real(3.0)));
        assert_eq!(parse("repeat_last_n", "-1").map(Value::as_count), Ok(usize::MAX));
        assert_eq!(parse("seed", "-2").map(Value::as_seed), Ok(Some(u64::MAX - 1)));
        assert_eq!(parse("seed", "-1").map(Value::as_seed), Ok(None));
        assert_eq!(parse("top_k", "-1").map(Value::as_count), Ok(usize::MAX));
        for (name, text, line) in [
            ("temperature", "100.5", "must be a number between 0 and 100 (it is 100.5)"),
            ("temperature", "NaN", "must be a number between 0 and 100 (it is NaN)"),
            ("temperature", "inf", "must be a number between 0 and 100 (it is inf)"),
            ("temperature", "warm", "must be a number between 0 and 100 (it is `warm`)"),
            ("top_k", "1.5", "must be a whole number, -1 or more (it is `1.5`)"),
            ("repeat_last_n", "-2", "must be a whole number, -1 or more (it is -2)"),
            ("max_tokens", "0", "must be a whole number, 1 or more (it is 0)"),
        ] {
            assert_eq!(parse(name, text), Err(line.to_owned()));
        }
    }

    #[test]
    fn a_32_bit_float_keeps_its_decimal_digits() {
        assert_eq!(Value::from(0.7_f32), Value::Real(0.7));
        assert!(Parameter::named("top_p").unwrap().check(Value::from(f32::NAN)).is_err());
    }
}
