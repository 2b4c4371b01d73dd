//! What a model is planned for: generation, or one embedding per sequence.

use super::ModelError;
use super::keys::Keys;
use crate::plan::Pooling;

/// What a plan outputs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Logits of the next token. An encoder has none; its plan outputs embeddings anyway.
    #[default]
    Generate,
    /// One embedding, or one score, per sequence: with this pooling, or the file's if `None`.
    Embed(Option<PoolingKind>),
}

/// How the rows of a sequence are reduced to one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingKind {
    /// The mean of all rows.
    Mean,
    /// The first row, which is BERT's `[CLS]`.
    Cls,
    /// The last row, the only one that attends to the whole text under a causal mask.
    Last,
    /// The score of a pair of texts, from the file's classifier.
    Rank,
}

impl PoolingKind {
    /// The file's `pooling_type`; `None` if it is missing or 0 (no pooling).
    ///
    /// # Errors
    /// An unknown value.
    pub fn of_file(keys: &Keys<'_>) -> Result<Option<Self>, ModelError> {
        // llama.cpp writes -1 where a model came without one.
        const UNSPECIFIED: usize = u32::MAX as usize;
        match keys.count("pooling_type", u64::from(u32::MAX))? {
            None | Some(UNSPECIFIED) => Ok(None),
            Some(1) => Ok(Some(Self::Mean)),
            Some(2) => Ok(Some(Self::Cls)),
            Some(3) => Ok(Some(Self::Last)),
            Some(4) => Ok(Some(Self::Rank)),
            Some(other) => Err(keys.wrong("pooling_type", other, "it must be 1 to 4, or -1")),
        }
    }

    /// The pooling operation. A classifier uses the first row.
    pub(super) fn pooling(self) -> Pooling {
        match self {
            Self::Mean => Pooling::Mean,
            Self::Cls | Self::Rank => Pooling::First,
            Self::Last => Pooling::Last,
        }
    }
}

impl std::str::FromStr for PoolingKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, Self::Err> {
        match name {
            "mean" => Ok(Self::Mean),
            "cls" => Ok(Self::Cls),
            "last" => Ok(Self::Last),
            "rank" => Ok(Self::Rank),
            _ => Err("it must be mean, cls, last or rank".to_owned()),
        }
    }
}
