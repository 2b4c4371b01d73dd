//! What a model is planned for: to go on with a text, or to make one vector of it.

use super::ModelError;
use super::keys::Keys;
use crate::plan::Pooling;

/// What a plan is to end in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Purpose {
    /// Logits of the next token. An encoder has none, and ends in embeddings all the same.
    #[default]
    Generate,
    /// One embedding, or one score, for each sequence: pooled like this, or as the file says.
    Embed(Option<PoolingKind>),
}

/// How the rows of a sequence become one result.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolingKind {
    /// Their mean.
    Mean,
    /// The first row, where BERT has its `[CLS]`.
    Cls,
    /// The last row, which alone has seen everything where positions look back only.
    Last,
    /// The score of a pair of texts, by the file's classifier.
    Rank,
}

impl PoolingKind {
    /// What `pooling_type` asks for; `None` where the file says nothing, or that rows are not pooled.
    ///
    /// # Errors
    /// Where it is none of those that are known.
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

    /// The operation. A classifier looks at the first row.
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
