//! `options`: Ollama's parameters, by the table that every API reads.
//!
//! Its names are those of the table, except for `num_predict`. Options about loading and hardware cannot change an answer
//! and are ignored.

use crate::server::openai::{ApiError, Baseline, Common, Fields};

/// The context that requests run in.
#[derive(Clone, Copy, Debug)]
pub(super) struct Context {
    /// Its length in tokens.
    pub(super) length: usize,
    /// Whether it drops its beginning when it is full.
    pub(super) shifts: bool,
}

/// Ignored: how a model is loaded and computed, which is chosen when the server starts.
const HARDWARE: [&str; 11] = [
    "num_batch",
    "num_gpu",
    "main_gpu",
    "num_thread",
    "numa",
    "low_vram",
    "f16_kv",
    "use_mmap",
    "use_mlock",
    "vocab_only",
    "logits_all",
];

/// Samplers that are not supported: name, and the number that turns each off.
const SAMPLERS: [(&str, f64); 2] = [("mirostat", 0.0), ("tfs_z", 1.0)];

/// Parameters of OpenAI's API that are no options: there, each has a name of its own here, or none.
const NOT_OPTIONS: [&str; 7] = ["model", "stream", "stream_options", "n", "max_tokens", "n_predict", "return_progress"];

/// Takes `options` out of a request. The result's model and stream are the caller's to set.
///
/// # Errors
/// 400 naming the option.
pub(super) fn take(fields: &mut Fields, baseline: &Baseline, context: Context) -> Result<Common, ApiError> {
    let mut options = Fields::from(fields.take_object("options")?.unwrap_or_default());
    adopt(fields, &mut options);
    let limit = options.take_integer("num_predict", -2..=i64::MAX)?;
    if limit == Some(0) {
        return Err(ApiError::parameter("num_predict", "`num_predict` must be at least 1, or -1: until the end"));
    }
    check_context(&mut options, context)?;
    options.ignore(&HARDWARE);
    for (name, off) in SAMPLERS {
        let advice = "use temperature, top_k, top_p, min_p or typical_p";
        options.refuse_unless(name, advice, |value| value.as_f64() == Some(off))?;
    }
    // Settings of mirostat, which is off.
    options.ignore(&["mirostat_tau", "mirostat_eta"]);
    let advice = "penalties count line breaks like any other token";
    options.refuse_unless("penalize_newline", advice, |value| value.as_bool() == Some(true))?;
    for name in NOT_OPTIONS {
        options.refuse_unless(name, "it is not an option of this API; a length is `num_predict`", |_| false)?;
    }
    let mut common = Common::take(&mut options, baseline)?;
    options.finish()?;
    match limit {
        None => {}
        Some(limit) => common.max_tokens = usize::try_from(limit).ok(),
    }
    Ok(common)
}

/// Options that ollama-ai-provider-v2 sends beside `options`, by names of another API. Ollama ignores them there, which is not what
/// their caller meant.
fn adopt(fields: &mut Fields, options: &mut Fields) {
    for (outer, name) in [("max_output_tokens", "num_predict"), ("temperature", "temperature"), ("top_p", "top_p")] {
        if let Some(value) = fields.take(outer)
            && options.peek(name).is_none()
        {
            options.put(name, value);
        }
    }
}

/// A context as long as wanted is there already, or the request is refused: nothing would be cut off in silence.
fn check_context(options: &mut Fields, context: Context) -> Result<(), ApiError> {
    let wanted = options.take_integer("num_ctx", 1..=i64::MAX)?.unwrap_or(1);
    if usize::try_from(wanted).unwrap_or(usize::MAX) > context.length {
        let length = context.length;
        let message = format!("`num_ctx` is {wanted}, and this server was started with a context of {length} tokens");
        return Err(ApiError::parameter("num_ctx", message));
    }
    // What is kept matters only where something is dropped.
    let advice = "what is kept when the context is full is the system prompt";
    options.refuse_unless("num_keep", advice, |_| !context.shifts)
}
