//! Flags that say how answers are drawn, the same in every command that generates.
//!
//! A flag wins over the packed file's settings, and those over the program's own.

use super::Failure;
use crate::TokenId;
use crate::sampling::SamplingParams;

/// How tokens are chosen, and how many.
#[derive(clap::Args, Clone, Debug, Default)]
#[command(next_help_heading = "Answer")]
pub struct SamplingArgs {
    /// 0: always the most likely token; higher: more varied [default: 0.8]
    #[arg(long, visible_alias = "temp", value_name = "T", allow_negative_numbers = true)]
    pub temperature: Option<f32>,
    /// Choose among this many most likely tokens; 0: all [default: 40]
    #[arg(long, value_name = "K")]
    pub top_k: Option<usize>,
    /// Choose among the most likely tokens whose probabilities sum to this; 1: all [default: 0.95]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub top_p: Option<f32>,
    /// Leave out tokens less likely than this share of the most likely one; 0: none [default: 0.05]
    #[arg(long, value_name = "P", allow_negative_numbers = true)]
    pub min_p: Option<f32>,
    /// Choose among locally typical tokens of this mass; 1: off [default: 1]
    #[arg(long, visible_alias = "typical", value_name = "P", allow_negative_numbers = true)]
    pub typical_p: Option<f32>,
    /// Make tokens that occurred less likely by this factor; 1: off [default: 1]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub repeat_penalty: Option<f32>,
    /// How many of the last tokens the penalties look at; -1: all [default: 64]
    #[arg(long, value_name = "N", allow_negative_numbers = true)]
    pub repeat_last_n: Option<i64>,
    /// Take this from the logit of every token that occurred [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub presence_penalty: Option<f32>,
    /// Take this from a token's logit for each time it occurred [default: 0]
    #[arg(long, value_name = "X", allow_negative_numbers = true)]
    pub frequency_penalty: Option<f32>,
    /// Add to a token's logit (-inf bans it), such as --logit-bias 42=-5; may be given again
    #[arg(long, value_name = "ID=BIAS", value_parser = parse_bias)]
    pub logit_bias: Vec<(TokenId, f32)>,
    /// The same seed gives the same answer [default: another one each time]
    #[arg(long, value_name = "N")]
    pub seed: Option<u64>,
    /// Longest answer in tokens [default: what the context holds]
    #[arg(short = 'n', long, value_name = "N")]
    pub max_tokens: Option<usize>,
}

fn parse_bias(text: &str) -> Result<(TokenId, f32), String> {
    let form = || "it must be a token id and a number, such as 42=-5".to_string();
    let (token, bias) = text.split_once('=').ok_or_else(form)?;
    Ok((token.trim().parse().map_err(|_| form())?, bias.trim().parse().map_err(|_| form())?))
}

impl SamplingArgs {
    /// The settings in force: what the flags say, over `defaults`.
    pub fn apply(&self, defaults: &SamplingParams) -> Result<SamplingParams, Failure> {
        let window = |n: i64| match n {
            -1 => Ok(usize::MAX),
            n => usize::try_from(n)
                .map_err(|_| Failure::usage(format!("--repeat-last-n must be -1 or more (it is {n})"))),
        };
        let params = SamplingParams {
            temperature: self.temperature.unwrap_or(defaults.temperature),
            top_k: self.top_k.unwrap_or(defaults.top_k),
            top_p: self.top_p.unwrap_or(defaults.top_p),
            min_p: self.min_p.unwrap_or(defaults.min_p),
            typical_p: self.typical_p.unwrap_or(defaults.typical_p),
            repeat_penalty: self.repeat_penalty.unwrap_or(defaults.repeat_penalty),
            repeat_last_n: self.repeat_last_n.map_or(Ok(defaults.repeat_last_n), window)?,
            presence_penalty: self.presence_penalty.unwrap_or(defaults.presence_penalty),
            frequency_penalty: self.frequency_penalty.unwrap_or(defaults.frequency_penalty),
            seed: self.seed.or(defaults.seed),
            logit_bias: if self.logit_bias.is_empty() { defaults.logit_bias.clone() } else { self.logit_bias.clone() },
        };
        params.validate().map_err(Failure::usage)?;
        if self.max_tokens == Some(0) {
            return Err(Failure::usage("--max-tokens must be 1 or more"));
        }
        Ok(params)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_win_over_defaults_and_are_checked() {
        let defaults = SamplingParams { top_k: 7, seed: Some(3), ..Default::default() };
        let args = SamplingArgs { temperature: Some(0.0), repeat_last_n: Some(-1), ..Default::default() };
        let params = args.apply(&defaults).unwrap();
        assert_eq!((params.temperature, params.top_k, params.seed), (0.0, 7, Some(3)));
        assert_eq!(params.repeat_last_n, usize::MAX);
        for (args, message) in [
            (SamplingArgs { top_p: Some(2.0), ..Default::default() }, "top_p must be between 0 and 1 (it is 2)"),
            (
                SamplingArgs { repeat_last_n: Some(-2), ..Default::default() },
                "--repeat-last-n must be -1 or more (it is -2)",
            ),
            (SamplingArgs { max_tokens: Some(0), ..Default::default() }, "--max-tokens must be 1 or more"),
        ] {
            let failure = args.apply(&defaults).unwrap_err();
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
