//! Sampling flags, the same in every command that generates.
//!
//! They are built from the parameter table that the API, packed settings and the page also use. A flag overrides the
//! packed file's settings, which override the built-in defaults.

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use satchel_container::parameters::{Kind, PARAMETERS, Parameter, Value};

use super::Failure;
use crate::TokenId;
use crate::sampling::SamplingParams;

const HEADING: &str = "Answer";
const LOGIT_BIAS: &str = "logit_bias";

/// How tokens are chosen, and how many.
#[derive(Clone, Debug, Default)]
pub struct SamplingArgs {
    /// Flags given, with their values as typed.
    given: Vec<(&'static Parameter, String)>,
    logit_bias: Vec<(TokenId, f32)>,
    /// Longest answer in tokens.
    pub max_tokens: Option<usize>,
}

fn argument(parameter: &'static Parameter) -> Arg {
    let default = parameter.default.map_or(parameter.unset.to_owned(), |default| default.to_string());
    let argument = Arg::new(parameter.name)
        .long(parameter.flag)
        .help(format!("{} [default: {default}]", parameter.help))
        .help_heading(HEADING)
        .value_name(if matches!(parameter.kind, Kind::Whole { .. }) { "N" } else { "X" })
        .allow_negative_numbers(true);
    let argument = parameter.alias.into_iter().fold(argument, Arg::visible_alias);
    parameter.short.into_iter().fold(argument, Arg::short)
}

impl clap::Args for SamplingArgs {
    fn augment_args(command: Command) -> Command {
        let bias = Arg::new(LOGIT_BIAS)
            .long("logit-bias")
            .help("Add to a token's logit (-inf bans it), such as --logit-bias 42=-5; may be given again")
            .help_heading(HEADING)
            .value_name("ID=BIAS")
            .action(ArgAction::Append)
            .value_parser(parse_bias);
        command
            .args(PARAMETERS.iter().map(|parameter| argument(parameter).value_parser(value_parser!(String))))
            .arg(bias)
    }

    fn augment_args_for_update(command: Command) -> Command {
        Self::augment_args(command)
    }
}

impl clap::FromArgMatches for SamplingArgs {
    fn from_arg_matches(matches: &ArgMatches) -> Result<Self, clap::Error> {
        let mut args = Self::default();
        args.update_from_arg_matches(matches)?;
        Ok(args)
    }

    fn update_from_arg_matches(&mut self, matches: &ArgMatches) -> Result<(), clap::Error> {
        for parameter in &PARAMETERS {
            if let Some(text) = matches.get_one::<String>(parameter.name) {
                self.given.push((parameter, text.clone()));
            }
        }
        self.logit_bias.extend(matches.get_many::<(TokenId, f32)>(LOGIT_BIAS).into_iter().flatten().copied());
        // `apply` refuses an out-of-range value, along with the others.
        self.max_tokens = self.value("max_tokens").and_then(Result::ok).map(Value::as_count);
        Ok(())
    }
}

fn parse_bias(text: &str) -> Result<(TokenId, f32), String> {
    let form = || "it must be a token id and a number, such as 42=-5".to_string();
    let (token, bias) = text.split_once('=').ok_or_else(form)?;
    Ok((token.trim().parse().map_err(|_| form())?, bias.trim().parse().map_err(|_| form())?))
}

impl SamplingArgs {
    /// The flags that were given, without their dashes.
    pub fn given_flags(&self) -> impl Iterator<Item = &'static str> {
        let bias = (!self.logit_bias.is_empty()).then_some("logit-bias");
        self.given.iter().map(|(parameter, _)| parameter.flag).chain(bias)
    }

    fn value(&self, name: &str) -> Option<Result<Value, Failure>> {
        let (parameter, text) = self.given.iter().rev().find(|(parameter, _)| parameter.name == name)?;
        let read = parameter.parse(text);
        Some(read.map_err(|line| Failure::usage(format!("--{} {line}", parameter.flag))))
    }

    /// `defaults`, overridden by the flags.
    pub fn apply(&self, defaults: &SamplingParams) -> Result<SamplingParams, Failure> {
        let mut params = defaults.clone();
        for parameter in &PARAMETERS {
            if let Some(value) = self.value(parameter.name).transpose()? {
                params.set(parameter, value);
            }
        }
        if !self.logit_bias.is_empty() {
            params.logit_bias.clone_from(&self.logit_bias);
        }
        params.validate().map_err(Failure::usage)?;
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use clap::{Args as _, FromArgMatches as _};

    use super::*;

    fn parsed(flags: &[&str]) -> SamplingArgs {
        let command = SamplingArgs::augment_args(Command::new("test").no_binary_name(true));
        SamplingArgs::from_arg_matches(&command.try_get_matches_from(flags).unwrap()).unwrap()
    }

    #[test]
    fn flags_override_defaults_and_are_validated() {
        let defaults = SamplingParams { top_k: 7, seed: Some(3), ..Default::default() };
        let args = parsed(&["--temp", "0", "--repeat-last-n", "-1", "-n", "5", "--logit-bias", "42=-5"]);
        let params = args.apply(&defaults).unwrap();
        assert_eq!((params.temperature, params.top_k, params.seed), (0.0, 7, Some(3)));
        assert_eq!((params.repeat_last_n, args.max_tokens), (usize::MAX, Some(5)));
        assert_eq!(params.logit_bias, [(42, -5.0)]);
        for (flags, message) in [
            (["--top-p", "2"], "--top-p must be a number between 0 and 1 (it is 2)"),
            (["--repeat-last-n", "-2"], "--repeat-last-n must be a whole number, -1 or more (it is -2)"),
            (["--max-tokens", "0"], "--max-tokens must be a whole number, 1 or more (it is 0)"),
            (["--top-k", "x"], "--top-k must be a whole number, -1 or more (it is `x`)"),
        ] {
            let failure = parsed(&flags).apply(&defaults).unwrap_err();
            assert_eq!((failure.message.as_str(), failure.code), (message, 2));
        }
    }

    #[test]
    fn a_bias_is_an_id_and_a_number() {
        assert_eq!(parse_bias("42=-5"), Ok((42, -5.0)));
        assert_eq!(parse_bias("1=-inf"), Ok((1, f32::NEG_INFINITY)));
        for bad in ["42", "x=1", "1=x", "-1=2", "="] {
            assert!(parse_bias(bad).is_err(), "{bad}");
        }
    }
}
