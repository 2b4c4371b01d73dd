//! An open embedding model in words: texts to vectors, pairs of texts to scores.

use std::sync::Arc;

use super::memory::{Demand, Memory};
use super::open::{self, OpenError, OpenOptions, plan_of};
use super::source::ModelSource;
use super::{Facts, facts_of, with_packed_settings};
use crate::TokenId;
use crate::engine::{EmbedError, Embedder};
use crate::model::{Keys, PoolingKind};
use crate::plan::Head;
use crate::tokenizer::{Tokenizer, TokenizerError};

/// A model that makes a vector of a text.
pub struct EmbeddingModel {
    /// Tokens to vectors.
    pub embedder: Embedder,
    /// Texts to tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// What it is and how it runs.
    pub facts: Facts,
    /// A token of its own stands between the two texts of a pair, beside those that end the first and begin the second.
    separates_pairs: bool,
}

/// Why texts got no vectors. Each is one line for the person.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TextEmbedError {
    #[error("text {number}: {error}")]
    Tokenizer { number: usize, error: TokenizerError },
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error("text {number}: the model answered with something that is not a number; its file may be damaged")]
    NotFinite { number: usize },
}

/// Whether a model is there for embeddings: it generates nothing, or says how it pools.
pub fn is_embedding_model(source: &ModelSource) -> bool {
    let pools = || {
        let keys = Keys::new(&source.gguf.metadata, None)?;
        PoolingKind::of_file(&keys)
    };
    let Ok(plan) = plan_of(source, None) else { return false };
    !matches!(plan.head, Head::Logits(_)) || !plan.is_causal() || matches!(pools(), Ok(Some(_)))
}

impl EmbeddingModel {
    /// Opens a model, to pool as asked or as its file says.
    ///
    /// # Errors
    /// One line for the user.
    pub fn open(source: &ModelSource, options: &OpenOptions, pooling: Option<PoolingKind>) -> Result<Self, OpenError> {
        let options = with_packed_settings(source, options);
        let compute = options.compute()?;
        let (tokenizer, loaded) = rayon::join(
            || Tokenizer::from_gguf(&source.gguf.metadata),
            || open::load_to_embed(source, compute, options.context, pooling),
        );
        let loaded = loaded?;
        let tokenizer = tokenizer.map_err(|error| OpenError::Tokenizer { path: source.path.clone(), error })?;
        let context = options.context_for(loaded.plan.trained_context)?;
        let step_tokens = Embedder::step_tokens(&loaded.plan, context);
        let demand = Demand::of_one(context as u64, step_tokens, compute.threads, compute.cache);
        let memory = Memory::of_plan(source, &loaded.plan, demand).ok();
        let facts = facts_of(source, &loaded.plan, compute, (context, 1), memory);
        // WordPiece's own token that ends a text is the one that divides two.
        let written = source.gguf.metadata.get_bool("tokenizer.ggml.add_sep_token").ok().flatten();
        let separates_pairs = tokenizer.kind() != "bert" && written.unwrap_or(true);
        let embedder = Embedder::new(loaded, context).with_adapters(source.all_adapters());
        Ok(Self { embedder, tokenizer: Arc::new(tokenizer), facts, separates_pairs })
    }

    /// Whether it scores pairs, where others give vectors of texts.
    pub fn scores_pairs(&self) -> bool {
        matches!(self.embedder.plan().head, Head::Scores(_))
    }

    /// The tokens of texts, with those that begin and end one. Control tokens in a text are text.
    ///
    /// # Errors
    /// Where a text cannot be encoded.
    pub fn tokens<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<TokenId>>, TextEmbedError> {
        let texts = texts.into_iter().enumerate();
        texts.map(|(at, text)| self.encode(at, text)).collect()
    }

    fn encode(&self, at: usize, text: &str) -> Result<Vec<TokenId>, TextEmbedError> {
        let tokens = self.tokenizer.encode(text, true, false);
        tokens.map_err(|error| TextEmbedError::Tokenizer { number: at + 1, error })
    }

    /// The tokens of a query beside each document: `[CLS] query [SEP] document [SEP]`, or `<s> query </s></s> document </s>`.
    ///
    /// # Errors
    /// As [`EmbeddingModel::tokens`].
    pub fn pairs<'a>(
        &self,
        query: &str,
        documents: impl IntoIterator<Item = &'a str>,
    ) -> Result<Vec<Vec<TokenId>>, TextEmbedError> {
        let begin = self.tokenizer.bos().filter(|_| self.tokenizer.adds_bos());
        let between = self.tokenizer.separator().or(self.tokenizer.eos()).filter(|_| self.separates_pairs);
        let first = self.encode(0, query)?;
        let documents = documents.into_iter().enumerate();
        let pair = documents.map(|(at, document)| {
            let second = self.encode(at, document)?;
            let skipped = usize::from(begin.is_some());
            Ok(first.iter().copied().chain(between).chain(second.into_iter().skip(skipped)).collect())
        });
        pair.collect()
    }

    /// A vector for each sequence. `normalise`: of length 1, as they are compared; scores stay as they are.
    ///
    /// # Errors
    /// One line that names the text.
    pub fn embed(&mut self, sequences: &[Vec<TokenId>], normalise: bool) -> Result<Vec<Vec<f32>>, TextEmbedError> {
        let mut vectors = self.embedder.embed(sequences)?;
        if let Some(at) = vectors.iter().position(|vector| vector.iter().any(|value| !value.is_finite())) {
            return Err(TextEmbedError::NotFinite { number: at + 1 });
        }
        if normalise && !self.scores_pairs() {
            vectors.iter_mut().for_each(|vector| to_length_one(vector));
        }
        Ok(vectors)
    }
}

/// Divides a vector by its length; one of zeros stays.
fn to_length_one(vector: &mut [f32]) {
    let length = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_have_length_one() {
        let mut vector = [3.0, 0.0, -4.0];
        to_length_one(&mut vector);
        assert_eq!(vector, [0.6, 0.0, -0.8]);
        let mut nothing = [0.0; 3];
        to_length_one(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }
}
