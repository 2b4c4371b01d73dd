//! Unsupported parameters of other servers: the values that change nothing, and what to use in place of the others.
//!
//! Front ends send every parameter they know with each request, most of them switched off. A value that means "off" is
//! ignored; one that would change the answer is a 400 naming it.

use serde_json::Value;

use super::error::ApiError;
use super::fields::Fields;

/// A parameter that is not supported.
struct Foreign {
    name: &'static str,
    neutral: Neutral,
    advice: &'static str,
}

/// The values that change nothing.
enum Neutral {
    /// False, 0, null, or an empty string, array or object.
    Empty,
    /// This number.
    Number(f64),
    /// This number or less.
    AtMost(f64),
    /// This flag.
    Flag(bool),
    /// One of these words.
    Words(&'static [&'static str]),
    /// An array of these words.
    List(&'static [&'static str]),
    /// Any value, as long as the parameter that enables it is absent or neutral.
    Beside(&'static str),
}

use Neutral::{AtMost, Beside, Empty, Flag, List, Number, Words};

const fn foreign(name: &'static str, neutral: Neutral, advice: &'static str) -> Foreign {
    Foreign { name, neutral, advice }
}

const CHATS: &str = "send the conversation to /v1/chat/completions";
const OTHER_MODEL: &str = "it belongs to another kind of model";
const SAMPLERS: &str = "use temperature, top_k, top_p, min_p or typical_p";
const LENGTHS: &str = "use `max_tokens` and `stop`";
const PENALTIES: &str = "use repeat_penalty, presence_penalty or frequency_penalty";
const BEAMS: &str = "answers are sampled, not searched for";
const PLAIN: &str = "answers are plain text";

/// All known ones; any other parameter is unknown.
static FOREIGN: &[Foreign] = &[
    // Of chats, where they are taken before.
    foreign("tools", Empty, CHATS),
    foreign("functions", Empty, CHATS),
    foreign("tool_choice", Words(&["none", "auto"]), CHATS),
    foreign("function_call", Words(&["none", "auto"]), CHATS),
    foreign("parallel_tool_calls", Beside("tools"), CHATS),
    foreign("reasoning_effort", Words(&["none"]), CHATS),
    foreign("thinking_budget_tokens", AtMost(-1.0), CHATS),
    foreign("modalities", List(&["text"]), "answers are text"),
    foreign("audio", Empty, OTHER_MODEL),
    foreign("web_search_options", Empty, OTHER_MODEL),
    foreign("verbosity", Words(&["medium"]), CHATS),
    foreign("images", Empty, OTHER_MODEL),
    foreign("image_data", Empty, OTHER_MODEL),
    // Samplers, and the settings of each.
    foreign("mirostat", Number(0.0), SAMPLERS),
    foreign("mirostat_mode", Number(0.0), SAMPLERS),
    foreign("mirostat_tau", Beside("mirostat"), SAMPLERS),
    foreign("mirostat_eta", Beside("mirostat"), SAMPLERS),
    foreign("dry_multiplier", Number(0.0), SAMPLERS),
    foreign("dry_base", Beside("dry_multiplier"), SAMPLERS),
    foreign("dry_allowed_length", Beside("dry_multiplier"), SAMPLERS),
    foreign("dry_penalty_last_n", Beside("dry_multiplier"), SAMPLERS),
    foreign("dry_sequence_breakers", Beside("dry_multiplier"), SAMPLERS),
    foreign("dry_range", Beside("dry_multiplier"), SAMPLERS),
    foreign("xtc_probability", Number(0.0), SAMPLERS),
    foreign("xtc_threshold", Beside("xtc_probability"), SAMPLERS),
    foreign("dynatemp_range", Number(0.0), SAMPLERS),
    foreign("dynatemp_exponent", Beside("dynatemp_range"), SAMPLERS),
    foreign("dynamic_temperature", Flag(false), SAMPLERS),
    foreign("dynatemp_low", Beside("dynamic_temperature"), SAMPLERS),
    foreign("dynatemp_high", Beside("dynamic_temperature"), SAMPLERS),
    foreign("adaptive_target", AtMost(0.0), SAMPLERS),
    foreign("adaptive_decay", Beside("adaptive_target"), SAMPLERS),
    foreign("top_n_sigma", AtMost(0.0), SAMPLERS),
    foreign("nsigma", AtMost(0.0), SAMPLERS),
    foreign("top_a", Number(0.0), SAMPLERS),
    foreign("tfs", Number(1.0), SAMPLERS),
    foreign("tfs_z", Number(1.0), SAMPLERS),
    foreign("epsilon_cutoff", Number(0.0), SAMPLERS),
    foreign("eta_cutoff", Number(0.0), SAMPLERS),
    foreign("smoothing_factor", Number(0.0), SAMPLERS),
    foreign("smoothing_curve", Beside("smoothing_factor"), SAMPLERS),
    foreign("min_keep", AtMost(1.0), SAMPLERS),
    foreign("sampler_order", Empty, SAMPLERS),
    foreign("sampler_priority", Empty, SAMPLERS),
    foreign("temperature_last", Flag(false), SAMPLERS),
    foreign("do_sample", Flag(true), "use `temperature: 0`"),
    // Penalties.
    foreign("repetition_penalty", Number(1.0), "use `repeat_penalty`"),
    foreign("rep_pen", Number(1.0), "use `repeat_penalty`"),
    foreign("repetition_penalty_range", Beside("repetition_penalty"), "use `repeat_last_n`"),
    foreign("encoder_repetition_penalty", Number(1.0), PENALTIES),
    foreign("no_repeat_ngram_size", Number(0.0), PENALTIES),
    foreign("penalty_alpha", Number(0.0), PENALTIES),
    foreign("penalize_nl", Flag(false), PENALTIES),
    foreign("guidance_scale", Number(1.0), "there is no guidance by a second prompt"),
    foreign("negative_prompt", Empty, "there is no guidance by a second prompt"),
    // Lengths and ends.
    foreign("max_new_tokens", Empty, "use `max_tokens`"),
    foreign("max_length", Empty, "use `max_tokens`"),
    foreign("min_tokens", Number(0.0), LENGTHS),
    foreign("min_length", Number(0.0), LENGTHS),
    foreign("n_keep", AtMost(0.0), LENGTHS),
    foreign("n_discard", Number(0.0), LENGTHS),
    foreign("stop_token_ids", Empty, "use `stop`"),
    foreign("stopping_strings", Empty, "use `stop`"),
    foreign("custom_token_bans", Empty, "use `logit_bias`"),
    foreign("banned_tokens", Empty, "use `logit_bias`"),
    foreign("bad_words", Empty, "use `logit_bias`"),
    foreign("ban_eos_token", Flag(false), "use `ignore_eos`"),
    foreign("include_stop_str_in_output", Flag(false), LENGTHS),
    foreign("skip_special_tokens", Flag(true), PLAIN),
    foreign("spaces_between_special_tokens", Flag(true), PLAIN),
    foreign("add_bos_token", Flag(true), "the model decides whether a BOS token is added"),
    // Beam search and log-probabilities.
    foreign("use_beam_search", Flag(false), BEAMS),
    foreign("num_beams", Number(1.0), BEAMS),
    foreign("length_penalty", Number(1.0), BEAMS),
    foreign("early_stopping", Flag(false), BEAMS),
    foreign("n_probs", Number(0.0), "use `logprobs`"),
    foreign("prompt_logprobs", Empty, "only an answer's tokens have log-probabilities"),
    foreign("post_sampling_probs", Flag(false), "use `logprobs`"),
    foreign("return_tokens", Flag(false), "use `logprobs`"),
    foreign("seeds", Empty, "use `seed`"),
];

