//! Sampling from the few logits of a row that a device gives instead of all: the same token as from all of them.
//!
//! Tokens that a bias or a penalty changes are asked for one by one and left out of the device's candidates, so what it compares is
//! as the model gave it. The most likely of all are then among its most likely and those few.

use std::collections::BTreeMap;

use super::sampler::Sampler;
use super::select::{Candidate, by_likelihood};
use super::{SamplingError, TokenMask, stages};
use crate::TokenId;
use crate::device::{PickLimits, Picked, Wish};

impl Sampler {
    /// What the next token depends on, if that is little enough: greedy choice, or the `top_k` most likely tokens. `mask` is what
    /// a constraint allows.
    pub fn wish(&self, vocabulary: usize, limits: PickLimits, mask: Option<&TokenMask>) -> Option<Wish> {
        let params = self.params();
        let candidates = if self.takes_likeliest() { 1 } else { params.top_k };
        // Without a limit every token takes part.
        if candidates == 0 || candidates > limits.candidates || candidates >= vocabulary {
            return None;
        }
        let biased = params.logit_bias.iter().map(|(token, _)| *token);
        let mut values: Vec<TokenId> = biased.chain(self.counted()).collect();
        values.sort_unstable();
        values.dedup();
        if params.logit_bias.iter().any(|(token, _)| *token as usize >= vocabulary) {
            return None;
        }
        values.retain(|token| (*token as usize) < vocabulary);
        if values.len() > limits.values {
            return None;
        }
        let mut own = mask.cloned();
        for token in &values {
            own.get_or_insert_with(|| TokenMask::all(vocabulary)).forbid(*token);
        }
        Some(Wish { candidates, mask: own.map(TokenMask::into_words), values })
    }

