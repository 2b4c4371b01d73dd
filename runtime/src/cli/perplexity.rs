//! `satchel perplexity`: how well the model predicts a text, computed as llama.cpp's `llama-perplexity` does.
//!
//! The text's tokens are cut into windows of the context length. In each, the second half is predicted with everything
//! before it in the window; perplexity is `exp` of the mean negative log-probability. A last, shorter window is left out.

use std::path::{Path, PathBuf};

use super::Failure;
use super::cache_args::CacheArgs;
use super::model_args::ModelArgs;
use super::out::{notice, outln};
use super::text_input::read_text;
use crate::TokenId;
use crate::engine::{EvaluateError, Evaluator, Wanted};
use crate::sampling::log_softmax_at;
use crate::session::open::load_model_on;
use crate::session::{ModelSource, OpenOptions};
use crate::tokenizer::Tokenizer;

/// Arguments of `perplexity`.
#[derive(clap::Args, Debug)]
pub struct Args {
    #[command(flatten)]
    model: ModelArgs,
    #[command(flatten)]
    cache: CacheArgs,
    /// The text; `-` reads it from stdin
    #[arg(short, long, value_name = "TEXT")]
    file: PathBuf,
    /// Tokens in a window
    #[arg(short, long, value_name = "N", default_value_t = 512)]
    context: usize,
    /// Use only the first N bytes of the text (cut at a character)
    #[arg(long, value_name = "N")]
    bytes: Option<usize>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    check_context(args.context)?;
    let options = OpenOptions { context: Some(args.context), ..args.cache.apply(args.model.options()) };
    let source = ModelSource::of(&options)?;
    let (loaded, gpu) = load_model_on(&source, options.compute()?, options.context, &options)?;
    super::chat::tell_gpu(&options.gpu, &gpu);
    options.context_for(loaded.plan.trained_context)?;
    let tokenizer = Tokenizer::from_gguf(&source.gguf.metadata)?;
    let text = read_text_to(&args.file, args.bytes)?;
    let mut evaluator = Evaluator::new(loaded, args.context).with_adapters(source.all_adapters());
    let measured = measure(&mut evaluator, &tokenizer, &text, args.context, |total, windows| {
        if !args.json {
            notice!("window {} of {windows}: perplexity {:.4}", total.windows, total.perplexity());
        }
    })?;
    if args.json {
        outln!("{}", serde_json::to_string(&measured)?)
    } else {
        outln!(
            "perplexity {:.4} over {} tokens in {} windows of {}",
            measured.perplexity,
            measured.predicted_tokens,
            measured.windows,
            measured.context
        )
    }
}

/// The perplexity, and how many tokens it covers.
#[derive(Clone, Copy, Debug, serde::Serialize)]
pub(super) struct Measured {
    pub(super) perplexity: f64,
    pub(super) predicted_tokens: usize,
    pub(super) windows: usize,
    pub(super) context: usize,
    pub(super) tokens: usize,
}

/// Checks that windows of this length have enough tokens to predict.
pub(super) fn check_context(context: usize) -> Result<(), Failure> {
    if context < 4 {
        return Err(Failure::usage("--context must be at least 4: half of it is predicted"));
    }
    Ok(())
}

/// The text of a file, or at most its first `bytes` bytes, cut at a character boundary.
pub(super) fn read_text_to(file: &Path, bytes: Option<usize>) -> Result<String, Failure> {
    let mut text = read_text(file)?;
    if let Some(bytes) = bytes.filter(|&bytes| bytes < text.len()) {
        text.truncate(text.floor_char_boundary(bytes));
    }
    Ok(text)
}

/// Perplexity of `text` in windows of `context` tokens, for which the evaluator must have room. `after_window` gets the
/// running total and the number of windows.
///
/// # Errors
/// The text cannot be tokenised, or is shorter than one window.
pub(super) fn measure(
    evaluator: &mut Evaluator,
    tokenizer: &Tokenizer,
    text: &str,
    context: usize,
    after_window: impl Fn(&Total, usize),
) -> Result<Measured, Failure> {
    let tokens = tokenizer.encode(text, true, false)?;
    let windows = tokens.len() / context;
    if windows == 0 {
        return Err(Failure::new(format!(
            "the text has {} tokens, fewer than one window of {context}; give a longer text or a smaller --context",
            tokens.len(),
        )));
    }
    // If the tokenizer adds a begin-of-sequence token, every window starts with it.
    let bos = tokenizer.bos().filter(|bos| tokens.first() == Some(bos));
    let mut total = Total::default();
    for window in tokens.chunks_exact(context) {
        score_window(evaluator, window, bos, &mut total)?;
        after_window(&total, windows);
    }
    let (perplexity, predicted_tokens) = (total.perplexity(), total.count);
    Ok(Measured { perplexity, predicted_tokens, windows, context, tokens: tokens.len() })
}

#[derive(Default)]
pub(super) struct Total {
    negative_log_probability: f64,
    count: usize,
    windows: usize,
}

impl Total {
    fn perplexity(&self) -> f64 {
        (self.negative_log_probability / self.count as f64).exp()
    }
}

fn score_window(
    evaluator: &mut Evaluator,
    window: &[TokenId],
    bos: Option<TokenId>,
    total: &mut Total,
) -> Result<(), EvaluateError> {
    let first = window.len() / 2;
    let mut tokens = window.to_vec();
    if let Some(bos) = bos {
        tokens[0] = bos;
    }
    evaluator.clear();
    let vocabulary = evaluator.plan().vocabulary;
    evaluator.append(&tokens[..first], Wanted::Nothing)?;
    let logits = evaluator.append(&tokens[first..window.len() - 1], Wanted::All)?;
    for (row, &next) in logits.chunks_exact(vocabulary).zip(&window[first + 1..]) {
        total.negative_log_probability -= f64::from(log_softmax_at(row, next));
        total.count += 1;
    }
    total.windows += 1;
    Ok(())
}
