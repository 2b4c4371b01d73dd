//! An open embedding model with its tokenizer: texts to vectors, pairs of texts to scores.

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

/// A model that turns texts into vectors, or pairs of texts into scores.
pub struct EmbeddingModel {
    /// Tokens to vectors.
    pub embedder: Embedder,
    /// Texts to tokens.
    pub tokenizer: Arc<Tokenizer>,
    /// Properties of the model and its configuration.
    pub facts: Facts,
    /// Whether an additional separator token goes between the two texts of a pair.
    separates_pairs: bool,
}

/// Why texts could not be embedded. Each message is one line for the user.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs)]
pub enum TextEmbedError {
    #[error("text {number}: {error}")]
    Tokenizer { number: usize, error: TokenizerError },
    #[error(transparent)]
    Embed(#[from] EmbedError),
    #[error("text {number}: the model's output is not finite; its file may be damaged")]
    NotFinite { number: usize },
}

/// Whether a model is meant for embeddings: it cannot generate, or its metadata name a pooling.
pub fn is_embedding_model(source: &ModelSource) -> bool {
    let pools = || {
        let keys = Keys::new(&source.gguf.metadata, None)?;
        PoolingKind::of_file(&keys)
    };
    let Ok(plan) = plan_of(source, None) else { return false };
    !matches!(plan.head, Head::Logits(_)) || !plan.is_causal() || matches!(pools(), Ok(Some(_)))
}

impl EmbeddingModel {
    /// Opens a model. `pooling` overrides the file's.
    ///
    /// # Errors
    /// One line for the user.
    pub fn open(source: &ModelSource, options: &OpenOptions, pooling: Option<PoolingKind>) -> Result<Self, OpenError> {
        let options = with_packed_settings(source, options);
        let compute = options.compute()?;
        options.gpu.refuse_for_embeddings()?;
        let (tokenizer, loaded) = rayon::join(
            || Tokenizer::from_gguf(&source.gguf.metadata),
            || open::load_to_embed(source, compute, options.context, pooling),
        );
        let loaded = loaded?;
        let tokenizer = tokenizer.map_err(|error| OpenError::Tokenizer { path: source.path.clone(), error })?;
        let context = options.context_for(loaded.plan.trained_context)?;
        let step_tokens = Embedder::step_tokens(&loaded.plan, context);
        let demand = Demand::of_one(context as u64, step_tokens, compute.threads, compute.cache).on(compute.kernels);
        let memory = Memory::of_plan(source, &loaded.plan, demand).ok();
        let facts = facts_of(source, &loaded.plan, compute, (context, 1), memory);
        // A WordPiece text ends with [SEP], which separates the pair already.
        let written = source.gguf.metadata.get_bool("tokenizer.ggml.add_sep_token").ok().flatten();
        let separates_pairs = tokenizer.kind() != "bert" && written.unwrap_or(true);
        let embedder = Embedder::new(loaded, context).with_adapters(source.all_adapters());
        Ok(Self { embedder, tokenizer: Arc::new(tokenizer), facts, separates_pairs })
    }

    /// Whether it is a reranker: it scores pairs instead of embedding texts.
    pub fn scores_pairs(&self) -> bool {
        matches!(self.embedder.plan().head, Head::Scores(_))
    }

    /// Tokenizes texts, with begin and end tokens. Spelled-out control tokens are encoded as plain text.
    ///
    /// # Errors
    /// A text cannot be encoded.
    pub fn tokens<'a>(&self, texts: impl IntoIterator<Item = &'a str>) -> Result<Vec<Vec<TokenId>>, TextEmbedError> {
        let texts = texts.into_iter().enumerate();
        texts.map(|(at, text)| self.encode(at, text)).collect()
    }

    fn encode(&self, at: usize, text: &str) -> Result<Vec<TokenId>, TextEmbedError> {
        let tokens = self.tokenizer.encode(text, true, false);
        tokens.map_err(|error| TextEmbedError::Tokenizer { number: at + 1, error })
    }

    /// Tokenizes a query paired with each document: `[CLS] query [SEP] document [SEP]`, or `<s> query </s></s> document </s>`.
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

    /// A vector for each sequence. `normalise` scales vectors to length 1, but leaves scores as they are.
    ///
    /// # Errors
    /// One line that names the text.
    pub fn embed(&mut self, sequences: &[Vec<TokenId>], normalise: bool) -> Result<Vec<Vec<f32>>, TextEmbedError> {
        let mut vectors = self.embedder.embed(sequences)?;
        if let Some(at) = vectors.iter().position(|vector| vector.iter().any(|value| !value.is_finite())) {
            return Err(TextEmbedError::NotFinite { number: at + 1 });
        }
        if normalise && !self.scores_pairs() {
            vectors.iter_mut().for_each(|vector| normalise_l2(vector));
        }
        Ok(vectors)
    }
}

/// Divides a vector by its length; a zero vector is unchanged.
fn normalise_l2(vector: &mut [f32]) {
    let length = vector.iter().map(|&value| f64::from(value) * f64::from(value)).sum::<f64>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|value| *value = (f64::from(*value) / length) as f32);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn vectors_are_normalised_to_length_one() {
        let mut vector = [3.0, 0.0, -4.0];
        normalise_l2(&mut vector);
        assert_eq!(vector, [0.6, 0.0, -0.8]);
        let mut nothing = [0.0; 3];
        normalise_l2(&mut nothing);
        assert_eq!(nothing, [0.0; 3]);
    }
}
