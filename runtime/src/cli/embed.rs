//! `satchel embed`: a vector for each text, or each document's score for a query.

use std::io::IsTerminal;
use std::path::Path;

use super::Failure;
use super::model_args::ModelArgs;
use super::out;
use super::text_input::read_text;
use crate::model::PoolingKind;
use crate::session::embedding::EmbeddingModel;
use crate::session::{ModelSource, OpenOptions};

/// Arguments of `embed`.
#[derive(clap::Args, Debug, Default)]
pub struct Args {
    /// The texts; without any, each line of stdin is one
    #[arg(value_name = "TEXT")]
    texts: Vec<String>,
    #[command(flatten)]
    model: ModelArgs,
    /// Tokens that a text may have [default: what the model was trained on, 32768 at most]; a longer one is an error
    #[arg(short, long, value_name = "TOKENS", help_heading = "Model")]
    context: Option<usize>,
    /// How a text's positions become one vector: mean, cls (the first), last, or rank (the score of a pair) [default: what
    /// the model's file says; else the last of a model whose positions look back only, the mean of others]
    #[arg(long, value_name = "KIND")]
    pooling: Option<PoolingKind>,
    /// Score each text as a document that answers this, with a reranking model
    #[arg(long, value_name = "TEXT")]
    query: Option<String>,
    /// Do not normalise vectors to length 1
    #[arg(long)]
    raw: bool,
    /// Print a JSON array: an array of numbers for each text, or with --query a score for each [default: a line each]
    #[arg(long)]
    json: bool,
}

/// Runs the command.
pub fn run(args: Args) -> Result<(), Failure> {
    let texts = texts(&args)?;
    let options = OpenOptions { context: args.context, ..args.model.options() };
    let source = ModelSource::of(&options)?;
    let pooling = args.pooling.or(args.query.is_some().then_some(PoolingKind::Rank));
    let mut model = EmbeddingModel::open(&source, &options, pooling)?;
    let texts = texts.iter().map(String::as_str);
    let sequences = match &args.query {
        Some(_) if !model.scores_pairs() => {
            return Err(Failure::usage("--query gives scores, so --pooling can only be rank with it"));
        }
        Some(query) => model.pairs(query, texts)?,
        None if model.scores_pairs() => {
            return Err(Failure::usage("this model scores documents against a query; give it with --query TEXT"));
        }
        None => model.tokens(texts)?,
    };
    let vectors = model.embed(&sequences, !args.raw)?;
    out::bytes(if args.json { as_json(&vectors, args.query.is_some())? } else { as_lines(&vectors) }.as_bytes())
}

/// The texts of the command line, or of stdin.
fn texts(args: &Args) -> Result<Vec<String>, Failure> {
    if !args.texts.is_empty() {
        return Ok(args.texts.clone());
    }
    if std::io::stdin().is_terminal() {
        return Err(Failure::usage(
            "there is no text; give some (embed \"a text\" \"another\") or pipe in a line each",
        ));
    }
    let texts: Vec<String> = read_text(Path::new("-"))?.lines().map(str::to_owned).collect();
    if texts.is_empty() { Err(Failure::usage("there is no text on stdin")) } else { Ok(texts) }
}

fn as_lines(vectors: &[Vec<f32>]) -> String {
    let line = |vector: &Vec<f32>| {
        let numbers: Vec<String> = vector.iter().map(f32::to_string).collect();
        numbers.join(" ") + "\n"
    };
    vectors.iter().map(line).collect()
}

/// Shortest decimal form of each number. A classifier with a single score gives one number per document.
fn as_json(vectors: &[Vec<f32>], are_scores: bool) -> Result<String, Failure> {
    let text = if are_scores && vectors.iter().all(|vector| vector.len() == 1) {
        serde_json::to_string(&vectors.concat())
    } else {
        serde_json::to_string(vectors)
    };
    Ok(text? + "\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_their_shortest_form() {
        let vectors = [vec![0.1, -2.0], vec![1e-9, 3.0]];
        assert_eq!(as_lines(&vectors), "0.1 -2\n0.000000001 3\n");
        assert_eq!(as_json(&vectors, false).expect("text"), "[[0.1,-2.0],[1e-9,3.0]]\n");
        assert_eq!(as_json(&[vec![0.5], vec![-1.0]], true).expect("text"), "[0.5,-1.0]\n");
    }
}
