//! A question as the end of a prompt, and what the labels' probabilities say.

/// Choices up to this number are letters, more are numbers.
const LETTERS: usize = 26;

/// What is asked, and how it can be answered.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Question {
    pub(super) kind: Kind,
    /// The question, statement or task; may be empty.
    pub(super) instructions: String,
    /// The answers in order: a name and what it means, either may be empty.
    pub(super) answers: Vec<(String, String)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    /// Yes or no; the answers are what yes and what no mean.
    Truth,
    /// One of the answers.
    Choice,
    /// One of the answers, which are levels from 0.
    Score,
}

impl Question {
    /// What the model is to write for each answer. No label begins another one.
    pub(super) fn labels(&self) -> Vec<String> {
        let count = self.answers.len();
        match self.kind {
            Kind::Truth => vec!["Yes".to_owned(), "No".to_owned()],
            Kind::Choice if count <= LETTERS => ('A'..='Z').take(count).map(String::from).collect(),
            Kind::Choice => numbered(1, count),
            Kind::Score => numbered(0, count),
        }
    }

    /// The end of the prompt.
    pub(super) fn prompt(&self) -> String {
        let mut lines = Vec::new();
        if !self.instructions.is_empty() {
            let begin = if self.kind == Kind::Truth { "Question or statement" } else { "Question" };
            lines.push(format!("{begin}: {}", self.instructions));
        }
        for (label, (name, meaning)) in self.labels().iter().zip(&self.answers) {
            let about: Vec<&str> = [name.as_str(), meaning].into_iter().filter(|text| !text.is_empty()).collect();
            if !about.is_empty() {
                lines.push(format!("{label}: {}", about.join(" - ")));
            }
        }
        lines.push(match self.kind {
            Kind::Truth => "Is it so, going by the text above? Answer with Yes or No and nothing else.".to_owned(),
            Kind::Choice => "Answer with the label of what fits the text above best, and nothing else.".to_owned(),
            Kind::Score => {
                "Answer with the number of the level that fits the text above best, and nothing else.".to_owned()
            }
        });
        lines.join("\n")
    }
}

/// Numbers of equal length.
fn numbered(first: usize, count: usize) -> Vec<String> {
    let width = (first + count).saturating_sub(1).to_string().len();
    (first..first + count).map(|number| format!("{number:0width$}")).collect()
}

/// Log-probabilities to probabilities that sum to 1; all the same if none is possible.
pub(super) fn probabilities(logprobs: &[f64]) -> Vec<f64> {
    let largest = logprobs.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    if !largest.is_finite() {
        return vec![1.0 / logprobs.len().max(1) as f64; logprobs.len()];
    }
    let weights: Vec<f64> = logprobs.iter().map(|logprob| (logprob - largest).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.into_iter().map(|weight| weight / sum).collect()
}

/// Index of the most likely answer, the first of equals.
pub(super) fn likeliest(probabilities: &[f64]) -> usize {
    (1..probabilities.len()).fold(0, |best, at| if probabilities[at] > probabilities[best] { at } else { best })
}

/// The mean level.
pub(super) fn mean(probabilities: &[f64]) -> f64 {
    probabilities.iter().enumerate().map(|(level, probability)| level as f64 * probability).sum()
}