/// Removes all foreign parameters from the request.
///
/// # Errors
/// 400 naming the first one with a value that would change the answer.
pub(in crate::server) fn refuse_foreign(fields: &mut Fields) -> Result<(), ApiError> {
    for Foreign { name, neutral, advice } in FOREIGN {
        if fields.peek(name).is_some_and(|value| !neutral.holds(value, fields)) {
            let message = format!("`{name}` is not supported by this server: {advice}");
            return Err(ApiError::parameter(*name, message).code("unsupported_parameter"));
        }
    }
    FOREIGN.iter().for_each(|Foreign { name, .. }| fields.ignore(&[name]));
    Ok(())
}

impl Neutral {
    fn holds(&self, value: &Value, fields: &Fields) -> bool {
        let among = |words: &[&str], value: &Value| value.as_str().is_some_and(|word| words.contains(&word));
        match self {
            Empty => is_empty(value),
            Number(number) => value.as_f64() == Some(*number) || (*number == 0.0 && is_empty(value)),
            AtMost(most) => value.as_f64().is_some_and(|number| number <= *most),
            Flag(flag) => value.as_bool() == Some(*flag),
            Words(words) => among(words, value),
            List(words) => value.as_array().is_some_and(|items| items.iter().all(|item| among(words, item))),
            Beside(switch) => FOREIGN
                .iter()
                .filter(|foreign| foreign.name == *switch)
                .all(|foreign| fields.peek(switch).is_none_or(|value| foreign.neutral.holds(value, fields))),
        }
    }
}

/// Whether a value means "off": false, 0, null, or an empty string, array or object.
pub(in crate::server) fn is_empty(value: &Value) -> bool {
    match value {
        Value::Array(items) => items.is_empty(),
        Value::Object(map) => map.is_empty(),
        Value::String(text) => text.is_empty(),
        Value::Bool(flag) => !flag,
        Value::Number(number) => number.as_f64() == Some(0.0),
        Value::Null => true,
    }
}

#[cfg(test)]
mod tests {
    use satchel_container::parameters::Parameter;

    use super::*;

    #[test]
    fn names_are_unique_and_enabling_parameters_exist() {
        for (index, foreign) in FOREIGN.iter().enumerate() {
            assert!(FOREIGN[index + 1..].iter().all(|other| other.name != foreign.name), "{}", foreign.name);
            assert!(Parameter::named(foreign.name).is_none(), "{} is ours", foreign.name);
            if let Beside(switch) = foreign.neutral {
                let found = FOREIGN.iter().find(|other| other.name == switch);
                assert!(found.is_some_and(|found| !matches!(found.neutral, Beside(_))), "{switch}");
            }
        }
    }
}