    /// Samples the next token from what was wished for with the same mask. Does not accept it.
    ///
    /// # Errors
    /// As [`Sampler::sample`].
    pub fn sample_picked(
        &mut self,
        wish: &Wish,
        picked: &Picked,
        mask: Option<&TokenMask>,
    ) -> Result<TokenId, SamplingError> {
        let value = |(token, value): (&TokenId, &f32)| {
            (*token, if mask.is_none_or(|mask| mask.allows(*token)) { *value } else { f32::NEG_INFINITY })
        };
        let mut changed: BTreeMap<TokenId, f32> = wish.values.iter().zip(&picked.values).map(value).collect();
        self.change(&mut changed)?;
        if let Some((&token, _)) = changed.iter().find(|(_, logit)| logit.is_nan() || **logit == f32::INFINITY) {
            return Err(SamplingError::NotFinite { token });
        }
        let nothing = |(token, logit): (&TokenId, &f32)| (*logit == f32::NEG_INFINITY).then_some(*token);
        let banned: Vec<TokenId> = changed.iter().filter_map(nothing).collect();
        let mut candidates: Vec<Candidate> = changed
            .into_iter()
            .chain(picked.candidates.iter().copied())
            .filter(|(_, logit)| *logit > f32::NEG_INFINITY)
            .map(|(token, logit)| Candidate { logit, token })
            .collect();
        candidates.sort_unstable_by(by_likelihood);
        candidates.truncate(wish.candidates);
        if candidates.is_empty() {
            return Err(SamplingError::NothingLeft);
        }
        if self.takes_likeliest() {
            return Ok(candidates[0].token);
        }
        stages::after_top_k(&mut candidates, self.params());
        let allowed = |token| mask.is_none_or(|mask| mask.allows(token)) && !banned.contains(&token);
        self.fill_gap(&mut candidates, allowed);
        Ok(self.draw_from(&candidates))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sampling::SamplingParams;
    use crate::sampling::infill::tests::stage;
    use crate::sampling::select::select_top;

    /// Texts of the first tokens, of which two end an answer; later ones have the same.
    const TEXTS: [&str; 12] = ["a", "b", "ab", "", "abc", "c", "d", "", "ba", "x", "xy", "y"];

    /// What a device does with a wish.
    fn pick(logits: &[f32], wish: &Wish) -> Picked {
        let mut left = logits.to_vec();
        if let Some(words) = &wish.mask {
            TokenMask::from_words(words.clone()).apply(&mut left);
        }
        let mut candidates = Vec::new();
        select_top(&left, wish.candidates, &mut candidates);
        let values = wish.values.iter().map(|token| logits[*token as usize]).collect();
        Picked { candidates: candidates.iter().map(|found| (found.token, found.logit)).collect(), values }
    }

    #[test]
    fn tokens_are_those_of_all_logits() {
        let mut random = oorandom::Rand32::new(11);
        let limits = PickLimits { candidates: 256, values: 256 };
        let mut compared = 0;
        for round in 0..200u64 {
            let vocabulary = 500;
            let mut params = SamplingParams {
                temperature: [0.0, 0.7, 1.5][round as usize % 3],
                top_k: [1, 7, 40, 200][round as usize % 4],
                top_p: [1.0, 0.9][round as usize / 3 % 2],
                min_p: [0.0, 0.1][round as usize / 5 % 2],
                typical_p: [1.0, 0.8][round as usize / 7 % 2],
                ..SamplingParams::default()
            };
            if round % 2 == 0 {
                (params.repeat_penalty, params.frequency_penalty, params.presence_penalty) = (1.3, 0.4, -0.2);
            }
            if round % 5 < 2 {
                params.logit_bias = vec![(3, 2.5), (9, f32::NEG_INFINITY), (3, -0.75), (499, 1.0)];
            }
            let sampler = || Sampler::new(&params, round).with_infill((round % 6 < 2).then(|| stage(&TEXTS)));
            let (mut all, mut few) = (sampler(), sampler());
            let accept = |token, all: &mut Sampler, few: &mut Sampler| {
                all.accept(token);
                few.accept(token);
            };
            // Some beyond the vocabulary's end, as prompts may have them.
            (0..30).for_each(|_| accept(random.rand_range(0..510), &mut all, &mut few));
            for _ in 0..6 {
                let levels = if round % 3 == 1 { 1 << 20 } else { 12 };
                let logits: Vec<f32> =
                    (0..vocabulary).map(|_| random.rand_range(0..levels) as f32 * 12.0 / levels as f32 - 4.0).collect();
                let mask = (round % 4 == 3).then(|| {
                    let mut mask = TokenMask::none(vocabulary);
                    (0..vocabulary as u32).filter(|_| random.rand_range(0..9) == 0).for_each(|token| mask.allow(token));
                    mask
                });
                let mut whole = logits.clone();
                if let Some(mask) = &mask {
                    mask.apply(&mut whole);
                }
                let right = all.sample(&mut whole);
                let wish = few.wish(vocabulary, limits, mask.as_ref()).expect("it is little");
                let found = few.sample_picked(&wish, &pick(&logits, &wish), mask.as_ref());
                assert_eq!(found, right, "round {round}: {params:?}");
                if let Ok(token) = right {
                    accept(token, &mut all, &mut few);
                    compared += 1;
                }
            }
        }
        assert!(compared > 1000, "{compared}");
    }

    #[test]
    fn what_depends_on_every_token_is_not_wished_for() {
        let limits = PickLimits { candidates: 64, values: 2 };
        let wish = |params: SamplingParams| Sampler::new(&params, 1).wish(100, limits, None);
        assert_eq!(wish(SamplingParams::default()), None, "there is no limit");
        assert_eq!(wish(SamplingParams { top_k: 65, ..SamplingParams::default() }), None);
        let greedy = SamplingParams { temperature: 0.0, ..SamplingParams::default() };
        assert_eq!(wish(greedy.clone()), Some(Wish { candidates: 1, mask: None, values: Vec::new() }));
        let biased = |bias: &[TokenId]| {
            let logit_bias = bias.iter().map(|token| (*token, 1.0)).collect();
            wish(SamplingParams { logit_bias, ..greedy.clone() })
        };
        assert_eq!(biased(&[5, 1, 5]).map(|wish| wish.values), Some(vec![1, 5]));
        assert_eq!(biased(&[1, 2, 3]), None, "more single tokens than there may be");
        assert_eq!(biased(&[100]), None, "the error is found with all logits");
    }
}
