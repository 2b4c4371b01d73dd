//! How long an answer is asked to be, in OpenAI's word `verbosity`.
//!
//! Their models are trained on the word; others are not, so it is put to them as an instruction. What a model makes of it, nobody
//! can enforce: it says how the answer should be, as any instruction does.

/// How long an answer is to be; `medium` says nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verbosity {
    /// Short.
    Low,
    /// As the model sees fit.
    Medium,
    /// Long.
    High,
}

impl Verbosity {
    /// From the API's word.
    pub fn of(word: &str) -> Option<Self> {
        match word {
            "low" => Some(Self::Low),
            "medium" => Some(Self::Medium),
            "high" => Some(Self::High),
            _ => None,
        }
    }

    /// What the model is told.
    pub fn instruction(self) -> Option<&'static str> {
        match self {
            Self::Low => Some("Be brief: answer in few words, and leave out what was not asked for."),
            Self::Medium => None,
            Self::High => Some("Be thorough: answer in detail, and explain what helps to understand the answer."),
        }
    }
}
