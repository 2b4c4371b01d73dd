//! The stages of sampling by llama.cpp's names: a request may list those that take part.

use super::SamplingParams;

/// A stage, in the order in which they run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Stage {
    /// Repetition, frequency and presence.
    Penalties,
    /// `top_k`.
    TopK,
    /// `typical_p`.
    Typical,
    /// `top_p`.
    TopP,
    /// `min_p`.
    MinP,
    /// What fills a gap in a text (`Infill`); only where it is listed.
    Infill,
    /// `temperature`.
    Temperature,
}

impl Stage {
    /// All of them, in order.
    pub const ALL: [Self; 7] =
        [Self::Penalties, Self::TopK, Self::Typical, Self::TopP, Self::MinP, Self::Infill, Self::Temperature];

    /// Its name.
    pub fn name(self) -> &'static str {
        self.names().0
    }

    /// Its letter in an order that is written as one word.
    pub fn letter(self) -> char {
        self.names().1
    }

    fn names(self) -> (&'static str, char) {
        match self {
            Self::Penalties => ("penalties", 'e'),
            Self::TopK => ("top_k", 'k'),
            Self::Typical => ("typ_p", 'y'),
            Self::TopP => ("top_p", 'p'),
            Self::MinP => ("min_p", 'm'),
            Self::Infill => ("infill", 'i'),
            Self::Temperature => ("temperature", 't'),
        }
    }
}

impl SamplingParams {
    /// Switches off all stages but these. Without `Stage::Temperature`, tokens are drawn by the model's own probabilities.
    pub fn keep(&mut self, stages: &[Stage]) {
        let off = Self::default();
        for stage in Stage::ALL.into_iter().filter(|stage| !stages.contains(stage)) {
            match stage {
                Stage::Penalties => {
                    self.repeat_penalty = off.repeat_penalty;
                    self.presence_penalty = off.presence_penalty;
                    self.frequency_penalty = off.frequency_penalty;
                }
                Stage::TopK => self.top_k = off.top_k,
                Stage::Typical => self.typical_p = off.typical_p,
                Stage::TopP => self.top_p = off.top_p,
                Stage::MinP => self.min_p = off.min_p,
                Stage::Infill => {}
                Stage::Temperature => self.temperature = off.temperature,
            }
        }
        self.infill = stages.contains(&Stage::Infill);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_listed_is_off() {
        let all = SamplingParams {
            temperature: 0.3,
            top_k: 5,
            top_p: 0.5,
            min_p: 0.1,
            typical_p: 0.7,
            repeat_penalty: 1.2,
            presence_penalty: 0.1,
            frequency_penalty: 0.2,
            infill: true,
            ..SamplingParams::default()
        };
        let kept = |stages: &[Stage]| {
            let mut params = all.clone();
            params.keep(stages);
            params
        };
        assert_eq!(kept(&Stage::ALL), all);
        assert_eq!(kept(&[]), SamplingParams::default());
        let some = SamplingParams { top_k: 5, top_p: 0.5, infill: true, ..SamplingParams::default() };
        assert_eq!(kept(&[Stage::TopK, Stage::TopP, Stage::Infill]), some);
    }
}
