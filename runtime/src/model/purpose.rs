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
        Ok(match keys.count("pooling_type", 4)? {
            None => None,
            Some(1) => Some(Self::Mean),
            Some(2) => Some(Self::Cls),
            Some(3) => Some(Self::Last),
            Some(_) => Some(Self::Rank),
        })
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
